"""The page of a week: changes and reasons, spend, measured and predicted lift.

`WeekFacts` holds all values of the page, gathered by the caller from plans, spend and
measured lift. The page names every part that is not known yet.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt
import pandas as pd

from hustings.experiments.declaration import OutcomeSection
from hustings.experiments.report.charts import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    Figure,
    on_rows,
    styled,
)
from hustings.experiments.report.lift_page import (
    ALL,
    LiftOfMessage,
    compared_chart,
    compared_section,
)
from hustings.experiments.report.limits import limits_block
from hustings.experiments.report.markup import (
    Html,
    chart_place,
    escaped,
    html_section,
    html_table,
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
    is_small,
    message_name,
    number_text,
    people_text,
    share_text,
    usd_text,
)
from hustings.experiments.results import StatedInterval
from hustings.serving.plan.explain import LimitUse

PRICE_MOVED, LIFT_MOVED, SHARE_MOVED = 0.03, 0.05, 0.1
"""Relative changes from which price, effect and share of a message count as changed."""
SPENT = {
    "planned_usd": ("planned", GREY, [2, 2]),
    "committed_usd": ("committed", VERMILLION, [7, 3]),
    "spent_usd": ("spent", BLUE, [1, 0]),
}


@dataclass(frozen=True)
class MessageOfWeek:
    """A message that was sent this week or the week before; None is not known.

    Attributes:
        message_id: The message.
        contacts: Of this week.
        contacts_before: Of the week before.
        cost_each_usd: Mean cost of a contact this week.
        cost_each_before_usd: And of the week before.
        lift: Mean predicted lift of its contacts this week, outcome units.
        lift_before: And of the week before.
        paused: Whether it is paused.
        full: Its channels without capacity left.
    """

    message_id: str
    contacts: int
    contacts_before: int
    cost_each_usd: float | None
    cost_each_before_usd: float | None
    lift: float | None
    lift_before: float | None
    paused: bool
    full: tuple[str, ...]


@dataclass(frozen=True)
class SpendOfDay:
    """Money of one day; None where it is not known.

    Attributes:
        on: ISO date.
        planned_usd: Planned.
        committed_usd: Committed by locked plans.
        spent_usd: Spent.
    """

    on: str
    planned_usd: float | None
    committed_usd: float | None
    spent_usd: float | None


@dataclass(frozen=True)
class OutcomesIn:
    """People whose outcome should be known, is known, and cannot be known yet.

    Attributes:
        due: People whose outcome should be known.
        came_in: People whose outcome is known.
        not_due: People whose outcome cannot be known yet.
    """

    due: int
    came_in: int
    not_due: int


@dataclass(frozen=True)
class AlarmOfWeek:
    """An alarm.

    Attributes:
        kind: What raised it.
        text: The alarm in words.
        on: ISO date; empty where it is not known.
    """

    kind: str
    text: str
    on: str = ""


@dataclass(frozen=True)
class VotesGained:
    """Votes so far.

    Attributes:
        predicted: By prediction.
        measured: As measured; None where nothing is.
        how: How a gain becomes votes, in words.
    """

    predicted: StatedInterval
    measured: StatedInterval | None
    how: str


@dataclass(frozen=True)
class WeekFacts:
    """All facts on the page of a week.

    Attributes:
        title: Of the campaign.
        last_on: Last day of the week.
        outcome: As declared.
        messages: Sent this week or the week before.
        spend: By day since the start, in order.
        budget_usd: Of the whole campaign.
        lift: By message, and over all.
        holdout: Number of people held out so far.
        outcomes: How many are in; None where nothing was measured.
        alarms: Of the week.
        limits: Of the last plan.
        votes_needed: As declared.
        votes_gained: So far.
        missing: What could not be read, in words.
        titles: Of the messages that have one, by message.
    """

    title: str
    last_on: pd.Timestamp
    outcome: OutcomeSection
    messages: Sequence[MessageOfWeek]
    spend: Sequence[SpendOfDay]
    budget_usd: float | None
    lift: Sequence[LiftOfMessage]
    holdout: int | None
    outcomes: OutcomesIn | None
    alarms: Sequence[AlarmOfWeek]
    limits: Sequence[LimitUse]
    votes_needed: int | None
    votes_gained: VotesGained
    missing: Sequence[str]
    titles: Mapping[str, str]

    @property
    def unit(self) -> float:
        """Outcome units of a point."""
        return self.outcome.unit_per_point


def write_week(path: Path, facts: WeekFacts) -> None:
    """Write the page of a week as one HTML file that needs no network.

    Args:
        path: The file to write.
        facts: What the week was.
    """
    write_page(path, title=facts.title, kicker="The week", body=week_body(facts))


def week_body(facts: WeekFacts) -> Html:
    """The sections of the page, the same in the file and in the web app."""
    charts = week_figures(facts)
    return joined(
        [
            _answer(facts),
            _alarms(facts),
            _changes(facts),
            _spend(facts, charts),
            compared_section(facts.lift, facts.unit, facts.titles, charts, "week/lift"),
            _votes(facts),
            _limits(facts),
            _missing(facts),
        ]
    )


# --- the answer ---


def _answer(facts: WeekFacts) -> Html:
    first = facts.last_on - pd.Timedelta(days=6)
    return Html(
        '<section id="answer" class="answer" aria-label="The week">'
        f"{paragraph(f'{day_text(first)} to {day_text(facts.last_on)}', 'quiet')}"
        f'<p class="sentence">{escaped(week_in_a_sentence(facts))}</p>'
        f'<div class="tiles">{joined(_tiles(facts))}</div></section>'
    )


def week_in_a_sentence(facts: WeekFacts) -> str:
    """The week in one sentence: contacts, change and measured lift."""
    now = sum(row.contacts for row in facts.messages)
    before = sum(row.contacts_before for row in facts.messages)
    if not now:
        opening = "No contacts were planned this week"
    elif not before:
        opening = f"{people_text(now)} contacts in the first week"
    else:
        change = number_text(100 * (now - before) / before, sign=True)
        opening = f"{people_text(now)} contacts, {change} % on the week before"
    total = next((row for row in facts.lift if row.message_id == ALL), None)
    if total is None:
        return f"{opening}; nothing is measured yet."
    measured = as_span(total.measured, facts.unit)
    caveat = "" if measured.decides else ", which could still be nothing"
    return (
        f"{opening}; measured so far: {interval_text(measured)} per voter "
        f"to be contacted{caveat}."
    )


def _tiles(facts: WeekFacts) -> list[Html]:
    outcomes = facts.outcomes
    spent = _total(facts.spend, "spent_usd")
    of_budget = (
        f"of {usd_text(facts.budget_usd)}" if facts.budget_usd is not None else ""
    )
    tiles = [
        html_tile("Spent so far", _usd(spent), of_budget),
        html_tile("Left alone to compare", _people(facts.holdout), "the holdout"),
    ]
    if outcomes:
        share = outcomes.came_in / outcomes.due if outcomes.due else math.nan
        tiles.append(
            html_tile(
                "Outcomes in",
                share_text(share),
                f"of {people_text(outcomes.due)} due; "
                f"{people_text(outcomes.not_due)} not due yet",
            )
        )
    if facts.votes_needed is not None:
        tiles.append(html_tile("Votes needed", number_text(facts.votes_needed)))
    return tiles


def _people(count: int | None) -> str:
    return "unknown" if count is None else people_text(count)


def _usd(value: float | None) -> str:
    return usd_text(value)


def _total(spend: Sequence[SpendOfDay], kind: str) -> float | None:
    amounts = [getattr(row, kind) for row in spend]
    recorded = [usd for usd in amounts if usd is not None]
    return float(sum(recorded)) if recorded else None


def _alarms(facts: WeekFacts) -> Html:
    if not facts.alarms:
        return html_section(
            "alarms", "Alarms", paragraph("None was raised this week.", "quiet")
        )
    items = "".join(
        f'<li><span class="badge look">{escaped(row.kind)}</span> '
        f"{escaped(row.text)}{_on(row)}</li>"
        for row in facts.alarms
    )
    return html_section("alarms", "Alarms", Html(f'<ul class="checks">{items}</ul>'))


def _on(row: AlarmOfWeek) -> Html:
    return escaped(f" ({day_text(row.on)})") if row.on else Html("")


# --- what changed ---


def _changes(facts: WeekFacts) -> Html:
    ordered = sorted(
        facts.messages, key=lambda row: -abs(row.contacts - row.contacts_before)
    )
    total = sum(row.contacts for row in facts.messages)
    before = sum(row.contacts_before for row in facts.messages)
    rows = [
        (
            Html(message_name(row.message_id, facts.titles)),
            why_changed(row, total, before, facts.unit),
            people_text(row.contacts),
            people_text(row.contacts_before),
            _change(row),
        )
        for row in ordered
    ]
    header = ["Message", "Why", "Contacts", "Week before", "Change"]
    none_sent = paragraph("No message was sent in these two weeks.", "quiet")
    return html_section(
        "changes",
        "What changed, and why",
        long_table("Messages by change", header, rows, words=2) if rows else none_sent,
    )


def _change(row: MessageOfWeek) -> str:
    now, before = row.contacts, row.contacts_before
    if is_small(now) or is_small(before):
        return NOT_SHOWN
    return number_text(now - before, sign=True)


def why_changed(row: MessageOfWeek, total: int, total_before: int, unit: float) -> str:
    """Why a message goes to more or fewer people than the week before.

    What the figures show, in the order in which it decides: a pause, the first or last
    week, a new price, a new predicted effect, capacity, the size of the whole plan.

    Args:
        row: The message.
        total: Contacts of all messages this week.
        total_before: And of the week before.
        unit: Outcome units of a point.
    """
    if row.paused:
        return "Paused."
    if not row.contacts_before:
        return "New this week."
    reasons = [*_price_moved(row), *_lift_moved(row, unit)]
    if row.full:
        reasons.append(f"no capacity left: {', '.join(row.full)}")
    share = row.contacts / max(total, 1)
    share_before = row.contacts_before / max(total_before, 1)
    if abs(share - share_before) <= SHARE_MOVED * share_before and total_before:
        size = (total - total_before) / total_before
        if abs(size) > SHARE_MOVED:
            reasons.append(f"the whole plan {'grew' if size > 0 else 'shrank'}")
    if not reasons:
        return "Nothing of its own: other messages moved."
    text = "; ".join(reasons)
    return f"{text[:1].upper()}{text[1:]}."


def _price_moved(row: MessageOfWeek) -> list[str]:
    now, before = row.cost_each_usd, row.cost_each_before_usd
    if now is None or not before or abs(now - before) <= PRICE_MOVED * before:
        return []
    way = "up" if now > before else "down"
    return [f"price of a contact {way} from {usd_text(before)} to {usd_text(now)}"]


def _lift_moved(row: MessageOfWeek, unit: float) -> list[str]:
    now, before = row.lift, row.lift_before
    if now is None or not before or abs(now - before) <= LIFT_MOVED * abs(before):
        return []
    way = "up" if now > before else "down"
    was, is_now = (number_text(x / unit, 2, sign=True) for x in (before, now))
    return [f"new data: predicted effect {way} from {was} to {is_now} points"]


# --- money ---


def _spend(facts: WeekFacts, charts: Mapping[str, Figure]) -> Html:
    if not facts.spend:
        return html_section(
            "spend", "Spend against budget", paragraph("No spend is on record.")
        )
    week = [row for row in facts.spend if _in_week(row.on, facts.last_on)]
    rows = [
        (label, _usd(_total(week, kind)), _usd(_total(facts.spend, kind)))
        for kind, (label, _, _) in SPENT.items()
    ]
    return html_section(
        "spend",
        "Spend against budget",
        paragraph(_pace_in_words(facts)),
        chart_place(charts, "week/spend", "Cumulative spend by day against the budget"),
        html_table("Money by state", ["Money", "This week", "Since the start"], rows),
    )


def _in_week(day: str, last_on: pd.Timestamp) -> bool:
    return last_on - pd.Timedelta(days=7) < pd.Timestamp(day) <= last_on


def _pace_in_words(facts: WeekFacts) -> str:
    used = _total(facts.spend, "spent_usd")
    if used is None or not facts.budget_usd:
        return "What was spent is not known yet: the line shows what was planned."
    days = len(facts.spend)
    left = facts.budget_usd - used
    if left < 0:
        return f"The budget is overspent by {usd_text(-left)}."
    if used <= 0:
        return f"{usd_text(left)} of the budget is left: nothing was spent yet."
    each = used / days
    ends = f"at {usd_text(each)} a day it lasts {number_text(left / each)} more days"
    return f"{usd_text(left)} of the budget is left; {ends}."


def week_figures(facts: WeekFacts) -> dict[str, Figure]:
    """The charts of the week: `week/spend` and `week/lift`, where there are data."""
    drawn = {
        "week/spend": _spend_chart(facts),
        "week/lift": compared_chart(facts.lift, facts.unit, facts.titles),
    }
    return {name: styled(chart) for name, chart in drawn.items() if chart is not None}


def _spend_chart(facts: WeekFacts) -> Figure | None:
    rows = []
    for kind, (label, _, _) in SPENT.items():
        recorded = [row for row in facts.spend if getattr(row, kind) is not None]
        summed = 0.0
        for row in recorded:
            summed += getattr(row, kind)
            rows.append({"day": row.on, "usd": summed, "kind": label})
    if not rows:
        return None
    present = [s for s in SPENT.values() if any(r["kind"] == s[0] for r in rows)]
    names = [name for name, _, _ in present]
    base = on_rows(rows).encode(
        x=alt.X("yearmonthdate(day):T", title=None,
                axis=alt.Axis(format="%-d %b", tickCount=8, grid=False)),
        y=alt.Y("usd:Q", title="USD since the start", axis=alt.Axis(format="$,.4~s")),
        tooltip=[alt.Tooltip("day:N"), alt.Tooltip("kind:N"),
                 alt.Tooltip("usd:Q", format="$,.0f")],
    )  # fmt: skip
    lines = base.mark_line(strokeWidth=2.5, point=True).encode(
        color=alt.Color("kind:N", scale=alt.Scale(
            domain=names, range=[colour for _, colour, _ in present])),
        strokeDash=alt.StrokeDash("kind:N", scale=alt.Scale(
            domain=names, range=[dash for _, _, dash in present])),
    )  # fmt: skip
    layers = [lines]
    if facts.budget_usd is not None:
        budget_label = f"budget {usd_text(facts.budget_usd)}"
        at = on_rows([{"usd": float(facts.budget_usd), "label": budget_label}]).encode(
            y="usd:Q"
        )
        layers.append(at.mark_rule(color=INK, strokeDash=[4, 3]))
        layers.append(
            at.mark_text(align="left", dy=12, color=INK, fontSize=12).encode(
                x=alt.value(6), text="label:N"
            )
        )
    chart = alt.LayerChart(layer=layers)
    return chart.properties(height=280, title="Spend since the start")


# --- votes ---


def _votes(facts: WeekFacts) -> Html:
    predicted = as_span(facts.votes_gained.predicted)
    measured = as_span(facts.votes_gained.measured)
    if facts.votes_needed is None and not math.isfinite(predicted.value):
        return Html("")
    rows = [
        (basis, _votes_text(span), _still_needed(facts.votes_needed, span))
        for basis, span in (("by prediction", predicted), ("as measured", measured))
        if math.isfinite(span.value)
    ]
    how = facts.votes_gained.how
    needed = (
        f"The campaign has to gain {number_text(facts.votes_needed)} votes. "
        if facts.votes_needed is not None
        else "How many votes are needed is not declared. "
    )
    return html_section(
        "votes",
        "Votes still needed",
        paragraph(f"{needed}{how}"),
        html_table("Votes", ["So far", "Gained", "Still needed"], rows),
    )


def _votes_text(span: Span) -> str:
    value = number_text(span.value, sign=True)
    if not (math.isfinite(span.low) and math.isfinite(span.high)):
        return value
    return f"{value} ({number_text(span.low)} to {number_text(span.high)})"


def _still_needed(needed: int | None, gained: Span) -> str:
    if needed is None:
        return NOT_SHOWN
    left = [max(needed - x, 0.0) for x in (gained.value, gained.high, gained.low)]
    if not all(map(math.isfinite, left)):
        return number_text(left[0])
    return f"{number_text(left[0])} ({number_text(left[1])} to {number_text(left[2])})"


def _limits(facts: WeekFacts) -> Html:
    blocks = joined(limits_block(facts.limits, facts.outcome))
    return Html(f'<section id="limits">{blocks}</section>') if blocks else blocks


def _missing(facts: WeekFacts) -> Html:
    if not facts.missing:
        return Html("")
    items = "".join(f"<li>{escaped(note)}</li>" for note in facts.missing)
    return html_section("missing", "What is not known here", Html(f"<ul>{items}</ul>"))
