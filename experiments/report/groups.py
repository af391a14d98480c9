"""The report's section on groups: the leaves of the policy tree, in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hustings.experiments.report.markup import (
    Html,
    escaped,
    html_section,
    html_table,
    paragraph,
)
from hustings.experiments.report.words import (
    NOT_SHOWN,
    POLICIES,
    Row,
    Span,
    as_span,
    interval_text,
    is_small,
    number_text,
    people_text,
    share_text,
    slugs_of,
    usd_text,
)
from hustings.experiments.results import GroupPlanned

COUNT_OF_ELECTIONS = "elections:"
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight",
           "nine", "ten")  # fmt: skip
ELECTIONS = {
    "primary": ("primary", "primaries"),
    "general": ("general election", "general elections"),
}
LEVELS = {
    ("sex", "F"): "women",
    ("sex", "M"): "men",
    ("party", "D"): "Democrats",
    ("party", "R"): "Republicans",
    ("party", "I"): "independents",
}
"""Values of the voter file's own columns, in words."""
SELF_TOLD = ("urbanicity",)
"""Columns whose values need no column name in front of them."""
YES_AND_NO = {
    "homeowner": ("homeowners", "not homeowners"),
    "college": ("with a college degree", "without a college degree"),
    "children_at_home": ("with children at home", "without children at home"),
}
LESS, AT_LEAST = "below {}", "{} or more"


def groups_section(
    evaluation: Row,
    planned: Mapping[str, Sequence[GroupPlanned]],
    unit: float,
    policies: Mapping[str, str],
) -> Html:
    """A table of groups and their messages for every experiment that has one.

    Args:
        evaluation: As in `evaluation.json`.
        planned: From `experiments.stages.groups.groups_planned`, by experiment.
        unit: Outcome units of a point.
        policies: The planned policy by experiment; empty where nothing is planned.
    """
    experiments = {
        name: result
        for name, result in evaluation["experiments"].items()
        if result.get("groups")
    }
    if not experiments:
        return Html("")
    several = len(evaluation["experiments"]) > 1
    slugs = slugs_of(experiments)
    parts = [
        part
        for name, result in experiments.items()
        for part in _experiment(
            name if several else "",
            result,
            planned.get(name, ()),
            unit,
            policies.get(name, NOBODY),
        )
    ]
    anchor = "groups" if several else f"{next(iter(slugs.values()))}-groups"
    return html_section(
        anchor, "Groups that the test found", paragraph(HOW_FOUND), *parts
    )


NOBODY, PERSONALISED = "nobody", "personalised"
HOW_FOUND = (
    "A few questions that part the voters into groups, each with the message that did "
    "most for the money there. Half of the voters chose the questions and the "
    "messages; the measured effect is that of the other half, who had no part in it. "
    "“Nothing” is where no message is worth its price on average."
)


def _beside_the_plan(policy: str) -> str:
    """How the groups and what the plan sends belong together."""
    if policy == PERSONALISED:
        return (
            "The plan goes person by person and not by these groups: it finds people "
            "in them whom another message moves more. The last columns tell what it "
            "sends."
        )
    label = POLICIES.get(policy, policy)
    return (
        f"The plan follows “{label}” and does not go by these groups: the last columns "
        "tell what it sends to the people in them."
    )


def _experiment(
    name: str,
    result: Row,
    planned: Sequence[GroupPlanned],
    unit: float,
    policy: str,
) -> list[Html]:
    groups = result["groups"]
    opening = f"{name}: " if name else ""
    rows = [
        _group_row(row, counts, unit)
        for row, counts in zip(
            groups["rows"], _counts(groups["rows"], planned), strict=True
        )
    ]
    words = paragraph(_capital(f"{opening}{_what_it_gains(groups, unit)}"))
    if len(rows) == 1:
        return [words]
    header = ["Group", "Best message there", "Measured effect", "Predicted effect",
              "Voters", "Contacts planned", "Of those, this message",
              "Cost"]  # fmt: skip
    caption = f"{opening}groups and their messages, effects in points"
    return [
        words,
        paragraph(_beside_the_plan(policy)),
        html_table(_capital(caption), header, rows, words=2),
    ]


def _counts(
    rows: Sequence[Row], planned: Sequence[GroupPlanned]
) -> Sequence[GroupPlanned | None]:
    return planned if len(planned) == len(rows) else [None] * len(rows)


def _what_it_gains(groups: Row, unit: float) -> str:
    gain, rows = as_span(groups["gain"], unit), groups["rows"]
    same = share_text(groups["agreement"])
    if len(rows) == 1:
        return (
            "no question was found that parts the voters clearly enough for its answer "
            "to call for another message: as groups, all are best treated alike. "
            "Whether anything is sent at all is for the comparison of policies to say."
        )
    stable = f"The groups of both halves agree on the message of {same} of the voters."
    added = interval_text(gain)
    if gain.low > 0:
        return (
            f"such groups gain {added} per voter over sending everybody the same, each "
            f"contact at the price that money has at this budget. {stable}"
        )
    return (
        "such groups were not shown to gain more than sending everybody the same: "
        f"{added} per voter. Take them as a hint, not as a finding. {stable}"
    )


def _group_row(row: Row, counts: GroupPlanned | None, unit: float) -> tuple[Any, ...]:
    measured = interval_text(as_span(row["measured"], unit), "")
    predicted = math.nan if row["predicted"] is None else row["predicted"] / unit
    expected = Span(predicted, math.nan, math.nan)
    planned: tuple[str, ...] = ("unknown", "unknown", "unknown", NOT_SHOWN)
    if counts is not None:
        n = (counts.n_voters, counts.n_planned, counts.n_message)
        too_few = is_small(counts.n_planned)
        cost = NOT_SHOWN if too_few else usd_text(counts.cost_usd)
        planned = (*map(people_text, n), cost)
    return (
        _capital(group_in_words(row["conditions"])),
        _message(row),
        measured,
        interval_text(expected, ""),
        *planned,
    )


def _message(row: Row) -> Html:
    if row["message_id"] is None:
        return escaped("nothing may be sent")
    # a long name breaks at its underscores on a narrow screen
    best = Html(escaped(row["message_id"]).replace("_", "_<wbr>"))
    if row["worth_sending"]:
        return best
    return Html(f"nothing<br><small>next best: {best}</small>")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# --- words ---


def group_in_words(conditions: Sequence[Row]) -> str:
    """The conditions of a group as a person says them.

    Args:
        conditions: As in `evaluation.json`: `column`, `below` or `equal`, `yes`,
            `or_unknown`.

    >>> group_in_words([
    ...     {"column": "urbanicity", "equal": "rural", "yes": True,
    ...      "or_unknown": False},
    ...     {"column": "age", "below": 45.0, "yes": False, "or_unknown": False},
    ...     {"column": "elections:primary", "below": 2.0, "yes": True,
    ...      "or_unknown": False}])
    'rural, 45 or older, voted in fewer than two primaries'
    """
    if not conditions:
        return "everybody"
    by_column: dict[str, list[Row]] = {}
    for condition in conditions:
        by_column.setdefault(condition["column"], []).append(condition)
    return ", ".join(
        _column_in_words(c, of_column) for c, of_column in by_column.items()
    )


def _column_in_words(column: str, conditions: Sequence[Row]) -> str:
    if "equal" in conditions[0]:
        yes = [c for c in conditions if c["yes"]]
        levels = [_level(c) for c in yes or conditions]
        text = ", ".join(dict.fromkeys(levels))
    else:
        below = [c["below"] for c in conditions if c["yes"]]
        least = [c["below"] for c in conditions if not c["yes"]]
        text = _range(
            column, max(least) if least else None, min(below) if below else None
        )
    return f"{text} or unknown" if all(c["or_unknown"] for c in conditions) else text


def _level(condition: Row) -> str:
    column, value, yes = condition["column"], condition["equal"], condition["yes"]
    if not isinstance(value, str):
        said = YES_AND_NO.get(column, (_spaced(column), f"no {_spaced(column)}"))
        return said[0] if yes else said[1]
    level_text = LEVELS.get((column, value))
    if level_text is None:
        level_text = value if column in SELF_TOLD else f"{_spaced(column)} {value}"
    return level_text if yes else f"not {level_text}"


def _range(column: str, least: float | None, below: float | None) -> str:
    """A range of a numeric column in words: a lower end, an upper end, or both."""
    if column.startswith(COUNT_OF_ELECTIONS):
        return _elections(column.removeprefix(COUNT_OF_ELECTIONS), least, below)
    if column == "age":
        return _years(least, below)
    if column == "tenure_years":
        years = _between(least, below, "for less than {} years", "for {} years or more")
        return f"registered {years}"
    money = column.endswith("_usd")
    name = _spaced(column.removesuffix("_usd"))
    return f"{name} {_between(least, below, LESS, AT_LEAST, money=money)}"


def _between(
    least: float | None,
    below: float | None,
    less: str,
    at_least: str,
    *,
    money: bool = False,
) -> str:
    def in_words(value: float) -> str:
        return f"${number_text(value)}" if money else _plain(value)

    if least is not None and below is not None:
        return f"{at_least.format(in_words(least))}, {less.format(in_words(below))}"
    if least is not None:
        return at_least.format(in_words(least))
    assert below is not None
    return less.format(in_words(below))


def _plain(value: float) -> str:
    return number_text(value) if abs(value) >= 1000 else f"{value:g}"


def _years(least: float | None, below: float | None) -> str:
    if least is not None and below is not None:
        return f"{least:g} to {below - 1:g}"
    return f"{least:g} or older" if least is not None else f"under {below:g}"


def _elections(kind: str, least: float | None, below: float | None) -> str:
    one, many = ELECTIONS.get(kind, (f"{kind} election", f"{kind} elections"))
    if below is not None and least is None:
        if below <= 1:
            return f"voted in no {one}"
        return f"voted in fewer than {_number(below)} {many}"
    assert least is not None
    at_least = f"voted in {_number(least)} or more {many}"
    if below is None:
        return f"voted in a {one} before" if least <= 1 else at_least
    if below - least <= 1:
        return f"voted in {_number(least)} {one if least <= 1 else many}"
    return f"voted in {_number(least)} to {_number(below - 1)} {many}"


def _number(value: float) -> str:
    return NUMBERS[int(value)] if value < len(NUMBERS) else number_text(value)


def _spaced(name: str) -> str:
    return name.replace("_", " ")
