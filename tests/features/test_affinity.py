"""Counts by cell as campaigns bring them, and cells as columns beside the voters."""

import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.features.affinity import (
    CELL,
    CellAffinities,
    band_starts,
    voter_cells,
    without,
)
from hustings.features.ingest import Ingested, TableSource
from hustings.features.simulated.campaign import AS_OF, Sample, simulate
from hustings.features.tables import REACTION_COUNTS, SMALLEST_CELL, TableError, check
from tests.taken import ingest_all

DAY = pd.Timestamp("2026-04-06")
HEADER = "Post,Network,Reaction,Age,Gender,County,Count,People reached,Until"
ORIGIN = {"source": "s", "licence": "l", "permitted_use": "p"}


@pytest.fixture(scope="module")
def sample() -> Sample:
    return simulate(n_voters=12_000, seed=5)


def rows(*given: dict) -> TableSource:
    return TableSource.model_validate({**ORIGIN, "rows": list(given)})


def taken(folder: Path, *lines: str) -> Ingested:
    """A campaign of two voters whose page export holds the lines."""
    (folder / "insights.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    sent = [
        {
            "voter_id": v, "experiment_id": "e", "block": "all", "message_id": m,
            "channel": c, "sent_on": date(2026, 4, 6), "propensity": 0.5,
            "randomised_by": "person",
        }
        for v, m, c in (("v1", "a", "mail"), ("v2", "control", "none"))
    ]  # fmt: skip
    half = {"experiment_id": "e", "block": "all", "probability": 0.5}
    answered = {"experiment_id": "e", "outcome": "y", "value": 1.0,
                "observed_at": date(2026, 5, 1)}  # fmt: skip
    named = {
        "message_id": "Post", "platform": "Network", "kind": "Reaction",
        "age_band": "Age", "county_fips": "County", "n": "Count",
        "sex": {"column": "Gender", "map": {"female": "F", "male": "M"}},
        "reach": "People reached", "counted_until": "Until",
    }  # fmt: skip
    voters = rows({"voter_id": "v1"}, {"voter_id": "v2"})
    counts = {**ORIGIN, "path": "insights.csv", "columns": named,
              "most_quarantined": 1.0}  # fmt: skip
    sources = {
        "voters": voters.model_copy(update={"observed_on": date(2026, 3, 1)}),
        "messages": rows(
            {"message_id": "a", "issue": "i", "text": "t", "discloses": "none"}
        ),
        "designs": rows(
            {**half, "message_id": "a", "channel": "mail"},
            {**half, "message_id": "control", "channel": "none"},
        ),
        "deliveries": rows(*sent),
        "responses": rows(*({**answered, "voter_id": v} for v in ("v1", "v2"))),
        "reaction_counts": TableSource.model_validate(counts),
        "costs": rows({"message_id": "*", "channel": "mail", "cost_usd": 0.5}),
    }
    return ingest_all(sources, outcome="y", campaign_dir=folder, data_dir=folder)


def test_a_page_export_is_read_by_the_campaigns_mapping(tmp_path: Path) -> None:
    found = taken(
        tmp_path,
        "a,facebook,love,18-24,female,26200,7,120,2026-03-31",
        "a,facebook,angry,18-24,female,26200,2,120,2026-03-31",
        "a,facebook,like,65+,,,9,300,2026-03-31",
    )
    counts = found.tables["reaction_counts"]
    assert found.quarantine.empty
    assert counts["n"].tolist() == [7, 2, 9]
    assert counts["sex"].fillna("?").tolist() == ["F", "F", "?"]


def test_a_cell_of_fewer_than_twenty_people_is_refused_and_its_size_never_told(
    tmp_path: Path,
) -> None:
    found = taken(
        tmp_path,
        "a,facebook,love,18-24,female,26200,7,19,2026-03-31",
        "a,facebook,love,25-34,female,26200,7,20,2026-03-31",
    )
    assert found.tables["reaction_counts"]["reach"].tolist() == [20]
    told = found.quarantine
    assert told["column"].tolist() == ["reach"]
    assert told["value"].tolist() == ["***"]
    assert "20 people" in told["reason"].iloc[0]


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        ("a,fb,love,18-24,female,26200,121,120,2026-03-31", "n", "at most one"),
        ("z,fb,love,18-24,female,26200,1,120,2026-03-31", "message_id", "unknown"),
        ("a,fb,love,young,female,26200,1,120,2026-03-31", "age_band", "18-24 or 65"),
        ("a,fb,love,18-24,female,26200,1,99,2026-03-31", "reach", "one reach"),
        ("a,fb,like,18-24,female,26200,-1,120,2026-03-31", "n", "at least 0"),
    ],
)
def test_a_count_that_cannot_be_true_is_set_aside_with_its_reason(
    tmp_path: Path, line: str, column: str, reason: str
) -> None:
    found = taken(tmp_path, "a,fb,wow,18-24,female,26200,1,120,2026-03-31", line)
    told = found.quarantine
    assert len(found.tables["reaction_counts"]) + told["row"].nunique() == 2
    assert set(told["column"]) == {column}
    assert told["reason"].str.contains(reason, regex=False).all()


def test_counts_have_no_place_for_a_person_or_a_special_category(
    sample: Sample,
) -> None:
    counts = sample.tables["reaction_counts"]
    for column in ("race", "religion", "person", "name"):
        with pytest.raises(TableError, match="not declared"):
            check(REACTION_COUNTS, counts.assign(**{column: "x"}))


def test_the_sample_counts_no_cell_of_fewer_than_twenty_and_nothing_after_delivery(
    sample: Sample,
) -> None:
    counts, first = sample.tables["reaction_counts"], sample.tables["deliveries"]
    assert counts["reach"].min() >= SMALLEST_CELL
    assert counts["counted_until"].max() < first["sent_on"].min() < AS_OF


def test_the_young_are_shown_more_and_the_fond_react_more(sample: Sample) -> None:
    counts = sample.tables["reaction_counts"]
    cell = [c for c in REACTION_COUNTS.unique or [] if c != "kind"]
    reach = counts.drop_duplicates(cell).groupby("age_band")["reach"].sum()
    band = sample.affinities.groupby("age_band")["n_voters"].sum()
    shown = reach / band
    assert shown["18-24"] > 3 * shown["65+"]
    health = sample.affinities[sample.affinities["issue"] == "health care"]
    by_age = health.groupby("age_band")["affinity"].mean()
    assert by_age["65+"] > 2 * by_age["18-24"]


def table(**changed: object) -> pd.DataFrame:
    """Affinities of two counties for women of two ages, and their margins."""
    cells = [
        ("18-64", "F", "26200", 0.2), ("65+", "F", "26200", 0.4),
        ("18-64", "F", "", 0.3), ("65+", "F", "", 0.5), ("", "", "26200", 0.25),
        ("", "", "", 0.35),
    ]  # fmt: skip
    frame = pd.DataFrame(cells, columns=[*CELL, "affinity"])
    return frame.assign(
        **{"issue": "roads", "place_kind": "county_fips", "n_voters": 100, **changed}
    )


def test_a_voter_has_the_affinity_of_the_finest_cell_that_is_told() -> None:
    voters = pd.DataFrame(
        {
            "voter_id": list("abcde"),
            "age": [20.0, 70.0, 64.9, np.nan, 30.0],
            "sex": ["F", "F", "F", "M", None],
            "county_fips": ["26200", "26200", "26999", "26200", None],
        }
    )
    found = CellAffinities.of(table()).joined_to(voters, as_of=DAY)["affinity__roads"]
    share = 1 / (1 + np.exp(-found))
    assert share.round(3).tolist() == [0.2, 0.4, 0.3, 0.25, 0.35]


def test_a_birth_year_stands_in_for_an_age_that_is_not_on_file() -> None:
    voters = pd.DataFrame({"birth_year": [1950.0, 2000.0]})
    cells = voter_cells(voters, ["18-64", "65+"], "", as_of=DAY)
    assert cells["age_band"].tolist() == ["65+", "18-64"]
    assert (cells[["sex", "place"]] == "").all(axis=None)


def test_affinities_are_the_same_after_they_were_written_and_read() -> None:
    known = CellAffinities.of(table())
    again = CellAffinities.from_json(json.loads(json.dumps(known.to_json())))
    voters = pd.DataFrame({"age": [20.0, 70.0], "sex": "F", "county_fips": "26200"})
    pd.testing.assert_frame_equal(
        again.joined_to(voters, as_of=DAY), known.joined_to(voters, as_of=DAY)
    )


def test_age_bands_that_overlap_are_refused() -> None:
    with pytest.raises(TableError, match="do not overlap, got '18-34' and '30-39'"):
        band_starts(["30-39", "18-34"])


def test_a_column_that_may_be_no_feature_does_not_come_back_by_the_cell(
    sample: Sample,
) -> None:
    counts = without(sample.tables["reaction_counts"], ["sex", "birth_year"])
    assert counts[["sex", "age_band"]].isna().all(axis=None)
    assert counts["county_fips"].notna().any()
