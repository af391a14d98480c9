"""A voter file's columns → a mapping, every guess with its reason.

A shipped layout says what its columns are; else the name and the look of the values do.
A column that looks like a name or a contact detail is never mapped, one that looks like
a special category is listed as such, and the rest is left to a person, who knows
whether it was observed before the first delivery.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from hustings.features.draft.elections import (
    any_codes,
    election,
    placed_in_month,
    vote_codes,
)
from hustings.features.draft.heads import FileHead
from hustings.features.draft.looks import (
    HALF,
    MOST,
    contact_values,
    counts_rows,
    date_formats,
    levels,
    no_values,
)
from hustings.features.draft.places import Writing, county_codes, state_of
from hustings.features.draft.special import (
    plain_name,
    special_name,
    special_values,
    words_of,
)
from hustings.features.tables import VOTERS, identifying_columns

MOSTLY_DIFFERENT = 0.98
"""Share of different values that an id has at least: a duplicate hides none."""
_IDENTIFYING = identifying_columns(VOTERS)
_CONTACT = re.compile(
    r"(?:^|_)(?:name|fname|lname|mname|first|"
    r"last(?!_(?:modif|vot|party|contact|upd|chang|elect|act|date))|middle|surname|"
    r"suffix|e_?mail|phone|tel|telephone|cell|mobile|landline|address|addr|street|str|apt|apartment|ssn|"
    r"twitter|facebook|house_?(?:num(?:ber)?|no)|salutation|latitude|longitude)"
    r"(?:_|\d|$)|name$|^(?:first|last|middle)name|phone|email|address|^reg_st_|"
    r"^reg_unit|street|^prev_?(?:name|address)|apartment|area_?code|unit_?num|^radd|"
    r"^rhalf|exchange$"
)
_NO_PERSONS_NAME = re.compile(
    r"(?:county|precinct|pct|party|city|town|district|municipal|school|village|"
    r"jurisdiction|state|campaign|media_market|census|council|ward|hd|sd|cd|dist|"
    r"commission|tract)\w*_?(?:name|desc)"
)
_PLACE = re.compile(r"^(?:precinct|county|district|ward|municipal|school)_")
_MAILING = re.compile(
    r"^(?:mail|mailing)(?:\d|_|add|city|state|zip|country|address)|^m_(?:zip|address|"
    r"city|state)|(?:^|_)mailing_?(?:add|city|state|zip|country)|^(?:maddress|mcity|"
    r"mstate|mzip\d?|mcountry)$|^secondary_(?:add|city|state|zip|unit)"
)
_AFTERWARDS = re.compile(
    r"treat|(?:^|_)(?:control|arm|fold|split|partition|assigned?)(?:_|$)|message|outcome|"
    r"response|^moved|^voted_after|contacted"
)
_ROW_NUMBER = re.compile(
    r"^(?:unnamed(?:_\d+)?|index|row|rownum|row_?(?:no|num|number|id)|record_?(?:no|num"
    r"|number)|line_?(?:no|num|number)?|seq(?:uence)?(?:_?(?:no|num|number|id))?|no|nr|"
    r"n|x|id|number)?$"
)
_IDS = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(?:voter_?id|voters_?id|sos_?voter_?id|state_?voter_?id|vuid|ncid)$",
        r"voter_?(?:file_?)?(?:van_?)?(?:id|identification)|van_?id$|voterbase_?id",
        r"(?:voter_?)?(?:registration|reg)_?(?:number|num|no|id)$|voter_?num|registrant",
        r"^(?:\w+_)?v?u?id$|_id$",
    )
)
_COUNTYS_OWN = re.compile(r"^(?:county|cnty|local)_|household|^hh|family|precinct|"
                          r"message|census|district|^dist|jurisdiction")  # fmt: skip
_SEXES = {
    "F": "F", "FEMALE": "F", "WOMAN": "F", "W": "F",
    "M": "M", "MALE": "M", "MAN": "M",
}  # fmt: skip
_NEITHER = words_of(
    "U UNKNOWN UNK X O OTHER N NB NONBINARY NON-BINARY UNSPECIFIED UNDESIGNATED B "
    "UNDISCLOSED UND"
)
_COUNTY_NAMES: tuple[tuple[str, Writing], ...] = (
    (r"^(?:res_?|residen\w+_|vb_(?:vf|tsmart)_)?county(?:_?(?:name|desc))?$", "name"),
    (r"fips", "fips3"),
)


@dataclass(frozen=True)
class Guess:
    """One column of the file and what it may be.

    Attributes:
        theirs: Column of the file.
        ours: Column of voters; an election for history.
        entry: Right-hand side in the mapping, as TOML.
        reason: Why.
        question: What a person has to say first; empty where the guess stands.
    """

    theirs: str
    ours: str
    entry: str
    reason: str
    question: str = ""


@dataclass(frozen=True)
class VoterColumns:
    """What the columns of a voter file may be.

    Attributes:
        columns: Guesses for our columns.
        history: Guesses for past elections.
        special: Column → why it looks like a special category.
        contact: Column → why it looks like a name or a contact detail.
        afterwards: Column → why it looks like an answer or the design.
        never: Column → why the layout, or its values, say that it is none of ours.
        unplaced: Columns that could not be placed.
        missing: Our column → why no column of the file is it.
        ids: Values of the drafted voter_id.
    """

    columns: tuple[Guess, ...]
    history: tuple[Guess, ...]
    special: dict[str, str]
    contact: dict[str, str]
    afterwards: dict[str, str]
    never: dict[str, str]
    unplaced: tuple[str, ...]
    missing: dict[str, str]
    ids: frozenset[str] = field(repr=False)


def text(value: object) -> str:
    """A value as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def inline(mapping: Mapping[str, object]) -> str:
    """An inline table of TOML."""
    return "{ " + ", ".join(f"{key(k)} = {text(v)}" for k, v in mapping.items()) + " }"


def key(name: str) -> str:
    """A key of TOML, quoted where it has to be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else text(name)


def entry(column: str, **settings: object) -> str:
    """A column of the source with what is to be done with it."""
    if not settings:
        return text(column)
    written = {
        name: inline(value) if isinstance(value, dict) else text(value)
        for name, value in settings.items()
    }
    inner = "".join(f", {name} = {value}" for name, value in written.items())
    return f"{{ column = {text(column)}{inner} }}"


def date_entry(
    column: str, values: pd.Series, *, iso_by_default: bool
) -> tuple[str, str] | None:
    """How a column of dates is declared, and what it looks like; None for others.

    Args:
        column: Of the source.
        values: That are there.
        iso_by_default: Whether a date without a format is read as ISO 8601.
    """
    absent = no_values(values)
    dates = values[~values.isin(absent)]
    formats = date_formats(dates)
    if not formats:
        return None
    settings: dict[str, object] = {}
    if not iso_by_default or formats != ["%Y-%m-%d"]:
        settings["format"] = formats[0] if len(formats) == 1 else formats
    note = "dates written " + ", ".join(formats)
    if absent:
        settings["missing"] = absent
        n = int(values.isin(absent).sum())
        note += f", {n} of {len(values)} without one"
    return entry(column, **settings), note


def sex_entry(column: str, values: pd.Series) -> tuple[str, str] | None:
    """How a column of sexes is declared; None where a value is none that is known."""
    mapped: dict[str, str] = {}
    for level in sorted(values.unique()):
        upper = level.upper()
        if upper not in _SEXES and upper not in _NEITHER:
            return None
        mapped[level] = _SEXES.get(upper, "U")
    if "W" in {level.upper() for level in mapped} and "F" in set(mapped):
        return None
    note = f"values {levels(values)}"
    if others := [level for level, sex in mapped.items() if sex == "U"]:
        note += f"; {', '.join(others)} = U, neither or not known"
    return entry(column, map=mapped), note


def place_columns(head: FileHead) -> VoterColumns:
    """Look at the columns of a voter file; each is placed at most once."""
    return _Looking(head).placed()


class _Looking:
    """The columns of a file, each placed at most once."""

    def __init__(self, head: FileHead) -> None:
        self.head, self.layout = head, head.layout
        self.used: set[str] = set()
        self.absent: dict[str, str] = {}

    def placed(self) -> VoterColumns:
        never = self._set_aside(self._never)
        by_layout = tuple(self._by_layout())
        history = tuple(self._history())
        special = self._set_aside(self._special)
        contact = self._set_aside(self._contact)
        afterwards = self._set_aside(self._afterwards)
        columns = [*by_layout, *self._by_look({g.ours for g in by_layout})]
        columns += self._state_of_counties(columns)
        ours = {guess.ours for guess in columns}
        expected = [c for c in VOTERS.columns if c not in ours]
        if {"age", "birth_year"} & ours:
            expected = [c for c in expected if c not in {"age", "birth_year"}]
        ids = next((g.theirs for g in columns if g.ours == "voter_id"), None)
        return VoterColumns(
            columns=tuple(
                sorted(columns, key=lambda g: list(VOTERS.columns).index(g.ours))
            ),
            history=history,
            special=special,
            contact=contact,
            afterwards=afterwards,
            never=never,
            unplaced=tuple(c for c in self.head.columns if c not in self.used),
            missing={
                c: self.absent.get(c, "no column looks like it") for c in expected
            },
            ids=frozenset(self.head.filled(ids)) if ids else frozenset(),
        )

    def _set_aside(self, look: Callable[[str, pd.Series], str]) -> dict[str, str]:
        free = [c for c in self.head.columns if c not in self.used]
        reasons = {c: look(c, self.head.filled(c)) for c in free}
        set_aside = {column: reason for column, reason in reasons.items() if reason}
        self.used |= set(set_aside)
        return set_aside

    def _free(self) -> Iterator[tuple[str, str, pd.Series]]:
        """Column, plain name and values of what is not yet placed and has values."""
        for column in self.head.columns:
            values = self.head.filled(column)
            if column not in self.used and len(values):
                yield column, plain_name(column), values

    def _never(self, column: str, values: pd.Series) -> str:
        if self.layout and (reason := self.layout.is_never(column)):
            return reason
        if _ROW_NUMBER.match(plain_name(column)) and counts_rows(values):
            return "a row number: it counts the lines of this file, nobody's id"
        return ""

    @staticmethod
    def _contact(column: str, values: pd.Series) -> str:
        name = plain_name(column)
        if _PLACE.match(name):
            return ""
        if _MAILING.search(name):
            return "an address for mail: the place of residence stands elsewhere"
        if _CONTACT.search(name) and not _NO_PERSONS_NAME.search(name):
            return "its name speaks of a person's name or contact"
        looks = contact_values(values)
        return f"its values look like {looks}" if looks else ""

    @staticmethod
    def _special(column: str, values: pd.Series) -> str:
        if kind := special_name(column):
            return f"its name speaks of {kind}"
        kind = special_values(values)
        return f"its values speak of {kind}" if kind else ""

    @staticmethod
    def _afterwards(column: str, values: pd.Series) -> str:  # noqa: ARG004
        name = plain_name(column)
        if _AFTERWARDS.search(name) and not _PLACE.match(name):
            return "its name speaks of an answer, a message or the design"
        return ""

    # --- past elections ---------------------------------------------------------------

    def _history(self) -> Iterator[Guess]:
        for column in list(self.head.columns):
            held = election(column) if column not in self.used else None
            if held is None:
                continue
            if self.layout is not None:
                months = {m: (r.tuesday, r.kind) for m, r in self.layout.months.items()}
                held = placed_in_month(held, months)
            values = self.head.columns[column]
            is_free = self.layout is not None and self.layout.any_code_voted
            codes, question = vote_codes(values), ""
            if codes is None or (is_free and set(codes.values()) != {0, 1}):
                codes = any_codes(
                    values, self.layout.did_not if self.layout else frozenset()
                )
                question = "" if is_free else "did everybody with a code vote?"
            if codes is None or (len(codes) == 1 and not is_free):
                continue
            self.used.add(column)
            if held.day is None:
                question = "the day?"
            reason = f"named like an election, values {levels(values)}"
            if "" in codes:
                reason += ", blank = did not vote"
            yield Guess(column, held.key, self._voted(column, codes), reason, question)

    def _voted(self, column: str, codes: dict[str, int]) -> str:
        if set(codes) <= {"0", "1"}:
            return text(column)
        if self.layout is not None and self.layout.any_code_voted:
            did_not = {code: 0 for code, voted in codes.items() if not voted}
            return entry(column, map={"": 0, **did_not}, default=1)
        return entry(column, map=codes)

    # --- columns of voters ------------------------------------------------------------

    def _by_layout(self) -> Iterator[Guess]:
        if self.layout is None:
            return
        title = f"layout {self.layout.name}"
        for ours, theirs in self.layout.placed(self.head.columns).items():
            if theirs in self.used:
                continue
            self.used.add(theirs)
            values = self.head.filled(theirs)
            entry_and_note = self._declared(ours, theirs, values)
            if entry_and_note is None:
                self.absent[ours] = (
                    f"{theirs} is it by the layout, {self._why_not(ours)}"
                )
                continue
            yield Guess(
                theirs,
                ours,
                entry_and_note[0],
                f"{title}; {entry_and_note[1]}".removesuffix("; "),
            )
        if self.layout.state and "state" not in self.layout.placed(self.head.columns):
            state = f"{{ value = {text(self.layout.state)} }}"
            yield Guess("", "state", state, f"{title}: all are of this state")
        yield from self._county_by_layout(title)

    def _declared(
        self, ours: str, theirs: str, values: pd.Series
    ) -> tuple[str, str] | None:
        """Entry and note of a column that the layout places."""
        if not len(values):
            return text(theirs), "empty in the rows looked at"
        if ours == "sex":
            return sex_entry(theirs, values)
        if ours == "birth_year":
            return _birth(theirs, values)
        if ours == "registered_on":
            return date_entry(theirs, values, iso_by_default=True)
        if ours == "voter_id":
            return text(theirs), _duplicates(values)
        return text(theirs), ""

    @staticmethod
    def _why_not(ours: str) -> str:
        return "but its values are written in no way that is known" + (
            ": give a map" if ours == "sex" else ": give a format"
        )

    def _county_by_layout(self, title: str) -> Iterator[Guess]:
        layout = self.layout
        if layout is None or layout.county is None:
            return
        there = {plain_name(c): c for c in self.head.columns}
        names = [
            there[p] for c in layout.county.columns if (p := plain_name(c)) in there
        ]
        state = layout.state or self._only_state()
        for column in names[:1]:
            values = self.head.filled(column)
            self.used.add(column)
            if not state:
                self.absent["county_fips"] = (
                    f"{column} is it within a state, and the file has several: put the "
                    "two digits of the state before it"
                )
                return
            if len(values) and values.str.fullmatch(r"\d{5}").all():
                yield Guess(
                    column, "county_fips", text(column), f"{title}; five digits"
                )
                return
            codes = county_codes(values, state, layout.county.written, layout.letters)
            if not codes:
                self.absent["county_fips"] = (
                    f"{column} is the county by the layout, but one of its values is "
                    f"none of {state}: give a map to the five FIPS digits"
                )
                return
            note = f"{title}; the state's own {layout.county.written} → FIPS"
            yield Guess(column, "county_fips", entry(column, map=codes), note)

    def _only_state(self) -> str:
        """The state that all rows looked at are of; "" where there are several."""
        for column in self.head.columns:
            name = plain_name(column)
            if re.search(
                r"(?:^|_)(?:state|st|source_state|mstate|vstate)(?:_cd|_code)?$", name
            ):
                values = self.head.filled(column)
                states = set(values)
                if len(states) == 1 and re.fullmatch(r"[A-Z]{2}", min(states)):
                    return str(min(states))
        return ""

    def _state_of_counties(self, columns: Sequence[Guess]) -> Iterator[Guess]:
        """The state that all counties are in, where no column says it."""
        by_ours = {guess.ours: guess for guess in columns}
        county = by_ours.get("county_fips")
        if county is None or "state" in by_ours:
            return
        state = state_of(self.head.filled(county.theirs))
        if state:
            reason = f"all counties in {county.theirs} are of this state"
            yield Guess("", "state", f"{{ value = {text(state)} }}", reason)

    def _by_look(self, ours: set[str]) -> Iterator[Guess]:
        finders: dict[str, Callable[[], Iterator[Guess]]] = {
            "voter_id": self._voter_id, "household_id": self._household,
            "cluster_id": self._cluster, "birth_year": self._birth_year,
            "age": self._age, "sex": self._sex, "state": self._state,
            "county_fips": self._county, "precinct": self._precinct,
            "postcode": self._postcode, "registered_on": self._registered_on,
            "party": self._party,
        }  # fmt: skip
        for name, find in finders.items():
            if name in ours or name in self.absent:
                continue
            guess = next(find(), None)
            if guess is not None:
                self.used.add(guess.theirs)
                yield guess

    def _voter_id(self) -> Iterator[Guess]:
        candidates = list(self._free())
        for pattern in _IDS:
            for column, name, values in candidates:
                if not pattern.search(name) or _COUNTYS_OWN.search(name):
                    continue
                if len(values) > 1 and values.nunique() >= MOSTLY_DIFFERENT * len(
                    values
                ):
                    reason = f"named an id, {_duplicates(values) or 'no value twice'}"
                    if counts_rows(values):
                        reason += "; it counts 1, 2, 3: surely no row number?"
                    yield Guess(column, "voter_id", text(column), reason)

    def _household(self) -> Iterator[Guess]:
        pattern = re.compile(r"household_?(?:id|key|num(?:ber)?)?$|^hh_?(?:id|key)?$|"
                             r"famil(?:y|ies)_?(?:family_?)?id$")  # fmt: skip
        for column, name, values in self._free():
            if pattern.search(name) and values.nunique() > HALF * HALF * len(values):
                reason = "named like a household, some share it"
                yield Guess(column, "household_id", text(column), reason)

    def _cluster(self) -> Iterator[Guess]:
        yield from self._by_name("cluster_id", r"^cluster(?:_id)?$", r".")

    def _birth_year(self) -> Iterator[Guess]:
        pattern = re.compile(r"birth|^yob$|(?:^|_)dob$|born")
        for column, name, values in self._free():
            entry_and_note = _birth(column, values) if pattern.search(name) else None
            if entry_and_note is not None:
                reason = f"named like a birth date, {entry_and_note[1]}"
                yield Guess(column, "birth_year", entry_and_note[0], reason)

    def _age(self) -> Iterator[Guess]:
        for column, name, values in self._free():
            ages = pd.to_numeric(values, errors="coerce")
            if re.search(
                r"^age$|^voters?_age|^age_(?!band|group|range)|_age$", name
            ) and (ages.between(16, 120).mean() > MOST):
                yield Guess(column, "age", text(column), "named age, values 16 to 120")

    def _sex(self) -> Iterator[Guess]:
        for column, name, values in self._free():
            if not re.search(r"^(?:\w+_)?(?:sex|gender)(?:_f|_code|_cd)?$", name):
                continue
            if re.search(r"^(?:opp|hh|household)_|_hh", name):
                continue
            entry_and_note = sex_entry(column, values)
            if (
                entry_and_note is None
                and name.endswith("_f")
                and set(values) <= {"0", "1"}
            ):
                used = {c: s for c, s in (("1", "F"), ("0", "M")) if c in set(values)}
                entry_and_note = entry(column, map=used), f"values {levels(values)}"
            if entry_and_note is None:
                self.absent["sex"] = f"{column} is named so, but its values are others"
                continue
            yield Guess(
                column, "sex", entry_and_note[0], f"named sex, {entry_and_note[1]}"
            )

    def _state(self) -> Iterator[Guess]:
        name = r"^(?:(?:res|residence|residential|reg|v)_?)?(?:state|st)(?:_code|_cd)?$"
        yield from self._by_name("state", name, r"^[A-Z]{2}$")

    def _county(self) -> Iterator[Guess]:
        for column, name, values in self._free():
            if re.search(r"fips|county", name) and values.str.match(r"^\d{4,5}$").all():
                if values.nunique() > HALF * len(values) and len(values) > 20:
                    self.absent["county_fips"] = (
                        f"{column} has {values.nunique()} different values: more than "
                        "counties have, it may be an id"
                    )
                    continue
                if "fips" not in name and not _are_fips(values):
                    continue
                has_five_digits = values.str.len().eq(5).all()
                yield Guess(
                    column,
                    "county_fips",
                    text(column) if has_five_digits else entry(column, digits=5),
                    "named like a county"
                    + ("" if has_five_digits else ", zeros are lost"),
                )
        yield from self._county_within_a_state()

    def _county_within_a_state(self) -> Iterator[Guess]:
        state = (
            self.layout.state
            if self.layout and self.layout.state
            else self._only_state()
        )
        for column, name, values in self._free():
            for pattern, writing in _COUNTY_NAMES:
                if not re.search(pattern, name):
                    continue
                codes = county_codes(values, state, writing, {}) if state else {}
                if codes:
                    reason = f"named like a county of {state}; its {writing} → FIPS"
                    yield Guess(column, "county_fips", entry(column, map=codes), reason)
                self.absent.setdefault(
                    "county_fips",
                    f"{column} is named so: give a map to the five FIPS digits",
                )

    def _precinct(self) -> Iterator[Guess]:
        for pattern in (
            r"^(?:precinct|pct)(?:_?(?:code|id|abbrv|num|no))?$",
            r"precinct",
        ):
            yield from self._by_name("precinct", pattern, r".")

    def _postcode(self) -> Iterator[Guess]:
        shape = r"^\d{4,5}(?:-?\d{4})?$|^[A-Z]\d"
        for pattern in (
            r"^(?:res|residen\w*|reg|situs)_?(?:\w+_)?(?:zip|postcode|postal)",
            r"^(?:\w+_)?zip|postcode|postal",
        ):
            yield from self._by_name("postcode", pattern, shape)

    def _registered_on(self) -> Iterator[Guess]:
        pattern = re.compile(
            r"^(?:\w+_)?reg(?:ist\w*)?_|^reg|_reg_?date$|date_?reg|^application_?date$"
        )
        for column, name, values in self._free():
            named_so = pattern.search(name) is not None
            entry_and_note = (
                date_entry(column, values, iso_by_default=True) if named_so else None
            )
            if entry_and_note is not None:
                reason = f"named like a registration, {entry_and_note[1]}"
                yield Guess(column, "registered_on", entry_and_note[0], reason)

    def _party(self) -> Iterator[Guess]:
        endings = "code|reg|cd|affiliation|name|desc|identifier"
        name = rf"^(?!voted)(?:\w+_)?party(?:_(?:{endings}))?$"
        yield from self._by_name("party", name + r"|^enrollment$", r"^[A-Za-z]")

    def _by_name(self, ours: str, name_pattern: str, shape: str) -> Iterator[Guess]:
        for column, name, values in self._free():
            if re.search(name_pattern, name) and values.str.match(shape).mean() > MOST:
                note = "" if ours in _IDENTIFYING else f", values {levels(values)}"
                yield Guess(column, ours, text(column), f"named so{note}")


def _are_fips(values: pd.Series) -> bool:
    """Whether codes begin with the digits of a state: 1 to 56."""
    return bool(pd.to_numeric(values.str.zfill(5).str[:2]).between(1, 56).all())


def _birth(column: str, values: pd.Series) -> tuple[str, str] | None:
    """Entry and note of a birth year, or of a birth date of which the year is kept."""
    absent = no_values(values)
    filled = values[~values.isin(absent)]
    years = pd.to_numeric(filled, errors="coerce")
    if len(filled) and years.between(1890, 2012).mean() > MOST:
        written = entry(column, missing=absent) if absent else text(column)
        return written, "years of four digits"
    dates = date_entry(column, values, iso_by_default=False)
    return None if dates is None else (dates[0], f"{dates[1]}: only the year is kept")


def _duplicates(values: pd.Series) -> str:
    n = int(values.duplicated(keep=False).sum())
    if not n:
        return ""
    return (
        f"{n} of {len(values)} rows share their value with another: which are to stay?"
    )
