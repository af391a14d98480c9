"""Derived voter features: past turnout, household and neighbourhood aggregates.

The features are expressions that any engine runs: DuckDB next to the run, or the
warehouse that holds the voter file. A voter's own values enter none of the voter's
aggregates: a household aggregate covers the other members, a precinct or county
aggregate covers everybody outside the voter's household. An area of fewer than
`SMALLEST_CELL` people has no aggregate of its own and takes that of the next larger
area.

    others    x_i = (sum_h x - x_i) / (n_h - 1)                 h the household of i
    area      x_i = (sum_a x - sum_{h in a} x) / (n_a - n_{h in a}),   n >= 20,
              else of the county, else of the whole file

Sums are over whole millionths, so that every engine and every order of rows gives the
same result. A column that may not be a feature enters no sum, except the ids of
households and areas. These aggregates cannot be computed from one row of a request:
the request has to bring the columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from hustings.features.engine import ONE_MACHINE, Engine, sql_of
from hustings.features.history import SHARE, elections, history, history_names
from hustings.features.tables import (
    COUNTY,
    FROM_THE_FILE,
    HISTORY_DERIVED,
    HOUSEHOLD,
    PRECINCT,
    SMALLEST_CELL,
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

MOST_PARTIES = 4
UNIT = 1_000_000
"""A mean is taken of whole millionths."""
_LEVELS = ((PRECINCT, "precinct"), (COUNTY, "county_fips"))


class Derivation(NamedTuple):
    """Groups of derived features, the columns they come from, and their date.

    Attributes:
        groups: Of `GROUPS`.
        columns: Columns of the voters that may be used.
        as_of: Elections at or after this date are not used.
        parties: Parties whose shares among the neighbours become columns.
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
    """A derivation as SQL, so that running it needs no ibis.

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


def derived_columns(derivation: Derivation) -> list[DerivedColumn]:
    """List every column that a derivation gives.

    Raises:
        TableError: If a group needs columns that are not there or may not be used.
    """
    columns = []
    for group in derivation.groups:
        missing = _missing(derivation, group)
        if missing:
            raise TableError(
                f"derived {group!r} needs {missing} among the columns of the voters "
                "that may be used; map it in [tables.voters], or mend "
                "[features].derived in campaign.toml"
            )
        columns += _COLUMNS[group](derivation)
    return columns


def _missing(derivation: Derivation, group: str) -> str:
    if group == "history" and not derivation.elections:
        return "past elections"
    if group == "household" and "household_id" not in derivation.columns:
        return "household_id"
    areas = {column for _, column in _LEVELS}
    if group == "neighbours" and not areas & set(derivation.columns):
        return "precinct or county_fips"
    return ""


def _history_columns(derivation: Derivation) -> list[DerivedColumn]:
    voted = tuple(derivation.elections)
    since = tuple(c for c in ("registered_on", "birth_year") if c in derivation.columns)
    descriptions = {
        "elections": ("Past elections that count: on file, registered, of age.", "1"),
        "share": ("Share of the elections that count in which the voter voted.", "1"),
        "last_voted_years": ("Years since the last vote.", "years"),
        "missed_since": ("Elections that count and were missed since then.", "1"),
    }
    columns = []
    for name in history_names(derivation.columns, derivation.as_of):
        short = name.removeprefix(HISTORY_DERIVED)
        kind = short.removeprefix("share_")
        about, unit = descriptions.get(
            short, (f"Share of the {kind} elections alone.", "1")
        )
        used = (
            voted
            if short in descriptions
            else tuple(c for c in voted if c[15:] == kind)
        )
        columns.append(DerivedColumn(name, about, unit, (*used, *since)))
    return columns


def _household_columns(derivation: Derivation) -> list[DerivedColumn]:
    home, voted = "household_id", tuple(derivation.elections)
    columns = [
        DerivedColumn(N_OTHERS, "Other members of the household.", "people", (home,))
    ]
    if derivation.has_age:
        about = "Mean age of the other members."
        of = tuple(c for c in ("age", "birth_year") if c in derivation.columns)[:1]
        columns.append(DerivedColumn(AGE_OF_OTHERS, about, "years", (home, *of)))
    if voted:
        about = "Mean share of past elections in which the other members voted."
        columns.append(DerivedColumn(TURNOUT_OF_OTHERS, about, "1", (home, *voted)))
    if "party" in derivation.columns:
        about = "Share of the other members who are of the voter's own party."
        columns.append(DerivedColumn(SAME_PARTY, about, "1", (home, "party")))
    return columns


def _neighbour_columns(derivation: Derivation) -> list[DerivedColumn]:
    columns = []
    household = tuple(c for c in ("household_id",) if c in derivation.columns)
    for prefix, keys in _levels(derivation):
        where = f"in the {prefix[:-2]}, the own household left out"
        if derivation.elections:
            about = f"Mean share of past elections in which people {where} voted."
            used = (*keys, *household, *derivation.elections)
            columns.append(DerivedColumn(f"{prefix}turnout", about, "1", used))
        for party in _parties(derivation):
            about = f"Share of party {party} among people {where}."
            name = party_column(prefix, party)
            columns.append(
                DerivedColumn(name, about, "1", (*keys, *household, "party"))
            )
    return columns


_COLUMNS = {
    "history": _history_columns,
    "household": _household_columns,
    "neighbours": _neighbour_columns,
}


def _parties(derivation: Derivation) -> tuple[str, ...]:
    return derivation.parties if "party" in derivation.columns else ()


def _levels(derivation: Derivation) -> list[tuple[str, list[str]]]:
    """Prefix and key of every kind of area, the smallest first."""
    levels = []
    for at, (prefix, column) in enumerate(_LEVELS):
        if column in derivation.columns:
            # a precinct's number may mean another one in the next county
            wider = [c for _, c in _LEVELS[at + 1 :] if c in derivation.columns]
            levels.append((prefix, [column, *wider]))
    return levels


# --- the expression -------------------------------------------------------------------


def derived(
    voters: "ir.Table",
    derivation: Derivation,
) -> "ir.Table":
    """Add the derived columns to the voters.

    Args:
        voters: VOTERS, on any engine.
        derivation: What to derive.

    Raises:
        TableError: As `derived_columns`.
    """
    names = [column.name for column in derived_columns(derivation)]
    enriched = history(voters, derivation.columns, as_of=derivation.as_of)
    if derivation.groups != ("history",):
        voter_values = enriched = _voter_values(enriched, derivation)
        if "household" in derivation.groups:
            enriched = _with_household(voter_values, derivation)
        if "neighbours" in derivation.groups:
            enriched = _with_neighbours(enriched, voter_values, derivation)
    return enriched.select(*voters.columns, *names)


def party_levels(party: pd.Series) -> tuple[str, ...]:
    """The largest parties of at least `SMALLEST_CELL` voters, at most `MOST_PARTIES`.

    Args:
        party: Party of every voter.
    """
    counts = party.value_counts().rename_axis("party").reset_index(name="n")
    enough = counts[counts["n"] >= SMALLEST_CELL]
    most = enough.sort_values(["n", "party"], ascending=[False, True])
    return tuple(str(name) for name in most["party"].head(MOST_PARTIES))


def _voter_values(voters: "ir.Table", derivation: Derivation) -> "ir.Table":
    """Every voter's own values: whole millionths, and 1 where the value is known."""
    values: dict[str, ir.Value] = {}
    if derivation.elections:
        values["turnout"] = voters[SHARE]
    if "age" in derivation.columns:
        values["age"] = voters["age"]
    elif "birth_year" in derivation.columns:
        values["age"] = derivation.as_of.year - voters["birth_year"]
    value_columns = {
        f"sum__{name}": _millionths(value) for name, value in values.items()
    }
    value_columns |= {
        f"n__{name}": _one_if(value.notnull()) for name, value in values.items()
    }
    if "party" in derivation.columns:
        party = voters["party"]
        value_columns["n__party"] = _one_if(party.notnull())
        for i, level in enumerate(_parties(derivation)):
            value_columns[f"sum__party_{i}"] = UNIT * _one_if(party == level)
    return voters.mutate(n__all=_one(), **value_columns)


def _one() -> "ir.Value":
    import ibis

    return ibis.literal(1, "int64")


def _one_if(condition: "ir.Value") -> "ir.Value":
    import ibis

    is_true = condition.fill_null(False)
    return ibis.ifelse(is_true, 1, 0).cast("int64")


def _millionths(value: "ir.Value") -> "ir.Value":
    return (value * float(UNIT)).round().cast("int64").fill_null(0)


def _joined(
    left: "ir.Table", right: "ir.Table", keys: Sequence[str], tag: str
) -> "ir.Table":
    """The left rows with the right columns, named `<tag>__<column>`."""
    tagged = right.rename({f"{tag}__{name}": name for name in right.columns})
    same = [left[key] == tagged[f"{tag}__{key}"] for key in keys]
    return left.left_join(tagged, same).drop(*(f"{tag}__{key}" for key in keys))


def _sums(rows: "ir.Table", keys: Sequence[str], names: Iterable[str]) -> "ir.Table":
    """Sums by keys, of the rows that have all of them."""
    complete = rows.filter([rows[key].notnull() for key in keys])
    return complete.group_by(list(keys)).agg(**_totals(complete, names))


def _totals(rows: "ir.Table", names: Iterable[str]) -> dict[str, "ir.Value"]:
    return {name: rows[name].sum().cast("int64") for name in names}


def _mean(total: "ir.Value", n: "ir.Value") -> "ir.Value":
    """Mean over n people; null where n is 0."""
    return total.cast("float64") / n.cast("float64").nullif(0.0) / float(UNIT)


def _with_household(voter_values: "ir.Table", derivation: Derivation) -> "ir.Table":
    home = ["household_id"]
    names = [c for c in voter_values.columns if c.startswith(("sum__", "n__"))]
    with_sums = _joined(voter_values, _sums(voter_values, home, names), home, "home")

    def of_others(what: str) -> "ir.Value":
        total = with_sums[f"home__sum__{what}"] - with_sums[f"sum__{what}"]
        return _mean(total, with_sums[f"home__n__{what}"] - with_sums[f"n__{what}"])

    columns = {N_OTHERS: (with_sums["home__n__all"] - 1).cast("float64")}
    if derivation.has_age:
        columns[AGE_OF_OTHERS] = of_others("age")
    if derivation.elections:
        columns[TURNOUT_OF_OTHERS] = of_others("turnout")
    enriched = with_sums.mutate(**columns)
    return _with_same_party(enriched) if "party" in derivation.columns else enriched


def _with_same_party(voters: "ir.Table") -> "ir.Table":
    keys = ["household_id", "party"]
    with_party_sums = _joined(voters, _sums(voters, keys, ["n__all"]), keys, "same")
    n_others = with_party_sums["home__n__party"] - 1
    return with_party_sums.mutate(
        **{SAME_PARTY: _mean(UNIT * (with_party_sums["same__n__all"] - 1), n_others)}
    )


def _with_neighbours(
    enriched: "ir.Table", voter_values: "ir.Table", derivation: Derivation
) -> "ir.Table":
    """Shares from the whole file down to the smallest area, each a fallback."""
    names = _area_sums(voter_values)
    totals = voter_values.agg(**_totals(voter_values, names))
    enriched = enriched.cross_join(
        totals.rename({f"all__{name}": name for name in names})
    )
    enriched = _without_own_household(enriched, voter_values, "all", [], derivation)
    before = "all"
    for prefix, keys in reversed(_levels(derivation)):
        tag = prefix[:-2]
        enriched = _joined(enriched, _sums(voter_values, keys, names), keys, tag)
        enriched = _without_own_household(enriched, voter_values, tag, keys, derivation)
        enriched = enriched.mutate(**_shares(enriched, tag, before, derivation))
        before = tag
    return enriched


def _area_sums(voter_values: "ir.Table") -> list[str]:
    prefixes = ("sum__turnout", "n__turnout", "sum__party", "n__party")
    return [name for name in voter_values.columns if name.startswith(prefixes)]


def _without_own_household(
    enriched: "ir.Table",
    voter_values: "ir.Table",
    tag: str,
    keys: list[str],
    derivation: Derivation,
) -> "ir.Table":
    """Sums of the area without the members of the voter's household who live in it."""
    names = _area_sums(voter_values)
    household_sums = {name: enriched[name] for name in names}
    if "household_id" in derivation.columns:
        home = ["household_id", *keys]
        members = _sums(voter_values, home, names)
        enriched = _joined(enriched, members, home, f"{tag}_home")
        household_sums = {
            n: enriched[f"{tag}_home__{n}"].fill_null(enriched[n]) for n in names
        }
    left = {f"{tag}_{n}": enriched[f"{tag}__{n}"] - household_sums[n] for n in names}
    return enriched.mutate(**left)


def _shares(
    enriched: "ir.Table", tag: str, before: str, derivation: Derivation
) -> dict[str, "ir.Value"]:
    measured = {"turnout": ("turnout", "turnout")} if derivation.elections else {}
    for i, party in enumerate(_parties(derivation)):
        measured[party_column("", party)] = (f"party_{i}", "party")
    shares = {}
    for name, (total, n) in measured.items():
        wider = f"{before}__{name}"
        otherwise = (
            enriched[wider]
            if wider in enriched.columns
            else _enough(enriched, before, total, n)
        )
        shares[f"{tag}__{name}"] = _enough(enriched, tag, total, n).fill_null(otherwise)
    return shares


def _enough(enriched: "ir.Table", tag: str, total: str, n: str) -> "ir.Value":
    """Mean over an area of at least `SMALLEST_CELL` people; null over fewer."""
    import ibis

    people = enriched[f"{tag}_n__{n}"]
    mean = _mean(enriched[f"{tag}_sum__{total}"], people)
    return ibis.ifelse(people >= SMALLEST_CELL, mean, ibis.null("float64"))


# --- pandas in, pandas out ------------------------------------------------------------

FROM_THE_WHOLE_FILE = (
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


def with_derived(
    voters: pd.DataFrame, derivation: Derivation, on: Engine = ONE_MACHINE
) -> pd.DataFrame:
    """Add the derived columns to the voters, whose order stays as it is.

    Args:
        voters: VOTERS table; columns derived earlier are computed again.
        derivation: What to derive.
        on: The engine that derives.

    Raises:
        TableError: As `derived_columns`.
    """
    plain = voters.drop(columns=[c for c in voters if is_derived(str(c))])
    if not derivation.groups:
        return plain
    return plain.join(_run(plain, _query(derivation, on.dialect), on))


def counting_query(derivation: Derivation) -> Query:
    """The query over a row's own past elections, which the endpoint runs.

    Args:
        derivation: The derivation of the whole file.
    """
    history_alone = derivation._replace(groups=("history",), parties=())
    return _query(history_alone, ONE_MACHINE.dialect)


def with_columns(voters: pd.DataFrame, query: Query) -> pd.DataFrame:
    """Add the columns of a query to the voters.

    Args:
        voters: VOTERS rows; rows that have the columns already keep them.
        query: Such as that of `counting_query`.
    """
    if set(query.names) <= set(voters.columns):
        return voters
    return voters.join(_run(voters, query, ONE_MACHINE))


def from_the_file(columns: Iterable[str]) -> list[str]:
    """The columns that can be computed only from the whole voter file."""
    return [name for name in columns if name.startswith(FROM_THE_FILE)]


def _run(voters: pd.DataFrame, query: Query, on: Engine) -> pd.DataFrame:
    import pyarrow as pa

    types = {c: _TYPES.get(c, "float64") for c in query.columns}
    # beside the voters' own order: an engine promises none
    numbered = voters[query.columns].astype(types).assign(row__=range(len(voters)))
    rows = pa.Table.from_pandas(numbered, preserve_index=False)
    result = on.query(query.sql, {"voters": rows})
    ordered: pd.DataFrame = result.sort_by("row__").select(query.names).to_pandas()
    return ordered.astype("float64").set_axis(voters.index)


@cache
def _query(derivation: Derivation, dialect: str) -> Query:
    import ibis

    read = _TYPES if derivation.groups != ("history",) else _OF_HISTORY
    elections = set(derivation.elections)
    columns = [c for c in derivation.columns if c in read or c in elections]
    kinds = {"str": "string", "float64": "float64", TIMESTAMP: "timestamp(6)"}
    schema = {c: kinds[_TYPES.get(c, "float64")] for c in columns}
    voters = ibis.table({**schema, "row__": "int64"}, name="voters")
    sql = sql_of(derived(voters, derivation), dialect)
    return Query(sql, columns, [column.name for column in derived_columns(derivation)])
