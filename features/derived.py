"""What household and neighbours say of a voter: columns from the whole voter file.

Written once, as expressions that any engine runs: DuckDB beside the run, a warehouse
where the file lies there. A voter's own answer is in none of the voter's own columns:
of a household the other members are told, of a precinct and a county everybody but the
voter's own household. Fewer than 20 people are never told: the next larger area is.

    others    x_i = (sum_h x - x_i) / (n_h - 1)                 h the household of i
    area      x_i = (sum_a x - sum_{h in a} x) / (n_a - n_{h in a}),   n >= 20,
              else of the county, else of the whole file

Sums are of whole millionths, so that every engine and every order of rows gives the
same. What may not be a feature enters no sum either, save the ids of households and
areas. One row of a request cannot tell any of this: it has to bring the columns.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from hustings.features.history import SHARE, elections, history, history_names
from hustings.features.tables import (
    COUNTY,
    FROM_THE_FILE,
    HISTORY_DERIVED,
    HOUSEHOLD,
    PRECINCT,
    TIMESTAMP,
    TableError,
    is_derived,
)

if TYPE_CHECKING:
    import ibis.expr.types as ir

GROUPS = ("history", "household", "neighbours")

N_OTHERS = f"{HOUSEHOLD}n_others"
AGE_OF_OTHERS = f"{HOUSEHOLD}age_of_others"
TURNOUT_OF_OTHERS = f"{HOUSEHOLD}turnout_of_others"
SAME_PARTY = f"{HOUSEHOLD}same_party"

SMALLEST_AREA = 20
MOST_PARTIES = 4
UNIT = 1_000_000
"""A mean is taken of whole millionths."""
_LEVELS = ((PRECINCT, "precinct"), (COUNTY, "county_fips"))


class Derivation(NamedTuple):
    """What is derived of which columns, as of when.

    Attributes:
        groups: Of `GROUPS`.
        columns: Columns of the voters that may be used.
        as_of: What lies at or after it is not known.
        parties: Parties whose shares among the neighbours are told.
    """

    groups: tuple[str, ...]
    columns: tuple[str, ...]
    as_of: pd.Timestamp
    parties: tuple[str, ...] = ()

    @property
    def elections(self) -> list[str]:
        """Columns of the past elections that may be used."""
        return [election.column for election in elections(self.columns, self.as_of)]

    @property
    def has_age(self) -> bool:
        """Whether the voters' age is known and may be used."""
        return bool({"age", "birth_year"} & set(self.columns))


class Query(NamedTuple):
    """A derivation as DuckDB's SQL, so that who runs it needs no ibis.

    Attributes:
        sql: Over a table `voters` with the columns and `row__`.
        columns: That it reads, in their order.
        names: That it gives.
    """

    sql: str
    columns: list[str]
    names: list[str]


class DerivedColumn(NamedTuple):
    """One derived column.

    Attributes:
        name: Of the column.
        about: What it says.
        unit: Its unit.
        made_of: Columns of the voters that it is made of.
    """

    name: str
    about: str
    unit: str
    made_of: tuple[str, ...]


def party_column(prefix: str, party: str) -> str:
    """Column of a party's share among the neighbours.

    >>> party_column("county__", "D")
    'county__party_D'
    """
    return f"{prefix}party_{party}"


# --- what there is --------------------------------------------------------------------


def derived_columns(asked: Derivation) -> list[DerivedColumn]:
    """Every column that a derivation gives.

    Raises:
        TableError: If a group needs columns that are not there or may not be used.
    """
    found = []
    for group in asked.groups:
        missing = _missing(asked, group)
        if missing:
            raise TableError(
                f"derived {group!r} needs {missing} among the columns of the voters "
                "that may be used; map it in [tables.voters], or mend "
                "[features].derived in campaign.toml"
            )
        found += _COLUMNS[group](asked)
    return found


def _missing(asked: Derivation, group: str) -> str:
    if group == "history" and not asked.elections:
        return "past elections"
    if group == "household" and "household_id" not in asked.columns:
        return "household_id"
    areas = {column for _, column in _LEVELS}
    if group == "neighbours" and not areas & set(asked.columns):
        return "precinct or county_fips"
    return ""


def _history_columns(asked: Derivation) -> list[DerivedColumn]:
    voted = tuple(asked.elections)
    since = tuple(c for c in ("registered_on", "birth_year") if c in asked.columns)
    told = {
        "elections": ("Past elections that count: on file, registered, of age.", "1"),
        "share": ("Share of the elections that count in which the voter voted.", "1"),
        "last_voted_years": ("Years since the last vote.", "years"),
        "missed_since": ("Elections that count and were missed since then.", "1"),
    }
    found = []
    for name in history_names(asked.columns, asked.as_of):
        short = name.removeprefix(HISTORY_DERIVED)
        kind = short.removeprefix("share_")
        about, unit = told.get(short, (f"Share of the {kind} elections alone.", "1"))
        used = voted if short in told else tuple(c for c in voted if c[15:] == kind)
        found.append(DerivedColumn(name, about, unit, (*used, *since)))
    return found


def _household_columns(asked: Derivation) -> list[DerivedColumn]:
    home, voted = "household_id", tuple(asked.elections)
    found = [
        DerivedColumn(N_OTHERS, "Other members of the household.", "people", (home,))
    ]
    if asked.has_age:
        about = "Mean age of the other members."
        of = tuple(c for c in ("age", "birth_year") if c in asked.columns)[:1]
        found.append(DerivedColumn(AGE_OF_OTHERS, about, "years", (home, *of)))
    if voted:
        about = "Mean share of past elections in which the other members voted."
        found.append(DerivedColumn(TURNOUT_OF_OTHERS, about, "1", (home, *voted)))
    if "party" in asked.columns:
        about = "Share of the other members who are of the voter's own party."
        found.append(DerivedColumn(SAME_PARTY, about, "1", (home, "party")))
    return found


def _neighbour_columns(asked: Derivation) -> list[DerivedColumn]:
    found = []
    own = tuple(c for c in ("household_id",) if c in asked.columns)
    for prefix, keys in _levels(asked):
        where = f"in the {prefix[:-2]}, the own household left out"
        if asked.elections:
            about = f"Mean share of past elections in which people {where} voted."
            used = (*keys, *own, *asked.elections)
            found.append(DerivedColumn(f"{prefix}turnout", about, "1", used))
        for party in _parties(asked):
            about = f"Share of party {party} among people {where}."
            name = party_column(prefix, party)
            found.append(DerivedColumn(name, about, "1", (*keys, *own, "party")))
    return found


_COLUMNS = {
    "history": _history_columns,
    "household": _household_columns,
    "neighbours": _neighbour_columns,
}


def _parties(asked: Derivation) -> tuple[str, ...]:
    return asked.parties if "party" in asked.columns else ()


def _levels(asked: Derivation) -> list[tuple[str, list[str]]]:
    """Prefix and key of every kind of area, the smallest first."""
    found = []
    for at, (prefix, column) in enumerate(_LEVELS):
        if column in asked.columns:
            # a precinct's number may mean another one in the next county
            wider = [c for _, c in _LEVELS[at + 1 :] if c in asked.columns]
            found.append((prefix, [column, *wider]))
    return found


# --- the expression -------------------------------------------------------------------


def as_it_is(table: "ir.Table") -> "ir.Table":
    """Hold nothing: the engine runs the whole expression at once."""
    return table


def derived(
    voters: "ir.Table",
    asked: Derivation,
    *,
    hold: "Callable[[ir.Table], ir.Table]" = as_it_is,
) -> "ir.Table":
    """The voters with the derived columns beside them.

    Args:
        voters: VOTERS, on any engine.
        asked: What to derive.
        hold: Keeps every voter's own values, which are read many times, where that
            saves reckoning them anew.

    Raises:
        TableError: As `derived_columns`.
    """
    names = [column.name for column in derived_columns(asked)]
    whole = history(voters, asked.columns, as_of=asked.as_of)
    if asked.groups != ("history",):
        own = whole = hold(_own(whole, asked))
        if "household" in asked.groups:
            whole = _with_household(own, asked)
        if "neighbours" in asked.groups:
            whole = _with_neighbours(whole, own, asked)
    return whole.select(*voters.columns, *names)


def party_levels(party: pd.Series) -> tuple[str, ...]:
    """The parties with the most voters, at least 20, whose shares are worth telling.

    Args:
        party: Of every voter.
    """
    counts = party.value_counts().rename_axis("party").reset_index(name="n")
    enough = counts[counts["n"] >= SMALLEST_AREA]
    most = enough.sort_values(["n", "party"], ascending=[False, True])
    return tuple(str(name) for name in most["party"].head(MOST_PARTIES))


def _own(told: "ir.Table", asked: Derivation) -> "ir.Table":
    """Every voter's own values: a whole number of millionths and whether known."""
    values: dict[str, ir.Value] = {}
    if asked.elections:
        values["turnout"] = told[SHARE]
    if "age" in asked.columns:
        values["age"] = told["age"]
    elif "birth_year" in asked.columns:
        values["age"] = asked.as_of.year - told["birth_year"]
    found = {f"sum__{name}": _millionths(value) for name, value in values.items()}
    found |= {f"n__{name}": _one_if(value.notnull()) for name, value in values.items()}
    if "party" in asked.columns:
        party = told["party"]
        found["n__party"] = _one_if(party.notnull())
        for i, level in enumerate(_parties(asked)):
            found[f"sum__party_{i}"] = UNIT * _one_if(party == level)
    return told.mutate(n__all=_one(), **found)


def _one() -> "ir.Value":
    import ibis

    return ibis.literal(1, "int64")


def _one_if(condition: "ir.Value") -> "ir.Value":
    import ibis

    known = condition.fill_null(False)
    return ibis.ifelse(known, 1, 0).cast("int64")


def _millionths(value: "ir.Value") -> "ir.Value":
    return (value * float(UNIT)).round().cast("int64").fill_null(0)


def _joined(
    left: "ir.Table", right: "ir.Table", keys: Sequence[str], tag: str
) -> "ir.Table":
    """The left rows with the right columns, named `<tag>__<column>`."""
    named = right.rename({f"{tag}__{name}": name for name in right.columns})
    same = [left[key] == named[f"{tag}__{key}"] for key in keys]
    return left.left_join(named, same).drop(*(f"{tag}__{key}" for key in keys))


def _sums(rows: "ir.Table", keys: Sequence[str], names: Iterable[str]) -> "ir.Table":
    """Sums by keys, of the rows that have all of them."""
    known = rows.filter([rows[key].notnull() for key in keys])
    return known.group_by(list(keys)).agg(**_totals(known, names))


def _totals(rows: "ir.Table", names: Iterable[str]) -> dict[str, "ir.Value"]:
    return {name: rows[name].sum().cast("int64") for name in names}


def _mean(total: "ir.Value", n: "ir.Value") -> "ir.Value":
    """Of so many people; none of nobody."""
    return total.cast("float64") / n.cast("float64").nullif(0.0) / float(UNIT)


def _with_household(own: "ir.Table", asked: Derivation) -> "ir.Table":
    home = ["household_id"]
    names = [c for c in own.columns if c.startswith(("sum__", "n__"))]
    met = _joined(own, _sums(own, home, names), home, "home")

    def of_others(what: str) -> "ir.Value":
        total = met[f"home__sum__{what}"] - met[f"sum__{what}"]
        return _mean(total, met[f"home__n__{what}"] - met[f"n__{what}"])

    found = {N_OTHERS: (met["home__n__all"] - 1).cast("float64")}
    if asked.has_age:
        found[AGE_OF_OTHERS] = of_others("age")
    if asked.elections:
        found[TURNOUT_OF_OTHERS] = of_others("turnout")
    whole = met.mutate(**found)
    return _with_same_party(whole) if "party" in asked.columns else whole


def _with_same_party(met: "ir.Table") -> "ir.Table":
    keys = ["household_id", "party"]
    whole = _joined(met, _sums(met, keys, ["n__all"]), keys, "same")
    others = whole["home__n__party"] - 1
    return whole.mutate(
        **{SAME_PARTY: _mean(UNIT * (whole["same__n__all"] - 1), others)}
    )


def _with_neighbours(
    whole: "ir.Table", own: "ir.Table", asked: Derivation
) -> "ir.Table":
    """From the whole file to the smallest area, each falling back on the one before."""
    names = _area_sums(own)
    totals = own.agg(**_totals(own, names))
    whole = whole.cross_join(totals.rename({f"all__{name}": name for name in names}))
    whole = _others(whole, own, "all", [], asked)
    before = "all"
    for prefix, keys in reversed(_levels(asked)):
        tag = prefix[:-2]
        whole = _joined(whole, _sums(own, keys, names), keys, tag)
        whole = _others(whole, own, tag, keys, asked)
        whole = whole.mutate(**_shares(whole, tag, before, asked))
        before = tag
    return whole


def _area_sums(own: "ir.Table") -> list[str]:
    told = ("sum__turnout", "n__turnout", "sum__party", "n__party")
    return [name for name in own.columns if name.startswith(told)]


def _others(
    whole: "ir.Table", own: "ir.Table", tag: str, keys: list[str], asked: Derivation
) -> "ir.Table":
    """Sums of the area without those of the own household that live in it."""
    names = _area_sums(own)
    mine = {name: whole[name] for name in names}
    if "household_id" in asked.columns:
        home = ["household_id", *keys]
        members = _sums(own, home, names)
        whole = _joined(whole, members, home, f"{tag}_home")
        mine = {n: whole[f"{tag}_home__{n}"].fill_null(whole[n]) for n in names}
    left = {f"{tag}_{n}": whole[f"{tag}__{n}"] - mine[n] for n in names}
    return whole.mutate(**left)


def _shares(
    whole: "ir.Table", tag: str, before: str, asked: Derivation
) -> dict[str, "ir.Value"]:
    measured = {"turnout": ("turnout", "turnout")} if asked.elections else {}
    for i, party in enumerate(_parties(asked)):
        measured[party_column("", party)] = (f"party_{i}", "party")
    found = {}
    for name, (total, n) in measured.items():
        wider = f"{before}__{name}"
        otherwise = (
            whole[wider] if wider in whole.columns else _enough(whole, before, total, n)
        )
        found[f"{tag}__{name}"] = _enough(whole, tag, total, n).fill_null(otherwise)
    return found


def _enough(whole: "ir.Table", tag: str, total: str, n: str) -> "ir.Value":
    """The mean over an area of at least 20 people, none over fewer."""
    import ibis

    people = whole[f"{tag}_n__{n}"]
    mean = _mean(whole[f"{tag}_sum__{total}"], people)
    return ibis.ifelse(people >= SMALLEST_AREA, mean, ibis.null("float64"))


# --- pandas in, pandas out ------------------------------------------------------------

TOLD_BY_THE_FILE = (
    "it is told by the household and the neighbours in the whole voter file, not by "
    "one row; bring it along as the run's tables/voters has it, or null where it has "
    "none"
)
_OF_HISTORY = ("registered_on", "birth_year")
_TYPES: Mapping[str, str] = {
    "household_id": "str", "precinct": "str", "county_fips": "str",
    "party": "str", "age": "float64", "birth_year": "float64",
    "registered_on": TIMESTAMP,
}  # fmt: skip


def with_derived(voters: pd.DataFrame, asked: Derivation) -> pd.DataFrame:
    """The voters with the derived columns beside them, in their order.

    Args:
        voters: VOTERS table; columns derived before are derived anew.
        asked: What to derive.

    Raises:
        TableError: As `derived_columns`.
    """
    plain = voters.drop(columns=[c for c in voters if is_derived(str(c))])
    return with_columns(plain, _query(asked)) if asked.groups else plain


def counting_query(asked: Derivation) -> Query:
    """What counts a row's own past elections, as the endpoint runs it.

    Args:
        asked: The derivation of the whole file.
    """
    return _query(asked._replace(groups=("history",), parties=()))


def with_columns(voters: pd.DataFrame, query: Query) -> pd.DataFrame:
    """The voters with the columns of a query beside them.

    Args:
        voters: VOTERS rows; those that have the columns already keep them.
        query: From `counting_query`, say.
    """
    if set(query.names) <= set(voters.columns):
        return voters
    return voters.join(_run(voters, query))


def from_the_file(columns: Iterable[str]) -> list[str]:
    """Those of some columns that only the whole voter file can tell."""
    return [name for name in columns if name.startswith(FROM_THE_FILE)]


def _run(voters: pd.DataFrame, query: Query) -> pd.DataFrame:
    import duckdb
    import pyarrow as pa

    types = {c: _TYPES.get(c, "float64") for c in query.columns}
    # beside the voters' own order: an engine promises none
    numbered = voters[query.columns].astype(types).assign(row__=range(len(voters)))
    with duckdb.connect() as connection:
        rows = pa.Table.from_pandas(numbered, preserve_index=False)
        connection.register("voters", rows)
        found = connection.execute(query.sql).to_arrow_table()
    ordered: pd.DataFrame = found.sort_by("row__").select(query.names).to_pandas()
    return ordered.astype("float64").set_axis(voters.index)


@cache
def _query(asked: Derivation) -> Query:
    import ibis

    read = _TYPES if asked.groups != ("history",) else _OF_HISTORY
    elections = set(asked.elections)
    columns = [c for c in asked.columns if c in read or c in elections]
    kinds = {"str": "string", "float64": "float64", TIMESTAMP: "timestamp(6)"}
    schema = {c: kinds[_TYPES.get(c, "float64")] for c in columns}
    voters = ibis.table({**schema, "row__": "int64"}, name="voters")
    sql = str(ibis.to_sql(derived(voters, asked), dialect="duckdb"))
    return Query(sql, columns, [column.name for column in derived_columns(asked)])
