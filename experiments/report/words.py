"""Numbers and names in words; counts below the privacy floor are hidden here."""

import html
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from hustings.experiments.results import StatedInterval
from hustings.features.tables import SMALLEST_CELL
from hustings.training.estimators.metrics import Interval
from hustings.training.policy_value.effect_text import effect_text, number_text

__all__ = [
    "NOT_SHOWN", "POLICIES", "Row", "Span", "Stated", "as_span", "day_text",
    "interval_text", "is_small", "large_cells", "message_labels", "message_name",
    "number_text", "p_text", "people_text", "policies_shown", "share_text", "slugs_of",
    "titles_of", "usd_text",
]  # fmt: skip

Row = Mapping[str, Any]
Stated = Interval | StatedInterval

NOT_SHOWN = "\N{EN DASH}"
POLICIES = {
    "nobody": "Nobody",
    "single_best": "Single best message",
    "best_mix": "Best mix, untargeted",
    "one_covariate": "One split",
    "likely_persuadable": "Persuadable, likely areas",
    "segment_best": "Each group its best",
    "group_platform": "Each group its best platform",
    "champion": "In use now",
    "personalised": "Personalised",
}
"""Policies in the order in which the page lists them, with names for people."""


def policies_shown(result: Row) -> dict[str, str]:
    """Policies of an experiment in the order of the page, partners last, by name."""
    listed = {
        name: label for name, label in POLICIES.items() if name in result["policies"]
    }
    partners = [name for name in result["policies"] if name.startswith("partner:")]
    return listed | {name: name.replace("partner:", "Partner: ") for name in partners}


class Span(NamedTuple):
    """An estimate with its 95 % interval, in points."""

    value: float
    low: float
    high: float

    @property
    def decides(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


def as_span(interval: Stated | Row | str | None, unit: float = 1.0) -> Span:
    """An interval in units of `unit`; None or "unknown" as NaN."""
    if interval is None or isinstance(interval, str):
        return Span(math.nan, math.nan, math.nan)
    parts = interval if isinstance(interval, Mapping) else vars(interval)
    ends = (parts.get(end) for end in ("value", "low", "high"))
    return Span(*(math.nan if end is None else float(end) / unit for end in ends))


def interval_text(span: Span, unit: str = "points") -> str:
    """An effect in words.

    >>> interval_text(Span(2.1, 1.6, 2.62))
    '+2.1 points (1.6 to 2.6)'
    """
    return effect_text(*span, unit)


def usd_text(value: float | None) -> str:
    """An amount of money, in cents where it is small."""
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"${number_text(value, 2 if abs(value) < 1000 else 0)}"


def share_text(value: float | None) -> str:
    """A share as a percentage."""
    if value is None or not math.isfinite(value):
        return "unknown"
    percent = 100 * float(value)
    return f"{number_text(percent, 0 if percent >= 10 or percent == 0 else 1)} %"


def p_text(value: float) -> str:
    """A p-value."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def day_text(value: Any) -> str:
    """A day."""
    day = pd.Timestamp(value)
    return f"{day.day} {day:%b %Y}"


def people_text(count: float) -> str:
    """A count of people, hidden where it is small.

    >>> people_text(1234), people_text(7), people_text(0)
    ('1,234', 'fewer than 20', '0')
    """
    return f"fewer than {SMALLEST_CELL}" if is_small(count) else number_text(count)


def is_small(count: float) -> bool:
    """Whether a count lies below the privacy floor and must not be shown."""
    return 0 < count < SMALLEST_CELL


def large_cells(rows: Iterable[Row], count: str) -> list[Row]:
    """The rows whose count reaches the privacy floor."""
    return [row for row in rows if row[count] >= SMALLEST_CELL]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name) or "_"


def slugs_of(names: Iterable[str]) -> dict[str, str]:
    """A distinct file name for each name."""
    slugs: dict[str, str] = {}
    for name in names:
        slug = _slug(name)
        taken = set(slugs.values())
        slugs[name] = slug if slug not in taken else f"{slug}_{len(slugs)}"
    return slugs


def titles_of(messages: pd.DataFrame) -> dict[str, str]:
    """Titles of the messages that have one, by message.

    Args:
        messages: The `messages` table.
    """
    if "title" not in messages:
        return {}
    titled = messages[messages["title"].fillna("").str.strip() != ""]
    return dict(zip(titled["message_id"], titled["title"], strict=True))


LABEL_WIDTH, LABEL_LINES = 28, 2
"""Characters of a line of a chart's label, and lines: a phone leaves no more room."""


def message_labels(
    message_ids: Iterable[str], titles: Mapping[str, str]
) -> dict[str, str]:
    r"""What a chart calls each message: its title, broken into lines, else its id.

    Labels that would be the same have the id added, for a chart tells its rows by them.

    >>> message_labels(["m1", "m2"], {"m1": "Repair the roads before winter comes"})
    {'m1': 'Repair the roads before\nwinter comes', 'm2': 'm2'}

    Args:
        message_ids: Messages of one chart.
        titles: By message, of those that have one.
    """
    labels = {name: _in_lines(titles.get(name, name)) for name in message_ids}
    n_with = Counter(labels.values())
    return {
        name: label if n_with[label] == 1 or label == name else f"{label}\n{name}"
        for name, label in labels.items()
    }


def _in_lines(title: str) -> str:
    """A title in the lines of a label, cut with an ellipsis where it is too long."""
    if len(title.split()) < 2:
        return title
    lines = textwrap.wrap(
        title, LABEL_WIDTH, max_lines=LABEL_LINES, placeholder="\N{HORIZONTAL ELLIPSIS}"
    )
    return "\n".join(lines)


def message_name(message_id: str, titles: Mapping[str, str]) -> str:
    """A message's title with its id below, as markup; its id where it has no title."""
    name = html.escape(message_id)
    if message_id not in titles:
        return name
    return f"{html.escape(titles[message_id])}<br><small>{name}</small>"
