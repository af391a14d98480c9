"""Building blocks of HTML; all text that is not `Html` is escaped."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hustings.experiments.report.charts import Figure, figure_svg

VERDICTS = {
    "personalise": ("yes", "Personalise"),
    "one_split_suffices": ("half", "One split suffices"),
    "not_worth_personalising": ("no", "Personalising does not pay"),
    "nothing_may_be_sent": ("no", "Nothing may be sent"),
    "nothing_can_be_said": ("no", "Nothing can be said yet"),
}


class Html(str):
    """Text that is markup already and is not escaped again, by templates neither."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def escaped(value: Any) -> Html:
    """Text as markup; what is `Html` already stays as it is."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def paragraph(text: Any, css: str = "") -> Html:
    """A paragraph."""
    marked = f' class="{css}"' if css else ""
    return Html(f"<p{marked}>{escaped(text)}</p>")


def joined(parts: Iterable[str]) -> Html:
    """Pieces below each other."""
    return Html("\n".join(escaped(part) for part in parts))


ROWS_TOP, ROWS_BOTTOM = 10, 5
"""Of a long table so many rows stand open at either end; the others are folded."""
NARROW_COLUMNS = 3
"""A table of no more columns fits a phone; rows of a wider one become cards there."""


def html_table(
    caption: str,
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    words: int = 1,
    *,
    total: Sequence[Any] = (),
) -> Html:
    """A table; the first `words` columns are text, the others numbers.

    Args:
        caption: Of the table.
        header: Names of the columns.
        rows: Cells of every row.
        words: Number of columns that are text.
        total: Cells of a last row that sums the others up; empty without one.
    """
    body = "\n".join(f"<tr>{_cells(row, header, words)}</tr>" for row in rows)
    if not body:
        return Html("")
    if total:
        body += f'\n<tr class="sum">{_cells(total, header, words)}</tr>'
    head = "".join(
        f'<th scope="col"{_numeric(i, words)}>{escaped(name)}</th>'
        for i, name in enumerate(header)
    )
    css = ' class="wide"' if len(header) > NARROW_COLUMNS else ""
    return Html(
        f'<div class="scroll"><table{css}><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def long_table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[Any]], words: int = 1
) -> Html:
    """A table in order, of which only both ends stand open where it is long."""
    n_folded = len(rows) - ROWS_TOP - ROWS_BOTTOM
    if n_folded <= ROWS_BOTTOM:
        return html_table(caption, header, rows, words)
    top, bottom = rows[:ROWS_TOP], rows[-ROWS_BOTTOM:]
    between = rows[ROWS_TOP:-ROWS_BOTTOM]
    ends = f"{caption}: the first {ROWS_TOP} and the last {ROWS_BOTTOM} of {len(rows)}"
    return joined(
        [
            html_table(ends, header, [*top, *bottom], words),
            folded(
                f"The {len(between)} between them",
                html_table(caption, header, between, words),
            ),
        ]
    )


def _numeric(column: int, words: int) -> str:
    return "" if column < words else ' class="n"'


def _cells(row: Sequence[Any], header: Sequence[str], words: int) -> str:
    first = f'<th scope="row">{escaped(row[0])}</th>'
    # on a phone a cell says itself of which column it is
    rest = (
        f'<td{_numeric(i, words)} data-of="{escaped(header[i])}">'
        f"<span>{escaped(cell)}</span></td>"
        for i, cell in enumerate(row[1:], 1)
    )
    return first + "".join(rest)


def contents(body: Html) -> Html:
    """Links to the sections of a page, in their order, those that are folded left out.

    Args:
        body: The sections.
    """
    depth, links = 0, []
    for part in SECTION_OR_FOLD.finditer(body):
        if part["anchor"] is None:
            depth += -1 if part[0] == "</details>" else 1
        elif not depth:
            links.append(f'<li><a href="#{part["anchor"]}">{part["title"]}</a></li>')
    return Html(
        f'<nav class="contents" aria-label="Contents"><ol>{"".join(links)}</ol></nav>'
    )


def folded_sections(parts: Iterable[Html]) -> list[Html]:
    """Every section by itself folded, its heading the line that opens it."""
    sections = (section for part in parts for section in SECTION.finditer(part))
    return [folded(Html(one["title"]), Html(one[0]), css="part") for one in sections]


SECTION = re.compile(
    r"<section [^>]*><h2[^>]*>(?P<title>.*?)</h2>.*?</section>", re.DOTALL
)
SECTION_OR_FOLD = re.compile(
    r'<details|</details>|<h2 id="(?P<anchor>[^"]+)-title">(?P<title>.*?)</h2>'
)


def html_section(anchor: str, title: str, *parts: str) -> Html:
    """A section with its heading."""
    return Html(
        f'<section id="{anchor}" aria-labelledby="{anchor}-title">'
        f'<h2 id="{anchor}-title">{escaped(title)}</h2>{joined(parts)}</section>'
    )


def html_block(title: str, *parts: str) -> Html:
    """A part of a section with its heading."""
    return Html(f"<h3>{escaped(title)}</h3>{joined(parts)}")


def folded(summary: Any, *parts: str, css: str = "") -> Html:
    """Pieces that open on a click."""
    return Html(
        f'<details class="{css}"><summary>{escaped(summary)}</summary>'
        f"{joined(parts)}</details>"
    )


def html_badge(verdict: str) -> Html:
    """A verdict as a coloured word."""
    css, words = VERDICTS.get(verdict, ("no", verdict))
    return Html(f'<span class="badge {css}">{escaped(words)}</span>')


def html_tile(label: str, figure: str, note: str = "") -> Html:
    """One main figure with its label and a note."""
    return Html(
        f'<div class="tile"><span class="label">{escaped(label)}</span>'
        f'<span class="figure">{escaped(figure)}</span>'
        f'<span class="note">{escaped(note)}</span></div>'
    )


def chart_place(
    charts: Mapping[str, Figure],
    name: str,
    alternative: str,
    *,
    widest_px: int = 1080,
    narrowest_px: int = 0,
) -> Html:
    """The place that a chart is drawn into, named for screen readers."""
    if name not in charts:
        return paragraph("Too few people to draw this.", "quiet")
    fixed = " fixed" if narrowest_px > PHONE_PX else ""
    pictures = "".join(
        f'<div class="{where}" aria-hidden="true">'
        f"{figure_svg(charts[name], name, max(px, narrowest_px))}</div>"
        for where, px in (
            ("on-desk", min(widest_px, DESK_PX)),
            ("on-phone", min(widest_px, PHONE_PX)),
        )
    )
    return Html(
        f'<div class="scroll"><div class="chart{fixed}" data-figure="{escaped(name)}" '
        f'role="img" aria-label="{escaped(alternative)}">{pictures}</div></div>'
    )


DESK_PX, PHONE_PX = 760, 340
"""Every chart is drawn twice: words of one that is shrunk cannot be read."""
