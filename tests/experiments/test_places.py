"""The map of counties: joined, coloured by class, small cells told as few."""

import json
from pathlib import Path

import pandas as pd

from hustings.experiments.report import figure_png
from hustings.experiments.report.places import Classes, place_figures, places_section
from hustings.experiments.results import PlacesPlanned
from hustings.experiments.stages.places import by_county, on_map
from hustings.features.topology import OBJECT, schematic

CODES = [f"26{2 * i + 201:03d}" for i in range(12)]


def electorate() -> tuple[pd.DataFrame, pd.DataFrame]:
    """100 voters a county; 10 × its number are planned, 5 in the first."""
    county = [code for code in CODES for _ in range(100)]
    voters = pd.DataFrame({"voter_id": [f"V{i}" for i in range(1200)],
                           "county_fips": county})  # fmt: skip
    n = [5 if k == 0 else 10 * min(k, 9) for k in range(12)]
    who = [f"V{100 * k + i}" for k in range(11) for i in range(n[k])]
    return voters, pd.DataFrame({"voter_id": who, "lift": 0.02, "cost_usd": 0.5})


def told(codes: list[str] = CODES) -> PlacesPlanned:
    return on_map(by_county(*electorate()), schematic(codes), OBJECT, "id")


def classes(places: PlacesPlanned, name: str = "map/contacts") -> dict[str, str]:
    spec = place_figures(places, 0.01)[name].to_dict()
    shapes = spec["datasets"][spec["data"]["name"]]["objects"][OBJECT]["geometries"]
    assert spec["projection"]["type"] == "identity"
    return {s["properties"].get("county", ""): s["properties"]["class"]
            for s in shapes}  # fmt: skip


def test_counties_are_counted_in_twenties_and_few_people_have_no_figures() -> None:
    voters, plan = electorate()
    rows = by_county(voters, plan)
    assert [row.county for row in rows] == CODES
    exact = [5, *(10 * min(k, 9) for k in range(1, 11)), 0]
    assert [row.n_planned for row in rows] == [n - n % 20 for n in exact]
    assert sum(row.n_voters for row in rows) == len(voters)
    assert [k for k, row in enumerate(rows) if row.gain is None] == [0, 1, 11]
    assert rows[4].gain == 40 * 0.02


def test_what_is_left_of_the_total_tells_of_no_small_county() -> None:
    """Plans of one size, with 1, 7 or 15 contacts in the small county, look alike."""
    voters, _ = electorate()
    pages = set()
    for few in (0, 1, 7, 15):
        per_county = [few, 95 - few, *[60] * 10]
        who = [f"V{100 * k + i}" for k, n in enumerate(per_county) for i in range(n)]
        plan = pd.DataFrame({"voter_id": who, "lift": 0.0, "cost_usd": 0.5})
        places = on_map(by_county(voters, plan), schematic(CODES), OBJECT, "id")
        charts = place_figures(places, 0.01)
        pages.add(str(places_section(places, 0.01, charts)) + json.dumps(
            [chart.to_dict() for chart in charts.values()]))  # fmt: skip
    assert len(pages) == 1


def test_a_county_is_coloured_by_its_class_and_few_and_none_are_grey() -> None:
    found = classes(told())
    assert found[CODES[0]] == found[CODES[1]] == "fewer than 20 contacts"
    assert found[CODES[11]] == "fewer than 20 contacts"
    assert found[CODES[2]].startswith("under ")
    assert found[CODES[10]].endswith(" or more")
    assert classes(told(), "map/gain")[CODES[0]] == "fewer than 20 contacts"


def test_no_number_of_a_small_county_is_in_the_chart_or_the_table() -> None:
    places = told()
    charts = place_figures(places, 0.01)
    spec = json.dumps(charts["map/contacts"].to_dict())
    assert '"contacts": "5"' not in spec
    assert "0.02" not in spec
    page = str(places_section(places, 0.01, charts))
    row = page[page.index(f">{CODES[0]}<") :][:200]
    assert "fewer than 20" in row
    assert "+" not in row


def test_counties_that_are_not_on_the_map_are_counted_and_named() -> None:
    places = told(codes=CODES[:10])
    page = str(places_section(places, 0.01, place_figures(places, 0.01)))
    assert "2 of 12 counties of the campaign are not on the map" in page
    assert f"{CODES[10]}, {CODES[11]}" in page


def test_a_map_that_could_not_be_read_says_why_and_the_table_stays() -> None:
    places = PlacesPlanned(by_county(*electorate()), fault="no file x.topojson")
    assert place_figures(places, 0.01) == {}
    page = str(places_section(places, 0.01, {}))
    assert "The map is not shown: no file x.topojson." in page
    assert CODES[4] in page
    assert places_section(None, 0.01, {}) == ""


def test_classes_hold_every_value_and_equal_values_are_one_class() -> None:
    found = Classes.of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0])
    names = [found.name(value) for value in (1.0, 3.0, 70.0)]
    assert set(names) <= set(found.names())
    assert len(set(names)) == 3
    assert Classes.of([2.0, 2.0]).name(2.0) == "about the same everywhere"
    assert Classes.of([]).names() == ["about the same everywhere"]


def test_the_map_is_drawn_without_a_browser(tmp_path: Path) -> None:
    png = figure_png(place_figures(told(), 0.01)["map/gain"])
    (tmp_path / "map.png").write_bytes(png)
    assert len(png) > 5_000
