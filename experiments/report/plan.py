"""The report's sections on the plan, the quarantine, the sources and the run."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from hustings.experiments.declaration import Campaign, OutcomeSection
from hustings.experiments.report.charts import Figure
from hustings.experiments.report.limits import (
    groups_block,
    limits_block,
    reasons_block,
)
from hustings.experiments.report.markup import (
    Html,
    chart_place,
    escaped,
    folded,
    html_block,
    html_section,
    html_table,
    joined,
    long_table,
    paragraph,
)
from hustings.experiments.report.whole_places import whole_places_block
from hustings.experiments.report.words import (
    NOT_SHOWN,
    POLICIES,
    Span,
    as_span,
    interval_text,
    is_small,
    message_name,
    number_text,
    people_text,
    share_text,
    titles_of,
    usd_text,
)
from hustings.experiments.results import (
    OnlineUse,
    PlannedArm,
    PlannedSegment,
    PlanSummary,
    RunRecord,
    Source,
)
from hustings.features.tables import CONTROL, SMALLEST_CELL, in_twenties

TABLE_ROWS = 40


def plan_section(
    campaign: Campaign,
    n_eligible: int,
    plan: pd.DataFrame,
    assignments: pd.DataFrame,
    messages: pd.DataFrame,
    summary: PlanSummary | None,
    charts: Mapping[str, Figure],
) -> Html:
    """The section on what to send: messages, channels, counts, money and scripts."""
    if summary is None:
        return html_section("plan", "What to send", paragraph("Nobody is planned."))
    outcome = campaign.outcome.as_valued()
    unit = outcome.unit_per_point
    titles = titles_of(messages)
    return html_section(
        "plan",
        "What to send",
        paragraph(_plan_in_words(plan, n_eligible, outcome, summary)),
        _planned_table(summary.planned, unit, titles),
        _by_channel(summary.planned),
        _scripts(summary.planned, messages, titles),
        paragraph(_draws_in_words(campaign, summary, assignments)),
        *whole_places_block(summary.places, unit),
        *_judged_beside_planned(summary, unit),
        *limits_block(summary.limits, outcome),
        *groups_block(summary.groups, outcome),
        *_by_day(summary, charts),
    )


def reasons_section(summary: PlanSummary | None, messages: pd.DataFrame) -> Html:
    """Why voters get one message and not another; empty where nothing is planned."""
    titles = titles_of(messages)
    blocks = [] if summary is None else reasons_block(summary.reasons, titles)
    if not blocks:
        return Html("")
    return html_section("reasons", "Why this message and not that", *blocks)


def reach_section(summary: PlanSummary | None) -> Html:
    """Shares of groups that are contacted, and the voters who could not be."""
    if summary is None:
        return Html("")
    return html_section(
        "reach",
        "Who is contacted",
        *_planned_segments(summary),
        *_not_eligible(summary),
    )


def _planned_table(
    planned: Sequence[PlannedArm], unit: float, titles: Mapping[str, str]
) -> Html:
    """A row a message that is sent for its worth, one of all drawn at random."""
    rounded = _any_small(planned)
    of_message: dict[str, list[PlannedArm]] = {}
    drawn = []
    for row in sorted(planned, key=lambda row: -row.n):
        if row.role == "plan":
            of_message.setdefault(row.message_id, []).append(row)
        else:
            drawn.append(row)
    by_size = sorted(of_message, key=lambda m: -sum(row.n for row in of_message[m]))
    rows = [
        _sent_row(
            Html(message_name(message, titles)),
            of_message[message],
            unit,
            rounded=rounded,
        )
        for message in by_size
    ]
    if drawn:
        rows.append(
            _sent_row("Any message, drawn at random", drawn, unit, rounded=rounded)
        )
    header = ["Message", "Channels", "Voters", "Cost", "Mean predicted effect"]
    by_arm = long_table(
        "Planned contacts by message and channel",
        ["Message", "Channel", "Why", "Voters", "Cost", "Mean predicted effect"],
        [
            _planned_row(row, unit, titles)
            for row in sorted(planned, key=lambda row: -row.n)
        ],
        words=3,
    )
    if not rows:
        return Html("")
    return joined(
        [
            long_table("Planned contacts", header, rows, words=2),
            paragraph(
                "Sums are rounded down to multiples of 20, as a few contacts are too "
                "few to show.",
                "quiet",
            )
            if rounded
            else Html(""),
            folded("By message and channel", by_arm),
        ]
    )


def _sent_row(
    name: str, arms: Sequence[PlannedArm], unit: float, *, rounded: bool
) -> tuple[Any, ...]:
    n, usd = _sums(arms, rounded=rounded)
    mean = sum(arm.n * arm.lift_mean for arm in arms) / sum(arm.n for arm in arms)
    channels = ", ".join(dict.fromkeys(arm.channel for arm in arms))
    return (name, channels, *_counted(n, usd, mean, unit))


def _any_small(planned: Sequence[PlannedArm]) -> bool:
    return any(is_small(arm.n) for arm in planned)


def _sums(arms: Sequence[PlannedArm], *, rounded: bool) -> tuple[int, float]:
    """Contacts and money, in whole twenties where a small arm would be what is left."""
    n, usd = sum(arm.n for arm in arms), sum(arm.cost_usd for arm in arms)
    if not rounded:
        return n, usd
    return in_twenties(n), usd * in_twenties(n) / n


def _counted(n: int, usd: float, lift_mean: float, unit: float) -> tuple[str, ...]:
    if n < SMALLEST_CELL:
        return people_text(n or 1), NOT_SHOWN, NOT_SHOWN
    effect = interval_text(Span(lift_mean / unit, math.nan, math.nan), "points")
    return people_text(n), usd_text(usd), effect


def _by_channel(planned: Sequence[PlannedArm]) -> Html:
    """Contacts and money by channel, and of all."""
    arms: dict[str, list[PlannedArm]] = {}
    for row in sorted(planned, key=lambda row: -row.n):
        arms.setdefault(row.channel, []).append(row)
    rounded = _any_small(planned)
    sums = {c: _sums(of_channel, rounded=rounded) for c, of_channel in arms.items()}
    rows = [
        (channel, *(_counted(n, usd, math.nan, 1.0)[:2]))
        for channel, (n, usd) in sums.items()
    ]
    n_all = sum(row.n for row in planned)
    total = ("All", people_text(n_all), usd_text(sum(row.cost_usd for row in planned)))
    return html_table(
        "Contacts by channel", ["Channel", "Voters", "Cost"], rows, total=total
    )


def _scripts(
    planned: Sequence[PlannedArm], messages: pd.DataFrame, titles: Mapping[str, str]
) -> Html:
    """What the planned messages say, in full."""
    texts = dict(zip(messages["message_id"], messages["text"], strict=True))
    sizes: Counter[str] = Counter()
    for row in planned:
        sizes[row.message_id] += row.n
    items = [
        f"<dt>{message_name(message, titles)}</dt><dd>{paragraph(texts[message])}</dd>"
        for message, _ in sizes.most_common()
        if message in texts
    ]
    if not items:
        return Html("")
    return folded("What the messages say", Html(f"<dl>{''.join(items)}</dl>"))


def _plan_in_words(
    plan: pd.DataFrame, n_eligible: int, outcome: OutcomeSection, summary: PlanSummary
) -> str:
    if plan.empty:
        return "Nobody is planned to be contacted."
    words = (
        f"{people_text(len(plan))} of {people_text(n_eligible)} eligible voters are to "
        f"be contacted, for {usd_text(summary.spent_usd)} of a budget of "
        f"{usd_text(summary.budget_usd)}.{_online_in_words(summary.online)}"
        f"{_last_dollar_in_words(summary.shadow_price, outcome)}"
    )
    if math.isfinite(summary.optimality_gap):
        words += (
            " No other plan for this money could be predicted to do more than "
            f"{_small_share(summary.optimality_gap)} better."
        )
    return words


def _online_in_words(online: OnlineUse) -> str:
    """What of the budget the endpoint has taken; nothing where it took nothing."""
    if not (online.n_sent or online.n_open):
        return ""
    return (
        f" Of it, {usd_text(online.sent_usd)} went to contacts that were sent online, "
        f"and {usd_text(online.reserved_usd)} is reserved by offers that are open "
        "there."
    )


def _last_dollar_in_words(shadow_price: float | None, outcome: OutcomeSection) -> str:
    if not shadow_price or not math.isfinite(shadow_price) or shadow_price < 0:
        return ""
    if outcome.kind == "binary":
        return (
            f" At the margin, one more voter who {outcome.label} costs about "
            f"{usd_text(1 / shadow_price)}, by prediction."
        )
    price = outcome.unit_per_point / shadow_price
    return (
        " At the margin, one more point for one voter costs about "
        f"{usd_text(price)}, by prediction."
    )


def _small_share(value: float) -> str:
    return "0.01 %" if value < 1e-4 else f"{100 * value:.2g} %"


def _draws_in_words(
    campaign: Campaign, summary: PlanSummary, assignments: pd.DataFrame
) -> str:
    counts = assignments["role"].value_counts()
    explorers = assignments["role"] == "explore"
    n_nothing = int((explorers & (assignments["message_id"] == CONTROL)).sum())
    n_explorers = int(explorers.sum())
    drawn = (
        "Of the others each was drawn to explore with a chance of "
        f"{share_text(summary.explore_share)}"
    )
    if not campaign.plan.explore_share:
        explored = (
            "Nobody explores, as explore_share is declared to be 0, so that nothing "
            "new is learnt of messages that the plan does not choose."
        )
    elif not summary.explore_share:
        explored = (
            f"{share_text(campaign.plan.explore_share)} of the others were to explore, "
            "but the limits of this plan leave nothing for it: it teaches nothing new."
        )
    elif n_nothing < n_explorers:
        explored = (
            f"{drawn}: {people_text(n_explorers)} voters, of whom "
            f"{people_text(n_explorers - n_nothing)} get a message drawn at random "
            f"and {people_text(n_nothing)} get nothing, so that the campaign keeps "
            "learning which one works."
        )
    elif n_explorers:
        explored = (
            f"{drawn}: {people_text(n_explorers)} voters. The planned policy leaves "
            "nothing to draw, so they get nothing either, and this plan teaches "
            "nothing new."
        )
    else:
        explored = f"{drawn}, and nobody was: this plan teaches nothing new."
    return (
        f"{people_text(int(counts.get('holdout', 0)))} voters "
        f"({share_text(campaign.plan.holdout_share)} by design) were drawn at random "
        "to be left alone for the whole campaign: comparing the others with them tells "
        f"what the campaign did. {explored}"
    )


def _judged_beside_planned(summary: PlanSummary, unit: float) -> list[Html]:
    """Every planned policy next to its judged one; empty where none was judged."""
    blocks: list[Html] = []
    for one in summary.judged:
        gain = interval_text(as_span(one.gain, unit))
        words = (
            f"Planned is the policy “{POLICIES.get(one.policy, one.policy)}”, "
            f"whose gain was judged under the limits of this plan: {gain} per voter. "
            f"As judged it spends {usd_text(one.judged_usd)} a voter on what the "
            f"plan itself sends, as planned {usd_text(one.planned_usd)}. "
        )
        words += (
            "What it sends agrees within sampling error."
            if one.agrees
            else f"They differ: {one.why}."
        )
        rows = [
            (
                arm.message_id,
                arm.channel,
                share_text(arm.judged),
                share_text(arm.planned),
                "yes" if arm.agrees else "no",
            )
            for arm in one.arms
        ]
        header = ["Message", "Channel", "Voters, as judged", "As planned", "Agree"]
        table = html_table("Judged and planned", header, rows, words=2)
        blocks += [paragraph(words), folded("Judged and planned, by message", table)]
    return blocks


def _planned_row(
    row: PlannedArm, unit: float, titles: Mapping[str, str]
) -> tuple[Any, ...]:
    why = {"plan": "best for the money", "explore": "drawn at random"}
    return (
        Html(message_name(row.message_id, titles)),
        row.channel,
        why.get(row.role, row.role),
        *_counted(row.n, row.cost_usd, row.lift_mean, unit),
    )


def _by_day(summary: PlanSummary, charts: Mapping[str, Figure]) -> list[Html]:
    if not summary.contacts_by_day:
        return []
    drawn = chart_place(charts, "schedule", "Planned contacts by day and channel")
    return [html_block("By day", drawn)]


def _planned_segments(summary: PlanSummary) -> list[Html]:
    segments = [row for row in summary.segments if row.n_voters >= SMALLEST_CELL]
    if not segments:
        return []
    ordered = sorted(segments, key=lambda row: -row.n_planned / row.n_voters)
    rows = [
        (row.segment, _share_bar(row), people_text(row.n_planned),
         people_text(row.n_voters))
        for row in ordered[:TABLE_ROWS]
    ]  # fmt: skip
    header = ["Group", "Share contacted", "Contacted", "Voters"]
    note = _rest(len(ordered) - TABLE_ROWS, "groups")
    return [html_table("Share of each group that is contacted", header, rows, 2), note]


def _share_bar(row: PlannedSegment) -> Html:
    if is_small(row.n_planned):
        return Html(NOT_SHOWN)
    share = row.n_planned / row.n_voters
    return Html(
        f'<span class="bar"><span style="width:{100 * share:.1f}%"></span></span> '
        f"{escaped(share_text(share))}"
    )


def _rest(n_more: int, what: str) -> Html:
    return paragraph(f"and {n_more} more {what}.", "quiet") if n_more > 0 else Html("")


def _not_eligible(summary: PlanSummary) -> list[Html]:
    rows = [(row.reason, people_text(row.n_voters)) for row in summary.not_eligible]
    if not rows:
        return [
            html_block("Who could not be contacted", paragraph("Everybody could be."))
        ]
    table = html_table("Voters who could not be contacted", ["Reason", "Voters"], rows)
    return [html_block("Who could not be contacted", table)]


def quarantine_section(quarantine: pd.DataFrame) -> Html:
    """The section on quarantined rows: counts and reasons, never values."""
    explanation = (
        "Rows that break a rule of their table are set aside and not used. Their "
        "values are in the run's quarantine table, never here."
    )
    if quarantine.empty:
        return html_section(
            "quarantine", "What was set aside", paragraph("No row was.")
        )
    counts = _quarantine_counts(quarantine)
    rows = [
        (row["table"], row["column"], row["reason"], number_text(row["rows"]))
        for row in counts.head(TABLE_ROWS).to_dict("records")
    ]
    header = ["Table", "Column", "Reason", "Rows"]
    return html_section(
        "quarantine",
        "What was set aside",
        paragraph(explanation),
        html_table("Rows set aside", header, rows, words=3),
        _rest(len(counts) - TABLE_ROWS, "reasons"),
    )


def _quarantine_counts(quarantine: pd.DataFrame) -> pd.DataFrame:
    without_values = quarantine.assign(
        reason=[
            _without_value(str(reason), value)
            for reason, value in zip(
                quarantine["reason"], quarantine["value"], strict=True
            )
        ]
    )
    counted = without_values.groupby(["table", "column", "reason"], dropna=False)[
        "row"
    ].nunique()
    return (
        counted.rename("rows")
        .reset_index()
        .sort_values(["rows", "table", "column"], ascending=[False, True, True])
    )


def _without_value(reason: str, value: Any) -> str:
    """The reason of a quarantine with the value that it quotes blanked out.

    >>> _without_value("unknown voter 'v1'", "v1")
    "unknown voter '…'"
    """
    if value is None or value is pd.NA or pd.isna(value) or str(value) == "":
        return reason
    came = re.escape(str(value))
    quoted = re.sub(rf"(?<=['\"]){came}(?=['\"])", "…", reason)
    # a bare short value is a number of the rule as often as the value itself
    bare = rf"(?<!\w){came}(?!\w)" if len(str(value)) > 2 else rf"(?<=got ){came}(?!\w)"
    return re.sub(bare, "…", quoted)


def source_section(sources: Sequence[Source]) -> Html:
    """Where the data come from and what they may be used for."""
    rows = [
        (
            source.table,
            source.source,
            source.licence,
            source.permitted_use,
            number_text(source.rows_in),
            number_text(source.accepted),
            number_text(source.quarantined),
            Html(f"<code>{escaped(_short(source.sha256))}</code>"),
        )
        for source in sources
    ]
    header = ["Table", "Source", "Licence", "Permitted use", "Rows in", "Accepted",
              "Set aside", "Fingerprint"]  # fmt: skip
    return html_section(
        "sources",
        "Where the data come from",
        html_table("Sources and licences", header, rows, words=4),
    )


def _short(digest: str) -> str:
    return digest[:12]


def run_footer(record: RunRecord, model_version: str) -> Html:
    """The footer: facts of the run that are needed to reproduce the page."""
    facts = replace(record, plan=None).to_json() | {"model_version": model_version}
    rows = [(_spaced(key), _flat(key, value)) for key, value in facts.items()]
    table = html_table(
        "How to get the same page again", ["What", "Value"], rows, words=2
    )
    return Html(f'<footer id="run">{folded("How this page was made", table)}</footer>')


def _spaced(key: str) -> str:
    return key.replace("_", " ")


def _flat(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_spaced(str(k))} {_flat(key, v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_flat(key, item) for item in value)
    if isinstance(value, bool) or value is None:
        return "unknown" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:.1f} s" if "timing" in key else f"{value:g}"
    if isinstance(value, int) and "seed" not in key:
        return number_text(value)
    return _shortened(str(value))


def _shortened(text: str) -> str:
    return text[:12] if re.fullmatch(r"[0-9a-f]{32,}", text) else text
