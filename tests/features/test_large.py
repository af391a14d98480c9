"""Out of core as in memory: the same rows accepted, the same reasons for the others."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow as arrow
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hustings.features.derived import Derivation, with_derived
from hustings.features.ingest import Ingested, TableSource, ingest
from hustings.features.ingest.mapping import kind_of
from hustings.features.large import (
    engine,
    features_large,
    ingest_large,
    passes,
    reaction_sums,
)
from hustings.features.tables import RAW_TABLES, TableError

STATED = {"source": "made up", "licence": "none", "permitted_use": "tests"}
VOTERS = {
    "columns": {
        "voter_id": "id",
        "household_id": "home",
        "age": {"column": "age"},
        "birth_year": {"column": "born", "format": "%m/%d/%Y"},
        "sex": {"column": "gender", "map": {"f": "F", "m": "M", "x": "Q"}},
        "party": {"column": "party", "map": {"dem": "D"}, "keep": True},
        "state": {"column": "party", "map": {"dem": "MI"}, "default": "??"},
        "county_fips": {"column": "county", "digits": 5},
        "registered_on": {"column": "since"},
    },
    "history": {"2008-11-04 general": "g08"},
    "extra": {
        "income": "income", "code": "code", "owner": "owner", "few": "few",
        "rank": {"row_number": "r"}, "wave": {"value": 3},
    },
    "missing": ["N/A"],
    "where": {"column": "live", "not_equals": False},
}  # fmt: skip
REACTIONS = {"columns": {c: c for c in (
    "reaction_id", "message_id", "platform", "kind", "reacted_at", "birth_year", "name"
)}}  # fmt: skip
WRITTEN = {
    "id": ["a", "b", "c", " d ", "e", "f", "g", "", None],
    "home": ["h1", "N/A", None],
    "age": ["30", " 41.5", "430", "old", "1e400", "true", "", None, "+5", "-1"],
    "born": ["11/04/1960", "13/13/1960", "1960", None],
    "gender": ["f", "m", "x", "??", None],
    "party": ["dem", "gop", None],
    "county": ["123", "00123", "123456", "x1", None],
    "since": ["2001-02-03", "2001-02-03T04:05:06Z", "2001-02-03 04:05:06+02:00",
              "2001-02-30", "soon", None],
    "g08": ["1", "0", "2", "yes", None],
    "income": ["10", "20.5", None],
    "code": ["007", "12", None],
}  # fmt: skip
SAID = {
    "reaction_id": [f"e{i}" for i in range(20)] + ["", None],
    "message_id": ["a", "a", "b", "control", None],
    "platform": ["x", "y"],
    "kind": ["like", "angry", ""],
    "reacted_at": [*pd.date_range("2012-09-01 12:00:00", periods=3), None],
    "birth_year": [1960.0, np.nan, np.inf],
    "name": ["Ann", None],
}  # fmt: skip


def drawn(seed: int, values: dict[str, list[Any]], n: int) -> pd.DataFrame:
    """Each value from a list that holds good and bad ones; some rows come twice."""
    rng = np.random.default_rng(seed)
    rows = {
        name: [some[i] for i in rng.integers(0, len(some), n)]
        for name, some in values.items()
    }
    frame = pd.DataFrame({n: pd.Series(v, dtype=object) for n, v in rows.items()})
    return pd.concat([frame, frame.sample(n // 4, random_state=seed)])


def written(folder: Path, seed: int, n: int) -> dict[str, TableSource]:
    """A campaign whose voters and reactions are dirty Parquet files."""
    rng = np.random.default_rng(seed)
    sure = {"id": ["v0", "v1"], "age": ["30", "40"], "gender": ["f", "f"]}
    voters = pd.concat([drawn(seed, WRITTEN, n), pd.DataFrame(sure)])
    voters["live"] = rng.random(len(voters)) < 0.9
    voters.loc[voters["id"].isin(["v0", "v1"]), "live"] = True
    voters["owner"] = rng.random(len(voters)) < 0.5
    voters["few"] = rng.choice([1.0, 2.0, 2.5, np.nan], len(voters))
    said = drawn(seed, SAID, n)
    said["reacted_at"] = pd.to_datetime(said["reacted_at"])
    said["birth_year"] = said["birth_year"].astype(float)
    for name, frame in (("voters", voters), ("reactions", said)):
        table = arrow.Table.from_pandas(frame, preserve_index=False)
        # in several pieces, so that a row's number is not its place in a piece
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=7)
    return {
        **the_rest(),
        "voters": TableSource(
            path=str(folder / "voters.parquet"), observed_on=date(2012, 8, 1),
            **VOTERS, **STATED,
        ),
        "reactions": TableSource(
            path=str(folder / "reactions.parquet"), **REACTIONS, **STATED
        ),
    }  # fmt: skip


def the_rest() -> dict[str, TableSource]:
    """What a campaign needs beside: two voters, one sent a message and one not."""

    def rows(*told: dict[str, Any]) -> TableSource:
        return TableSource(rows=list(told), **STATED)

    arms = {"v0": ("control", "none"), "v1": ("a", "mail")}
    sent = [
        {"voter_id": v, "experiment_id": "e", "message_id": m, "channel": c,
         "sent_on": date(2012, 9, 1), "randomised_by": "person"}
        for v, (m, c) in arms.items()
    ]  # fmt: skip
    answer = {"voter_id": "v0", "experiment_id": "e", "outcome": "y", "value": 1.0,
              "observed_at": date(2012, 10, 1)}  # fmt: skip
    half = {"experiment_id": "e", "probability": 0.5}
    return {
        "messages": rows(
            {"message_id": "a", "issue": "i", "text": "t", "discloses": "none"}
        ),
        "designs": rows(*({**half, "message_id": m, "channel": c}
                          for m, c in arms.values())),
        "deliveries": rows(*sent),
        "responses": rows(answer),
        "costs": rows({"message_id": "*", "channel": "mail", "cost_usd": 0.5}),
    }  # fmt: skip


def in_memory(sources: dict[str, TableSource], folder: Path) -> Ingested:
    return ingest(sources, outcome="y", campaign_dir=folder, data_dir=folder)


def ordered(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return frame.sort_values(by, ignore_index=True)


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), n=st.integers(8, 200))
def test_every_row_is_taken_or_set_aside_as_in_memory(
    tmp_path: Path, seed: int, n: int
) -> None:
    sources = written(tmp_path, seed, n)
    expected = in_memory(sources, tmp_path)
    with engine(tmp_path / "spill") as connection:
        for name in ("voters", "reactions"):
            found = ingest_large(
                connection, sources[name], name, tmp_path / f"{name}.parquet",
                tmp_path / name, known_messages=["a"],
            )  # fmt: skip
            key = list(RAW_TABLES[name].unique)
            accepted = pq.read_table(found.accepted).to_pandas()
            table = expected.tables[name]
            assert list(accepted.columns) == list(table.columns)
            pd.testing.assert_frame_equal(
                ordered(accepted.astype(table.dtypes), key), ordered(table, key)
            )
            told = expected.quarantine.query("table == @name")
            aside = pq.read_table(found.quarantine).to_pandas()
            everything = ["row", "column", "reason"]
            pd.testing.assert_frame_equal(
                ordered(aside, everything), ordered(told, everything),
                check_dtype=False,
            )  # fmt: skip
            for count in ("rows_in", "accepted", "quarantined", "reasons"):
                assert found.report[count] == expected.report[name][count]


def test_identifying_values_do_not_reach_the_quarantine(tmp_path: Path) -> None:
    raw = pd.DataFrame(
        {"reaction_id": ["e"], "message_id": ["a"], "platform": ["x"], "kind": ["like"],
         "reacted_at": ["2012-09-01"], "birth_year": ["sixty-one"], "name": ["Ann"]}
    )  # fmt: skip
    raw.to_parquet(tmp_path / "reactions.parquet")
    source = TableSource(path="reactions.parquet", **REACTIONS, **STATED)
    with engine(tmp_path / "spill") as connection:
        found = ingest_large(
            connection, source, "reactions", tmp_path / "reactions.parquet",
            tmp_path / "out", known_messages=["a"],
        )  # fmt: skip
    assert found.report["quarantined"] == 1
    assert b"sixty" not in found.quarantine.read_bytes()
    assert pq.read_table(found.quarantine)["value"].to_pylist() == ["***"]


def test_every_check_that_a_table_declares_has_an_expression() -> None:
    import ibis

    value = {"text": ibis.literal("x"), "number": ibis.literal(1.0)}
    for table in RAW_TABLES.values():
        for column in table.columns.values():
            for check in column.checks:
                passes(check, value[kind_of(column)])


def test_a_check_without_an_expression_is_refused() -> None:
    import ibis

    with pytest.raises(TableError, match="'notin'"):
        passes(pa.Check.notin(["x"]), ibis.literal("y"))


def test_a_table_that_has_to_be_checked_against_others_is_refused(
    tmp_path: Path,
) -> None:
    source = TableSource(path="d.parquet", **STATED)
    with (
        engine(tmp_path) as connection,
        pytest.raises(TableError, match=r"features\.ingest reads the others"),
    ):
        ingest_large(connection, source, "deliveries", Path("d.parquet"), tmp_path)


def test_features_from_file_to_file_are_those_of_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    voters = pd.DataFrame(
        {
            "voter_id": [f"v{i}" for i in range(90)],
            "household_id": rng.choice([f"h{i}" for i in range(30)], 90),
            "precinct": rng.choice(["p", "q"], 90),
            "party": rng.choice(["D", "R"], 90),
            "voted_20241105_general": rng.choice([0.0, 1.0], 90),
        }
    )
    voters.to_parquet(tmp_path / "voters.parquet")
    asked = Derivation(
        ("history", "household", "neighbours"), tuple(voters.columns),
        pd.Timestamp("2026-04-06"), ("D",),
    )  # fmt: skip
    with engine(tmp_path / "spill") as connection:
        out = features_large(
            connection, tmp_path / "voters.parquet", asked, tmp_path / "out.parquet"
        )
    found = ordered(pd.read_parquet(out), ["voter_id"])
    here = ordered(with_derived(voters, asked), ["voter_id"])
    pd.testing.assert_frame_equal(found, here, check_dtype=False)


def test_a_linked_reaction_counts_by_its_probability_if_it_came_before(
    tmp_path: Path,
) -> None:
    noon = pd.Timestamp("2026-04-06 12:00:00")
    second = pd.Timedelta(seconds=1)
    rows = [
        ("p", "Love", noon - second), ("p", "angry", noon),
        ("p", "poke", noon - second),
        ("q", "like", noon + second), ("nobody", "like", noon - second),
    ]  # fmt: skip
    said = pd.DataFrame(rows, columns=["person", "kind", "reacted_at"])
    linked = pd.DataFrame(
        [("p", "v1", 0.8), ("p", "v2", 0.2), ("q", "v3", 1.0)],
        columns=["person", "voter_id", "probability"],
    )
    with engine(tmp_path) as connection:
        tables = [
            connection.create_table(n, f) for n, f in (("s", said), ("l", linked))
        ]
        found = reaction_sums(*tables, as_of=noon).to_pandas().set_index("voter_id")
    assert found["reactions__good"].to_dict() == {"v1": 0.8, "v2": 0.2}
    assert found["reactions__neutral"].to_dict() == {"v1": 0.8, "v2": 0.2}
    assert found["reactions__bad"].sum() == 0.0
