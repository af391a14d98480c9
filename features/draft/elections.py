"""Elections in the names of columns, and values that say who voted in them."""

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pandas as pd

from hustings.features.draft.special import plain_name, words_of

_MONTHS = {name.lower(): k for k, name in enumerate(calendar.month_name) if name}
_DATES = (
    re.compile(
        r"(?<!\d)(?P<m>\d{1,2})[/_.-](?P<d>\d{1,2})[/_.-](?P<y>(?:19|20)\d{2})(?!\d)"
    ),
    re.compile(
        r"(?<!\d)(?P<y>(?:19|20)\d{2})[/_.-]?(?P<m>\d{2})[/_.-]?(?P<d>\d{2})(?!\d)"
    ),
    re.compile(r"(?<!\d)(?P<m>0[1-9]|1[0-2])(?P<d>[0-3]\d)(?P<y>\d{2})(?!\d)"),
)
_MONTH = re.compile(rf"(?P<m>{'|'.join(_MONTHS)})[ _-]?(?P<y>(?:19|20)\d{{2}})$", re.I)
_YEAR = re.compile(r"(?<!\d)(?P<y>(?:19|20)\d{2}|\d{2})(?!\d)")
_BESIDE = words_of(
    "voted vote votes voting vf vb vh v ve e election elections history hist in"
)
"""Words around the kind of an election that say nothing of it."""
_KINDS = {
    "presidential_primary": "pp ppp vpp presprimary presidentialprimary pres_primary "
    "presidential_primary pres_pri",
    "general": "g ge gen gn vg general general_election",
    "primary": "p pr pri prim vp vpr primary primary_election",
    "special": "s sp spec special",
    "municipal": "m mun muni municipal local_or_municipal local city_election",
    "runoff": "r ro run_off runoff",
}
_KIND_OF = {word: kind for kind, words in _KINDS.items() for word in words.split()}
_PARTS = words_of(
    "consolidated general primary special municipal local or runoff presidential "
    "preference school town city county state federal recall nonpartisan spring fall"
)
VOTED = frozenset(["Y", "YES", "X", "V", "T", "TRUE", "VOTED", "1"])
DID_NOT = frozenset(["N", "NO", "F", "FALSE", "0"])
MAX_CODES, LONGEST_CODE = 12, 12


@dataclass(frozen=True)
class ElectionName:
    """An election that a column's name speaks of.

    Attributes:
        kind: general, primary and so on.
        year: Of it.
        month: Where the name has no more than the month; 0 without.
        day: None where the name does not give it away.
    """

    kind: str
    year: int
    month: int = 0
    day: date | None = None

    @property
    def key(self) -> str:
        """As in [tables.voters.history]; ? where the day is not known."""
        month = f"{self.month:02d}" if self.month else "??"
        return f"{self.day or f'{self.year}-{month}-??'} {self.kind}"


def election(name: str) -> ElectionName | None:
    """The election that a column's name speaks of.

    >>> election("GENERAL-11/07/2000").key, election("vf_g2020").key
    ('2000-11-07 general', '2020-11-03 general')
    >>> election("Primary20").key, election("reg_days") is None
    ('2020-??-?? primary', True)
    """
    if match := _MONTH.search(name.strip()):
        month, year = _MONTHS[match["m"].lower()], int(match["y"])
        return _of_month(month, year) if not _kind(name[: match.start()]) else None
    for pattern in _DATES:
        if (match := pattern.search(name)) and (day := _day(match)):
            kind = _kind(name[: match.start()] + " " + name[match.end() :])
            return ElectionName(kind, day.year, day=day) if kind else None
    for match in _YEAR.finditer(name):
        if kind := _kind(name[: match.start()] + " " + name[match.end() :]):
            year = int(match["y"])
            year += 0 if year > 99 else (2000 if year < 50 else 1900)
            day = general_day(year) if kind == "general" else None
            return ElectionName(kind, year, day=day)
    return None


def _of_month(month: int, year: int) -> ElectionName:
    if month == 11:
        return ElectionName("general", year, day=general_day(year))
    return ElectionName("election", year, month=month)


def _day(match: re.Match[str]) -> date | None:
    year = int(match["y"])
    year += 0 if year > 99 else (2000 if year < 50 else 1900)
    try:
        return date(year, int(match["m"]), int(match["d"]))
    except ValueError:
        return None


def _kind(rest: str) -> str:
    """The kind of election in a name without its date; empty where it is none."""
    words = [w for w in plain_name(rest).split("_") if w not in _BESIDE]
    if not words:
        # VG and the like begin with v and were split off by nothing
        return ""
    joined = "_".join(words)
    if joined in _KIND_OF or "".join(words) in _KIND_OF:
        return _KIND_OF.get(joined) or _KIND_OF["".join(words)]
    return joined if set(words) <= _PARTS else ""


def general_day(year: int) -> date:
    """The Tuesday after the first Monday in November."""
    until_monday = (calendar.MONDAY - date(year, 11, 1).weekday()) % 7
    return date(year, 11, 2 + until_monday)


def nth_tuesday(year: int, month: int, n: int) -> date:
    """A Tuesday by its place in a month.

    >>> nth_tuesday(2020, 8, 2)
    datetime.date(2020, 8, 11)
    """
    first = (calendar.TUESDAY - date(year, month, 1).weekday()) % 7 + 1
    return date(year, month, first + 7 * (n - 1))


def placed_in_month(
    held: ElectionName, months: Mapping[str, tuple[int, str]]
) -> ElectionName:
    """An election of which the month is known, on its day by the state's law.

    Args:
        held: The election.
        months: Month → which Tuesday of it, and the kind of election.
    """
    rule = months.get(calendar.month_name[held.month].lower()) if held.month else None
    if rule is None:
        return held
    which, kind = rule
    day = nth_tuesday(held.year, held.month, which)
    return ElectionName(kind, held.year, held.month, day)


def vote_codes(values: pd.Series) -> dict[str, int] | None:
    """Value → voted or not, of a column of past votes; None where that is not clear.

    Args:
        values: Texts, blanks among them.

    Returns:
        Blank is 0 where something else says that somebody voted.
    """
    levels = set(values.unique())
    codes = levels - {""}
    if not codes or len(codes) > MAX_CODES:
        return None
    upper = {code.upper() for code in codes}
    if not upper <= VOTED | DID_NOT:
        return None
    mapped = {code: int(code.upper() in VOTED) for code in sorted(codes)}
    if "" in levels and 0 not in mapped.values():
        mapped = {"": 0, **mapped}
    return mapped


def any_codes(values: pd.Series, did_not: frozenset[str]) -> dict[str, int] | None:
    """Value → voted or not, where every code but blank and some says how one voted."""
    codes = sorted(set(values.unique()) - {""})
    if len(codes) > MAX_CODES or any(len(code) > LONGEST_CODE for code in codes):
        return None
    return {"": 0, **{c: int(c.upper() not in did_not) for c in codes}}
