"""The map of real counties, on the real map and its quirks: ids, holes, projection."""

import gzip
import json

import pandas as pd
import pytest

from hustings.experiments.declaration import data_dir
from hustings.experiments.report import figure_png
from hustings.experiments.report.places import _projection, place_figures
from hustings.experiments.results import CountyPlanned
from hustings.experiments.stages.places import on_map
from hustings.features.topology import OBJECT, county_shapes, read_topology

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


def planned(counties: pd.DataFrame) -> tuple[CountyPlanned, ...]:
    """One contact for four votes: a county of fewer than 80 votes has "few"."""
    votes = counties["total_votes"].astype(int)
    return tuple(
        CountyPlanned(
            code, n, n // 4, *((0.1 * n, 0.01 * n) if n >= 80 else (None,) * 2)
        )
        for code, n in zip(counties["county"], votes, strict=True)
    )


def test_all_real_counties_but_alaska_join_whatever_their_ids_look_like(
    counties: pd.DataFrame,
) -> None:
    topology, name = read_topology(FILE, None)
    numbers = json.loads(gzip.decompress(FILE.read_bytes()))
    for shape in numbers["objects"][name]["geometries"]:
        shape["id"] = int(shape["id"]) if "id" in shape else None
    for ids in (topology, numbers):
        missing = on_map(planned(counties), ids, name, "id").not_on_map
        elsewhere = [code for code in missing if not code.startswith("02")]
        assert len(elsewhere) <= 5, elsewhere
    assert len(county_shapes(topology, name, "id")) > 3_000


def test_one_state_is_cut_out_small_and_drawn_the_right_way_up(
    counties: pd.DataFrame,
) -> None:
    topology, name = read_topology(FILE, None)
    michigan = counties[counties["county"].str.startswith("26")]
    places = on_map(planned(michigan), topology, name, "id")
    cut = places.topology
    assert cut is not None
    assert places.not_on_map == ()
    assert len(cut["objects"][OBJECT]["geometries"]) == 83
    assert len(json.dumps(cut)) < 60_000
    # metres of the Albers projection grow to the north, the screen grows to the south
    assert _projection(cut) == {"type": "identity", "reflectY": True}
    assert len(figure_png(place_figures(places, 0.01)["map/contacts"])) > 20_000
