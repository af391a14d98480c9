"""The map of real counties, on the real map and its quirks: ids, holes, projection."""

import gzip
import json
from typing import Any

import pandas as pd
import pytest

from hustings.experiments.declaration import data_dir
from hustings.experiments.report import figure_png
from hustings.experiments.report.places import _projection, place_figures
from hustings.features.topology import OBJECT, county_shapes, read_topology, states_only

FOLDER = data_dir() / "county_map"
FILE = FOLDER / "counties-albers-500k.topojson.gz"
RESULTS = FOLDER / "2016_US_County_Level_Presidential_Results.parquet"

pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason=f"{FILE} is not here: the map is public, not shipped"
)


@pytest.fixture(scope="module")
def counties() -> pd.DataFrame:
    found = pd.read_parquet(RESULTS)
    return found.assign(county=found["combined_fips"].astype(str).str.zfill(5))


def as_rows(counties: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """One contact for four votes: a county of fewer than 80 votes has "few"."""
    votes = counties["total_votes"].astype(int)
    return {
        code: {"county": code, "n_voters": n, "n_planned": n // 4, "gain": 0.01 * n}
        for code, n in zip(counties["county"], votes, strict=True)
    }


def test_all_real_counties_but_alaska_join_whatever_their_ids_look_like(
    counties: pd.DataFrame,
) -> None:
    topology, name = read_topology(FILE, None)
    numbers = json.loads(gzip.decompress(FILE.read_bytes()))
    for shape in numbers["objects"][name]["geometries"]:
        shape["id"] = int(shape["id"]) if "id" in shape else None
    rows = as_rows(counties)
    for ids in (topology, numbers):
        _, missing = states_only(ids, name, "id", rows, lambda c: rows.get(c, {}))
        elsewhere = [code for code in missing if not code.startswith("02")]
        assert len(elsewhere) <= 5, elsewhere
    assert len(county_shapes(topology, name, "id")) > 3_000


def test_one_state_is_cut_out_small_and_drawn_the_right_way_up(
    counties: pd.DataFrame,
) -> None:
    topology, name = read_topology(FILE, None)
    michigan = counties[counties["county"].str.startswith("26")]
    rows = as_rows(michigan)
    cut, missing = states_only(topology, name, "id", rows, lambda c: rows.get(c, {}))
    assert missing == []
    assert len(cut["objects"][OBJECT]["geometries"]) == 83
    assert len(json.dumps(cut)) < 60_000
    # metres of the Albers projection grow to the north, the screen grows to the south
    assert _projection(cut) == {"type": "identity", "reflectY": True}
    told = {"counties": list(rows.values()), "topology": cut, "not_on_map": []}
    assert len(figure_png(place_figures(told, 0.01)["map/contacts"])) > 20_000
