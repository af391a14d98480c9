"""The shell of a page: one self-contained HTML file with its charts."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert

from hustings.experiments.report.charts import Figure, vega_lite
from hustings.experiments.report.markup import Html, escaped
from hustings.features.atomic import write_text

NO_NOTICE = Html("")

STYLE = """
:root { --ink:#1c2833; --quiet:#56616c; --line:#dfe4e8; --wash:#f5f7f9;
  --yes:#00795a; --half:#0067a3; --no:#59636e; }
* { box-sizing:border-box; }
body { margin:0; color:var(--ink); background:#fff; font:16px/1.55 system-ui,
  -apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main, header, footer { max-width:1120px; margin:0 auto; padding:0 20px; }
header { padding-top:28px; } header p { margin:0; color:var(--quiet); }
h1 { font-size:1.15rem; font-weight:600; margin:.1em 0 .8em; }
h2 { font-size:1.35rem; line-height:1.25; margin:0 0 .5em; }
h3 { font-size:1.05rem; margin:1.6em 0 .4em; }
section { margin:44px 0; } p { max-width:72ch; margin:.5em 0; }
.answer { background:var(--wash); border-left:5px solid var(--ink); margin-top:8px;
  padding:24px 28px; border-radius:4px; }
.sentence { font-size:1.75rem; line-height:1.3; font-weight:600; max-width:46ch;
  margin:.45em 0 .7em; text-wrap:balance; }
.sentence.small { font-size:1.2rem; max-width:60ch; }
.todo { border-left:3px solid var(--line); padding-left:12px; }
.quiet, small, caption, .note, .label { color:var(--quiet); }
.quiet { font-size:.9rem; }
small { font-size:.82rem; font-weight:400; }
.badge { display:inline-block; font-size:.82rem; font-weight:600; color:#fff;
  padding:.14em .7em; border-radius:1em; white-space:nowrap; background:var(--no); }
.badge.yes { background:var(--yes); } .badge.half { background:var(--half); }
.badge.look { background:#a84408; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(185px,1fr));
  gap:12px; margin:1.2em 0 .8em; }
.tile { background:#fff; border:1px solid var(--line); border-radius:4px;
  padding:12px 14px; display:flex; flex-direction:column; }
.label, .note { font-size:.85rem; } .figure { font-size:1.3rem; font-weight:600; }
dl { display:grid; grid-template-columns:max-content 1fr; gap:.35em 1.4em; margin:0; }
dt { color:var(--quiet); } dd { margin:0; } dd p { margin:0 0 .25em; }
.scroll { overflow-x:auto; margin:.8em 0; }
.chart { width:100%; } .chart svg { max-width:none; display:block; }
table { border-collapse:collapse; width:100%; font-size:.92rem; margin:.4em 0; }
caption { text-align:left; padding:.3em 0; font-size:.88rem; }
th, td { text-align:left; padding:.42em .8em .42em 0; vertical-align:top;
  border-bottom:1px solid var(--line); }
thead th { font-weight:600; color:var(--quiet); font-size:.85rem;
  vertical-align:bottom; }
tbody th { font-weight:500; min-width:9em; }
.n { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap; }
thead .n { white-space:normal; } td:last-child, th:last-child { padding-right:0; }
.bar { display:inline-block; width:110px; height:.7em; background:var(--wash);
  margin-right:.4em; } .bar span { display:block; height:100%; background:#0067a3; }
.checks { list-style:none; padding:0; } .checks li { margin:.5em 0; max-width:80ch; }
summary { cursor:pointer; padding:.4em 0; font-weight:600; }
details.experiment { border:1px solid var(--line); border-radius:4px; margin:10px 0;
  padding:4px 18px; } details.experiment section { margin:28px 0; }
.banner { background:#fff4e5; border:1px solid #e6b877; padding:.6em 1em;
  border-radius:4px; max-width:none; }
footer { border-top:1px solid var(--line); padding-top:12px; padding-bottom:40px; }
footer td { overflow-wrap:anywhere; } code { font-size:.85em; }
.pair { display:grid; grid-template-columns:1fr 1fr; gap:20px; }
@media (max-width:600px) {
  .pair { grid-template-columns:1fr; }
  .sentence { font-size:1.3rem; } .answer { padding:18px; } section { margin:32px 0; }
  main, header, footer { padding-left:14px; padding-right:14px; }
  dl { grid-template-columns:1fr; gap:0; } dd { margin-bottom:.6em; }
  .tiles { grid-template-columns:1fr 1fr; } .figure { font-size:1.1rem; }
  table { font-size:.85rem; } .bar { width:50px; } }
@media print {
  body { font-size:11pt; } .scroll { overflow:visible; }
  section, tr, .chart { break-inside:avoid-page; } .chart svg { max-width:100%;
  height:auto; } .badge { border:1px solid; color:#000; background:none; } }
"""

# Charts in a closed <details> have no width yet: they are drawn when it opens.
DRAW = """
const specs = JSON.parse(document.getElementById("specs").textContent);
async function draw(node) {
  if (node.dataset.drawn || node.offsetParent === null) return;
  node.dataset.drawn = "yes";
  const options = { actions: false, renderer: "svg" };
  try { await window.vegaEmbed(node, specs[node.dataset.figure], options); }
  catch (error) { node.textContent = "This chart could not be drawn."; throw error; }
}
const drawAll = () => document.querySelectorAll(".chart").forEach(draw);
document.querySelectorAll("details").forEach(
  (part) => part.addEventListener("toggle", drawAll));
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
  drawAll();
});
drawAll();
"""

# The browser itself refuses any load from outside; vega compiles its expressions.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline' 'unsafe-eval'"
)


def write_page(
    path: Path,
    *,
    title: str,
    kicker: str,
    body: Html,
    charts: Mapping[str, Figure],
    notice: Html = NO_NOTICE,
    footer: Html = NO_NOTICE,
) -> None:
    """Write a page that needs no network.

    Args:
        path: The file to write.
        title: Of the page.
        kicker: What kind of page it is, above the title.
        body: Its sections.
        charts: By the name that `chart_place` gives.
        notice: Below the title.
        footer: Below the sections.
    """
    heading = escaped(title)
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{heading}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><p>{escaped(kicker)}</p><h1>{heading}</h1>{notice}</header>\n"
        f"<main>{body}</main>\n{footer}\n{_scripts(charts)}\n</body>\n</html>\n"
    )
    write_text(path, text)


def _scripts(charts: Mapping[str, Figure]) -> Html:
    specs = {name: _page_spec(chart) for name, chart in charts.items()}
    # "<" would let a text from the data close the script
    data = json.dumps(specs, separators=(",", ":")).replace("<", "\\u003c")
    return Html(
        f'<script type="application/json" id="specs">{data}</script>\n'
        f'<script type="module">{_vega()}</script>\n'
        f'<script type="module">{DRAW}</script>'
    )


@cache
def _vega() -> str:
    """Vega, Vega-Lite and their embedding as one script, in the page once."""
    exported = "window.vegaEmbed = vegaEmbed;"
    bundle: str = vl_convert.javascript_bundle(exported, vl_version=vega_lite())
    return bundle


def _page_spec(chart: Figure) -> dict[str, Any]:
    """The chart as wide as its place; the page's own headings are its title."""
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("title", None)
    spec.pop("$schema", None)
    fit = {"type": "fit-x", "contains": "padding"}
    return spec | {"width": "container", "autosize": fit}
