"""Maps: joined whatever the ids look like, cut without changing a border."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hustings.features.topology import (
    OBJECT,
    MapError,
    county_shapes,
    extent,
    read_topology,
    schematic,
    states_only,
)

CODES = [f"{state}{county:03d}" for state in ("01", "26") for county in range(1, 11)]


def country() -> dict[str, Any]:
    """Two states; Alabama's ids are numbers without their leading zero."""
    drawn = schematic(CODES)
    for shape in drawn["objects"][OBJECT]["geometries"]:
        shape["id"] = int(shape["id"])
    return drawn


def ring(topology: dict[str, Any], shape: dict[str, Any]) -> list[list[float]]:
    """Corners of a one-ring shape, in order, each once."""
    corners = []
    for arc in shape["arcs"][0]:
        points = topology["arcs"][arc if arc >= 0 else ~arc]
        corners += (points if arc >= 0 else points[::-1])[:-1]
    return corners


def test_an_invented_map_has_a_closed_cell_for_every_county_and_shares_borders() -> (
    None
):
    drawn = schematic(CODES)
    shapes = drawn["objects"][OBJECT]["geometries"]
    assert [shape["id"] for shape in shapes] == CODES
    used = [arc for shape in shapes for arc in shape["arcs"][0]]
    assert len({a if a >= 0 else ~a for a in used}) < len(used)
    for shape in shapes:
        points = [
            drawn["arcs"][a] if a >= 0 else drawn["arcs"][~a][::-1]
            for a in shape["arcs"][0]
        ]
        ends = zip(points, [*points[1:], points[0]], strict=True)
        assert all(one[-1] == following[0] for one, following in ends)


def test_numbers_without_their_leading_zero_join_and_the_rest_is_named() -> None:
    asked = ["01003", "01010", "48001"]
    cut, missing = states_only(country(), OBJECT, "id", asked, lambda c: {"code": c})
    shapes = cut["objects"][OBJECT]["geometries"]
    assert missing == ["48001"]
    # the whole state stays, so that the county is seen in it; the other state goes
    assert [s["properties"]["code"] for s in shapes] == CODES[:10]
    assert len(cut["arcs"]) < len(country()["arcs"])


def test_a_cut_map_has_the_borders_of_the_whole_one() -> None:
    whole = country()
    cut, _ = states_only(whole, OBJECT, "id", ["26001"], lambda c: {"code": c})
    before = county_shapes(whole, OBJECT, "id")
    for shape in cut["objects"][OBJECT]["geometries"]:
        (known,) = before[shape["properties"]["code"]]
        assert ring(cut, shape) == ring(whole, dict(known))


def test_a_code_may_be_a_property_and_a_shape_may_be_missing() -> None:
    drawn = country()
    for shape in drawn["objects"][OBJECT]["geometries"]:
        shape["properties"] = {"GEOID": f"0500000US{shape.pop('id'):05d}"}
    drawn["objects"][OBJECT]["geometries"].append({"type": None, "properties": {}})
    assert list(county_shapes(drawn, OBJECT, "GEOID")) == CODES


def test_extent_follows_the_steps_of_a_quantised_map() -> None:
    told = {
        "transform": {"scale": [10, 100], "translate": [-5, 7]},
        "arcs": [[[0, 0], [3, 1], [1, 1]], [[2, 5], [-2, 0]]],
    }
    assert extent(told) == (-5, 7, 35, 507)
    plain = {"arcs": [[[0.0, 1.0], [3.0, 1.0]], [[-1.0, 4.0]]]}
    assert extent(plain) == (-1, 1, 3, 4)


def test_a_map_that_is_not_there_or_is_none_says_what_was_expected(
    tmp_path: Path,
) -> None:
    with pytest.raises(MapError, match=r"expected a map, found no file a\.topojson"):
        read_topology(tmp_path / "a.topojson", None)
    (tmp_path / "b.topojson").write_text("[]")
    with pytest.raises(MapError, match="expected TopoJSON with objects and arcs"):
        read_topology(tmp_path / "b.topojson", None)
    (tmp_path / "c.topojson").write_text("{")
    with pytest.raises(MapError, match=r"c\.topojson: expected TopoJSON, got"):
        read_topology(tmp_path / "c.topojson", None)
    packed = tmp_path / "d.topojson.gz"
    packed.write_bytes(gzip.compress(json.dumps(country()).encode()))
    with pytest.raises(MapError, match="map_object to be one of counties, got towns"):
        read_topology(packed, "towns")
    topology, name = read_topology(packed, None)
    assert (name, len(county_shapes(topology, name, "id"))) == (OBJECT, 20)


def test_the_same_counties_are_drawn_the_same() -> None:
    assert schematic(CODES) == schematic(CODES)
    assert np.ptp([p for arc in schematic(CODES)["arcs"] for p in arc]) > 360
