"""The shell of a page: one self-contained HTML file that runs no script."""

from pathlib import Path

from hustings.experiments.report.markup import Html, escaped
from hustings.features.atomic import write_text

NO_NOTICE = Html("")

STYLE = """
:root { color-scheme:light dark; --page:#fff; --ink:#1c2833; --quiet:#56616c;
  --line:#dfe4e8; --grid:#eceff1; --axis:#c3cad1; --wash:#f5f7f9; --unsure:#e6e9ec;
  --yes:#00795a; --half:#0067a3; --no:#59636e; --look:#a84408; --warm:#c8500a;
  --grey:#8b939c; --notice:#fff4e5; --notice-line:#e6b877; --badge:#fff; }
@media (prefers-color-scheme:dark) { :root { --page:#14191e; --ink:#e4e9ed;
  --quiet:#a3aeb8; --line:#343d45; --grid:#252c33; --axis:#4a555f; --wash:#1d242a;
  --unsure:#2b333a; --yes:#12a37c; --half:#4fa8dc; --no:#7b8691; --look:#e07b39;
  --warm:#ee8a4a; --grey:#98a1aa; --notice:#33270f; --notice-line:#7a5a1c;
  --badge:#0c1013; } }
* { box-sizing:border-box; }
body { margin:0; color:var(--ink); background:var(--page); font:16px/1.55 system-ui,
  -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main, header, footer { max-width:1000px; margin:0 auto; padding:0 20px; }
header { padding-top:28px; } header p { margin:0; color:var(--quiet); }
h1 { font-size:1.15rem; font-weight:600; margin:.1em 0 .8em; }
h2 { font-size:1.35rem; line-height:1.25; margin:0 0 .5em; }
h3 { font-size:1.05rem; margin:1.6em 0 .4em; }
section { margin:44px 0; } p { max-width:72ch; margin:.5em 0; }
a { color:var(--half); } .contents { font-size:.92rem; }
.contents ol { columns:2; padding-left:1.4em; margin:.6em 0; }
.answer { background:var(--wash); border-left:5px solid var(--ink); margin-top:8px;
  padding:24px 28px; border-radius:4px; }
.sentence { font-size:1.5rem; line-height:1.3; font-weight:600; max-width:54ch;
  margin:.45em 0 .7em; text-wrap:balance; }
.sentence.small { font-size:1.2rem; max-width:60ch; }
.todo { border-left:3px solid var(--line); padding-left:12px; }
.quiet, small, caption, .note, .label { color:var(--quiet); }
.quiet { font-size:.9rem; }
small { font-size:.82rem; font-weight:400; }
.badge { display:inline-block; font-size:.82rem; font-weight:600;
  color:var(--badge);
  padding:.14em .7em; border-radius:1em; white-space:nowrap; background:var(--no); }
.badge.yes { background:var(--yes); } .badge.half { background:var(--half); }
.badge.look { background:var(--look); }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(185px,1fr));
  gap:12px; margin:1.2em 0 .8em; }
.tile { background:var(--page); border:1px solid var(--line); border-radius:4px;
  padding:12px 14px; display:flex; flex-direction:column; }
.label, .note { font-size:.85rem; } .figure { font-size:1.3rem; font-weight:600; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:.35em 1.4em; margin:0; }
dt { color:var(--quiet); } dd { margin:0; } dd p { margin:0 0 .25em; }
.scroll { overflow-x:auto; margin:.8em 0; }
.chart svg { max-width:100%; height:auto; display:block; }
.chart.fixed svg { max-width:none; } .on-phone { display:none; }
table { border-collapse:collapse; width:100%; font-size:.92rem; margin:.4em 0; }
caption { text-align:left; padding:.3em 0; font-size:.88rem; }
th, td { text-align:left; padding:.42em .8em .42em 0; vertical-align:top;
  border-bottom:1px solid var(--line); overflow-wrap:anywhere; }
thead th { font-weight:600; color:var(--quiet); font-size:.85rem;
  vertical-align:bottom; overflow-wrap:break-word; }
tbody th { font-weight:500; min-width:9em; } tr.sum > * { font-weight:600; }
.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap; }
thead .n { white-space:normal; } td:last-child, th:last-child { padding-right:0; }
.bar { display:inline-block; width:110px; height:.7em; background:var(--wash);
  margin-right:.4em; } .bar span { display:block; height:100%;
  background:var(--half); }
.checks { list-style:none; padding:0; } .checks li { margin:.5em 0; max-width:80ch; }
summary { cursor:pointer; padding:.4em 0; font-weight:600; }
details > section { margin:20px 0 36px; } details.part { margin:10px 0; }
details.part h2 { display:none; }
details.part > summary { font-size:1.1rem; border-top:1px solid var(--line); }
details.experiment { border:1px solid var(--line); border-radius:4px; margin:10px 0;
  padding:4px 18px; } details.experiment section { margin:28px 0; }
.banner { background:var(--notice); border:1px solid var(--notice-line);
  padding:.6em 1em; border-radius:4px; max-width:none; }
footer { border-top:1px solid var(--line); padding-top:12px; padding-bottom:40px; }
footer td { overflow-wrap:anywhere; } code { font-size:.85em; }
.pair { display:grid; grid-template-columns:1fr 1fr; gap:20px; }
@media (max-width:640px) {
  .pair { grid-template-columns:1fr; } .contents ol { columns:1; }
  .sentence { font-size:1.2rem; } .answer { padding:16px; } section { margin:32px 0; }
  main, header, footer { padding-left:14px; padding-right:14px; }
  dl { grid-template-columns:1fr; gap:0; } dd { margin-bottom:.6em; }
  .tiles { grid-template-columns:1fr 1fr; } .figure { font-size:1.1rem; }
  table { font-size:.85rem; } .bar { width:50px; }
  .on-desk { display:none; } .on-phone { display:block; }
  table.wide, table.wide :is(caption, tbody, tr, th, td) { display:block; }
  table.wide thead { display:none; } table.wide tr { padding:.5em 0;
  border-bottom:1px solid var(--line); }
  table.wide :is(th, td) { border:0; padding:.1em 0; }
  table.wide td { display:flex; justify-content:space-between; gap:1em; }
  table.wide td::before { content:attr(data-of); color:var(--quiet);
  text-align:left; white-space:normal; flex:none; max-width:50%; }
  table.wide .n { white-space:normal; } details.experiment { padding:4px 10px; } }
@media print { :root { --page:#fff; --ink:#000; --quiet:#444; --line:#ccc;
  font-size:8.5pt; }
  @page { margin:12mm; } body { font-size:8pt; line-height:1.25; }
  th, td { overflow-wrap:break-word; } tbody th { min-width:14em; }
  #reasons dl { display:block; columns:2; } #reasons :is(dt, dd) {
  break-after:avoid; } #reasons dd { margin-bottom:.4em; break-after:auto; }
  .scroll { overflow:visible; margin:.3em 0; } .contents, footer { display:none; }
  main, header, footer { max-width:none; padding:0; } header { padding:0; }
  p { max-width:none; margin:.3em 0; } section { margin:10px 0; }
  tr, .chart, .tile { break-inside:avoid-page; } h3 { margin:.7em 0 .2em; }
  h2, h3, caption { break-after:avoid-page; } .sentence { font-size:1.4rem; }
  .answer { padding:8px 12px; } th, td { padding-top:.1em; padding-bottom:.1em; }
  .tile { padding:4px 8px; } .tiles { margin:.4em 0; gap:6px; }
  .chart svg { max-height:160px; width:auto; } .pair .chart svg { max-height:170px; }
  summary { padding:.1em 0; } details.part { margin:2px 0; }
  .badge[class] { border:1px solid; color:#000; background:none; }
  .tiles { grid-template-columns:repeat(auto-fit,minmax(125px,1fr)); } }
"""

COLOURS = {
    "#1c2833": "ink", "#000": "ink", "#56616c": "quiet", "#eceff1": "grid",
    "#eceeef": "grid", "#c3cad1": "axis", "#0067a3": "half", "#00795a": "yes",
    "#c8500a": "warm", "#8b939c": "grey", "#e6e9ec": "unsure",
}  # fmt: skip
"""Colours of charts that follow the page's, which a reader may want dark."""
CHART_STYLE = 'svg [stroke="white"] { stroke:var(--page); }\n' + "\n".join(
    f'svg [{part}="{colour}"] {{ {part}:var(--{name}); }}'
    for colour, name in COLOURS.items()
    for part in ("fill", "stroke")
)

# Nothing runs and nothing is loaded: the browser itself refuses both.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def write_page(
    path: Path,
    *,
    title: str,
    kicker: str,
    body: Html,
    notice: Html = NO_NOTICE,
    footer: Html = NO_NOTICE,
) -> None:
    """Write a page that needs no network.

    Args:
        path: The file to write.
        title: Of the page.
        kicker: What kind of page it is, above the title.
        body: Its sections.
        notice: Below the title.
        footer: Below the sections.
    """
    heading = escaped(title)
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{STYLE}{CHART_STYLE}</style>\n</head>\n<body>\n"
        f"<header><p>{escaped(kicker)}</p><h1>{heading}</h1>{notice}</header>\n"
        f"<main>{body}</main>\n{footer}\n</body>\n</html>\n"
    )
    write_text(path, text)
