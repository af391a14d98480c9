"""Voter files in the record layouts that states and vendors publish, with the truth.

A `Layout` writes a file of invented voters as the layout says (header or none,
delimiter, quoting, encoding, names and order of the columns, codes, dates) and knows
of every column what it is in our terms. Written from the published layouts alone, by
somebody who has not read how `hustings init` recognises them. A layout of which no
public source could be read is `verified=False`: written by what is generally said of
it, and never counted.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

N_VOTERS = 300
OURS = ("voter_id", "household_id", "birth_year", "age", "sex", "state", "county",
        "precinct", "postcode", "registered_on", "party")  # fmt: skip
"""Kinds of columns that have a place among ours; `county` is our county_fips."""

Voter = dict[str, Any]
Write = Callable[[Voter], str]


@dataclass(frozen=True)
class Column:
    """One column of a layout and what it is.

    Attributes:
        name: As published, or as the layout's document calls it where the file has
            no header.
        kind: One of `OURS`; history; special (race, ethnicity, religion, language,
            origin, opinions on abortion); contact (names, addresses, telephones,
            e-mail); other.
        write: The cell of a voter.
        formats: How its dates are written; empty for plain numbers and texts.
        codes: Each published code → ours. Of a history: 1 voted, 0 did not. Of a
            county: the five digits; empty where no table of codes is published. None:
            the code has no value among ours.
        election: Of a history: a pattern of "<date> <kind>", as in fnmatch.
        counted: Whether leaving the column to a person counts as left.
        width: Characters of a fixed-width field.
    """

    name: str
    kind: str
    write: Write
    formats: tuple[str, ...] = ()
    codes: Mapping[str, Any] = field(default_factory=dict)
    election: str = ""
    counted: bool = True
    width: int = 0


@dataclass(frozen=True)
class Layout:
    """A record layout, its sources, and the truth about its columns.

    Attributes:
        key: Short name.
        file: Name of a file as it is handed out.
        sources: Title and publisher of what was read, with its address where known.
        relied_on: For a layout that is not verified: what it was written by instead.
        rows: What one row is: a voter, or a vote (one row per voter and election).
        state: The one state of all its voters.
    """

    key: str
    file: str
    sources: tuple[str, ...]
    columns: tuple[Column, ...]
    header: bool = True
    delimiter: str = ","
    quoting: int = csv.QUOTE_MINIMAL
    encoding: str = "utf-8"
    ending: str = "\r\n"
    fixed: bool = False
    verified: bool = True
    relied_on: str = ""
    rows: str = "voter"
    state: str = ""

    def write(self, folder: Path) -> Path:
        """Write the file; one voter is in it twice."""
        voters = people()
        if self.rows == "vote":
            voters = [{**v, "turn": turn} for v in voters for turn in range(3)]
        records = [[c.write(voter) for c in self.columns] for voter in voters]
        records.append(list(records[16]))
        path = folder / self.file
        path.write_bytes(self._text(records).encode(self.encoding))
        return path

    def _text(self, records: list[list[str]]) -> str:
        if self.fixed:
            lines = [
                "".join(
                    value[: c.width].ljust(c.width)
                    for c, value in zip(self.columns, record, strict=True)
                )
                for record in records
            ]
            return "".join(line + self.ending for line in lines)
        out = io.StringIO()
        writer = csv.writer(
            out, delimiter=self.delimiter, quoting=self.quoting,
            lineterminator=self.ending,
            quotechar=None if self.quoting == csv.QUOTE_NONE else '"',
        )  # type: ignore[call-overload]  # fmt: skip
        if self.header:
            writer.writerow([c.name for c in self.columns])
        writer.writerows(records)
        return out.getvalue()

    def positions(self) -> dict[str, tuple[int, int]]:
        """Of a fixed-width file: column → first and last position, from 1."""
        at, places = 1, {}
        for column in self.columns:
            places[column.name] = (at, at + column.width - 1)
            at += column.width
        return places


# --- invented voters ------------------------------------------------------------------

_LAST = [a + b for a in ("Quil", "Zorv", "Brix", "Thal", "Wynd", "Kestr", "Ombr",
                         "Plim", "Vasqu", "Jorth")
         for b in ("amore", "athy", "endale", "ingholm", "owicz", "uzzi")]  # fmt: skip
_FIRST = {
    "F": ["Marigold", "Oona", "Petra", "Sunniva", "Ysolde", "Delphine", "Calla"],
    "M": ["Barnaby", "Cosmo", "Ignatius", "Leopold", "Rufus", "Thaddeus", "Alaric"],
    "U": ["Avery", "Robin", "Sasha"],
}
_STREETS = ["Larkspindle", "Copperhatch", "Mossbarrow", "Quailthorn", "Saltmeadow",
            "Windlestraw", "Foxglimmer", "Turnpikeling"]  # fmt: skip
_CITIES = ["Easterby Falls", "Port Hollin", "Greyfold", "Upper Marle", "Dunmere"]
PLACED_TOKENS = (*_LAST, *_STREETS, "quill.example")
"""Parts of names, streets and e-mail addresses that no draft may repeat."""


@cache
def people() -> list[Voter]:
    """Invented voters: mixed case, blank cells, households of one to three."""
    rng = np.random.default_rng(20261130)
    voters: list[Voter] = []
    household = 0
    while len(voters) < N_VOTERS:
        household += 1
        home = {
            "household": household,
            "house": str(rng.integers(1, 9900)),
            "street": str(rng.choice(_STREETS)),
            "unit": f"{rng.integers(1, 40)}{rng.choice(list('ABC'))}"
            if rng.random() < 0.2
            else "",
            "city": str(rng.choice(_CITIES)),
            "zip": int(rng.integers(0, 60)),
            "zip4": f"{rng.integers(1, 9999):04d}" if rng.random() < 0.7 else "",
            "county": int(rng.integers(0, 4)),
            "precinct": int(rng.integers(1, 25)),
            "last": str(rng.choice(_LAST)),
            "mails": bool(rng.random() < 0.15),
        }
        for _ in range(int(rng.integers(1, 4))):
            voters.append(_voter(rng, len(voters), home))
    return voters[:N_VOTERS]


def _voter(rng: np.random.Generator, number: int, home: Voter) -> Voter:
    sex = str(rng.choice(["F", "M", "U"], p=[0.51, 0.44, 0.05]))
    birth = date(1931, 1, 1) + timedelta(days=int(rng.integers(0, 365 * 75)))
    coming_of_age = birth + timedelta(days=18 * 366)
    last_day = date(2026, 6, 30)
    span = max(1, (last_day - max(coming_of_age, date(1984, 1, 1))).days)
    registered = last_day - timedelta(days=int(rng.integers(0, span)))
    first = str(rng.choice(_FIRST[sex]))
    case = rng.choice([str.upper, str.title, str.lower], p=[0.85, 0.1, 0.05])
    return {
        **home,
        "number": number,
        "turn": 0,
        "first": case(first),
        "last": case(home["last"]),
        "middle": case(str(rng.choice(_FIRST[sex])))[: int(rng.integers(1, 9))]
        if rng.random() < 0.75
        else "",
        "suffix": str(rng.choice(["JR", "SR", "III"])) if rng.random() < 0.06 else "",
        "title": str(rng.choice(["MR", "MS", "DR"])) if rng.random() < 0.3 else "",
        "sex": sex,
        "birth": date(1900, 1, 1) if number in (40, 140) else birth,
        "registered": registered,
        "phone": f"{rng.integers(202, 989)}555{rng.integers(0, 9999):04d}"
        if rng.random() < 0.6
        else "",
        "email": f"{first.lower()}{number}@quill.example"
        if rng.random() < 0.25
        else "",
        "party": int(rng.choice(4, p=[0.36, 0.34, 0.27, 0.03])),
        "race": int(rng.choice(5, p=[0.62, 0.2, 0.08, 0.05, 0.05])),
        "active": bool(rng.random() < 0.9),
        "votes": rng.random(60) < rng.beta(2, 2),
        "how": rng.integers(0, 1000, 60),
        "score": rng.random(60),
        "code": rng.integers(1, 40, 60),
        "blank": rng.random(60) < 0.06,
    }


# --- cells ----------------------------------------------------------------------------


def _const(value: str) -> Write:
    return lambda _: value


def _of(key: str) -> Write:
    return lambda v: str(v[key])


def _day(key: str, form: str) -> Write:
    return lambda v: v[key].strftime(form)


def _pick(key: str, values: Iterable[str]) -> Write:
    choices = list(values)
    return lambda v: choices[int(v[key]) % len(choices)]


def _number(form: str, start: int) -> Write:
    return lambda v: form.format(start + v["number"] * 37)


def _address(v: Voter) -> str:
    return f"{v['house']} {v['street']} ST".upper()


def _mail(write: Write) -> Write:
    return lambda v: write(v) if v["mails"] else ""


def _blanks(write: Write, at: int) -> Write:
    return lambda v: "" if v["blank"][at] else write(v)


def _age(v: Voter) -> str:
    return str(2026 - v["birth"].year)


def _zip(first: int, *, nine: bool = False) -> Write:
    def write(v: Voter) -> str:
        return f"{first + v['zip']:05d}" + (v["zip4"] if nine else "")

    return write


# --- columns --------------------------------------------------------------------------


def _plain(kind: str, names: str, *writes: Write, **more: Any) -> list[Column]:
    """Columns of one kind; the last writer serves the rest of the names."""
    listed = names.split()
    return [
        Column(name, kind, writes[min(i, len(writes) - 1)], **more)
        for i, name in enumerate(listed)
    ]


def _districts(names: str, *, at: int = 0) -> list[Column]:
    """Districts and the like: numbers, partly blank."""

    def write_at(place: int) -> Write:
        return lambda v: "" if v["blank"][place % 60] else str(v["code"][place % 60])

    return [
        Column(name, "other", write_at(at + i)) for i, name in enumerate(names.split())
    ]


def _named(names: Iterable[str]) -> list[Column]:
    """District names that contain blanks, so that they are listed."""
    return [
        Column(name, "other", _blanks(_pick("precinct", ["1", "2", "12", "31"]), i))
        for i, name in enumerate(names)
    ]


def _sex(name: str, codes: Mapping[str, str | None], *, width: int = 0) -> Column:
    """Codes → ours; a voter's sex is written by the first code that means it."""
    writes = {ours: code for code, ours in reversed(codes.items()) if ours}
    rare = [code for code, ours in codes.items() if ours is None]

    def write(v: Voter) -> str:
        if rare and v["number"] % 71 == 5:
            return rare[0]
        return writes.get(v["sex"], "")

    return Column(name, "sex", write, codes=codes, width=width)


_FMU = {"F": "F", "M": "M", "U": "U"}


def _county(
    name: str, codes: Mapping[str, str], *, width: int = 0, counted: bool = True
) -> Column:
    """Codes of which the layout publishes a table; names are left to a person, who
    may well place them."""
    return Column(
        name, "county", _pick("county", codes), codes=codes, width=width,
        counted=counted,
    )  # fmt: skip


def _vote(
    name: str, election: str, codes: Mapping[str, Any], at: int, *,
    counted: bool = True,
) -> Column:  # fmt: skip
    """A column of one election; `codes` with how often each is written, in order."""
    voted = [code for code, ours in codes.items() if ours == 1]
    not_voted = [code for code, ours in codes.items() if ours == 0]

    def write(v: Voter) -> str:
        among = voted if v["votes"][at % 60] else not_voted
        return among[int(v["how"][at % 60]) % len(among)]

    return Column(
        name, "history", write, codes=codes, election=election, counted=counted
    )


GENERAL = {2010: "2010-11-02", 2012: "2012-11-06", 2014: "2014-11-04",
           2016: "2016-11-08", 2017: "2017-11-07", 2018: "2018-11-06",
           2019: "2019-11-05", 2020: "2020-11-03", 2021: "2021-11-02",
           2022: "2022-11-08"}  # fmt: skip
"""First Tuesday after a Monday in November."""


# --- states ---------------------------------------------------------------------------

_REGGIE = (
    "VoteShield, reggie: state configurations and preprocessors, "
    "github.com/Voteshield/reggie, reggie/configs/data/{0}.yaml and "
    "reggie/ingestion/preprocessor/{0}_preprocessor.py"
)
_NVF = (
    "National Voter File, transformers and test files of {0}, "
    "github.com/national-voter-file/national-voter-file"
)

_NC_COUNTIES = {"1": "37001", "32": "37063", "60": "37119", "92": "37183"}
_NC_NAMES = {"ALAMANCE": "37001", "DURHAM": "37063", "MECKLENBURG": "37119",
             "WAKE": "37183"}  # fmt: skip


def _north_carolina() -> Layout:
    return Layout(
        "NC ncvoter", "ncvoter_Statewide.txt",
        (
            "NC State Board of Elections, layout_ncvoter.txt (2022), "
            "https://s3.amazonaws.com/dl.ncsbe.gov/data/layout_ncvoter.txt; its "
            "columns as printed in github.com/jaclynweiser/CarolinaForward and in "
            "pkg.go.dev/github.com/philhanna/go-ncvoters",
            "NC State Board of Elections, layout_ncvoter_ncvhis.txt (2012), table of "
            "counties and races, kept by " + _NVF.format("NC"),
            _REGGIE.format("north_carolina"),
        ),
        (
            _county("county_id", _NC_COUNTIES),
            _county("county_desc", _NC_NAMES, counted=False),
            *_plain("other", "voter_reg_num", _number("{:012d}", 4021)),
            *_plain("voter_id", "ncid", _number("EH{:06d}", 20310)),
            *_plain("contact", "last_name first_name middle_name name_suffix_lbl",
                    lambda v: v["last"] + "  ", _of("first"), _of("middle"),
                    _of("suffix")),
            *_plain("other", "status_cd voter_status_desc reason_cd "
                    "voter_status_reason_desc",
                    lambda v: "A" if v["active"] else "I",
                    lambda v: "ACTIVE" if v["active"] else "INACTIVE",
                    lambda v: "AV" if v["active"] else "IN",
                    lambda v: "VERIFIED" if v["active"] else
                    "CONFIRMATION NOT RETURNED"),
            *_plain("contact", "res_street_address", _address),
            *_plain("other", "res_city_desc", _of("city")),
            *_plain("state", "state_cd", _const("NC")),
            *_plain("postcode", "zip_code", _zip(27501)),
            *_plain("contact", "mail_addr1 mail_addr2 mail_addr3 mail_addr4",
                    _address, _const("")),
            *_plain("other", "mail_city mail_state", _of("city"), _const("NC")),
            *_plain("contact", "mail_zipcode", _zip(27501, nine=True)),
            *_plain("contact", "full_phone_number", _of("phone")),
            *_plain("other", "confidential_ind", _const("N")),
            *_plain("registered_on", "registr_dt", _day("registered", "%m/%d/%Y"),
                    formats=("%m/%d/%Y",)),
            *_plain("special", "race_code ethnic_code",
                    _pick("race", ["W", "B", "U", "A", "O"]),
                    _pick("race", ["NL", "NL", "UN", "NL", "HL"])),
            *_plain("party", "party_cd", _pick("party", ["DEM", "REP", "UNA", "LIB"])),
            _sex("gender_code", _FMU),
            *_plain("birth_year", "birth_year", _day("birth", "%Y")),
            *_plain("age", "age_at_year_end", _age),
            *_plain("special", "birth_state",
                    _pick("precinct", ["NC", "VA", "", "OC", "NC"])),
            *_plain("other", "drivers_lic", _pick("number", ["Y", "Y", "N"])),
            *_plain("precinct", "precinct_abbrv precinct_desc",
                    lambda v: f"{v['precinct']:02d}-0{v['precinct'] % 4}",
                    lambda v: f"PRECINCT {v['precinct']:02d}-0{v['precinct'] % 4}"),
            *_districts(
                "municipality_abbrv municipality_desc ward_abbrv ward_desc "
                "cong_dist_abbrv super_court_abbrv judic_dist_abbrv nc_senate_abbrv "
                "nc_house_abbrv county_commiss_abbrv county_commiss_desc "
                "township_abbrv township_desc school_dist_abbrv school_dist_desc "
                "fire_dist_abbrv fire_dist_desc water_dist_abbrv water_dist_desc "
                "sewer_dist_abbrv sewer_dist_desc sanit_dist_abbrv sanit_dist_desc "
                "rescue_dist_abbrv rescue_dist_desc munic_dist_abbrv "
                "munic_dist_desc dist_1_abbrv dist_1_desc vtd_abbrv vtd_desc"),
        ),
        delimiter="\t", quoting=csv.QUOTE_ALL, encoding="latin-1",
        state="NC",
    )  # fmt: skip


_TURNS = ["11/03/2020", "11/08/2022", "03/03/2020"]


def _north_carolina_votes() -> Layout:
    return Layout(
        "NC ncvhis", "ncvhis_Statewide.txt",
        (
            "NC State Board of Elections, layout_ncvoter_ncvhis.txt (2012), kept by "
            + _NVF.format("NC"),
            _REGGIE.format("north_carolina"),
        ),
        (
            _county("county_id", _NC_COUNTIES, counted=False),
            _county("county_desc", _NC_NAMES, counted=False),
            *_plain("other", "voter_reg_num", _number("{:012d}", 4021)),
            *_plain("other", "election_lbl", lambda v: _TURNS[v["turn"]]),
            *_plain("other", "election_desc", lambda v: _TURNS[v["turn"]] +
                    (" PRIMARY" if v["turn"] == 2 else " GENERAL")),
            *_plain("other", "voting_method", _pick("number", [
                "IN-PERSON", "ABSENTEE ONESTOP", "ABSENTEE BY MAIL", "PROVISIONAL"])),
            *_plain("other", "voted_party_cd voted_party_desc",
                    _pick("party", ["DEM", "REP", "UNA", "LIB"]),
                    _pick("party", ["DEMOCRATIC", "REPUBLICAN", "UNAFFILIATED",
                                    "LIBERTARIAN"])),
            *_plain("other", "pct_label pct_description", _of("precinct")),
            *_plain("voter_id", "ncid", _number("EH{:06d}", 20310), counted=False),
            *_plain("other", "voted_county_id voted_county_desc",
                    _pick("county", _NC_COUNTIES), _pick("county", _NC_NAMES)),
            *_plain("other", "vtd_label vtd_description", _of("precinct")),
        ),
        delimiter="\t", quoting=csv.QUOTE_ALL, encoding="latin-1", rows="vote",
        state="NC",
    )  # fmt: skip


_OH_VOTED = {"X": 1, "D": 1, "R": 1, "G": 1, "L": 1, "": 0}


def _ohio() -> Layout:
    elections = [
        ("PRIMARY", "2016-03-15"), ("GENERAL", "2016-11-08"),
        ("PRIMARY", "2017-09-12"), ("GENERAL", "2017-11-07"),
        ("PRIMARY", "2018-05-08"), ("GENERAL", "2018-08-07"),
        ("GENERAL", "2018-11-06"), ("SPECIAL", "2005-02-08"),
        ("GENERAL", "2019-11-05"), ("PRIMARY", "2020-03-17"),
        ("GENERAL", "2020-11-03"), ("GENERAL", "2021-11-02"),
        ("PRIMARY", "2022-05-03"), ("GENERAL", "2022-11-08"),
    ]  # fmt: skip
    return Layout(
        "OH SWVF", "SWVF_1_22.txt",
        (
            "Ohio Secretary of State, Statewide Voter Files (SWVF), header as read by "
            "public loaders of the file",
            "Abstract Data, state-voterfiles: Ohio fields, elections and parties, "
            "github.com/Abstract-Data/state-voterfiles, "
            "docs/state-fields/ohio-fields.md",
            _REGGIE.format("ohio"),
        ),
        (
            *_plain("voter_id", "SOS_VOTERID", _number("OH{:010d}", 10101)),
            _county("COUNTY_NUMBER", {"01": "39001", "18": "39035", "25": "39049",
                                      "77": "39153"}),
            *_plain("other", "COUNTY_ID", lambda v: str(7000 + v["number"] % 90 * 3)),
            *_plain("contact", "LAST_NAME FIRST_NAME MIDDLE_NAME SUFFIX", _of("last"),
                    _of("first"), _of("middle"), _of("suffix")),
            *_plain("birth_year", "DATE_OF_BIRTH", _day("birth", "%Y-%m-%d"),
                    formats=("%Y-%m-%d",)),
            *_plain("registered_on", "REGISTRATION_DATE",
                    _day("registered", "%Y-%m-%d"), formats=("%Y-%m-%d",)),
            *_plain("other", "VOTER_STATUS",
                    lambda v: "ACTIVE" if v["active"] else "CONFIRMATION"),
            *_plain("party", "PARTY_AFFILIATION", _pick("party", ["D", "R", "", "L"])),
            *_plain("contact", "RESIDENTIAL_ADDRESS1 RESIDENTIAL_SECONDARY_ADDR",
                    _address, _of("unit")),
            *_plain("other", "RESIDENTIAL_CITY", _of("city")),
            *_plain("state", "RESIDENTIAL_STATE", _const("OH")),
            *_plain("postcode", "RESIDENTIAL_ZIP", _zip(43001)),
            *_plain("contact", "RESIDENTIAL_ZIP_PLUS4", _of("zip4")),
            *_plain("other", "RESIDENTIAL_COUNTRY RESIDENTIAL_POSTALCODE", _const("")),
            *_plain("contact", "MAILING_ADDRESS1 MAILING_SECONDARY_ADDRESS",
                    _mail(_address), _mail(_of("unit"))),
            *_plain("other", "MAILING_CITY MAILING_STATE", _mail(_of("city")),
                    _mail(_const("OH"))),
            *_plain("contact", "MAILING_ZIP MAILING_ZIP_PLUS4", _mail(_zip(43001)),
                    _mail(_of("zip4"))),
            *_plain("other", "MAILING_COUNTRY MAILING_POSTAL_CODE", _const("")),
            *_districts("CAREER_CENTER CITY CITY_SCHOOL_DISTRICT "
                        "COUNTY_COURT_DISTRICT CONGRESSIONAL_DISTRICT COURT_OF_APPEALS "
                        "EDU_SERVICE_CENTER_DISTRICT EXEMPTED_VILL_SCHOOL_DISTRICT "
                        "LIBRARY LOCAL_SCHOOL_DISTRICT MUNICIPAL_COURT_DISTRICT"),
            *_plain("precinct", "PRECINCT_NAME PRECINCT_CODE",
                    lambda v: f"GREYFOLD {v['precinct']}-A",
                    lambda v: f"01-P-A{v['precinct']:02d}"),
            *_districts("STATE_BOARD_OF_EDUCATION STATE_REPRESENTATIVE_DISTRICT "
                        "STATE_SENATE_DISTRICT TOWNSHIP VILLAGE WARD", at=20),
            *[
                _vote(f"{kind}-{on[5:7]}/{on[8:]}/{on[:4]}", f"{on} {kind.lower()}",
                      _OH_VOTED if kind == "PRIMARY" else {"X": 1, "": 0}, at)
                for at, (kind, on) in enumerate(elections)
            ],
        ),
        quoting=csv.QUOTE_ALL, encoding="latin-1", ending="\n",
        state="OH",
    )  # fmt: skip


_FL_COUNTIES = {"ALA": "12001", "DAD": "12086", "HIL": "12057", "LEO": "12073"}


def _exempt(write: Write) -> Write:
    """Under a public records exemption the contact fields are an asterisk."""
    return lambda v: "*" if v["number"] % 50 == 9 else write(v)


def _florida() -> Layout:
    return Layout(
        "FL extract", "ALA_20261110.txt",
        (
            "Florida Division of Elections, Voter Extract and History File Layout, "
            "fields and codes as listed by " + _REGGIE.format("florida"),
            _NVF.format("FL"),
        ),
        (
            _county("County Code", _FL_COUNTIES),
            Column("Voter ID", "voter_id", _number("{:09d}", 100234)),
            *[Column(name, "contact", _exempt(write)) for name, write in (
                ("Name Last", _of("last")), ("Name Suffix", _of("suffix")),
                ("Name First", _of("first")), ("Name Middle", _of("middle")))],
            Column("Requested public records exemption", "other",
                   lambda v: "Y" if v["number"] % 50 == 9 else "N"),
            Column("Residence Address Line 1", "contact", _exempt(_address)),
            Column("Residence Address Line 2", "contact", _exempt(_of("unit"))),
            Column("Residence City (USPS)", "other", _exempt(_of("city"))),
            # blank for most: the residence of a Florida voter lies in Florida
            Column("Residence State", "other", _const("")),
            Column("Residence Zipcode", "postcode", _exempt(_zip(32601, nine=True))),
            Column("Mailing Address Line 1", "contact", _exempt(_mail(_address))),
            Column("Mailing Address Line 2", "contact", _exempt(_mail(_of("unit")))),
            Column("Mailing Address Line 3", "contact", _const("")),
            Column("Mailing City", "other", _mail(_of("city"))),
            Column("Mailing State", "other", _mail(_const("FL"))),
            Column("Mailing Zipcode", "contact", _mail(_zip(32601, nine=True))),
            Column("Mailing Country", "other", _const("")),
            _sex("Gender", _FMU),
            Column("Race", "special", _pick("race", "53924")),
            Column("Birth Date", "birth_year", _exempt(_day("birth", "%m/%d/%Y")),
                   formats=("%m/%d/%Y",)),
            Column("Registration Date", "registered_on",
                   _day("registered", "%m/%d/%Y"), formats=("%m/%d/%Y",)),
            Column("Party Affiliation", "party",
                   _pick("party", ["DEM", "REP", "NPA", "LPF"])),
            Column("Precinct", "precinct", _of("precinct")),
            Column("Precinct Group", "other", _pick("precinct", ["0", "1"])),
            Column("Precinct Split", "precinct", lambda v: f"{v['precinct']}.1"),
            Column("Precinct Suffix", "other", _const("")),
            Column("Voter Status", "other",
                   lambda v: "ACT" if v["active"] else "INA"),
            *_named(["Congressional District", "House District", "Senate District",
                     "County Commission District", "School Board District"]),
            Column("Daytime Area Code", "contact", _exempt(lambda v: v["phone"][:3])),
            Column("Daytime Phone Number", "contact",
                   _exempt(lambda v: v["phone"][3:])),
            Column("Daytime Phone Extension", "contact", _const("")),
            Column("Email address", "contact", _exempt(_of("email"))),
        ),
        header=False, delimiter="\t", quoting=csv.QUOTE_NONE,
        state="FL",
    )  # fmt: skip


def _florida_votes() -> Layout:
    return Layout(
        "FL history", "ALA_H_20261110.txt",
        ("Florida Division of Elections, Voter Extract and History File Layout, "
         "fields as listed by " + _REGGIE.format("florida"),),
        (
            _county("County Code", _FL_COUNTIES, counted=False),
            Column("Voter ID", "voter_id", _number("{:09d}", 100234), counted=False),
            Column("Election Date", "other", lambda v: _TURNS[v["turn"]]),
            Column("Election Type", "other",
                   lambda v: "PPP" if v["turn"] == 2 else "GEN"),
            Column("History Code", "other", _pick("number", "AEYN")),
        ),
        header=False, delimiter="\t", quoting=csv.QUOTE_NONE, rows="vote",
        state="FL",
    )  # fmt: skip


def _michigan() -> Layout:
    return Layout(
        "MI QVF", "EntireStateVoters.csv",
        (
            "Michigan Bureau of Elections, Qualified Voter File: header of "
            "EntireStateVoters.csv as read by public loaders",
            _REGGIE.format("michigan"),
        ),
        (
            *_plain("contact", "LAST_NAME FIRST_NAME MIDDLE_NAME NAME_SUFFIX",
                    _of("last"), _of("first"), _of("middle"), _of("suffix")),
            *_plain("birth_year", "YEAR_OF_BIRTH", _day("birth", "%Y")),
            _sex("GENDER", {"F": "F", "M": "M", "X": None, "": "U"}),
            *_plain("registered_on", "REGISTRATION_DATE",
                    _day("registered", "%m/%d/%Y"), formats=("%m/%d/%Y",)),
            *_plain("contact", "STREET_NUMBER_PREFIX STREET_NUMBER "
                    "STREET_NUMBER_SUFFIX DIRECTION_PREFIX STREET_NAME STREET_TYPE "
                    "DIRECTION_SUFFIX EXTENSION", _const(""), _of("house"), _const(""),
                    _pick("precinct", ["N", "", "W"]), _of("street"), _const("ST"),
                    _const(""), _of("unit")),
            *_plain("other", "CITY", _of("city")),
            *_plain("state", "STATE", _const("MI")),
            *_plain("postcode", "ZIP_CODE", _zip(48101)),
            *_plain("contact", "MAILING_ADDRESS_LINE_ONE MAILING_ADDRESS_LINE_TWO "
                    "MAILING_ADDRESS_LINE_THREE MAILING_ADDRESS_LINE_FOUR "
                    "MAILING_ADDRESS_LINE_FIVE", _mail(_address), _const("")),
            *_plain("voter_id", "VOTER_IDENTIFICATION_NUMBER",
                    _number("{:09d}", 100200300)),
            _county("COUNTY_CODE", {"33": "26065", "41": "26081", "63": "26125",
                                    "82": "26163"}),
            _county("COUNTY_NAME", {"INGHAM COUNTY": "26065", "KENT COUNTY": "26081",
                                    "OAKLAND COUNTY": "26125",
                                    "WAYNE COUNTY": "26163"}, counted=False),
            *_districts("JURISDICTION_CODE JURISDICTION_NAME"),
            *_plain("precinct", "PRECINCT", lambda v: f"{v['precinct']:05d}"),
            *_districts(
                "WARD SCHOOL_DISTRICT_CODE SCHOOL_DISTRICT_NAME "
                "STATE_HOUSE_DISTRICT_CODE STATE_HOUSE_DISTRICT_NAME "
                "STATE_SENATE_DISTRICT_CODE STATE_SENATE_DISTRICT_NAME "
                "US_CONGRESS_DISTRICT_CODE US_CONGRESS_DISTRICT_NAME "
                "COUNTY_COMMISSIONER_DISTRICT_CODE COUNTY_COMMISSIONER_DISTRICT_NAME "
                "VILLAGE_DISTRICT_CODE VILLAGE_DISTRICT_NAME VILLAGE_PRECINCT "
                "SCHOOL_PRECINCT", at=5),
            *_plain("other", "IS_PERMANENT_ABSENTEE_VOTER VOTER_STATUS_TYPE_CODE "
                    "UOCAVA_STATUS_CODE UOCAVA_STATUS_NAME",
                    _pick("number", ["Y", "N", "N"]),
                    lambda v: "A" if v["active"] else "V", _const("N"),
                    _const("NON-UOCAVA")),
        ),
        quoting=csv.QUOTE_ALL, encoding="latin-1",
        state="MI",
    )  # fmt: skip


_WI_VOTED = {"At Polls": 1, "Absentee": 1, "": 0}


def _wisconsin() -> Layout:
    counties = {"Dane County": "55025", "Milwaukee County": "55079",
                "Brown County": "55009", "La Crosse County": "55063"}  # fmt: skip
    elections = [
        ("November2020", "2020-11-* general"), ("August2020", "2020-08-* *"),
        ("April2020", "2020-04-* *"), ("February2020", "2020-02-* *"),
        ("April2019", "2019-04-* *"), ("November2018", "2018-11-* general"),
        ("August2018", "2018-08-* *"), ("June2018", "2018-06-* *"),
        ("November2016", "2016-11-* general"), ("August2016", "2016-08-* *"),
        ("April2016", "2016-04-* *"),
    ]  # fmt: skip
    return Layout(
        "WI WisVote", "WI_voters.txt",
        (
            "Wisconsin Elections Commission, Badger Voters export: columns, statuses "
            "and election columns as read by " + _REGGIE.format("wisconsin"),
        ),
        (
            Column("Voter Reg Number", "voter_id", _number("{:010d}", 702100)),
            *_plain("contact", "LastName FirstName MiddleName Suffix PhoneNumber "
                    "EmailAddress Address1", _of("last"), _of("first"), _of("middle"),
                    _of("suffix"), _of("phone"), _of("email"), _address),
            # city, state and postcode in one line
            *_plain("contact", "Address2", lambda v:
                    f"{v['city'].upper()}, WI {53001 + v['zip']:05d}-{v['zip4']}"),
            *_plain("contact", "MailingAddress1 MailingAddress2 MailingCityStateZip",
                    _mail(_address), _const(""), _mail(lambda v:
                    f"{v['city']}, WI {53001 + v['zip']:05d}")),
            *_plain("contact", "HouseNumber StreetName UnitType UnitNumber",
                    _of("house"), _of("street"), _const(""), _of("unit")),
            *_plain("postcode", "ZipCode", _zip(53001, nine=True)),
            *_plain("other", "Jurisdiction DistrictCombo",
                    lambda v: f"CITY OF {v['city'].upper()}", _of("precinct")),
            *_plain("precinct", "Ward", lambda v: f"Ward {v['precinct']}",
                    counted=False),
            *_named(["Congressional", "State Senate", "State Assembly",
                     "Court of Appeals", "Multi-Jurisdictional Judge"]),
            _county("County", counties, counted=False),
            *_named(["County Supervisory", "Municipality", "Aldermanic", "School",
                     "High School", "Sanitary", "Technical College",
                     "Representational School"]),
            # a state-wide district, always the same
            Column("State", "state", _const("Wisconsin"), counted=False),
            *_named(["District Attorney", "Circuit Court", "First Class School",
                     "Incorporation"]),
            Column("Voter Status", "other",
                   lambda v: "Active" if v["active"] else "Inactive"),
            Column("Voter Status Reason", "other",
                   lambda v: "Registered" if v["active"] else "Voter Request"),
            *_plain("registered_on", "ApplicationDate",
                    _day("registered", "%m/%d/%Y"), formats=("%m/%d/%Y",)),
            *_plain("other", "ApplicationSource IsPermanentAbsentee",
                    _pick("number", ["Online Registration", "Clerk", "Mail"]),
                    _pick("number", ["No", "No", "Yes"])),
            Column("Voter Type", "other", _const("Regular")),
            *[_vote(name, pattern, _WI_VOTED, at)
              for at, (name, pattern) in enumerate(elections)],
        ),
        delimiter="\t",
        state="WI",
    )  # fmt: skip


def _washington() -> Layout:
    return Layout(
        "WA VRDB", "20261102_VRDB_Extract.txt",
        (
            "Washington Secretary of State, Voter Registration Database extract: "
            "columns as read by public loaders (33 columns, '|', windows-1252)",
            _REGGIE.format("washington"),
        ),
        (
            *_plain("voter_id", "StateVoterID", _number("{}", 1002003)),
            *_plain("contact", "FName MName LName NameSuffix", _of("first"),
                    _of("middle"), _of("last"), _of("suffix")),
            *_plain("birth_year", "Birthyear", _day("birth", "%Y")),
            _sex("Gender", {**_FMU, "X": None}),
            *_plain("contact", "RegStNum RegStFrac RegStName RegStType RegUnitType "
                    "RegStPreDirection RegStPostDirection RegStUnitNum", _of("house"),
                    _const(""), _of("street"), _const("ST"), _const(""),
                    _pick("precinct", ["NE", "", "SW"]), _const(""), _of("unit")),
            *_plain("other", "RegCity", _of("city")),
            *_plain("state", "RegState", _const("WA")),
            *_plain("postcode", "RegZipCode", _zip(98001)),
            _county("CountyCode", {"KI": "53033", "PI": "53053", "SN": "53061",
                                   "SP": "53063"}),
            *_plain("precinct", "PrecinctCode", _of("precinct")),
            *_plain("other", "PrecinctPart LegislativeDistrict CongressionalDistrict",
                    lambda v: f"{v['precinct']}.0", _pick("precinct", ["34", "5"]),
                    _pick("precinct", ["7", "9"])),
            *_plain("contact", "Mail1 Mail2 Mail3", _mail(_address), _const("")),
            *_plain("other", "MailCity", _mail(_of("city"))),
            *_plain("contact", "MailZip", _mail(_zip(98001))),
            *_plain("other", "MailState MailCountry", _mail(_const("WA")), _const("")),
            *_plain("registered_on", "Registrationdate",
                    _day("registered", "%m/%d/%Y"), formats=("%m/%d/%Y",)),
            *_plain("other", "LastVoted StatusCode",
                    _pick("number", ["11/03/2020", "08/02/2022", ""]),
                    lambda v: "Active" if v["active"] else "Inactive"),
        ),
        delimiter="|", quoting=csv.QUOTE_NONE, encoding="cp1252",
        state="WA",
    )  # fmt: skip


def _pennsylvania() -> Layout:
    def method(at: int) -> Write:
        return lambda v: (
            ["AP", "AB", "P"][int(v["how"][at]) % 3] if v["votes"][at] else ""
        )

    def voted_party(at: int) -> Write:
        return lambda v: ["D", "R", "NF", "LN"][v["party"]] if v["votes"][at] else ""

    return Layout(
        "PA FVE", "ADAMS FVE 20261102.txt",
        (
            "Pennsylvania Department of State, Full Voter Export: 153 fields, as "
            "listed in github.com/democracrm/pa-voter-data-pipeline",
            _REGGIE.format("pennsylvania"),
            _NVF.format("PA"),
        ),
        (
            *_plain("voter_id", "voter_id", _number("{:09d}-01", 100200)),
            *_plain("contact", "title surname first_name middle_name suffix",
                    _of("title"), _of("last"), _of("first"), _of("middle"),
                    _of("suffix")),
            _sex("gender", {**_FMU, "": None}),
            *_plain("birth_year", "dob", _day("birth", "%m/%d/%Y"),
                    formats=("%m/%d/%Y",)),
            *_plain("registered_on", "registration_date",
                    _day("registered", "%m/%d/%Y"), formats=("%m/%d/%Y",)),
            *_plain("other", "voter_status status_change_date",
                    lambda v: "A" if v["active"] else "I",
                    _blanks(_const("03/02/2021"), 3)),
            *_plain("party", "party_code", _pick("party", ["D", "R", "NF", "LN"])),
            *_plain("contact", "house_number house_number_suffix street_name "
                    "apartment_number address_line_2", _of("house"), _const(""),
                    lambda v: v["street"].upper() + " ST", _of("unit"), _const("")),
            *_plain("other", "city", _of("city")),
            *_plain("state", "state", _const("PA")),
            *_plain("postcode", "zip", _zip(17301)),
            *_plain("contact", "mail_address_1 mail_address_2", _mail(_address),
                    _const("")),
            *_plain("other", "mail_city mail_state", _mail(_of("city")),
                    _mail(_const("PA"))),
            *_plain("contact", "mail_zip", _mail(_zip(17301))),
            *_plain("other", "last_vote_date", _pick("number",
                    ["11/03/2020", "05/17/2022", ""])),
            *_plain("precinct", "precinct_code precinct_split_id",
                    lambda v: f"{v['precinct'] * 10}",
                    lambda v: f"{v['precinct'] * 10}-1"),
            *_plain("other", "date_last_changed legacy_id", _const("01/04/2024"),
                    _number("{}", 5100200)),
            *[Column(f"district_{i}", "other", _pick("precinct", [f"CN{i:02d}", ""])
                     if i % 3 else _const("")) for i in range(1, 41)],
            # which election each pair is stands in the county's Election Map alone
            *[Column(f"election_{i}_{part}", "other",
                     (method if part == "vote_method" else voted_party)(i)
                     if i < 20 else _const(""))
              for i in range(1, 41) for part in ("vote_method", "party")],
            *_plain("contact", "home_phone", _of("phone")),
            _county("county", {"ADAMS": "42001"}, counted=False),
            *_plain("other", "mail_country", _const("")),
        ),
        header=False, delimiter="\t", quoting=csv.QUOTE_ALL,
        state="PA",
    )  # fmt: skip


def _texas() -> Layout:
    def f(name: str, kind: str, width: int, write: Write, **more: Any) -> Column:
        return Column(name, kind, write, width=width, **more)

    return Layout(
        "TX fixed", "TX_voters.txt",
        (
            "Texas Secretary of State, voter registration master file: 32 fields and "
            "widths (until August 2025) as read by " + _REGGIE.format("texas"),
        ),
        (
            _county("County_Code", {"015": "48029", "057": "48113", "101": "48201",
                                    "227": "48453"}, width=3),
            f("Precinct", "precinct", 10, lambda v: f"{v['precinct']:04d}"),
            f("VUID", "voter_id", 10, _number("{:010d}", 1100200300)),
            f("Last_Name", "contact", 50, _of("last")),
            f("First_Name", "contact", 50, _of("first")),
            f("Middle_Name", "contact", 50, _of("middle")),
            f("Former_Last_Name", "contact", 50, _const("")),
            f("Suffix", "contact", 4, _of("suffix")),
            _sex("Gender", {**_FMU}, width=1),
            f("Date_of_Birth", "birth_year", 8, _day("birth", "%Y%m%d"),
              formats=("%Y%m%d",)),
            f("Permanent_House_Number", "contact", 9, _of("house")),
            f("Permanent_Designator", "contact", 12, _const("")),
            f("Permanent_Directional_Prefix", "contact", 2,
              _pick("precinct", ["N", ""])),
            f("Permanent_Street_Name", "contact", 50, _of("street")),
            f("Permanent_Street_Type", "contact", 12, _const("ST")),
            f("Permanent_Directional_Suffix", "contact", 2, _const("")),
            f("Permanent_Unit_Number", "contact", 12, _of("unit")),
            f("Permanent_Unit_Type", "contact", 12, _const("")),
            f("Permanent_City", "other", 50, _of("city")),
            f("Permanent_Zipcode", "postcode", 9, _zip(75001, nine=True)),
            f("Mailing_Address_1", "contact", 110, _mail(_address)),
            f("Mailing_Address_2", "contact", 50, _const("")),
            f("Mailing_City", "other", 50, _mail(_of("city"))),
            f("Mailing_State", "other", 20, _mail(_const("TX"))),
            f("Mailing_Zipcode", "contact", 20, _mail(_zip(75001))),
            f("Effective_Date_of_Registration", "registered_on", 8,
              _day("registered", "%Y%m%d"), formats=("%Y%m%d",)),
            f("Status_Code", "other", 1, lambda v: "V" if v["active"] else "S"),
            f("Hispanic_Surname_Flag", "special", 1, _pick("race", "NNNNY")),
            f("Election_Date", "other", 8, _const("")),
            f("Election_Type", "other", 2, _const("")),
            f("Election_Party", "other", 3, _const("")),
            f("Election_Voting_Method", "other", 6, _const("")),
        ),
        header=False, fixed=True,
        state="TX",
    )  # fmt: skip


def _new_york() -> Layout:
    def history(v: Voter) -> str:
        spellings = ["General Election, 2020", "GE 2018", "PE 2016", "2012 GENERAL"]
        return ";".join(s for i, s in enumerate(spellings) if v["votes"][i])

    return Layout(
        "NY FOIL", "AllNYSVoters_20261102.txt",
        (
            "New York State Board of Elections, FOIL voter list layout (47 fields "
            "since December 2021), as listed by public loaders",
            _REGGIE.format("new_york"),
        ),
        (
            *_plain("contact", "LASTNAME FIRSTNAME MIDDLENAME NAMESUFFIX RADDNUMBER "
                    "RHALFCODE RPREDIRECTION RSTREETNAME RPOSTDIRECTION RAPARTMENTTYPE "
                    "RAPARTMENT RADDRNONSTD", _of("last"), _of("first"), _of("middle"),
                    _of("suffix"), _of("house"), _const(""),
                    _pick("precinct", ["", "W"]), _of("street"), _const(""),
                    lambda v: "Apt" if v["unit"] else "", _of("unit"), _const("")),
            *_plain("other", "RCITY", _of("city")),
            *_plain("postcode", "RZIP5", _zip(10001)),
            *_plain("contact", "RZIP4 MAILADD1 MAILADD2 MAILADD3 MAILADD4",
                    _of("zip4"), _mail(_address), _const("")),
            *_plain("birth_year", "DOB", _day("birth", "%Y%m%d"), formats=("%Y%m%d",)),
            _sex("GENDER", {**_FMU, "X": None, "": None}),
            *_plain("party", "ENROLLMENT",
                    _pick("party", ["DEM", "REP", "BLK", "WOR"])),
            *_plain("other", "OTHERPARTY", _const("")),
            # Saratoga and St. Lawrence: the state's numbers are not in FIPS order
            _county("COUNTYCODE", {"24": "36047", "31": "36061", "45": "36091",
                                   "50": "36089"}),
            *_plain("precinct", "ED", _of("precinct")),
            *_plain("other", "LD TOWNCITY WARD CD SD AD", _pick("precinct", ["1", "7"]),
                    _of("city"), _const("000"), _pick("precinct", ["12", "21"]),
                    _pick("precinct", ["40", "43"]), _pick("precinct", ["112", "9"])),
            *_plain("other", "LASTVOTEDDATE PREVYEARVOTED PREVCOUNTY",
                    _pick("number", ["20201103", "20221108", ""]),
                    _pick("number", ["2016", "", ""]), _const("")),
            *_plain("contact", "PREVADDRESS PREVNAME", _mail(_address), _const("")),
            *_plain("other", "COUNTYVRNUMBER", _number("{:08d}", 120)),
            *_plain("registered_on", "REGDATE", _day("registered", "%Y%m%d"),
                    formats=("%Y%m%d",)),
            *_plain("other", "VRSOURCE IDREQUIRED IDMET STATUS REASONCODE INACT_DATE "
                    "PURGE_DATE", _pick("number", ["DMV", "MAIL", "CBOE"]),
                    _const("N"), _const("Y"), lambda v: "A" if v["active"] else "I",
                    _const("")),
            *_plain("voter_id", "SBOEID", _number("NY{:018d}", 516239)),
            *_plain("other", "VOTERHISTORY", history),
        ),
        header=False, quoting=csv.QUOTE_ALL, encoding="latin-1",
        state="NY",
    )  # fmt: skip


def _georgia() -> Layout:
    counties = {"FULTON": "13121", "COBB": "13067", "DEKALB": "13089",
                "BEN HILL": "13017"}  # fmt: skip
    return Layout(
        "GA list", "STATEWIDE_VOTER_LIST.csv",
        (
            "Georgia Secretary of State, voter list (53 columns since 2023): header "
            "and example rows in public loaders (vote_match, CivicPulse/voter-api)",
            _REGGIE.format("georgia"),
        ),
        (
            _county("County", counties, counted=False),
            Column("Voter Registration Number", "voter_id", _number("{:08d}", 10203)),
            Column("Status", "other",
                   lambda v: "Active" if v["active"] else "Inactive"),
            Column("Status Reason", "other", _const("")),
            Column("Last Name", "contact", _of("last")),
            Column("First Name", "contact", _of("first")),
            Column("Middle Name", "contact", _of("middle")),
            Column("Suffix", "contact", _of("suffix")),
            Column("Birth Year", "birth_year", _day("birth", "%Y")),
            Column("Residence Street Number", "contact", _of("house")),
            Column("Residence Pre Direction", "contact",
                   _pick("precinct", ["N", ""])),
            Column("Residence Street Name", "contact", _of("street")),
            Column("Residence Street Type", "contact", _const("ST")),
            Column("Residence Post Direction", "contact", _const("")),
            Column("Residence Apt Unit Number", "contact", _of("unit")),
            Column("Residence City", "other", _of("city")),
            Column("Residence Zipcode", "postcode", _zip(30301)),
            Column("County Precinct", "precinct",
                   lambda v: f"{v['precinct']:02d}-001"),
            Column("County Precinct Description", "precinct",
                   lambda v: f"Precinct {v['precinct']}"),
            *_named(["Municipal Precinct", "Municipal Precinct Description",
                     "Congressional District", "State Senate District",
                     "State House District", "Judicial District",
                     "County Commission District", "School Board District",
                     "City Council District", "Municipal School Board District",
                     "Water Board District", "Super Council District",
                     "Super Commissioner District", "Super School Board District",
                     "Fire District", "Municipality", "Combo", "Land Lot",
                     "Land District"]),
            Column("Registration Date", "registered_on",
                   _day("registered", "%m/%d/%Y"), formats=("%m/%d/%Y",)),
            Column("Race", "special", _pick("race", [
                "White not of Hispanic Origin", "Black not of Hispanic Origin",
                "Hispanic", "Asian or Pacific Islander", "Unknown"])),
            _sex("Gender", _FMU),
            Column("Last Modified Date", "other", _const("03/20/2023")),
            Column("Date of Last Contact", "other", _const("")),
            # the party of the last primary: nobody registers by party in Georgia
            Column("Last Party Voted", "other",
                   _pick("party", ["DEMOCRAT", "REPUBLICAN", "NON-PARTISAN", ""])),
            Column("Last Vote Date", "other", _const("11/08/2022")),
            Column("Voter Created Date", "other", _day("registered", "%m/%d/%Y")),
            Column("Mailing Street Number", "contact", _mail(_of("house"))),
            Column("Mailing Street Name", "contact", _mail(_of("street"))),
            Column("Mailing Apt Unit Number", "contact", _mail(_of("unit"))),
            Column("Mailing City", "other", _mail(_of("city"))),
            Column("Mailing Zipcode", "contact", _mail(_zip(30301))),
            Column("Mailing State", "other", _mail(_const("GA"))),
            Column("Mailing Country", "other", _const("")),
        ),
        state="GA",
    )  # fmt: skip


# --- vendors --------------------------------------------------------------------------

_PARTY_WORDS = ["Democratic", "Republican", "Non-Partisan", "Libertarian"]


def _l2() -> Layout:
    yes = {"Y": 1, "": 0}
    return Layout(
        "L2", "VM2--NC--2026-11-02-DEMOGRAPHIC.tab",
        (
            "L2, voter and demographic file: the columns in their order as in a public "
            "database schema of the file (GoodParty), and as used in published "
            "analyses with VM2--*-DEMOGRAPHIC.tab and VOTEHISTORY.tab",
            "Stanford University Libraries (2025), L2 Voter and Demographic Dataset, "
            "http://doi.org/10.57761/5bw8-1v66",
            "Field descriptions in github.com/rodrigokreis/capstone",
        ),
        (
            *_plain("voter_id", "LALVOTERID", _number("LALNC{:09d}", 150200300)),
            *_plain("other", "Voters_Active", lambda v: "A" if v["active"] else "I"),
            *_plain("voter_id", "Voters_StateVoterID", _number("EH{:06d}", 20310)),
            *_plain("other", "Voters_CountyVoterID",
                    lambda v: f"{v['number'] % 120:06d}"),
            *_plain("contact", "VoterTelephones_LandlineFormatted", _const("")),
            *_plain("other", "VoterTelephones_LandlineConfidenceCode", _const("")),
            *_plain("contact", "VoterTelephones_CellPhoneFormatted", lambda v:
                    f"({v['phone'][:3]}) 555-{v['phone'][6:]}" if v["phone"] else ""),
            *_plain("other", "VoterTelephones_CellConfidenceCode",
                    _pick("number", "1234")),
            *_plain("contact", "Voters_FirstName Voters_MiddleName Voters_LastName "
                    "Voters_NameSuffix Residence_Addresses_AddressLine "
                    "Residence_Addresses_ExtraAddressLine", _of("first"), _of("middle"),
                    _of("last"), _of("suffix"), _address, _const("")),
            *_plain("other", "Residence_Addresses_City", _of("city")),
            *_plain("state", "Residence_Addresses_State", _const("NC")),
            *_plain("postcode", "Residence_Addresses_Zip", _zip(27501)),
            *_plain("contact", "Residence_Addresses_ZipPlus4", _of("zip4")),
            *_plain("other", "Residence_Addresses_DPBC Residence_Addresses_CheckDigit",
                    _const("00"), _const("1")),
            *_plain("contact", "Residence_Addresses_HouseNumber "
                    "Residence_Addresses_PrefixDirection "
                    "Residence_Addresses_StreetName Residence_Addresses_Designator "
                    "Residence_Addresses_SuffixDirection "
                    "Residence_Addresses_ApartmentNum "
                    "Residence_Addresses_ApartmentType",
                    _of("house"), _const(""), _of("street"), _const("St"), _const(""),
                    _of("unit"), _const("")),
            *_plain("other", "Residence_Addresses_CassErrStatCode "
                    "Voters_SequenceZigZag Voters_SequenceOddEven", _const(""),
                    _of("number")),
            *_plain("contact", "Residence_Addresses_Latitude "
                    "Residence_Addresses_Longitude",
                    lambda v: f"{35 + v['zip'] / 100:.6f}",
                    lambda v: f"{-78 - v['precinct'] / 100:.6f}"),
            *_plain("other", "Residence_Addresses_LatLongAccuracy "
                    "Residence_HHParties_Description", _const("GeoMatchRooftop"),
                    _pick("party", ["Democratic", "Republican", "Independent"])),
            *_plain("contact", "Mailing_Addresses_AddressLine "
                    "Mailing_Addresses_ExtraAddressLine", _address, _const("")),
            *_plain("other", "Mailing_Addresses_City Mailing_Addresses_State",
                    _of("city"), _const("NC")),
            *_plain("contact", "Mailing_Addresses_Zip Mailing_Addresses_ZipPlus4",
                    _zip(27501), _of("zip4")),
            *_plain("other", "Mailing_Addresses_DPBC Mailing_Addresses_CheckDigit",
                    _const("00"), _const("1")),
            *_plain("contact", "Mailing_Addresses_HouseNumber "
                    "Mailing_Addresses_PrefixDirection Mailing_Addresses_StreetName "
                    "Mailing_Addresses_Designator Mailing_Addresses_SuffixDirection "
                    "Mailing_Addresses_ApartmentNum Mailing_Addresses_ApartmentType",
                    _of("house"), _const(""), _of("street"), _const("St"), _const(""),
                    _of("unit"), _const("")),
            *_plain("other", "Mailing_Addresses_CassErrStatCode", _const("")),
            *_plain("household_id", "Mailing_Families_FamilyID",
                    lambda v: f"F{900000 + v['household']}"),
            *_plain("other", "Mailing_Families_HHCount Mailing_HHGender_Description "
                    "Mailing_HHParties_Description", _pick("household", "123"),
                    _pick("household", ["Mixed Gender Household",
                                        "Female Only Household"]),
                    _pick("party", ["Democratic", "Republican", "Independent"])),
            *_plain("age", "Voters_Age", _age),
            _sex("Voters_Gender", {"F": "F", "M": "M", "": None}),
            *_plain("birth_year", "Voters_BirthDate", _day("birth", "%m/%d/%Y"),
                    formats=("%m/%d/%Y",)),
            *_plain("other", "DateConfidence_Description",
                    _pick("number", ["DOB Exact", "Year of Birth only"])),
            *_plain("party", "Parties_Description", _pick("party", _PARTY_WORDS)),
            *_plain("other", "VoterParties_Change_Changed_Party", _const("")),
            *_plain("special", "Ethnic_Description EthnicGroups_EthnicGroup1Desc "
                    "CountyEthnic_LALEthnicCode CountyEthnic_Description "
                    "Religions_Description",
                    _pick("race", ["English/Welsh", "African or Af-Am Self Reported",
                                   "Hispanic", "Chinese", "Italian"]),
                    _pick("race", ["European", "Likely African-American",
                                   "Hispanic and Portuguese", "East and South Asian",
                                   "Other"]),
                    _pick("race", ["W", "B", "H", "A", ""]),
                    _pick("race", ["White Self Reported",
                                   "African or Af-Am Self Reported", "", "", ""]),
                    _pick("race", ["Protestant", "Catholic", "", "Buddhist",
                                   "Jewish"])),
            *_plain("registered_on", "Voters_CalculatedRegDate Voters_OfficialRegDate",
                    _day("registered", "%m/%d/%Y"), formats=("%m/%d/%Y",)),
            *_plain("special", "Voters_PlaceOfBirth Languages_Description",
                    _pick("precinct", ["NC", "", "Mexico"]),
                    _pick("race", ["English", "English", "Spanish", "Chinese", ""])),
            *_plain("other", "AbsenteeTypes_Description MilitaryStatus_Description "
                    "MaritalStatus_Description Voters_MovedFrom_State "
                    "Voters_MovedFrom_Date Voters_MovedFrom_Party_Description",
                    _const(""), _const(""),
                    _pick("number", ["Married", "", "Non-Traditional"]),
                    _const("")),
            *_plain("other", "Voters_VotingPerformanceEvenYearGeneral "
                    "Voters_VotingPerformanceEvenYearPrimary "
                    "Voters_VotingPerformanceEvenYearGeneralAndPrimary "
                    "Voters_VotingPerformanceMinorElection",
                    _pick("number", ["75%", "100%", "0%", "Not Eligible"])),
            *[_vote(name, pattern, yes, at, counted=counted)
              for at, (name, pattern, counted) in enumerate(_l2_elections())],
            *_districts("US_Congressional_District AddressDistricts_Change_Changed_CD "
                        "State_Senate_District AddressDistricts_Change_Changed_SD "
                        "State_House_District AddressDistricts_Change_Changed_HD "
                        "State_Legislative_District "
                        "AddressDistricts_Change_Changed_LD"),
            _county("County", _NC_NAMES, counted=False),
            # three digits: a county's only together with the state
            _county("Voters_FIPS", {"001": "37001", "063": "37063", "119": "37119",
                                    "183": "37183"}),
            *_plain("other", "AddressDistricts_Change_Changed_County", _const("")),
            *_plain("precinct", "Precinct", lambda v: f"WAKE {v['precinct']:02d}"),
            *_districts("County_Legislative_District City "
                        "City_Council_Commissioner_District City_Mayoral_District "
                        "Town_District Town_Council Village Township Borough "
                        "Hamlet_Community_Area Board_of_Education_District "
                        "City_School_District High_School_District "
                        "Judicial_District Judicial_Superior_Court_District "
                        "School_Board_District School_District Unified_School_District",
                        at=10),
        ),
        delimiter="\t", quoting=csv.QUOTE_NONE, encoding="cp1252",
        state="NC",
    )  # fmt: skip


def _l2_elections() -> list[tuple[str, str, bool]]:
    """Columns, pattern of what they may be mapped to, whether a person must."""
    elections = []
    for year in (2022, 2020, 2018, 2016):
        elections.append((f"General_{year}", f"{GENERAL[year]} general", True))
        # the day of a state's primary is not in the file: a person may know it
        elections.append((f"Primary_{year}", f"{year}-* primary", False))
        if year in (2020, 2016):
            elections.append(
                (f"PresidentialPrimary_{year}", f"{year}-* presidential_primary", False)
            )
        elections.append((f"OtherElection_{year}", f"{year}-* *", False))
        elections.append((f"AnyElection_{year - 1}", f"{year - 1}-* *", False))
    return elections


def _targetsmart() -> Layout:
    voted = dict.fromkeys(("P", "E", "A", "M", "Y", "Q"), 1) | {"": 0}
    return Layout(
        "TargetSmart", "targetsmart_voterbase.csv",
        (
            "TargetSmart VoterBase: columns in their order as selected from "
            "ts.ntl_current in published scripts; types and example values in a "
            "published summary of the file (33 columns, 2025); history codes P, E, A, "
            "M, Y, Q as voted in published queries",
        ),
        (
            *_plain("voter_id", "vb_voterbase_id vb_voterid",
                    _number("NC-{}", 8241405), _number("EH{:06d}", 20310)),
            *_plain("contact", "vb_tsmart_first_name vb_tsmart_middle_name "
                    "vb_tsmart_last_name vb_tsmart_name_suffix vb_tsmart_full_address",
                    _of("first"), _of("middle"), _of("last"), _of("suffix"), _address),
            *_plain("other", "vb_tsmart_city", _of("city")),
            *_plain("state", "vb_tsmart_state", _const("NC")),
            *_plain("postcode", "vb_tsmart_zip", _zip(27501)),
            *_plain("contact", "vb_tsmart_zip4 vb_tsmart_street_number "
                    "vb_tsmart_pre_directional vb_tsmart_street_name "
                    "vb_tsmart_street_suffix vb_tsmart_post_directional "
                    "vb_tsmart_unit_designator vb_tsmart_secondary_number", _of("zip4"),
                    _of("house"), _const(""), _of("street"), _const("St"), _const(""),
                    _const(""), _of("unit")),
            *_plain("other", "vb_tsmart_effective_date "
                    "vb_tsmart_address_usps_address_code", _const("20260401"),
                    _const("S")),
            *_plain("household_id", "vb_voterbase_household_id",
                    lambda v: f"{33000000 + v['household']}"),
            *_plain("contact", "vb_voterbase_phone", _of("phone")),
            *_plain("other", "vb_voterbase_phone_type",
                    lambda v: "Wireless" if v["phone"] else ""),
            *_plain("contact", "vb_voterbase_phone_wireless", _of("phone")),
            *_plain("other", "vb_voterbase_registration_status",
                    _pick("number", ["Registered"] * 9 + ["Unregistered"])),
            *_plain("birth_year", "vb_voterbase_dob", _day("birth", "%Y%m%d"),
                    formats=("%Y%m%d",)),
            *_plain("age", "vb_voterbase_age", _age),
            *_plain("birth_year", "vb_tsmart_dob", _day("birth", "%Y%m%d"),
                    formats=("%Y%m%d",)),
            _sex("vb_voterbase_gender", {"Female": "F", "Male": "M", "Unknown": "U"}),
            *_plain("special", "vb_voterbase_race", _pick("race", "WBHAU")),
            *_plain("other", "vb_voterbase_marital_status vb_vf_voter_status",
                    _pick("number", ["Married", "Unknown", "Unmarried"]),
                    lambda v: "Active" if v["active"] else "Inactive"),
            *_plain("registered_on", "vb_vf_registration_date "
                    "vb_vf_earliest_registration_date", _day("registered", "%Y%m%d"),
                    formats=("%Y%m%d",)),
            *_plain("party", "vb_vf_party", _pick("party", [
                "Democrat", "Republican", "No Party", "Libertarian"])),
            _county("vb_tsmart_county_name", _NC_NAMES, counted=False),
            *_districts("vb_tsmart_cd vb_tsmart_sd vb_tsmart_hd "
                        "vb_tsmart_address_deliverability_indicator "
                        "vb_voterbase_mailable_flag vb_voterbase_general_votes "
                        "vb_voterbase_primary_votes vb_voterbase_voter_score"),
            *[_vote(f"vb_vf_g{year}", f"{GENERAL[year]} general", voted, at)
              for at, year in enumerate((2022, 2020, 2019, 2018, 2017, 2016, 2014,
                                         2012, 2010))],
            *[_vote(f"vb_vf_p{year}", f"{year}-* primary", voted, at + 20,
                    counted=False)
              for at, year in enumerate((2022, 2020, 2018, 2016))],
            *_districts("vb_family_composition_code vb_number_of_adults_in_houshold "
                        "vb_presence_of_children_in_household "
                        "vb_number_of_children_in_household vb_homeowner_indicator "
                        "vb_household_income_amount vb_household_income_range "
                        "vb_household_net_worth vb_education vb_license_hunting "
                        "vb_license_fishing enh_tsmart_enhanced_hh_size "
                        "enh_tsmart_enhanced_hh_num_males "
                        "enh_tsmart_enhanced_hh_num_females "
                        "enh_tsmart_enhanced_hh_num_dems", at=8),
            *_plain("contact", "cell_tsmart_wireless_phone", _of("phone")),
            *_plain("other", "ts_tsmart_partisan_score "
                    "ts_tsmart_presidential_general_turnout_score "
                    "ts_tsmart_midterm_general_turnout_score ts_tsmart_ideology_score "
                    "ts_tsmart_children_present_score ts_tsmart_college_graduate_score",
                    *[(lambda v, i=i: f"{100 * v['score'][i]:.1f}") for i in range(6)]),
            *_plain("special", "ts_tsmart_catholic_raw_score "
                    "ts_tsmart_evangelical_raw_score "
                    "ts_tsmart_otherchristian_raw_score "
                    "ts_tsmart_nonchristian_raw_score ts_tsmart_prochoice_score",
                    *[(lambda v, i=i: f"{100 * v['score'][i]:.1f}")
                      for i in range(10, 15)]),
            *_plain("other", "ts_tsmart_climate_change_score "
                    "ts_tsmart_gun_control_score ts_tsmart_urbanicity",
                    lambda v: f"{100 * v['score'][20]:.1f}",
                    lambda v: f"{100 * v['score'][21]:.1f}",
                    _pick("precinct", ["S3", "U5", "R2"])),
            *_plain("contact", "voterbase_email", _of("email")),
        ),
        state="NC",
    )  # fmt: skip


def _van() -> Layout:
    any_text = dict.fromkeys(("A", "E", "P", "Y", "V"), 1) | {"": 0}
    return Layout(
        "VAN/NGP", "PersonFile20261102.txt",
        (
            "NGP VAN, voter file export: names of its columns in published scripts "
            "that read PersonFile*.txt and votebuilder exports (the columns and their "
            "order are the user's choice); any text in an election's column means "
            "voted",
        ),
        (
            Column("Voter File VANID", "voter_id", _number("{}", 1500200)),
            *_plain("voter_id", "StateFileID DWID", _number("EH{:06d}", 20310),
                    _number("{}", 77000)),
            *_plain("household_id", "VHHID", lambda v: f"{4400000 + v['household']}"),
            *_plain("contact", "LastName FirstName MiddleName Suffix", _of("last"),
                    _of("first"), _of("middle"), _of("suffix")),
            *_plain("contact", "Address", _address),
            *_plain("other", "City", _of("city")),
            *_plain("state", "State", _const("NC")),
            *_plain("postcode", "Zip5", _zip(27501)),
            *_plain("contact", "Zip4 mAddress", _of("zip4"), _mail(_address)),
            *_plain("other", "mCity mState", _mail(_of("city")), _mail(_const("NC"))),
            *_plain("contact", "mZip5 mZip4", _mail(_zip(27501)), _mail(_of("zip4"))),
            Column("Preferred Phone", "contact", _of("phone")),
            *_plain("contact", "PreferredEmail", _of("email")),
            _sex("Sex", _FMU),
            *_plain("age", "Age", _age),
            *_plain("birth_year", "DOB", _day("birth", "%m/%d/%Y"),
                    formats=("%m/%d/%Y",)),
            *_plain("party", "Party", _pick("party", ["D", "R", "U", "L"])),
            *_plain("special", "Race EthnicCatalistName",
                    _pick("race", ["Caucasian", "African American", "Hispanic", "Asian",
                                   ""]),
                    _pick("race", ["White", "Black", "Hispanic", "Asian", "Unknown"])),
            *_plain("registered_on", "DateReg", _day("registered", "%m/%d/%Y"),
                    formats=("%m/%d/%Y",)),
            *_plain("other", "RegistrationStatusName",
                    lambda v: "Active" if v["active"] else "Inactive"),
            _county("CountyName", _NC_NAMES, counted=False),
            *_plain("other", "CityName", _of("city")),
            *_plain("precinct", "PrecinctName", lambda v: f"PRECINCT {v['precinct']}"),
            *_districts("CityCouncilName CensusTractName CD SD HD"),
            *_plain("contact", "Latitude Longitude",
                    lambda v: f"{35 + v['zip'] / 100:.5f}",
                    lambda v: f"{-78 - v['precinct'] / 100:.5f}"),
            *[column
              for at, year in enumerate((2022, 2020, 2018, 2016))
              for column in (
                  _vote(f"General{year % 100}", f"{GENERAL[year]} general", any_text,
                        at),
                  _vote(f"Primary{year % 100}", f"{year}-* primary", any_text, at + 10,
                        counted=False),
                  Column(f"Primary{year % 100}Party", "other",
                         _pick("party", ["D", "R", "", ""])),
              )],
            _vote("PresidentialPrimary20", "2020-* presidential_primary", any_text, 30,
                  counted=False),
        ),
        delimiter="\t",
        state="NC",
    )  # fmt: skip


def _pdi() -> Layout:
    any_text = {"V": 1, "A": 1, "": 0}
    return Layout(
        "PDI", "pdi_export.csv",
        ("Political Data Inc., PDI Data Field Descriptions and Political Data "
         "Definitions (what lists hold, not the columns of a file), "
         "https://pdihelp.zendesk.com/hc/en-us/articles/4418143996180",),
        (
            *_plain("voter_id", "PDIID", _number("P{}", 20310)),
            *_plain("contact", "LastName FirstName MiddleName Address", _of("last"),
                    _of("first"), _of("middle"), _address),
            *_plain("other", "City", _of("city")),
            *_plain("state", "State", _const("CA")),
            *_plain("postcode", "Zip", _zip(94501)),
            *_plain("contact", "Phone", _of("phone")),
            _sex("Sex", _FMU),
            *_plain("age", "Age", _age),
            *_plain("party", "Party", _pick("party", ["D", "R", "N", "L"])),
            *_plain("special", "Ethnic", _pick("race", ["", "B", "H", "C", "J"])),
            *_plain("precinct", "Precinct", _of("precinct")),
            *_plain("registered_on", "RegDate", _day("registered", "%m/%d/%Y"),
                    formats=("%m/%d/%Y",)),
            *_plain("other", "PAV", _pick("number", ["Y", "N"])),
            *[_vote(f"G{y % 100}", f"{GENERAL[y]} general", any_text, at)
              for at, y in enumerate((2022, 2020, 2018))],
            *[_vote(f"P{y % 100}", f"{y}-* primary", any_text, at + 8, counted=False)
              for at, y in enumerate((2022, 2020))],
        ),
        verified=False,
        relied_on="the vendor's list of fields shown in its platform; names of the "
        "columns and codes of the history are supposed",
        state="CA",
    )  # fmt: skip


def _aristotle() -> Layout:
    any_text = {"Y": 1, "": 0}
    return Layout(
        "Aristotle", "aristotle_export.csv", (),
        (
            *_plain("voter_id", "VOTER_ID", _number("{}", 3020310)),
            *_plain("household_id", "HOUSEHOLD_ID", lambda v: f"H{v['household']}"),
            *_plain("contact", "FIRST_NAME MIDDLE_NAME LAST_NAME RES_ADDRESS",
                    _of("first"), _of("middle"), _of("last"), _address),
            *_plain("other", "RES_CITY", _of("city")),
            *_plain("state", "RES_STATE", _const("VA")),
            *_plain("postcode", "RES_ZIP", _zip(22001)),
            *_plain("contact", "PHONE EMAIL", _of("phone"), _of("email")),
            _sex("GENDER", _FMU),
            *_plain("birth_year", "DOB", _day("birth", "%Y%m%d"), formats=("%Y%m%d",)),
            *_plain("party", "PARTY", _pick("party", ["DEM", "REP", "UNK", "LIB"])),
            *_plain("special", "ETHNICITY RELIGION LANGUAGE",
                    _pick("race", ["E", "B", "H", "A", ""]),
                    _pick("race", ["P", "C", "", "B", "J"]),
                    _pick("race", ["English", "Spanish"])),
            *_plain("precinct", "PRECINCT", _of("precinct")),
            *_plain("registered_on", "REG_DATE", _day("registered", "%Y%m%d"),
                    formats=("%Y%m%d",)),
            *[_vote(f"GENERAL_{y}", f"{GENERAL[y]} general", any_text, at)
              for at, y in enumerate((2022, 2020, 2018))],
        ),
        verified=False,
        relied_on="no public list of columns could be read; all supposed",
        state="VA",
    )  # fmt: skip


def _i360() -> Layout:
    any_text = {"1": 1, "0": 0}
    return Layout(
        "i360", "i360_export.csv", (),
        (
            *_plain("voter_id", "i360_ID", _number("{}", 9020310)),
            *_plain("household_id", "HouseholdID",
                    lambda v: str(8000 + v["household"])),
            *_plain("contact", "FirstName LastName Address1 Address2", _of("first"),
                    _of("last"), _address, _of("unit")),
            *_plain("other", "City", _of("city")),
            *_plain("state", "State", _const("OH")),
            *_plain("postcode", "Zip5", _zip(43001)),
            *_plain("contact", "CellPhone Email", _of("phone"), _of("email")),
            _sex("Gender", _FMU),
            *_plain("age", "Age", _age),
            *_plain("party", "RegisteredParty", _pick("party", ["D", "R", "U", "L"])),
            *_plain("special", "Ethnicity Religion",
                    _pick("race", ["Caucasian", "African American", "Hispanic"]),
                    _pick("race", ["Protestant", "Catholic", "Unknown"])),
            *_plain("precinct", "PrecinctName", _of("precinct")),
            *_plain("registered_on", "RegistrationDate", _day("registered", "%m/%d/%Y"),
                    formats=("%m/%d/%Y",)),
            *[_vote(f"General{y}", f"{GENERAL[y]} general", any_text, at)
              for at, y in enumerate((2022, 2020, 2018))],
        ),
        verified=False,
        relied_on="no public list of columns could be read; all supposed",
        state="OH",
    )  # fmt: skip


LAYOUTS = (
    _north_carolina(), _north_carolina_votes(), _ohio(), _florida(), _florida_votes(),
    _michigan(), _wisconsin(), _washington(), _pennsylvania(), _texas(), _new_york(),
    _georgia(), _l2(), _targetsmart(), _van(), _pdi(), _aristotle(), _i360(),
)  # fmt: skip
