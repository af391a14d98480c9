"""A model that reads derived columns: the same score online as offline, or an error."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hustings.features.derived import (
    Derivation,
    counting_query,
    from_the_file,
    with_derived,
)
from hustings.features.tables import TableError, is_derived
from hustings.features.voter import HISTORY_SHARE, Encoding
from hustings.serving.bodies import RequestError, ScoreRequest
from hustings.serving.endpoint import Endpoint
from hustings.training.registry.campaign_model import CampaignModel

IN_PLACE_OF = {"age": "household__age_of_others", HISTORY_SHARE: "history__share"}
"""The fitted model reads these in place of columns on the same scale."""
N = 12


@dataclass(frozen=True)
class Derived:
    """A bundle of such a model, the voters it scores offline, and requests' rows."""

    folder: Path
    model: CampaignModel
    voters: pd.DataFrame
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def bundle(served, tmp_path_factory: pytest.TempPathFactory) -> Derived:
    reader, columns = served.model.reader, tuple(served.voters.columns)
    asked = Derivation(("history", "household", "neighbours"), columns, reader.as_of)
    voters = with_derived(served.voters, asked)
    names = tuple(IN_PLACE_OF.get(name, name) for name in reader.encoding.names)
    assert set(IN_PLACE_OF.values()) <= set(names)
    reading = replace(
        reader,
        feature_columns=(*reader.feature_columns, *filter(is_derived, voters)),
        encoding=Encoding(names, reader.encoding.levels),
        counting=counting_query(asked),
    )
    model = replace(served.model, reader=reading)
    folder = tmp_path_factory.mktemp("derived") / "bundle"
    folder.mkdir()
    model.save(folder / "model")
    for name in ("plan.json", "version.json", "contact_lists.parquet"):
        shutil.copy(served.folder / name, folder / name)
    beside = voters[from_the_file(voters.columns)].head(N)
    brought = json.loads(beside.to_json(orient="records", double_precision=15))
    rows = [{**row, **more} for row, more in zip(served.rows, brought, strict=False)]
    return Derived(folder, model, voters, rows)


def test_a_row_that_brings_its_columns_gets_the_score_of_the_file(bundle) -> None:
    """History is counted from the row itself; the household's mean age is brought."""
    answer = Endpoint.load(bundle.folder).score(ScoreRequest(voters=bundle.rows))
    online = [s["lift"] for voter in answer["voters"] for s in voter["scores"]]
    offline = bundle.model.score(bundle.voters.head(N))
    assert online == pytest.approx(offline["lift"].tolist(), abs=1e-12)
    moved = bundle.voters.head(N).assign(
        household__age_of_others=99.0, history__share=0.0
    )
    assert bundle.model.score(moved)["lift"].tolist() != offline["lift"].tolist()


def test_a_row_without_what_the_file_tells_is_refused_by_its_column(bundle) -> None:
    rows = [dict(row) for row in bundle.rows]
    del rows[2]["household__age_of_others"]
    rows[3]["precinct__turnout"] = "often"
    with pytest.raises(RequestError) as refused:
        Endpoint.load(bundle.folder).score(ScoreRequest(voters=rows))
    told = {fault.path: fault.message for fault in refused.value.faults}
    assert set(told) == {
        "voters[2].household__age_of_others", "voters[3].precinct__turnout",
    }  # fmt: skip
    assert "told by the household" in told["voters[2].household__age_of_others"]


def test_the_endpoint_tells_which_columns_a_row_has_to_bring(bundle) -> None:
    told = Endpoint.load(bundle.folder).describe()["voter_columns"]
    assert set(from_the_file(bundle.voters.columns)) <= set(told)


def test_a_table_without_what_the_file_tells_is_not_scored(bundle, served) -> None:
    with pytest.raises(TableError, match="'household__n_others'"):
        bundle.model.score(served.voters.head(N))
