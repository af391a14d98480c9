"""Building blocks of HTML; all text that is not `Html` is escaped."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hustings.experiments.report.charts import Figure

VERDICTS = {
    "personalise": ("yes", "Personalise"),
    "one_split_suffices": ("half", "One split suffices"),
    "not_worth_personalising": ("no", "Personalising does not pay"),
    "nothing_may_be_sent": ("no", "Nothing may be sent"),
    "nothing_can_be_said": ("no", "Nothing can be said yet"),
}


class Html(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


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


def html_table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]], words: int = 1
) -> Html:
    """A table; the first `words` columns are text, the others numbers."""
    body = "\n".join(f"<tr>{_cells(row, words)}</tr>" for row in rows)
    if not body:
        return Html("")
    head = "".join(
        f'<th scope="col"{_numeric(i, words)}>{escaped(name)}</th>'
        for i, name in enumerate(header)
    )
    return Html(
        f'<div class="scroll"><table><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _numeric(column: int, words: int) -> str:
    return "" if column < words else ' class="n"'


def _cells(row: Sequence[Any], words: int) -> str:
    first = f'<th scope="row">{escaped(row[0])}</th>'
    rest = (
        f"<td{_numeric(i, words)}>{escaped(cell)}</td>"
        for i, cell in enumerate(row[1:], 1)
    )
    return first + "".join(rest)


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
    return Html(
        f'<div class="scroll"><div class="chart" data-figure="{escaped(name)}" '
        f'role="img" aria-label="{escaped(alternative)}" '
        f'style="max-width:{widest_px}px;min-width:{narrowest_px}px"></div></div>'
    )
