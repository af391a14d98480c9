"""A new voter file → a first draft of its campaign.toml, for a person to correct.

Every guess states its reason: the column's name and the look of its values. A column
that looks like a name or a contact detail is never mapped; one that looks like a
special category of personal data is listed as such; the rest is left to a person, who
knows whether it was observed before the first delivery.
"""

import calendar
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pandas as pd

from hustings.features.ingest import raw_head
from hustings.features.ingest.text_format import TextFormat, detected
from hustings.features.tables import (
    REQUIRED_TABLES,
    VOTERS,
    TableError,
    identifying_columns,
)

N_ROWS = 5_000
MOST = 0.95
"""Share of the values that must look so for a guess by value."""
HALF = 0.5
MAX_SHOWN_LEVELS = 12
_IDENTIFYING = identifying_columns(VOTERS)

_CONTACT = re.compile(
    r"(?:^|_)(?:name|fname|lname|mname|first|last|middle|surname|suffix|e_?mail|phone|"
    r"tel|telephone|cell|mobile|landline|address|addr|street|apt|ssn|twitter|facebook)"
    r"(?:_|\d|$)|name$|^(?:first|last|middle)name|phone|email|address"
)
_CONTACT_VALUES = {
    "e-mail addresses": re.compile(r"^[^@\s]+@[^@\s]+\.[a-zA-Z]{2,}$"),
    "telephone numbers": re.compile(r"^(?=\+|.*[() .-])\+?[( ]*(?:\d[() .-]*){10,13}$"),
    "street addresses": re.compile(r"^\d+\w? +[A-Za-z].*[A-Za-z]"),
}
_DATE_LIKE = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_SPECIAL = re.compile(
    r"ethnic|hisp|latin[oax]|relig|church|cathol|jewish|muslim|christian|evangel|bible|"
    r"health|medic(?!are_?tax)|disab|illness|diabet|sexual|orientation|lgbt|genetic|"
    r"tradeunion|trade_union|racial|^nh_|(?:^|_)(?:race|black|afam|aa|asian|white)(?:_|$)"
)
_SPECIAL_VALUES = frozenset(
    [
        "white",
        "black",
        "hispanic",
        "asian",
        "catholic",
        "protestant",
        "jewish",
        "muslim",
    ]
)
_AFTERWARDS = re.compile(
    r"treat|(?:^|_)(?:control|arm|fold|split|partition|assigned?)(?:_|$)|message|outcome|"
    r"response|^moved|^voted_after|contacted"
)
_YEAR = r"(?P<year>(?:19|20)\d{2}|\d{2})"
_ELECTION_KINDS = {
    "presidential_primary": "vpp|pp|ppp|presprimary|presidentialprimary",
    "general": "vg|g|ge|gen|general",
    "primary": "vpr|vp|p|pr|pri|prim|primary",
}
_DATE_FORMATS = ("%Y-%m-%d", "%m/%d/%Y", "%Y%m%d", "%d.%m.%Y", "%m-%d-%Y")
_SEX_MAPS = (
    {"F": "F", "M": "M", "U": "U"},
    {"Female": "F", "Male": "M", "Unknown": "U"},
    {"FEMALE": "F", "MALE": "M", "UNKNOWN": "U"},
    {"female": "F", "male": "M", "unknown": "U"},
    {"f": "F", "m": "M", "u": "U"},
)


@dataclass(frozen=True)
class Guess:
    """One column of the file and what it may be.

    Attributes:
        theirs: Column of the file.
        ours: Column of voters; an election for history.
        entry: Right-hand side in the mapping, as TOML.
        reason: Why.
    """

    theirs: str
    ours: str
    entry: str
    reason: str


@dataclass(frozen=True)
class Draft:
    """Draft of a mapping from a first look at a voter file.

    Attributes:
        path: The file.
        encoding: In which it could be read.
        delimiter: Of a CSV file.
        n_rows: Rows looked at.
        columns: Guesses for our columns.
        history: Guesses for past elections; `ours` without a day where the name does
            not give one away.
        special: Column → why it looks like a special category.
        contact: Column → why it looks like a name or a contact detail.
        afterwards: Column → why it looks like an answer or the design.
        unplaced: Columns that could not be placed.
        missing: Our columns that no column of the file seems to be.
    """

    path: Path
    encoding: str
    delimiter: str
    n_rows: int
    columns: tuple[Guess, ...] = ()
    history: tuple[Guess, ...] = ()
    special: dict[str, str] = field(default_factory=dict)
    contact: dict[str, str] = field(default_factory=dict)
    afterwards: dict[str, str] = field(default_factory=dict)
    unplaced: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def toml(self) -> str:
        """A campaign.toml to fill in; every empty text and `?` waits for a person."""
        return "\n".join([*_head(self), *_voters(self), *_other_tables()])


def draft_mapping(path: Path) -> Draft:
    """Look at the first rows of a voter file and draft its mapping.

    Args:
        path: A Parquet or CSV file, packed by gzip or not.

    Raises:
        TableError: If the file is not there or has no rows.
    """
    if not path.is_file():
        raise TableError(f"expected a voter file at {path}, got no such file")
    written = TextFormat() if path.suffix in {".parquet", ".pq"} else detected(path)
    raw = raw_head(path, written=written, n_rows=N_ROWS)
    if raw.empty:
        raise TableError(f"{path.name}: expected rows below a header, got none")
    columns = _Looking({str(c): _texts(raw[c]) for c in raw})
    return columns.draft(path, written.encoding, written.delimiter, len(raw))


def _texts(values: pd.Series) -> pd.Series:
    text = values.astype("str").str.strip().str.removesuffix(".0")
    return text[text.notna() & (text != "")]


def plain_name(name: str) -> str:
    """A column's name in small letters, its words parted by underscores.

    >>> plain_name("FirstName"), plain_name("VG-04")
    ('first_name', 'vg_04')
    """
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def looks_special(name: str) -> bool:
    """Whether a column's name speaks of race, religion, health or the like.

    >>> looks_special("NH_WHITE"), looks_special("GARDENINGM")
    (True, False)
    """
    return _SPECIAL.search(plain_name(name)) is not None


class _Looking:
    """The columns of a file, each placed at most once."""

    def __init__(self, values: dict[str, pd.Series]) -> None:
        self.values = values
        self.placed: set[str] = set()

    def draft(self, path: Path, encoding: str, delimiter: str, n_rows: int) -> Draft:
        contact = self._set_aside(self._contact)
        special = self._set_aside(self._special)
        afterwards = self._set_aside(self._afterwards)
        history = tuple(self._placed(self._history()))
        columns = tuple(self._placed(self._columns()))
        mapped = {guess.ours for guess in columns}
        expected = [
            c for c in VOTERS.columns if not (c == "age" and "birth_year" in mapped)
        ]
        expected = [c for c in expected if not (c == "birth_year" and "age" in mapped)]
        return Draft(
            path=path,
            encoding=encoding,
            delimiter=delimiter,
            n_rows=n_rows,
            columns=columns,
            history=history,
            special=special,
            contact=contact,
            afterwards=afterwards,
            unplaced=tuple(c for c in self.values if c not in self.placed),
            missing=tuple(c for c in expected if c not in mapped),
        )

    def _set_aside(self, look: Callable[[str, pd.Series], str]) -> dict[str, str]:
        reasons = {
            c: look(c, v) for c, v in self.values.items() if c not in self.placed
        }
        set_aside = {column: reason for column, reason in reasons.items() if reason}
        self.placed |= set(set_aside)
        return set_aside

    def _placed(self, guesses: Iterator[Guess]) -> Iterator[Guess]:
        for guess in guesses:
            self.placed.add(guess.theirs)
            yield guess

    def _free(self) -> Iterator[tuple[str, str, pd.Series]]:
        """Column, plain name and values of what is not yet placed and has values."""
        for column, values in self.values.items():
            if column not in self.placed and len(values):
                yield column, plain_name(column), values

    @staticmethod
    def _contact(column: str, values: pd.Series) -> str:
        if _CONTACT.search(plain_name(column)):
            return "its name speaks of a person's name or contact"
        for what, shape in _CONTACT_VALUES.items():
            text = values[~values.str.match(_DATE_LIKE)]
            if len(text) and text.str.match(shape).sum() > HALF * len(values):
                return f"its values look like {what}"
        return ""

    @staticmethod
    def _special(column: str, values: pd.Series) -> str:
        if looks_special(column):
            return "its name speaks of race, religion, health or the like"
        levels = set(values.str.lower().unique()[:MAX_SHOWN_LEVELS])
        if len(levels & _SPECIAL_VALUES) > 1:
            return "its values speak of race or religion"
        return ""

    @staticmethod
    def _afterwards(column: str, values: pd.Series) -> str:  # noqa: ARG004
        if _AFTERWARDS.search(plain_name(column)):
            return "its name speaks of an answer, a message or the design"
        return ""

    def _history(self) -> Iterator[Guess]:
        for column, name, values in self._free():
            election = _election(name)
            entry = _voted(column, values)
            if election and entry:
                reason = f"named like an election, values {_levels(values)}"
                yield Guess(column, election, entry, reason)

    def _columns(self) -> Iterator[Guess]:
        finders = (
            self._voter_id, self._household, self._cluster, self._birth_year,
            self._age, self._sex, self._state, self._fips, self._precinct,
            self._postcode, self._registered_on, self._party,
        )  # fmt: skip
        for find in finders:
            guess = next(find(), None)
            if guess is not None:
                self.placed.add(guess.theirs)
                yield guess

    def _voter_id(self) -> Iterator[Guess]:
        name_pattern = re.compile(
            r"voter_?(?:id|num)|^(?:\w+_)?v?u?id$|_id$|registration_?n"
        )
        for column, name, values in self._free():
            if (
                name_pattern.search(name)
                and len(values) == values.nunique()
                and len(values) > 1
            ):
                yield Guess(
                    column, "voter_id", _text(column), "named an id, no value twice"
                )

    def _household(self) -> Iterator[Guess]:
        name_pattern = re.compile(r"household_?(?:id)?$|^hh_?id|^hhid|^hh$")
        for column, name, values in self._free():
            if name_pattern.search(name) and values.nunique() > HALF * HALF * len(
                values
            ):
                reason = "named like a household, some share it"
                yield Guess(column, "household_id", _text(column), reason)

    def _cluster(self) -> Iterator[Guess]:
        yield from self._by_name("cluster_id", r"^cluster(?:_id)?$", r".")

    def _birth_year(self) -> Iterator[Guess]:
        name_pattern = re.compile(r"birth|^yob$|^dob$|born")
        for column, name, values in self._free():
            if not name_pattern.search(name):
                continue
            years = pd.to_numeric(values, errors="coerce")
            if (years.between(1890, 2012)).mean() > MOST:
                reason = "named like a birth year, values of four digits"
                yield Guess(column, "birth_year", _text(column), reason)
            elif written := _date_format(values):
                entry = f"{{ column = {_text(column)}, format = {_text(written)} }}"
                reason = (
                    f"named like a birth date, written {written}: only the year is kept"
                )
                yield Guess(column, "birth_year", entry, reason)

    def _age(self) -> Iterator[Guess]:
        for column, name, values in self._free():
            ages = pd.to_numeric(values, errors="coerce")
            if re.search(r"^age$|^voter_age|^age_", name) and (
                ages.between(16, 120).mean() > MOST
            ):
                yield Guess(column, "age", _text(column), "named age, values 16 to 120")

    def _sex(self) -> Iterator[Guess]:
        for column, name, values in self._free():
            if not re.search(r"^(?:\w+_)?(?:sex|gender)(?:_f)?$", name):
                continue
            levels = set(values.unique())
            sex_map = next((m for m in _SEX_MAPS if levels <= set(m)), None)
            if sex_map is None and name.endswith("_f") and levels <= {"0", "1"}:
                sex_map = {"1": "F", "0": "M"}
            if sex_map is not None:
                used_map = {
                    theirs: ours for theirs, ours in sex_map.items() if theirs in levels
                }
                entry = f"{{ column = {_text(column)}, map = {_inline(used_map)} }}"
                yield Guess(
                    column, "sex", entry, f"named sex, values {_levels(values)}"
                )

    def _state(self) -> Iterator[Guess]:
        yield from self._by_name("state", r"^(?:state|st|state_code)$", r"^[A-Z]{2}$")

    def _fips(self) -> Iterator[Guess]:
        for column, name, values in self._free():
            if re.search(r"fips|county", name) and values.str.match(r"^\d{4,5}$").all():
                has_five_digits = values.str.len().eq(5).all()
                padded = f"{{ column = {_text(column)}, digits = 5 }}"
                reason = "named like a county" + (
                    "" if has_five_digits else ", zeros are lost"
                )
                yield Guess(
                    column,
                    "county_fips",
                    _text(column) if has_five_digits else padded,
                    reason,
                )

    def _precinct(self) -> Iterator[Guess]:
        yield from self._by_name("precinct", r"precinct|^pct$", r".")

    def _postcode(self) -> Iterator[Guess]:
        shape = r"^\d{4,5}(?:-?\d{4})?$|^[A-Z]\d"
        yield from self._by_name("postcode", r"^(?:\w+_)?zip|postcode|postal", shape)

    def _registered_on(self) -> Iterator[Guess]:
        for column, name, values in self._free():
            written = _date_format(values)
            if re.search(r"^reg", name) and written:
                iso = written == "%Y-%m-%d"
                entry = f"{{ column = {_text(column)}, format = {_text(written)} }}"
                reason = f"named like a registration, dates written {written}"
                yield Guess(
                    column, "registered_on", _text(column) if iso else entry, reason
                )

    def _party(self) -> Iterator[Guess]:
        yield from self._by_name(
            "party", r"^(?:\w+_)?party(?:_code|_reg)?$", r"^[A-Za-z]"
        )

    def _by_name(self, ours: str, name_pattern: str, shape: str) -> Iterator[Guess]:
        for column, name, values in self._free():
            if re.search(name_pattern, name) and values.str.match(shape).mean() > MOST:
                value_note = (
                    "" if ours in _IDENTIFYING else f", values {_levels(values)}"
                )
                reason = f"named so{value_note}"
                yield Guess(column, ours, _text(column), reason)


def _election(name: str) -> str | None:
    """The election that a column's name speaks of, "?" for a day it does not give.

    >>> _election("vg_04"), _election("primary_02"), _election("reg_days")
    ('2004-11-02 general', '2002-??-?? primary', None)
    """
    for kind, words in _ELECTION_KINDS.items():
        before = re.fullmatch(rf"(?:voted_)?(?:{words})_?{_YEAR}", name)
        after = re.fullmatch(rf"(?:voted_)?{_YEAR}_?(?:{words})", name)
        match = before or after
        if match:
            year = int(match["year"])
            year += 0 if year > 99 else (2000 if year < 50 else 1900)
            day = (
                _general_day(year).isoformat() if kind == "general" else f"{year}-??-??"
            )
            return f"{day} {kind}"
    return None


def _general_day(year: int) -> date:
    """The Tuesday after the first Monday in November."""
    first = date(year, 11, 1)
    until_monday = (calendar.MONDAY - first.weekday()) % 7
    return date(year, 11, 2 + until_monday)


def _voted(column: str, values: pd.Series) -> str | None:
    """The entry of a vote-history column, None where its values are none."""
    levels = set(values.unique())
    if levels <= {"0", "1"}:
        return _text(column)
    if levels <= {"Y", "N"}:
        return f"{{ column = {_text(column)}, map = {{ Y = 1, N = 0 }} }}"
    return None


def _date_format(values: pd.Series) -> str | None:
    for written in _DATE_FORMATS:
        read = pd.to_datetime(values, format=written, errors="coerce")
        if len(values) and read.notna().mean() > MOST:
            return written
    return None


def _levels(values: pd.Series) -> str:
    """The frequent values; only their number where there are many."""
    if values.nunique() > MAX_SHOWN_LEVELS:
        return f"of {values.nunique()} kinds"
    return ", ".join(values.value_counts().index)


# --- the text -------------------------------------------------------------------------


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _inline(mapping: dict[str, str]) -> str:
    return (
        "{ " + ", ".join(f"{_text(k)} = {_text(v)}" for k, v in mapping.items()) + " }"
    )


def _head(draft: Draft) -> list[str]:
    special = [f"    {_text(c)}, # {reason}" for c, reason in draft.special.items()]
    return [
        f"# A draft from {draft.n_rows} rows of {draft.path.name}: every guess",
        '# is to be checked; every "" and every line with a ? waits to be filled in.',
        "",
        "[campaign]",
        'name = "new_campaign"',
        'title = ""',
        'question = ""',
        'rule_set = "us_default"',
        'as_of = "" # what may be known: a date such as 2026-09-01, without quotes',
        "seed = 1",
        "",
        "[outcome]",
        'name = "" # as in the table responses',
        'label = ""',
        'kind = "" # binary or continuous',
        'measures = "" # support, turnout or other',
        "higher_is_better = true",
        'absent = "missing" # or zero: what a delivery without a response means',
        "unit_per_point = 0.01 # of a 0-100 scale: 1.0",
        "",
        "[plan]",
        'budget_usd = ""',
        'start_on = ""',
        "days = 10",
        "holdout_share = 0.1",
        "explore_share = 0.05",
        "",
        "[features]",
        'columns = ["*"] # all but ids, excluded columns and special categories',
        "# They look like special categories of personal data: no features, unless a",
        "# legal basis is stated. Whether the list is complete, only a person can say.",
        "special_categories = [",
        *special,
        "]",
        'legal_basis_special = ""',
        "",
    ]


def _voters(draft: Draft) -> list[str]:
    days_known = [g for g in draft.history if "?" not in g.ours]
    to_fill = [g for g in draft.history if "?" in g.ours]
    return [
        "[tables.voters]",
        f"path = {_text(str(draft.path.resolve()))}",
        f"encoding = {_text(draft.encoding)}",
        f"delimiter = {_text(draft.delimiter)}",
        'source = "" # who made the file',
        'licence = ""',
        'permitted_use = "" # what it may be used for',
        'observed_on = "" # when its columns were observed: before the first delivery',
        "",
        "[tables.voters.columns]",
        *(f"{g.ours} = {g.entry} # {g.reason}" for g in draft.columns),
        *(f"# {name} = ? no column looks like it" for name in draft.missing),
        "",
        "[tables.voters.history]",
        *(f"{_text(g.ours)} = {g.entry} # {g.reason}" for g in days_known),
        *(f"# {_text(g.ours)} = {g.entry} # {g.reason}: the day?" for g in to_fill),
        "",
        *_never(draft),
        *_extra(draft),
    ]


def _never(draft: Draft) -> list[str]:
    reasons = {**draft.contact, **draft.afterwards}
    if not reasons:
        return []
    return [
        "# Not mapped, and not to be:",
        *(f"#   {column}: {reason}" for column, reason in reasons.items()),
        "",
    ]


def _extra(draft: Draft) -> list[str]:
    return [
        "# Could not be placed. Keep those that were observed of a voter before the",
        "# first delivery; an answer or a part of the design is never one of them.",
        "[tables.voters.extra]",
        "names = [",
        *(f"#   {_text(name)}," for name in draft.unplaced),
        "# Special categories: not needed unless they may be features.",
        *(f"#   {_text(name)}," for name in draft.special),
        "]",
        "",
    ]


_INLINE_ROWS = {
    "messages": '{ message_id = "", issue = "", text = "", discloses = "none" }',
    "costs": '{ message_id = "*", channel = "", cost_usd = 0.0 }',
}


def _other_tables() -> Iterator[str]:
    for name in REQUIRED_TABLES:
        if name == "voters":
            continue
        rows = _INLINE_ROWS.get(name)
        yield f"[tables.{name}]"
        yield f"rows = [{rows}]" if rows else 'path = ""'
        yield from ('source = ""', 'licence = ""', 'permitted_use = ""', "")
