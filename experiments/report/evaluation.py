"""The report's sections on the question, the answer and the experiments."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from hustings.experiments.declaration import Campaign, OutcomeSection
from hustings.experiments.report.charts import (
    CHART_MESSAGES_BOTTOM,
    CHART_MESSAGES_TOP,
    HEAT_MAP_MESSAGES,
    Figure,
    best_first,
    extremes,
    heat_map_cells,
)
from hustings.experiments.report.markup import (
    ROWS_TOP,
    Html,
    chart_place,
    escaped,
    folded,
    html_badge,
    html_section,
    html_table,
    html_tile,
    joined,
    long_table,
    paragraph,
)
from hustings.experiments.report.words import (
    NOT_SHOWN,
    POLICIES,
    Row,
    Span,
    as_span,
    day_text,
    interval_text,
    is_small,
    large_cells,
    message_name,
    number_text,
    p_text,
    people_text,
    policies_shown,
    share_text,
    slugs_of,
    titles_of,
    usd_text,
)
from hustings.experiments.results import PlanSummary, Unseen
from hustings.features.tables import SMALLEST_CELL
from hustings.training.policy_value.guardrails import where_in_words
from hustings.training.policy_value.results import (
    NOT_LEARNT,
    NOTHING_CAN_BE_SAID,
    NOTHING_MAY_BE_SENT,
)
from hustings.training.policy_value.verdict import gain_verb

TURNOUT_POINT = 0.01
"""Turnout is a share whatever the outcome is measured in."""
OVERLAP_FLOOR = 0.01
"""Lowest propensity of an arm whose effect does not hang on a handful of people."""
RULES = {
    "us_default": "United States, as shipped",
    "eu_2024_900": "European Union, Regulation 2024/900",
    "places_only": "by place, age and sex alone",
    "research_replay": "replay for research",
}
UNTARGETED = ("single_best", "best_mix")
MUST_BE_BEATEN = ("nobody", *UNTARGETED, "one_covariate", "champion")
"""What personalising has to beat; the others are shown next to it."""
WHAT_TO_DO = {
    "nobody": "Send nothing: no message was shown to be worth its cost.",
    "single_best": "Send the single best message to people drawn at random.",
    "best_mix": "Send the best mix of messages to people drawn at random, "
    "without targeting.",
    "one_covariate": "Split the voters once, by one characteristic, and send each "
    "side its best message.",
    "champion": "Go on with the policy that is in use.",
    "personalised": "Send each voter the message that is predicted to do most for "
    "the money, and nothing where no message is worth it.",
}
TO_MEND = {
    NOTHING_MAY_BE_SENT: "Mend what the rule names and run again.",
    NOTHING_CAN_BE_SAID: "Bring what the data lack and run again.",
}
DISCLOSES = {
    "none": "nothing",
    "recipient": "the recipient's own data",
    "household": "the household's data",
    "others": "other people's data",
}


def judged_only(evaluation: Row) -> Row:
    """The evaluation without experiments of which nothing was learnt."""
    judged = {
        name: result
        for name, result in evaluation["experiments"].items()
        if result["verdict"] not in NOT_LEARNT
    }
    return {**evaluation, "experiments": judged}


def asked_section(campaign: Campaign, evaluation: Row) -> Html:
    """The section on the question: outcome, units, money and rules."""
    declared, outcome = campaign.campaign, campaign.outcome.as_valued()
    money = campaign.plan.budget_usd
    budget = (
        f"{usd_text(money)} in all"
        if money is not None
        else f"{usd_text(campaign.plan.spend_per_voter_usd)} a voter"
    )
    each = usd_text(evaluation["spend_per_voter_usd"])
    n_eligible = people_text(evaluation["n_eligible"])
    facts = [
        ("Question", declared.question),
        ("Outcome", f"{outcome.label} (higher is "
         f"{'better' if outcome.higher_is_better else 'worse'})"),
        ("One point", _point_in_words(outcome)),
        ("Money", f"{budget}; {each} for each of {n_eligible} eligible voters"),
        ("Known until", day_text(declared.as_of)),
        ("Rules", RULES.get(declared.rule_set, declared.rule_set)),
    ]  # fmt: skip
    listed = "".join(f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in facts)
    return html_section("asked", "What was asked", Html(f"<dl>{listed}</dl>"))


def _point_in_words(outcome: OutcomeSection) -> str:
    unit = outcome.unit_per_point
    if outcome.kind == "binary" and math.isclose(unit, 0.01):
        return "one more voter in 100"
    return f"{unit:g} on the scale of the outcome"


def answer_section(
    evaluation: Row, plan: pd.DataFrame, summary: PlanSummary | None, *, days: int
) -> Html:
    """The answer in one sentence, with its verdict and its main figures.

    Args:
        evaluation: As in `evaluation.json`, experiments that were judged.
        plan: The `plan` table.
        summary: Of the plan; None before anything is planned.
        days: Over which the plan's contacts are spread.
    """
    headline = evaluation["headline"]
    only = list(evaluation["experiments"].values())
    unit = float(evaluation["outcome"]["unit_per_point"])
    of_one = (
        [_todo(only[0]), *_ahead_of_chosen(only[0], unit),
         _until_known(only[0], unit, summary, days)]
        if len(only) == 1 else []
    )  # fmt: skip
    return Html(
        f'<section id="answer" class="answer" aria-label="The answer">'
        f"{html_badge(headline['verdict'])}"
        f'<p class="sentence">{escaped(headline["sentence"])}</p>'
        f"{_tiles(evaluation, plan, summary)}{joined(of_one)}"
        f"{paragraph(_interval_in_words(), 'quiet')}</section>"
    )


def _todo(result: Row) -> Html:
    todo = WHAT_TO_DO.get(result["champion"], "Go by the lifts that the partner sends.")
    return paragraph(Html(f"<strong>What to do:</strong> {escaped(todo)}"), "todo")


def _label(policy: str) -> str:
    return POLICIES.get(policy, policy.replace("partner:", "Partner: "))


def _ahead_of_chosen(result: Row, unit: float) -> list[Html]:
    """Why policies that are ahead of the chosen one in the chart are not chosen."""
    chosen = result["champion"]
    gain = {
        name: as_span(policy["gain"], unit)
        for name, policy in result["policies"].items()
    }
    ahead = sorted(
        (name for name in gain if gain[name].value > gain[chosen].value),
        key=lambda name: -gain[name].value,
    )
    if not ahead:
        return []
    by_reason: dict[str, list[str]] = {}
    for name in ahead:
        in_words = f"“{_label(name)}” ({interval_text(gain[name], '')})"
        by_reason.setdefault(_why_not(name, result, unit), []).append(in_words)
    reasons = "; ".join(
        f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()
    )
    return [
        paragraph(
            f"Ahead of the chosen “{_label(chosen)}” ({interval_text(gain[chosen])}) "
            "by "
            f"the estimate alone, and not chosen: {reasons}."
        )
    ]


def _why_not(name: str, result: Row, unit: float) -> str:
    """Why the gate does not choose a policy."""
    gate, untargeted = result["gate"], result["best_untargeted"]["policy"]
    if gate["blocked_by"]:
        return "a check of the data fails, so nothing is promoted"
    if name == "personalised":
        unsure = [
            f"“{_label(rival)}” by {interval_text(as_span(interval, unit))}"
            for rival, interval in result["differences"].items()
            if rival in MUST_BE_BEATEN and as_span(interval).low <= 0
        ]
        return f"it is not shown to beat {'; '.join(unsure) or 'all others surely'}"
    if name == "one_covariate":
        gain = interval_text(as_span(result["gain_from_one_split"], unit))
        return (
            f"one of many splits, it gains {gain} over the best without targeting, "
            "which is not sure enough for that"
        )
    if name in UNTARGETED and name != untargeted:
        return (
            "which policy without targeting may be sent is chosen on other people than "
            f"those who judge it, and there “{_label(untargeted)}” was better"
        )
    if name in UNTARGETED:
        gain = interval_text(as_span(result["gain_of_best_untargeted"], unit))
        return f"it is not shown to beat sending nothing: {gain}"
    if name == "nobody":
        return (
            "earlier studies, as declared, carry the chosen one"
            if gate["carried_by_prior"]
            else "the messages that the chosen one sends are shown to help"
        )
    if name == "champion" or name.startswith("partner:"):
        return "it is not shown to beat every other policy"
    return "what campaigns do today is shown to compare and never chosen"


def _until_known(
    result: Row, unit: float, summary: PlanSummary | None, days: int
) -> Html:
    """How many more voters and days it takes to know whether personalising pays."""
    power = result["gate"].get("power")
    chance = power and (power["at_worthwhile"] or power["at_estimate"])
    if not chance or chance["n_voters"] is None:
        return Html("")
    n_lacking = chance["n_voters"] - power["n_tested"]
    if n_lacking <= 0:
        return Html("")
    gain = interval_text(Span(chance["gain"] / unit, math.nan, math.nan))
    words = (
        f"Until it is known: a true gain of personalising of {gain} needs "
        f"{people_text(n_lacking)} more tested voters to be shown with a chance of 80 %"
    )
    tested = sum(
        row.n for row in (summary.planned if summary else ()) if row.role == "explore"
    )
    if is_small(tested) or not tested:
        return paragraph(
            f"{words}. This plan draws too few at random to say in how many days: it "
            "takes a test of its own."
        )
    n_days = math.ceil(n_lacking / (tested / days))
    return paragraph(
        f"{words}: about {number_text(n_days)} days, if as many a day are sent a "
        f"message at random as in this plan ({number_text(tested)} in {days} days)."
    )


NOTES_OPEN = 8
"""Sentences on what was set aside that stand open; the others are folded."""


def not_learnt_section(evaluation: Row) -> Html:
    """Experiments of which nothing was learnt, and what was set aside of the others."""
    rows = [
        (name, html_badge(result["verdict"]), result["sentence"],
         TO_MEND[result["verdict"]])
        for name, result in evaluation["experiments"].items()
        if result["verdict"] in NOT_LEARNT
    ]  # fmt: skip
    notes = [paragraph(note) for note in evaluation.get("notes", ())]
    if notes[NOTES_OPEN:]:
        rest = folded(f"{len(notes) - NOTES_OPEN} more", *notes[NOTES_OPEN:])
        notes = [*notes[:NOTES_OPEN], rest]
    if not rows and not notes:
        return Html("")
    header = ["Experiment", "Verdict", "Why", "What to do"]
    return html_section(
        "not-learnt",
        "Set aside before training",
        html_table("Experiments of which nothing was learnt", header, rows, words=4),
        *notes,
        *(
            _guardrails(result, f"{slug}-unlearnt")
            for slug, result in zip(
                slugs_of(evaluation["experiments"]).values(),
                evaluation["experiments"].values(),
                strict=True,
            )
            if result["verdict"] in NOT_LEARNT
        ),
    )


def _interval_in_words() -> str:
    return (
        "The range in brackets is the 95 % interval: what would be compatible with "
        "the data. Where it holds zero, nothing was shown. Gains are measured on "
        "people whom the model never saw."
    )


def _tiles(evaluation: Row, plan: pd.DataFrame, summary: PlanSummary | None) -> Html:
    experiments = list(evaluation["experiments"].values())
    if not experiments:
        return Html("")
    unit = float(evaluation["outcome"]["unit_per_point"])
    first = (
        _single_tiles(experiments[0], unit)
        if len(experiments) == 1
        else _several_tiles(evaluation)
    )
    spent = None if summary is None else summary.spent_usd
    tiles = [
        *first,
        html_tile(
            "Planned contacts", people_text(len(plan)), "at most one message a voter"
        ),
        html_tile("Planned spend", usd_text(spent), "with what exploring costs"),
    ]
    return Html(f'<div class="tiles">{joined(tiles)}</div>')


def _single_tiles(result: Row, unit: float) -> list[Html]:
    champion = result["champion"]
    policy = result["policies"].get(champion, {})
    adds = as_span(result["gain_from_personalising"], unit)
    split = as_span(result.get("gain_from_one_split"), unit)
    one_split = [html_tile("One split adds", *_split_interval(split))]
    return [
        *(one_split if champion == "one_covariate" else []),
        html_tile(
            f"Personalising {gain_verb(result)}",
            *_split_interval(adds, f" against “{_label(result['rival'])}”"),
        ),
        html_tile(
            f"{_label(champion)}: gain",
            *_split_interval(as_span(policy.get("gain"), unit)),
        ),
    ]


def _split_interval(span: Span, against: str = "") -> tuple[str, str]:
    value, _, interval = interval_text(span).partition(" (")
    if not interval:
        return value, ""
    ends = interval.rstrip(")").replace(" to ", " and ")
    return value, f"between {ends}{against}"


def _several_tiles(evaluation: Row) -> list[Html]:
    n_all = len(evaluation["experiments"])
    n_gain = evaluation["headline"].get("n_personalise", 0)
    return [
        html_tile("Experiments", number_text(n_all), "each judged by itself"),
        html_tile(
            "Personalising pays in", f"{n_gain} of {n_all}", "by its own interval"
        ),
    ]


class Parts(NamedTuple):
    """Sections on an experiment, in the order in which they are read.

    Attributes:
        why: What is compared, and what each message does.
        sure: How far that can be relied on.
        details: For those who look closer.
    """

    why: Html
    sure: Html
    details: Html


def experiment_parts(
    evaluation: Row, charts: Mapping[str, Figure], messages: pd.DataFrame
) -> Parts:
    """One experiment in full, or a table of several with each of them folded."""
    experiments = evaluation["experiments"]
    slugs = slugs_of(experiments)
    texts = dict(zip(messages["message_id"], messages["text"], strict=True))
    titles = titles_of(messages)
    parts = {
        name: _experiment(result, evaluation, charts, slugs[name], texts, titles)
        for name, result in experiments.items()
    }
    if len(parts) == 1:
        return next(iter(parts.values()))
    unit = float(evaluation["outcome"]["unit_per_point"])
    folds = [
        folded(
            Html(f"{escaped(name)} {html_badge(experiments[name]['verdict'])}"),
            paragraph(experiments[name]["sentence"], "sentence small"),
            _todo(experiments[name]),
            *_ahead_of_chosen(experiments[name], unit),
            *part,
            css="experiment",
        )
        for name, part in parts.items()
    ]
    nothing = Html("")
    return Parts(joined([_overview(evaluation, charts), *folds]), nothing, nothing)


def _overview(evaluation: Row, charts: Mapping[str, Figure]) -> Html:
    unit = float(evaluation["outcome"]["unit_per_point"])
    rows = [
        (
            name,
            html_badge(result["verdict"]),
            _label(result["champion"]),
            people_text(result["n_voters"]),
            number_text(len(result["messages"])),
            interval_text(
                as_span(result["policies"][result["champion"]]["gain"], unit), ""
            ),
            interval_text(as_span(result["gain_from_personalising"], unit), ""),
        )
        for name, result in evaluation["experiments"].items()
    ]
    header = ["Experiment", "Verdict", "Chosen", "Voters", "Messages",
              "Gain of the chosen", "Personalising adds"]  # fmt: skip
    return html_section(
        "experiments",
        "The experiments",
        paragraph(
            "Each experiment measured its own outcome, so each has its own answer "
            "and they are not added up. Gains are in points."
        ),
        html_table("One row for each experiment", header, rows, words=3),
        chart_place(charts, "overview", "What personalising adds in each experiment"),
    )


def _experiment(
    result: Row,
    evaluation: Row,
    charts: Mapping[str, Figure],
    slug: str,
    texts: Mapping[str, str],
    titles: Mapping[str, str],
) -> Parts:
    unit = float(evaluation["outcome"]["unit_per_point"])
    return Parts(
        why=joined(
            [
                _policies(result, unit, charts, slug),
                _messages(result, unit, charts, slug, texts, titles),
            ]
        ),
        sure=joined(
            [
                _calibration({**result, "unit_per_point": unit}, charts, slug),
                _checks(result, unit, slug),
                _power(result, unit, slug),
            ]
        ),
        details=joined(
            [
                _segments({**result, "unit_per_point": unit}, charts, slug),
                _curve(charts, slug),
                _reliability(result, charts, slug),
                _guardrails(result, slug),
            ]
        ),
    )


def _policies(
    result: Row, unit: float, charts: Mapping[str, Figure], slug: str
) -> Html:
    rows = [
        _policy_row(name, label, result, unit)
        for name, label in policies_shown(result).items()
    ]
    header = ["Policy", "Gain, points", "Personalised is ahead by", "Spend a voter",
              "Contacted", "Gain over all budgets"]  # fmt: skip
    must_be_beaten = ", ".join(
        f"“{_label(name)}”" for name in MUST_BE_BEATEN if name in result["differences"]
    )
    return html_section(
        f"{slug}-policies",
        "Policies compared",
        paragraph(
            "What each way of spending the same budget gains per voter, against "
            f"sending nothing. Personalising has to beat each of {must_be_beaten}. "
            f"“{_label(result['rival'])}” is the hardest to beat: what personalising "
            "adds is the difference to it. What it adds to the others is shown to "
            "compare."
        ),
        chart_place(
            charts, f"{slug}/policies", "Gain of each policy, points, with intervals"
        ),
        html_table("Policies at the same budget", header, rows),
        _chosen_untargeted(result, unit),
        paragraph(
            "“Gain over all budgets” is the average over every budget up to the price "
            "of the dearest message.",
            "quiet",
        ),
        _partners(result, unit),
        _channels(result),
    )


def _chosen_untargeted(result: Row, unit: float) -> Html:
    """The best untargeted policy over nobody, corrected for having been chosen."""
    chosen = result.get("best_untargeted")
    if not chosen:
        return Html("")
    name = _label(chosen["policy"])
    gain = interval_text(as_span(chosen["over_nobody"], unit))
    return paragraph(
        f"Chosen of those without targeting is “{name}”, {gain} over sending nothing: "
        "its range "
        f"allows for the best of {number_text(chosen['chosen_among'])} having been "
        "chosen, the ranges of the table do not.",
        "quiet",
    )


def _power(result: Row, unit: float, slug: str) -> Html:
    """What gain of personalising this test could have shown; empty where it did."""
    power = result["gate"].get("power")
    if not power:
        return Html("")
    labels = {
        "at_estimate": "the estimate, drawn towards nothing",
        "at_worthwhile": "the smallest gain worth having",
    }
    singled_out = [(power[key], label) for key, label in labels.items() if power[key]]
    rows = [
        (
            interval_text(Span(row["gain"] / unit, math.nan, math.nan)),
            label,
            share_text(row["power"]),
            NOT_SHOWN
            if row["n_voters"] is None
            else people_text(max(row["n_voters"] - power["n_tested"], 0)),
        )
        for row, label in [*singled_out, *((row, "") for row in power["curve"])]
        if row["gain"] > 0
    ]
    rival = _label(power["rival"])
    return html_section(
        f"{slug}-power",
        "How many more voters until we would know",
        paragraph(
            f"{people_text(power['n_tested'])} voters were tested. A true gain of "
            "personalising is shown by such a test with the chance below, and with a "
            "chance of 80 % at the next attempt once so many more voters are tested. "
            f"The difference to “{rival}” is the one that is furthest from sure."
        ),
        html_table(
            "True gain, and the chance to show it",
            ["True gain", "", "Chance that it is shown", "More voters for 80 %"],
            rows,
            words=2,
        ),
    )


def _partners(result: Row, unit: float) -> Html:
    """Table of the partners' lifts by the same gate; empty where there are none."""
    rows = [
        (
            name.replace("partner:", ""),
            interval_text(as_span(partner["over_best_baseline"], unit), ""),
            interval_text(as_span(partner["over_personalised"], unit), ""),
            interval_text(as_span(partner.get("slope")), "").lstrip("+"),
        )
        for name, partner in (result.get("partners") or {}).items()
    ]
    if not rows:
        return Html("")
    best = f"Over “{_label(result['best_baseline'])}”"
    header = ["Partner", best, "Over personalising", "Slope"]
    caption = "Lifts that partners delivered: points, and how far they come true"
    return html_table(caption, header, rows)


def _policy_row(name: str, label: str, result: Row, unit: float) -> tuple[Any, ...]:
    policy, chosen = result["policies"][name], result["champion"]
    mark = ' <span class="badge yes">Chosen</span>' if name == chosen else ""
    ahead = as_span(result["differences"].get(name), unit)
    area = as_span(result["area"].get(name), unit)
    label_cell = Html(
        f"{escaped(label)}{mark}<br>"
        f"<small>{escaped(policy.get('description', ''))}</small>"
    )
    return (
        label_cell,
        interval_text(as_span(policy["gain"], unit), ""),
        _or_dash(ahead),
        usd_text(policy["spend_per_voter_usd"]),
        share_text(policy["contacted_share"]),
        _or_dash(area),
    )


def _or_dash(span: Span) -> str:
    return interval_text(span, "") if math.isfinite(span.value) else NOT_SHOWN


def _channels(result: Row) -> Html:
    rows = [
        (
            row["channel"],
            interval_text(as_span(row["multiplier"]), "").lstrip("+"),
            usd_text(row["cost_usd_mean"]),
        )
        for row in result.get("channels", [])
    ]
    caption = "Channels: how many times the average effect, and the price"
    return html_table(caption, ["Channel", "Strength", "Mean price"], rows)


def _messages(
    result: Row,
    unit: float,
    charts: Mapping[str, Figure],
    slug: str,
    texts: Mapping[str, str],
    titles: Mapping[str, str],
) -> Html:
    ranked = best_first(result)
    rows = [_message_row(row, unit, texts, titles) for row in ranked]
    header = ["Message", "Issue", "Reveals", "Corrected for luck", "As measured",
              "Sent to"]  # fmt: skip
    table = long_table("Effect of each message, points", header, rows, words=3)
    return html_section(
        f"{slug}-messages",
        "Effect of each message",
        paragraph(
            "Difference between people who were sent the message and people who were "
            "sent nothing. The best-looking of many messages is partly lucky: "
            "“corrected for luck” draws each estimate towards the others and is what "
            "a new trial would be expected to show."
        ),
        _left_out(result["messages"], ranked),
        chart_place(
            charts, f"{slug}/messages", "Effect of each message with intervals"
        ),
        folded(
            "The message as a table"
            if len(rows) == 1
            else f"{len(rows)} messages as a table",
            table,
        ),
        _forecasters(result),
        _priors(result, unit),
    )


def _forecasters(result: Row) -> Html:
    """Table of how far forecasters are believed; empty where nobody forecasts."""
    rows = [
        (
            row["forecaster"],
            interval_text(as_span(row["slope"], 1.0), ""),
            share_text(row["noise_share"]),
            f"{row['n_tested']:,}",
            f"{row['n_past']:,}",
        )
        for row in result.get("forecasts") or []
    ]
    if not rows:
        return Html("")
    header = ["Forecaster", "Believed at slope", "Share that says nothing",
              "Messages tested here", "Tested before"]  # fmt: skip
    about = (
        "How far forecasts of messages are believed, learnt from the tests that came "
        "in. A slope of 1 means that a message forecast to be one standard deviation "
        "better is so; at 0 the forecasts tell nothing, and change no estimate."
    )
    return joined(
        [
            html_table("How far forecasts are believed", header, rows),
            paragraph(about, "quiet"),
        ]
    )


def never_sent_section(unseen: Unseen | None, unit: float) -> Html:
    """What messages that were never sent are expected to do; empty without any.

    Args:
        unseen: As run.json notes them; None before they were scored.
        unit: Outcome units to a point.
    """
    if unseen is None or not unseen.expected:
        return Html("")
    rows = [
        (
            message,
            interval_text(as_span(row.effect.as_dict(), unit), ""),
            "outside: unlike all that were tested"
            if row.outside
            else "like those that were tested",
            "scored" if message in unseen.scored else "not scored",
        )
        for message, row in unseen.expected.items()
    ]
    header = ["Message", "Expected effect", "Is it like them?", "In the plan's scores"]
    about = (
        "Expected by the campaign's own tests, forecasts, earlier campaigns and, where "
        "they are read, texts together. A message outside is expected to do what any "
        "message does: test it before it is planned."
    )
    return html_section(
        "never-sent",
        "Messages that were never sent",
        long_table("Expected of messages never sent, points", header, rows),
        paragraph(about, "quiet"),
    )


CONFLICT_Z = 3.0
"""Prior and data conflict if they differ by more than this many standard errors."""


def _priors(result: Row, unit: float) -> Html:
    """Table of priors and measured effects; empty where there are no priors."""
    rows = [
        (
            comparison["message_id"],
            interval_text(as_span(comparison["prior"], unit), ""),
            interval_text(as_span(comparison["effect"], unit), ""),
            "look here" if abs(comparison["conflict_z"]) > CONFLICT_Z else "agree",
        )
        for comparison in result.get("priors") or []
    ]
    panels = [
        f"Panel {name}: {people_text(row['n'])} respondents, worth "
        f"{people_text(round(row['effective_n']))} once weighted to the voter file; "
        f"{share_text(row['outside_share'])} of the voters resemble hardly any of them."
        for name, row in (result.get("panel_overlap") or {}).items()
    ]
    if not rows:
        return Html("")
    header = [
        "Message",
        "Expected from elsewhere",
        "As measured here",
        "Do they agree?",
    ]
    return joined(
        [
            long_table("What was known from elsewhere, points", header, rows),
            paragraph(" ".join(panels), "quiet"),
        ]
    )


def _left_out(every: Sequence[Row], ranked: Sequence[Row]) -> Html:
    notes = []
    if len(extremes(ranked)) < len(ranked):
        notes.append(
            f"Drawn: the {CHART_MESSAGES_TOP} best and the {CHART_MESSAGES_BOTTOM} "
            f"weakest of {len(ranked)}."
        )
    if len(ranked) < len(every):
        notes.append(
            f"{len(every) - len(ranked)} sent to fewer than {SMALLEST_CELL} people "
            "are not shown."
        )
    return paragraph(" ".join(notes), "quiet") if notes else Html("")


def _message_row(
    row: Row, unit: float, texts: Mapping[str, str], titles: Mapping[str, str]
) -> tuple[Any, ...]:
    text = _clipped(str(texts.get(row["message_id"], "")), 140)
    name = message_name(row["message_id"], titles)
    label = Html(f"{name}<br><small>{escaped(text)}</small>")
    return (
        label,
        row.get("issue", ""),
        DISCLOSES.get(row.get("discloses", ""), row.get("discloses", "unknown")),
        interval_text(as_span(row["shrunken"], unit), ""),
        interval_text(as_span(row["effect"], unit), ""),
        people_text(row["n_sent"])
        + ("" if row.get("planned", True) else ", not planned"),
    )


def _clipped(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def _segments(result: Row, charts: Mapping[str, Figure], slug: str) -> Html:
    cells = heat_map_cells(result)
    n_columns = len({cell["message_id"] for cell in cells})
    hidden = len(result["segments"]) - len(large_cells(result["segments"], "n"))
    notes = [
        "Blue: the message helps in this group; orange: it hurts; grey: the interval "
        "holds zero, so the data do not say. Among many cells a few stand out by "
        "chance: do not pick a group from this table; the comparison of policies above "
        "tells whether picking groups pays."
    ]
    if len(result["messages"]) > HEAT_MAP_MESSAGES:
        notes.append(f"Shown: the {HEAT_MAP_MESSAGES} strongest messages.")
    if hidden:
        notes.append(
            f"{hidden} cells with fewer than {SMALLEST_CELL} people are not shown."
        )
    return html_section(
        f"{slug}-segments",
        "Which message for which group",
        paragraph(" ".join(notes)),
        chart_place(
            charts, f"{slug}/segments", "Effect of each message in each group, points",
            widest_px=min(1080, 300 + 150 * max(n_columns, 1)),
            narrowest_px=200 + 68 * n_columns if n_columns > 2 else 0,
        ),
        _balanced(result, float(result.get("unit_per_point", 1.0))),
    )  # fmt: skip


def _balanced(result: Row, unit: float) -> Html:
    """Each group against all others, as if they were alike in everything else."""
    rows = [
        (
            row["message_id"],
            f"{row['column']}: {row['group']}",
            people_text(row["n"]),
            interval_text(as_span(row["difference"], unit), ""),
            interval_text(
                as_span({**row, "value": row["difference"]["value"]}, unit), ""
            ),
            "yes" if row["low"] > 0 or row["high"] < 0 else "not shown",
        )
        for row in sorted(
            result.get("balanced_groups") or (),
            key=lambda row: -as_span(row["difference"]).value,
        )
    ]
    if not rows:
        return Html("")
    header = ["Message", "Group", "Voters", "More than among others, points",
              "All together hold", "Differs"]  # fmt: skip
    return folded(
        "Does a group differ from the others, all else equal?",
        paragraph(
            "The group and all other voters are weighted to be alike in everything "
            "else that is known of them: what remains is the group's own. The last "
            "column allows for having looked at all groups and messages.",
            "quiet",
        ),
        long_table("Each group against all others, alike otherwise", header, rows, 2),
    )


def _curve(charts: Mapping[str, Figure], slug: str) -> Html:
    return html_section(
        f"{slug}-curve",
        "What more or less money would buy",
        paragraph(
            "Gain per voter if each budget is spent as well as the policy can. The "
            "shaded bands are the 95 % intervals of personalising and of the best mix."
        ),
        chart_place(
            charts, f"{slug}/curve", "Gain against spend per voter, with the budget"
        ),
    )


def _calibration(result: Row, charts: Mapping[str, Figure], slug: str) -> Html:
    pooled, within = (
        interval_text(as_span(result["calibration"][name]), "").lstrip("+")
        for name in ("pooled_slope", "slope")
    )
    drawn = (
        f"Slope of what is drawn: {pooled}. At 1, where a point more is predicted a "
        "point more is measured; at 0 the predictions say nothing. It holds "
        "differences "
        "between messages as well as between voters."
    )
    between = (
        f"Slope between voters who are sent the same message, which is not drawn: "
        f"{within}. On it rests what personalising can add: near 0 or below, the "
        "predicted differences between voters are noise, however well messages are "
        "told apart."
    )
    return html_section(
        f"{slug}-calibration",
        "Do the predictions come true?",
        paragraph(
            "Pairs of a voter and a message in groups by predicted effect, against the "
            "effect that was measured in each group. On the dashed line, both agree."
        ),
        chart_place(
            charts, f"{slug}/calibration", "Predicted against measured effect",
            widest_px=620,
        ),
        paragraph(drawn),
        paragraph(between),
        _differences_between_voters(result),
    )  # fmt: skip


def _reliability(result: Row, charts: Mapping[str, Figure], slug: str) -> Html:
    """Reliability of the response model; empty where nothing was predicted."""
    by_outcome = result.get("reliability") or {}
    if not by_outcome:
        return Html("")
    header = ["Predicted", "Slope", "Mean miss", "Miss by chance alone", "Brier score",
              "of the mean alone", "People"]  # fmt: skip
    rows = [
        _reliability_row(outcome, measures) for outcome, measures in by_outcome.items()
    ]
    return html_section(
        f"{slug}-reliability",
        "Who votes and who supports, without a message",
        paragraph(
            "People who were sent nothing, in groups by what was predicted of them "
            "by models that never saw them, against what they did. On the dashed "
            "line, both agree."
        ),
        chart_place(
            charts, f"{slug}/reliability", "Predicted against observed, per cent",
            widest_px=620,
        ),
        html_table("How far the predictions can be relied on", header, rows),
    )  # fmt: skip


def _reliability_row(outcome: str, measures: Row) -> tuple[Any, ...]:
    return (
        outcome,
        interval_text(as_span(measures["slope"]), "").lstrip("+"),
        f"{number_text(100 * measures['ece'], 2)} %",
        f"{number_text(100 * measures['ece_by_chance'], 2)} %",
        number_text(measures["brier"], 4),
        number_text(measures["brier_base"], 4),
        people_text(measures["n"]),
    )


def _differences_between_voters(result: Row) -> Html:
    """Heterogeneity of each message: slope, gain of ranking and p-value."""
    by_message = result.get("heterogeneity", {}).get("messages", [])
    if not by_message:
        return Html("")
    unit = float(result.get("unit_per_point", 1.0))
    rows = [
        (
            row["message_id"],
            interval_text(as_span(row["slope"]), "").lstrip("+"),
            interval_text(as_span(row["autoc"], unit), ""),
            p_text(row["p_value"]),
            "yes" if row["found"] else "not shown",
        )
        for row in sorted(by_message, key=lambda row: float(row["p_value"]))
    ]
    header = ["Message", "Slope", "Ranking gains, points", "p", "Voters differ"]
    return folded(
        "Do voters differ in what the message does to them?"
        if len(rows) == 1
        else f"Do voters differ in what {len(rows)} messages do to them?",
        joined(
            [
                paragraph(
                    "Slope: between voters of one message, as above. Ranking gains: "
                    "how much more the "
                    "message does to those ranked first than to everybody, averaged "
                    "over how many are served. The last column allows for having "
                    "looked at many messages.",
                    "quiet",
                ),
                long_table("Differences between voters, by message", header, rows),
            ]
        ),
    )


class Check(NamedTuple):
    """One check of the experiment, in plain words."""

    name: str
    passed: bool | None
    words: str


def _checks(result: Row, unit: float, slug: str) -> Html:
    checks = result.get("checks", {})
    results = [
        _sample_ratio_check(checks),
        _attrition_check(checks),
        _permuted_check(checks, unit),
        _overlap_check(checks),
        _proxy_check(checks),
        _electorate_check(checks, unit),
    ]
    items = "".join(
        f"<li>{_mark(check.passed)} <strong>{escaped(check.name)}</strong>: "
        f"{escaped(check.words)}</li>"
        for check in results
    )
    return html_section(
        f"{slug}-checks",
        "Can the experiment be trusted?",
        Html(f'<ul class="checks">{items}</ul>'),
        paragraph(
            _turnout_in_words(result.get("turnout_effect", "unknown"), TURNOUT_POINT)
        ),
    )


PER_VOTERS = 100
GUARDED_STATUS = {
    "harms": "harms: sent to nobody",
    "within_margin": "shown not to harm by more than the margin",
    "not_shown": "not shown either way",
}
HARMFUL_CHANGE = {"fall": "a fall", "rise": "a rise", "either": "any change"}


def _guardrails(result: Row, slug: str) -> Html:
    """Every guardrail: its messages, and the groups in which one harms."""
    blocks = [_guardrail(guardrail) for guardrail in result.get("guardrails") or ()]
    if not blocks:
        return Html("")
    return html_section(f"{slug}-guardrails", "Guardrails", *blocks)


def _guardrail(guardrail: Row) -> Html:
    name, alpha = guardrail["name"], guardrail["alpha"]
    margin = number_text(PER_VOTERS * guardrail["margin"], 2)
    harm = HARMFUL_CHANGE[guardrail["direction"]]
    if not guardrail["messages"]:
        return paragraph(
            f"{name}: nothing is judged, for no answers on “{guardrail['outcome']}” "
            "compare a message with none."
        )
    status = dict(GUARDED_STATUS)
    if guardrail["bars_unproven"]:
        status["not_shown"] += ": sent to nobody"
    rows = [
        _guarded_row(row, "everybody", status[row["status"]])
        for row in sorted(guardrail["messages"], key=_harmed_first)
    ] + [
        _guarded_row(row, where_in_words(row["where"]), "harms: sent to none of them")
        for row in guardrail["harmed_groups"]
    ]
    words = (
        f"{name}: {harm} harms, by {margin} per {PER_VOTERS} voters or more if it is "
        f"to matter. {number_text(len(guardrail['messages']))} messages and "
        f"{number_text(guardrail['n_groups'])} comparisons within groups are judged "
        f"together: the chance that any of them is ever closed without harm is at most "
        f"{share_text(alpha)}, however often the campaign's days are looked at. "
    )
    words += (
        "A message is sent to nobody until it is shown to do no such harm."
        if guardrail["bars_unproven"]
        else "A message is sent until it is shown to harm."
    )
    header = ["Message", "Among", "Voters", f"Change per {PER_VOTERS}",
              "All together hold", "Judged"]  # fmt: skip
    caption = f"What messages do to {name}, with intervals of 95 %"
    return joined([paragraph(words), long_table(caption, header, rows, words=2)])


def _harmed_first(row: Row) -> int:
    return list(GUARDED_STATUS).index(row["status"])


def _guarded_row(row: Row, among: str, status: str) -> tuple[Any, ...]:
    ends = (number_text(PER_VOTERS * row[end], 2) for end in ("low", "high"))
    return (
        row["message_id"],
        among,
        people_text(row["n"]),
        interval_text(as_span(row["effect"], 1 / PER_VOTERS), ""),
        " to ".join(ends),
        status,
    )


def _electorate_check(checks: Row, unit: float) -> Check:
    name, overlap = "Planned voters", checks.get("electorate")
    if not overlap:
        return Check(name, None, "not compared with the tested.")
    n_both, n_planned = (people_text(overlap[n]) for n in ("n_both", "n_planned"))
    words = f"{n_both} of {n_planned} were in the experiment"
    alike = (
        f"what is known of them tells them from the {people_text(overlap['n_tested'])} "
        f"tested with an AUC of {overlap['auc']:.2f} (.5 is chance)"
    )
    if overlap["verdict"] == "alike":
        return Check(name, passed=True, words=f"{words}; {alike}: alike.")
    if not overlap["ok"]:
        reasons = "; ".join(overlap["reasons"])
        return Check(
            name,
            passed=False,
            words=f"{words}, and they are not like the tested: {reasons}. Personal "
            "lifts say nothing of them; the averages are those of the tested.",
        )
    worth = people_text(round(overlap["effective_n"]))
    words = (
        f"{words}; {alike}. Weighted to stand for them, the tested are worth {worth} "
        f"voters, and {_carried(overlap, unit)}."
    )
    return Check(name, passed=True, words=words)


CARRIED_MESSAGES = 6


def _carried(overlap: Row, unit: float) -> str:
    """Lifts as they are expected among the planned."""
    gain = overlap["gain"]
    parts = []
    for row in overlap["messages"][:CARRIED_MESSAGES]:
        of_planned = interval_text(as_span(row["planned"], unit))
        of_tested = interval_text(as_span(row["tested"], unit), "")
        parts.append(
            f"{row['message_id']} does {of_planned} among them, {of_tested} among the "
            "tested"
        )
    n_rest = len(overlap["messages"]) - CARRIED_MESSAGES
    if n_rest > 0:
        parts.append(f"{n_rest} more messages are in evaluation.json")
    if gain:
        label = _label(gain["policy"])
        parts.append(
            f"“{label}” gains {interval_text(as_span(gain['planned'], unit))} per voter"
        )
    return "; ".join(parts)


def _mark(passed: bool | None) -> Html:  # noqa: FBT001
    css, words = {
        True: ("yes", "Fine"),
        False: ("look", "Look here"),
        None: ("no", "Not checked"),
    }[passed]
    return Html(f'<span class="badge {css}">{words}</span>')


def _sample_ratio_check(checks: Row) -> Check:
    name, sample_ratio = "Group sizes", checks.get("sample_ratio")
    if not sample_ratio:
        return Check(name, None, "not checked")
    p_value = p_text(sample_ratio["p_value"])
    if sample_ratio["ok"]:
        return Check(name, passed=True, words=f"as the design says ({p_value}).")
    return Check(
        name,
        passed=False,
        words=f"not what the design says ({p_value}): people may have been lost or "
        "added after the draw, and effects may be wrong.",
    )


def _attrition_check(checks: Row) -> Check:
    name, attrition = "Missing outcomes", checks.get("attrition")
    if not attrition:
        return Check(name, None, "not checked")
    missing = f"{share_text(attrition['missing_share'])} missing"
    p_value = p_text(attrition["p_value"])
    if attrition["ok"]:
        return Check(
            name, passed=True, words=f"{missing}, alike in all groups ({p_value})."
        )
    return Check(
        name,
        passed=False,
        words=f"{missing}, not alike in all groups ({p_value}): effects may be wrong.",
    )


def _permuted_check(checks: Row, unit: float) -> Check:
    name, span = "Shuffled messages", as_span(checks.get("permuted_gain"), unit)
    if not math.isfinite(span.value):
        return Check(name, None, "not checked")
    measured = (
        f"with messages dealt again at random, personalising adds {interval_text(span)}"
    )
    if span.decides:
        return Check(name, passed=False, words=f"{measured}; it should be nil.")
    return Check(name, passed=True, words=f"{measured}: nil, as it should be.")


def _overlap_check(checks: Row) -> Check:
    name, least = "Chances", checks.get("overlap_min_propensity")
    if least is None or not math.isfinite(least):
        return Check(name, None, "not checked")
    rarest = f"the rarest message had a chance of {share_text(least)}"
    overlap = checks.get("overlap")
    if overlap and not overlap["ok"]:
        words = (
            f"{rarest}, and {share_text(overlap['share'])} of what is measured hangs "
            f"on chances too small to judge by, most of it in block "
            f"{overlap['block']!r}."
        )
        return Check(name, passed=False, words=words)
    enough = least >= OVERLAP_FLOOR
    judgement = "." if enough else ": too rare to be measured well."
    return Check(name, passed=enough, words=rarest + judgement)


def _proxy_check(checks: Row) -> Check:
    name, proxies = "Special categories", checks.get("proxies")
    if not proxies or not proxies["categories"]:
        return Check(name, None, "none is kept for the audit")
    worst = max(proxies["categories"], key=lambda row: float(row["auc"]["value"]))
    auc, limit = worst["auc"], proxies["limit"]
    measured = (
        f"what was learnt tells {worst['column']} with an AUC of {auc['value']:.2f} "
        f"({auc['low']:.2f} to {auc['high']:.2f}; .5 is chance, the limit {limit:g})"
    )
    if proxies["ok"]:
        return Check(name, passed=True, words=f"{measured}.")
    return Check(name, passed=False, words=f"{measured}: it stands for it.")


def _turnout_in_words(effect: Any, unit: float) -> str:
    if isinstance(effect, Mapping) and "value" not in effect:
        by_size = sorted(effect, key=lambda m: as_span(effect[m]).value)
        n_between = len(by_size) - ROWS_TOP
        listed = by_size if n_between <= 2 else by_size[:3] + by_size[-3:]
        effects = "; ".join(f"{m}: {_turnout_of_one(effect[m], unit)}" for m in listed)
        if len(listed) < len(by_size):
            effects += (
                f" (the lowest three and the highest three of {len(by_size)}; the "
                "best-looking of many are partly lucky)"
            )
    else:
        effects = _turnout_of_one(effect, unit)
    return (
        f"Effect on turnout: {effects}. Keeping people from voting is never counted as "
        "worth anything."
    )


def _turnout_of_one(effect: Any, unit: float) -> str:
    span = as_span(effect, unit)
    return interval_text(span) if math.isfinite(span.value) else "unknown"
