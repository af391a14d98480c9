"""Times as platforms write them → moments in UTC, the order of day and month settled.

Whether 09/10/2026 is a day of September or of October is read off the whole column,
or asked for: one cell says nothing of it. Times without a zone are taken in a declared
one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

_ZONES = {
    "z": 0, "utc": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7,
    "mdt": -6, "pst": -8, "pdt": -7, "akst": -9, "akdt": -8, "hst": -10, "cet": 1,
    "cest": 2, "bst": 1,
}  # fmt: skip
"""Abbreviation → hours east of Greenwich, as exports mean it."""
_TIME = (
    r"(?:[T ,]+(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d+)?)?"
    r"\s*(?P<half>[ap]\.?m\.?)?\s*(?P<zone>[a-z]{1,4}|(?:utc|gmt)?[+-]\d{1,2}"
    r"(?::?\d{2})?)?)?$"
)
_YEAR_FIRST = re.compile(
    r"^(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})" + _TIME,
    re.IGNORECASE,
)
_YEAR_LAST = re.compile(
    r"^(?P<first>\d{1,2})(?P<sign>[-/.])(?P<second_part>\d{1,2})(?P=sign)(?P<year>\d{4})"
    + _TIME,
    re.IGNORECASE,
)
_EPOCH = re.compile(r"^(\d{10})(?:\.\d+)?$|^(\d{13})$")
_COMPACT = re.compile(r"^(?:19|20)\d{6}$")
_MONTH_NAME = re.compile(
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b.*\b\d{4}\b",
    re.IGNORECASE,
)
_MOST_MONTHS = 12
EPOCH = "epoch"
"""A declared format: seconds since 1970, or thousandths of them."""


class MomentError(ValueError):
    """Times of a column can be read in two ways."""


@dataclass(frozen=True)
class ColumnMoments:
    """ColumnMoments of a column.

    Attributes:
        at: In UTC; None where a cell is none.
        fault: What was expected, for each cell that is none; else ''.
        written: How times are written, for a person.
        n_zoneless: Cells without a zone of their own.
    """

    at: Sequence[datetime | None]
    fault: Sequence[str]
    written: str
    n_zoneless: int


def moments_of(
    cells: pd.Series, *, formats: Sequence[str], zone: str, month_first: bool
) -> ColumnMoments:
    """Read the times of a column.

    Args:
        cells: Texts, times or numbers.
        formats: Declared formats, tried in this order; found from the column if empty.
        zone: IANA name, for times that have none.
        month_first: What the export is known for where no day above 12 settles it.

    Raises:
        MomentError: If days and months may be exchanged, or stand in both orders.

    >>> cells = pd.Series(["09/10/2026 07:15", "09/24/2026 07:15"])
    >>> read = moments_of(cells, formats=[], zone="America/New_York", month_first=False)
    >>> read.written, read.at[0].isoformat()
    ('month/day/year', '2026-09-10T11:15:00+00:00')
    """
    texts = ["" if v is None or v != v else _text(v) for v in cells]
    distinct = dict.fromkeys(texts)
    if formats:
        read, written = _by_formats(formats), ", ".join(formats)
    else:
        order, written = _order(distinct, month_first=month_first)
        read = _by_look(order)
    of_text: dict[str, datetime | None] = {text: read(text) for text in distinct}
    at = [of_text[text] for text in texts]
    expected = f"expected a time as {written}"
    return ColumnMoments(
        [None if moment is None else _in_utc(moment, zone) for moment in at],
        ["" if moment is not None else expected for moment in at],
        written,
        sum(moment is not None and moment.tzinfo is None for moment in at),
    )


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    return " ".join(str(value).split())


def _in_utc(moment: datetime, zone: str) -> datetime | None:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(zone))
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return None


def _order(texts: Mapping[str, None], *, month_first: bool) -> tuple[str, str]:
    """Which part stands first, "month", "day" or neither, and words for it."""
    matches = {text: match for text in texts if (match := _YEAR_LAST.match(text))}
    if not matches:
        return "", _look(next(filter(None, texts), ""))
    dotted = [text for text, match in matches.items() if match["sign"] == "."]
    day_first = [
        t for t, m in matches.items() if int(m["first"]) > _MOST_MONTHS
    ] + dotted
    day_second = [t for t, m in matches.items() if int(m["second_part"]) > _MOST_MONTHS]
    if day_first and day_second:
        raise MomentError(
            "expected days and months in one order, got "
            f"{day_first[0]!r} and {day_second[0]!r}"
        )
    differs = [t for t, m in matches.items() if m["first"] != m["second_part"]]
    if day_first:
        return "day", "day/month/year"
    if not day_second and differs and not month_first:
        raise MomentError(
            "expected a day above 12 that settles the order of day and month, got "
            f"{differs[0]!r} and the like alone"
        )
    return "month", "month/day/year"


def _look(text: str) -> str:
    if _EPOCH.match(text):
        return "seconds since 1970"
    return "a month's name" if _MONTH_NAME.search(text) else "year-month-day"


def _by_look(order: str) -> Callable[[str], datetime | None]:
    def read(text: str) -> datetime | None:
        try:
            return _read(text, order)
        except (ValueError, OverflowError):
            return None

    return read


def _read(text: str, order: str) -> datetime | None:
    epoch = _EPOCH.match(text)
    if epoch:
        return _of_epoch(text)
    if _COMPACT.match(text):
        return datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007 - the zone comes later
    match = _YEAR_FIRST.match(text)
    if match:
        return _at(match, int(match["month"]), int(match["day"]))
    match = _YEAR_LAST.match(text)
    if match:
        first, second = int(match["first"]), int(match["second_part"])
        return _at(match, *((first, second) if order == "month" else (second, first)))
    if _MONTH_NAME.search(text):
        offset = re.search(rf"\b({'|'.join(_ZONES)})$", text, re.IGNORECASE)
        bare = text[: offset.start()] if offset else text
        moment: datetime = pd.Timestamp(bare).to_pydatetime()
        return moment.replace(tzinfo=_zone(offset[0])) if offset else moment
    return None


def _of_epoch(text: str) -> datetime | None:
    match = _EPOCH.match(text)
    if match is None:
        return None
    seconds = int(match[1]) if match[1] else int(match[2]) / 1_000
    return datetime.fromtimestamp(seconds, tz=UTC)


def _at(match: re.Match[str], month: int, day: int) -> datetime:
    hour = int(match["hour"] or 0)
    if match["half"]:
        if not 1 <= hour <= _MOST_MONTHS:
            raise ValueError(match[0])
        hour = hour % 12 + (12 if match["half"][0].lower() == "p" else 0)
    return datetime(
        int(match["year"]), month, day, hour, int(match["minute"] or 0),
        int(match["second"] or 0), tzinfo=_zone(match["zone"]),
    )  # fmt: skip


def _zone(text: str | None) -> timezone | None:
    if not text:
        return None
    if text.lower() in _ZONES:
        return timezone(timedelta(hours=_ZONES[text.lower()]))
    match = re.fullmatch(r"(?:utc|gmt)?([+-])(\d{1,2}):?(\d{2})?", text, re.IGNORECASE)
    if match is None:
        raise ValueError(text)
    offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    return timezone(-offset if match[1] == "-" else offset)


def _by_formats(formats: Sequence[str]) -> Callable[[str], datetime | None]:
    def read(text: str) -> datetime | None:
        for pattern in formats:
            try:
                if pattern == EPOCH:
                    moment = _of_epoch(text)
                else:
                    moment = datetime.strptime(text, pattern)  # noqa: DTZ007
            except ValueError:
                continue
            if moment is not None:
                return moment
        return None

    return read
