"""The page of the measured lift: the verdict, what it rests on, every lift."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt

from hustings.experiments.declaration import OutcomeSection
from hustings.experiments.report.charts import (
    BLUE,
    GREY,
    Figure,
    axis_of_lines,
    on_rows,
    styled,
)
from hustings.experiments.report.markup import (
    Html,
    chart_place,
    escaped,
    html_section,
    html_tile,
    joined,
    long_table,
    paragraph,
)
from hustings.experiments.report.page import write_page
from hustings.experiments.report.words import (
    NOT_SHOWN,
    Span,
    as_span,
    day_text,
    interval_text,
    message_labels,
    message_name,
    number_text,
    people_text,
    share_text,
)
from hustings.experiments.results import (
    DELIVERED,
    DISTRUSTED,
    LESS,
    MORE,
    OPEN,
    TOO_FEW,
    LiftRow,
    LiftSummary,
    StatedInterval,
)
from hustings.features.tables import SMALLEST_CELL

EARLY = "surrogate"
"""Lifts of an early outcome are in units of their own."""
MOST_DRAWN = 24
"""Messages of a chart: those that most people are compared for."""
BADGES = {
    MORE: ("yes", "More than chance"),
    LESS: ("look", "Less than nothing"),
    OPEN: ("no", "May still be chance"),
    TOO_FEW: ("no", "Too few outcomes"),
    DISTRUSTED: ("look", "Not to be read as lift"),
}
"""Verdict of the summary → colour and words."""
ALL = "all"
"""Stands for all messages together."""


@dataclass(frozen=True)
class LiftOfMessage:
    """What a message was predicted to bring and brought, outcome units.

    Attributes:
        message_id: The message; `ALL` for all of them.
        predicted: Mean predicted lift; None where it is not known.
        measured: Measured lift, valid at every look.
        n: People compared with.
    """

    message_id: str
    predicted: float | None
    measured: StatedInterval
    n: int


@dataclass(frozen=True)
class LiftFacts:
    """What the page of the measured lift shows.

    Attributes:
        title: Of the campaign.
        outcome: As declared.
        titles: Of the messages that have one, by message.
        lift: As measured.
    """

    title: str
    outcome: OutcomeSection
    titles: Mapping[str, str]
    lift: LiftSummary

    @property
    def unit(self) -> float:
        """Outcome units of a point."""
        return self.outcome.unit_per_point


def write_lift(path: Path, facts: LiftFacts) -> None:
    """Write the page of the measured lift as one HTML file that needs no network.

    Args:
        path: The file to write.
        facts: What was measured.
    """
    write_page(path, title=facts.title, kicker="Measured lift", body=lift_body(facts))


def lift_body(facts: LiftFacts) -> Html:
    """The sections of the page, the same in the file and in the web app."""
    by_message = lift_by_message(facts.lift)
    chart = compared_chart(by_message, facts.unit, facts.titles)
    charts = {} if chart is None else {"lift/messages": styled(chart)}
    said = (paragraph(text) for text in facts.lift.sentences)
    return joined(
        [
            _answer(facts),
            html_section("said", "What this says", *said),
            compared_section(
                by_message, facts.unit, facts.titles, charts, "lift/messages"
            ),
            _every_lift(facts),
        ]
    )


def lift_by_message(lift: LiftSummary) -> list[LiftOfMessage]:
    """Lift of what was delivered, by message and over all."""
    return [
        LiftOfMessage(
            row.message_id or ALL, row.predicted,
            StatedInterval(row.lift, row.always_low, row.always_high), row.n_compared,
        )
        for row in lift.rows
        if row.estimand == DELIVERED and not row.segment
    ]  # fmt: skip


# --- the answer ---


def _answer(facts: LiftFacts) -> Html:
    lift, overall = facts.lift, facts.lift.overall
    css, words = BADGES[lift.verdict]
    sentence = "Too few outcomes are in to say what the plans brought"
    if overall is not None:
        brought = interval_text(_always(overall, facts.unit))
        sentence = f"The plans brought {brought} per voter chosen, reached or not"
    return Html(
        '<section id="answer" class="answer" aria-label="Measured lift">'
        f"{paragraph(f'As of {day_text(lift.as_of)}', 'quiet')}"
        f'<p><span class="badge {css}">{escaped(words)}</span></p>'
        f'<p class="sentence">{escaped(sentence)}</p>'
        f'<div class="tiles">{joined(_tiles(facts))}</div></section>'
    )


def _tiles(facts: LiftFacts) -> list[Html]:
    lift = facts.lift
    share = lift.n_in / lift.n_due if lift.n_due else math.nan
    tiles = [
        html_tile(
            "Voters decided", people_text(lift.n_decided), "the held out among them"
        ),
        html_tile(
            "Outcomes in", share_text(share), f"of {people_text(lift.n_due)} due"
        ),
    ]
    if lift.overall is not None:
        n_sent, n_compared = lift.overall.n_sent, lift.overall.n_compared
        held_out = f"beside {people_text(n_compared)} held out"
        tiles.append(html_tile("Compared", people_text(n_sent), held_out))
    if lift.gained is not None:
        gained = as_span(lift.gained, facts.unit)
        ends = f"points; {number_text(gained.low)} to {number_text(gained.high)}"
        figure = number_text(gained.value, sign=True)
        tiles.append(html_tile("Gained in all", figure, ends))
    return tiles


def _always(row: LiftRow, unit: float) -> Span:
    return as_span(StatedInterval(row.lift, row.always_low, row.always_high), unit)


# --- every lift ---


def _every_lift(facts: LiftFacts) -> Html:
    in_points = [row for row in facts.lift.rows if row.estimand != EARLY]
    large = [r for r in in_points if min(r.n_sent, r.n_compared) >= SMALLEST_CELL]
    n_small = len(in_points) - len(large)
    rows = [
        (
            _of_what(row, facts.titles),
            row.estimand,
            people_text(row.n_sent),
            people_text(row.n_compared),
            interval_text(_always(row, facts.unit), ""),
            "yes" if row.claimed else "no",
        )
        for row in large
    ]
    header = ["Lift of", "Estimand", "Sent", "Compared", "Points", "Claimed"]
    hidden = f"Lifts of fewer than {SMALLEST_CELL} people are not shown: {n_small}."
    return html_section(
        "rows",
        "Every lift",
        paragraph(facts.lift.multiplicity, "quiet"),
        long_table("Measured lifts; intervals hold at every look", header, rows, 2),
        paragraph(hidden, "quiet") if n_small else "",
    )


def _of_what(row: LiftRow, titles: Mapping[str, str]) -> Html:
    names = [message_name(row.message_id, titles)] if row.message_id else []
    names += [escaped(part) for part in (row.channel, row.segment) if part]
    return Html(", ".join(names) or "all")


# --- measured against predicted ---


def _shown_lift(lift: Sequence[LiftOfMessage]) -> list[LiftOfMessage]:
    return [row for row in lift if row.n >= SMALLEST_CELL]


def _predicted(row: LiftOfMessage, unit: float) -> Span:
    value = math.nan if row.predicted is None else row.predicted / unit
    return Span(value, math.nan, math.nan)


def compared_section(
    lift: Sequence[LiftOfMessage],
    unit: float,
    titles: Mapping[str, str],
    charts: Mapping[str, Figure],
    chart: str,
) -> Html:
    """Measured lift beside what was predicted, as chart and table.

    Args:
        lift: By message, and over all.
        unit: Outcome units of a point.
        titles: Of the messages that have one, by message.
        charts: Of the page.
        chart: Name of the one from `compared_chart`.
    """
    compared = _shown_lift(lift)
    if not compared:
        return html_section(
            "lift",
            "Measured against predicted",
            paragraph("No outcome has come in yet that could be compared."),
        )
    rows = [
        (
            "all messages"
            if row.message_id == ALL
            else Html(message_name(row.message_id, titles)),
            _agree(row, unit),
            interval_text(_predicted(row, unit), ""),
            interval_text(as_span(row.measured, unit), ""),
            people_text(row.n),
        )
        for row in compared
    ]
    header = ["Message", "Do they agree?", "Predicted", "Measured", "Left alone"]
    return html_section(
        "lift",
        "Measured against predicted",
        paragraph(
            "Voters who were to be contacted, reached or not, against voters who would "
            "have been and were left alone by lot. Effects are in points per voter to "
            "be contacted, with what would be compatible with the data in brackets."
        ),
        chart_place(charts, chart, "Predicted and measured effect by message"),
        long_table("Effect of each message", header, rows, words=2),
    )


def _agree(row: LiftOfMessage, unit: float) -> str:
    measured, predicted = as_span(row.measured, unit), _predicted(row, unit).value
    if not math.isfinite(predicted):
        return NOT_SHOWN
    if measured.low <= predicted <= measured.high:
        return "yes"
    return "less came" if measured.value < predicted else "more came"


def compared_chart(
    lift: Sequence[LiftOfMessage], unit: float, titles: Mapping[str, str]
) -> Figure | None:
    """Measured and predicted lift by message, of those that most are compared for.

    Args:
        lift: By message, and over all.
        unit: Outcome units of a point.
        titles: Of the messages that have one, by message.
    """
    compared = sorted(_shown_lift(lift), key=lambda row: -row.n)[:MOST_DRAWN]
    if not compared:
        return None
    labels = message_labels([row.message_id for row in compared], titles)
    labels[ALL] = "all messages"
    names = [labels[row.message_id] for row in compared]
    rows = [
        {"message": name, "id": row.message_id, "estimate": kind, **_ends(span)}
        for name, row in zip(names, compared, strict=True)
        for kind, span in (
            ("measured", as_span(row.measured, unit)),
            ("predicted", _predicted(row, unit)),
        )
        if math.isfinite(span.value)
    ]
    kinds = ["measured", "predicted"]
    base = on_rows(rows).encode(
        x=alt.X("value:Q", title="effect, points",
                scale=alt.Scale(zero=True, nice=False, padding=12)),
        y=alt.Y("message:N", sort=names, title=None, scale=alt.Scale(padding=0.3),
                axis=axis_of_lines()),
        yOffset=alt.YOffset("estimate:N", sort=kinds),
        color=alt.Color("estimate:N",
                        scale=alt.Scale(domain=kinds, range=[BLUE, GREY])),
        tooltip=[alt.Tooltip(f"{name}:N")
                 for name in ("message", "id", "estimate", "text")],
    )  # fmt: skip
    shapes = alt.Scale(domain=kinds, range=["circle", "diamond"])
    shape = alt.Shape("estimate:N", scale=shapes)
    zero = on_rows([{}]).mark_rule(color="#56616c").encode(x=alt.datum(0))
    return alt.LayerChart(
        layer=[
            zero,
            base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q"),
            base.mark_point(size=70, filled=True, opacity=1).encode(shape=shape),
        ]
    ).properties(height=22 * len(rows), title="Predicted and measured effect")


def _ends(span: Span) -> dict[str, float | str]:
    low = span.low if math.isfinite(span.low) else span.value
    high = span.high if math.isfinite(span.high) else span.value
    return {"value": span.value, "low": low, "high": high, "text": interval_text(span)}
