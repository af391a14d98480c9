"""Columns told by past elections, the household and the neighbours.

The truth is a slow reckoning, voter by voter, in plain Python.
"""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hustings.features.derived import (
    GROUPS,
    Derivation,
    derived,
    derived_columns,
    with_derived,
)
from hustings.features.tables import TableError, is_derived

AS_OF = pd.Timestamp("2026-04-06")
ELECTIONS = {
    "voted_20181106_general": 2018,
    "voted_20220802_primary": 2022,
    "voted_20241105_general": 2024,
    "voted_20260406_primary": 2026,
}
"""The last is held on the as-of date itself: no history yet."""
COLUMNS = (
    "voter_id", "household_id", "birth_year", "age", "county_fips", "precinct",
    "registered_on", "party", *ELECTIONS,
)  # fmt: skip
PARTIES = ("D", "R")
ALL = Derivation(GROUPS, COLUMNS, AS_OF, PARTIES)


def some(rng: np.random.Generator, values: list[Any], n: int, missing: float) -> Any:
    """Values drawn at random, some of them missing."""
    drawn = rng.choice(np.array(values, dtype=object), n)
    gone = rng.random(n) < missing
    return [None if g else value for g, value in zip(gone, drawn, strict=True)]


def voter_file(seed: int, n: int) -> pd.DataFrame:
    """A small voter file with holes, and households that lie across precincts."""
    rng = np.random.default_rng(seed)
    days = pd.date_range("2010-01-01", "2026-05-01", periods=40)
    frame = {
        "voter_id": [f"v{i}" for i in range(n)],
        "household_id": some(rng, [f"h{i}" for i in range(1 + n // 3)], n, 0.2),
        "birth_year": some(rng, [1950.0, 1999.0, 2001.0, 2005.0], n, 0.1),
        "age": some(rng, [18.0, 30.5, 71.0], n, 0.1),
        "county_fips": some(rng, ["00001", "00002"], n, 0.05),
        "precinct": some(rng, ["1", "2"], n, 0.05),
        "registered_on": pd.to_datetime(some(rng, list(days), n, 0.2)),
        "party": some(rng, ["D", "R", "G"], n, 0.2),
        **{c: some(rng, [0.0, 1.0], n, 0.2) for c in ELECTIONS},
    }
    kinds = dict.fromkeys(("birth_year", "age", *ELECTIONS), "float64")
    text = dict.fromkeys(("household_id", "county_fips", "precinct", "party"), "str")
    return pd.DataFrame(frame).astype({**kinds, **text})


# --- the slow reckoning ---------------------------------------------------------------


def known(value: Any) -> bool:
    return not pd.isna(value)


def history_of(voter: Any) -> dict[str, float]:
    """What counts of one voter's elections, told one by one."""
    past = {c: year for c, year in ELECTIONS.items() if c[6:14] < "20260406"}
    voted = {c: getattr(voter, c) for c in past}
    day = {c: pd.Timestamp(c[6:14]) for c in past}
    first = min((day[c] for c in past if voted[c] == 1), default=None)
    last = max((day[c] for c in past if voted[c] == 1), default=None)
    counts = []
    for c, year in past.items():
        registered = voter.registered_on
        could = not known(registered) or registered >= AS_OF or (
            registered.normalize() <= day[c]
        ) or (first is not None and first < day[c])  # fmt: skip
        if known(voter.birth_year) and year - voter.birth_year < 18:
            could = False
        if known(voted[c]) and (voted[c] == 1 or could):
            counts.append(c)

    def share(columns: list[str]) -> float:
        return (
            math.nan if not columns else sum(voted[c] for c in columns) / len(columns)
        )

    found = {
        "history__elections": float(len(counts)),
        "history__share": share(counts),
        "history__last_voted_years": math.nan if last is None
        else (AS_OF - last).days / 365.25,
        "history__missed_since": float(
            sum(last is None or day[c] > last for c in counts)
        ),
    }  # fmt: skip
    for kind in ("general", "primary"):
        found[f"history__share_{kind}"] = share([c for c in counts if c.endswith(kind)])
    return found


def mean(values: list[float], at_least: int = 1) -> float:
    told = [value for value in values if known(value)]
    return sum(told) / len(told) if len(told) >= at_least else math.nan


def household_of(voter: Any, everyone: list[Any]) -> dict[str, float]:
    if not known(voter.household_id):
        names = ("n_others", "age_of_others", "turnout_of_others", "same_party")
        return {f"household__{name}": math.nan for name in names}
    others = [o for o in everyone if o.household_id == voter.household_id
              and o.voter_id != voter.voter_id]  # fmt: skip
    parties = [float(o.party == voter.party) for o in others if known(o.party)]
    return {
        "household__n_others": float(len(others)),
        "household__age_of_others": mean([o.age for o in others]),
        "household__turnout_of_others": mean([o.turnout for o in others]),
        "household__same_party": mean(parties) if known(voter.party) else math.nan,
    }


def neighbours_of(voter: Any, everyone: list[Any]) -> dict[str, float]:
    """Precinct, county, file: the first with 20 people outside the own household."""
    strangers = [
        o
        for o in everyone
        if o.voter_id != voter.voter_id
        and not (known(o.household_id) and o.household_id == voter.household_id)
    ]

    def within(*keys: str) -> list[Any]:
        mine = [getattr(voter, key) for key in keys]
        if not all(known(value) for value in mine):
            return []
        return [o for o in strangers if [getattr(o, key) for key in keys] == mine]

    levels = {
        "precinct__": [
            within("precinct", "county_fips"), within("county_fips"), strangers
        ],
        "county__": [within("county_fips"), strangers],
    }  # fmt: skip
    found = {}
    for prefix, areas in levels.items():
        for name, value in (
            ("turnout", lambda o: o.turnout),
            *((f"party_{p}", party_is(p)) for p in PARTIES),
        ):
            tries = [mean([value(o) for o in area], at_least=20) for area in areas]
            found[prefix + name] = next((t for t in tries if known(t)), math.nan)
    return found


def party_is(party: str) -> Any:
    return lambda o: float(o.party == party) if known(o.party) else math.nan


def reckoned(voters: pd.DataFrame) -> pd.DataFrame:
    histories = [history_of(voter) for voter in voters.itertuples()]
    turnout = [told["history__share"] for told in histories]
    everyone = list(voters.assign(turnout=turnout).itertuples())
    rows = [
        {**told, **household_of(voter, everyone), **neighbours_of(voter, everyone)}
        for voter, told in zip(everyone, histories, strict=True)
    ]
    return pd.DataFrame(rows, index=voters.index)


# --- claims ---------------------------------------------------------------------------


@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 90))
def test_every_column_is_what_a_slow_reckoning_gives(seed: int, n: int) -> None:
    voters = voter_file(seed, n)
    found = with_derived(voters, ALL)
    names = [column.name for column in derived_columns(ALL)]
    assert list(found.columns) == [*voters.columns, *names]
    pd.testing.assert_frame_equal(
        found[names], reckoned(voters)[names], atol=2e-6, rtol=0, check_dtype=False
    )


def test_a_household_of_any_size_changes_nothing_of_its_own_neighbours() -> None:
    """Whatever the members of one household answer, it is left out of their columns."""
    voters = voter_file(7, 80)
    mine = voters["household_id"] == voters["household_id"].dropna().iloc[0]
    changed = voters.copy()
    changed.loc[mine, list(ELECTIONS)] = 1.0
    changed.loc[mine, "party"] = "R"
    before, after = with_derived(voters, ALL)[mine], with_derived(changed, ALL)[mine]
    areas = [c for c in before if c.startswith(("precinct__", "county__"))]
    pd.testing.assert_frame_equal(before[areas], after[areas])


def test_a_voters_own_answer_is_in_no_column_of_the_others() -> None:
    voters = voter_file(11, 60)
    row = int(np.flatnonzero(voters["household_id"].duplicated(keep=False))[0])
    changed = voters.copy()
    changed.loc[row, ["age", *ELECTIONS]] = [99.0, 1.0, 1.0, 1.0, 1.0]
    before, after = with_derived(voters, ALL), with_derived(changed, ALL)
    others = ["household__age_of_others", "household__turnout_of_others"]
    pd.testing.assert_series_equal(before.loc[row, others], after.loc[row, others])


def test_what_happened_on_the_day_or_later_changes_no_column() -> None:
    voters = voter_file(3, 40)
    later = voters.assign(voted_20260406_primary=1 - voters["voted_20260406_primary"])
    pd.testing.assert_frame_equal(
        with_derived(voters, ALL).filter(regex="__"),
        with_derived(later, ALL).filter(regex="__"),
    )


def test_the_order_of_the_rows_changes_nothing() -> None:
    voters = voter_file(5, 70)
    found = with_derived(voters, ALL)
    turned = with_derived(voters.iloc[::-1], ALL)
    pd.testing.assert_frame_equal(turned.iloc[::-1], found)
    again = with_derived(found, ALL)  # derived anew, never twice
    pd.testing.assert_frame_equal(again, found)


def test_what_may_not_be_used_is_part_of_no_column() -> None:
    """Party barred, and the day of registration: nothing tells of them."""
    columns = tuple(c for c in COLUMNS if c not in {"party", "registered_on"})
    asked = Derivation(GROUPS, columns, AS_OF, PARTIES)
    made_of = {c for column in derived_columns(asked) for c in column.made_of}
    assert not made_of & {"party", "registered_on"}
    voters = voter_file(9, 60)
    bare = voters.drop(columns=["party", "registered_on"])
    names = [column.name for column in derived_columns(asked)]
    pd.testing.assert_frame_equal(
        with_derived(voters, asked)[names], with_derived(bare, asked)[names]
    )


@pytest.mark.parametrize(
    ("group", "without", "told"),
    [
        ("history", "voted_", "past elections"),
        ("household", "household_id", "household_id"),
        ("neighbours", ("precinct", "county"), "precinct or county_fips"),
    ],
)
def test_a_group_whose_columns_are_missing_is_refused_by_name(
    group: str, without: str | tuple[str, ...], told: str
) -> None:
    columns = tuple(c for c in COLUMNS if not c.startswith(without))
    asked = Derivation((group,), columns, AS_OF)
    with pytest.raises(TableError, match=f"'{group}' needs {told}"):
        derived_columns(asked)


def test_every_derived_name_tells_that_it_is_one() -> None:
    assert all(is_derived(column.name) for column in derived_columns(ALL))
    assert not any(is_derived(column) for column in COLUMNS)


# --- other engines --------------------------------------------------------------------


def test_the_expression_is_written_for_warehouses_too() -> None:
    """One election and one party: the words of a dialect are the same for more."""
    import ibis

    left_out = {"voted_2018", "voted_2022", "county_fip"}
    columns = tuple(c for c in COLUMNS if c[:10] not in left_out)
    expression = derived(_unbound(), Derivation(GROUPS, columns, AS_OF, ("D",)))
    for dialect in ("bigquery", "snowflake", "databricks"):
        text = ibis.to_sql(expression, dialect=dialect)
        assert "household__same_party" in text
        assert "precinct__party_D" in text


def _unbound() -> Any:
    import ibis

    text = dict.fromkeys(
        ("voter_id", "household_id", "county_fips", "precinct", "party"), "string"
    )
    numbers = dict.fromkeys(("birth_year", "age", *ELECTIONS), "float64")
    schema = {**text, **numbers, "registered_on": "timestamp(6)"}
    return ibis.table(schema, name="voters")


def test_the_same_expression_gives_the_same_on_postgresql(postgres: str) -> None:
    import ibis
    import psycopg

    voters = voter_file(21, 90)
    here = with_derived(voters, ALL)
    names = [column.name for column in derived_columns(ALL)]
    with psycopg.connect(postgres, client_encoding="utf8") as session:
        sql = ibis.to_sql(derived(_unbound(), ALL), dialect="postgres")
        there = _in_postgres(session, voters, sql)
    pd.testing.assert_frame_equal(
        there[names], here[names], atol=1e-9, rtol=0, check_dtype=False
    )


def _in_postgres(session: Any, voters: pd.DataFrame, sql: str) -> pd.DataFrame:
    kinds = {"float64": "double precision", "str": "text"}
    columns = ", ".join(
        f'"{c}" {kinds.get(str(voters[c].dtype), "timestamp")}' for c in voters
    )
    session.execute(f"CREATE TABLE voters ({columns})")
    places = ", ".join(["%s"] * voters.shape[1])
    rows = voters.astype(object).where(voters.notna(), None)
    dated = rows.pop("registered_on")
    days = [None if day is None else day.to_pydatetime() for day in dated]
    rows.insert(voters.columns.get_loc("registered_on"), "registered_on",
                pd.Series(days, dtype=object))  # fmt: skip
    with session.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO voters VALUES ({places})", rows.to_numpy().tolist()
        )
        cursor.execute(sql)
        names = [column.name for column in cursor.description]
        found = pd.DataFrame(cursor.fetchall(), columns=names)
    ordered = found.set_index("voter_id").loc[voters["voter_id"]].reset_index()
    return ordered.astype({name: float for name in names if is_derived(name)})
