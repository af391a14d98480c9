"""The report's maps of counties: planned contacts and expected gain."""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Self

import altair as alt
import numpy as np

from hustings.experiments.report.charts import Figure, styled
from hustings.experiments.report.markup import (
    Html,
    chart_place,
    folded,
    html_section,
    html_table,
    paragraph,
)
from hustings.experiments.report.words import NOT_SHOWN, Row, number_text, people_text
from hustings.experiments.results import CountyPlanned, PlacesPlanned
from hustings.features.tables import SMALLEST_CELL
from hustings.features.topology import OBJECT, extent

FIVE_BLUES = ["#cfe1f2", "#93c3df", "#4b98ca", "#1764ab", "#08306b"]
FEW_COLOUR, NONE_COLOUR = "#bdbdbd", "#eceeef"
FEW, NONE = f"fewer than {SMALLEST_CELL} contacts", "none"
MAP_WIDTH_PX, HIGHEST_PX = 520, 460
DEGREES, METRES = 360.0, 10_000.0
TABLE_ROWS = 100
PER = 1000
Worth = Callable[[CountyPlanned, float], float]


def place_figures(places: PlacesPlanned | None, unit: float) -> dict[str, Figure]:
    """Two maps: contacts per 1,000 voters, and expected gain per voter.

    Args:
        places: From `experiments.stages.places.places_planned`.
        unit: Outcome units of a point.

    Returns:
        `map/contacts` and `map/gain`; nothing where there is no map, or no county of
        the campaign is on it.
    """
    if places is None or places.topology is None:
        return {}
    topology = places.topology
    if not topology["objects"][OBJECT]["geometries"]:
        return {}
    contacts = _drawn(topology, _contacts_per, "contacts per 1,000 voters", unit)
    gain = _drawn(topology, _points_per, "expected gain, points per voter", unit)
    return {"map/contacts": styled(contacts), "map/gain": styled(gain)}


def _contacts_per(county: CountyPlanned, _unit: float) -> float:
    return PER * county.n_planned / county.n_voters


def _points_per(county: CountyPlanned, unit: float) -> float:
    gain = math.nan if county.gain is None else county.gain
    return gain / unit / county.n_voters


def _county_of(shape: Row) -> CountyPlanned | None:
    properties = shape["properties"]
    return CountyPlanned.from_json(properties) if properties else None


def _drawn(topology: Row, worth: Worth, title: str, unit: float) -> alt.Chart:
    shapes = topology["objects"][OBJECT]["geometries"]
    counties = [_county_of(shape) for shape in shapes]
    classes = Classes.of(
        [worth(c, unit) for c in counties if c is not None and c.gain is not None]
    )
    labelled_shapes = [
        {**shape, "properties": _properties(county, worth, classes, unit)}
        for shape, county in zip(shapes, counties, strict=True)
    ]
    held = alt.InlineData(
        values={**topology, "objects": {OBJECT: {"type": "GeometryCollection",
                                                 "geometries": labelled_shapes}}},
        format=alt.TopoDataFormat(type="topojson", feature=OBJECT),
    )  # fmt: skip
    present_classes = {shape["properties"]["class"] for shape in labelled_shapes}
    colours = {
        name: c for name, c in classes.colours().items() if name in present_classes
    }
    legend = alt.Legend(title=title, titleLimit=400, orient="top", columns=3,
                        symbolType="square", symbolSize=180, symbolStrokeWidth=0,
                        symbolOpacity=1)  # fmt: skip
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    tips = [alt.Tooltip(f"properties.{name}:N", title=name)
            for name in ("county", "voters", "contacts", "value")]  # fmt: skip
    chart: alt.Chart = (
        alt.Chart(held)
        .mark_geoshape(stroke="white", strokeWidth=0.6)
        .encode(
            color=alt.Color("properties.class:N", scale=scale, legend=legend),
            tooltip=tips,
        )
        .project(**_projection(topology))
        .properties(height=_height(topology), title=title)
    )
    return chart


def _properties(
    county: CountyPlanned | None, worth: Worth, classes: "Classes", unit: float
) -> dict[str, str]:
    if county is None:
        return {"class": NONE, "value": "no voters of the campaign"}
    properties = {
        "county": county.county,
        "voters": _at_least(county.n_voters),
        "contacts": _at_least(county.n_planned),
    }
    if county.gain is None:
        return properties | {"class": FEW, "value": FEW}
    value = worth(county, unit)
    return properties | {"class": classes.name(value), "value": _short(value)}


def _at_least(in_twenties: int) -> str:
    """A count that is rounded down to twenties; 0 may be up to 19."""
    return people_text(in_twenties or 1)


def _short(value: float) -> str:
    return number_text(value) if abs(value) >= 100 else f"{value:.2g}"


class Classes(NamedTuple):
    """Classes of a number, named for people.

    Attributes:
        limits: Lower ends of all classes but the lowest, ascending.
    """

    limits: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Five classes of about as many values each, with round limits.

        >>> Classes.of([103.0, 211.0, 298.0, 402.0, 517.0, 640.0]).limits
        (210.0, 300.0, 400.0, 520.0)
        """
        if not values:
            return cls(())
        at = np.quantile(values, (0.2, 0.4, 0.6, 0.8))
        limits = sorted({float(f"{limit:.2g}") for limit in at})
        # a limit below all or above all would leave a class empty
        return cls(tuple(x for x in limits if min(values) < x <= max(values)))

    def names(self) -> list[str]:
        """Names from the lowest class to the highest.

        >>> Classes((210.0, 300.0)).names()
        ['under 210', '210 to 300', '300 or more']
        """
        ends = [_short(limit) for limit in self.limits]
        if not ends:
            return ["about the same everywhere"]
        between = [f"{a} to {b}" for a, b in pairwise(ends)]
        return [f"under {ends[0]}", *between, f"{ends[-1]} or more"]

    def name(self, value: float) -> str:
        """Name of the class that holds a value."""
        return self.names()[bisect_right(self.limits, value)]

    def colours(self) -> dict[str, str]:
        """Light to dark, and greys for few and none, by name."""
        names = self.names()
        at = np.linspace(0, len(FIVE_BLUES) - 1, len(names)) if self.limits else [2]
        blues = {n: FIVE_BLUES[round(i)] for n, i in zip(names, at, strict=True)}
        return blues | {FEW: FEW_COLOUR, NONE: NONE_COLOUR}


def _projection(topology: Row) -> dict[str, Any]:
    """Projection of a map: degrees are projected, metres point up, pixels down."""
    west, south, east, north = extent(dict(topology))
    if east - west <= DEGREES and west >= -180 and max(abs(south), abs(north)) <= 90:
        return {"type": "mercator"}
    return {"type": "identity", "reflectY": max(east - west, north - south) > METRES}


def _height(topology: Row) -> int:
    west, south, east, north = extent(dict(topology))
    ratio = (north - south) / max(east - west, 1e-9)
    if _projection(topology)["type"] == "mercator":
        ratio /= np.cos(np.radians((south + north) / 2))
    return int(min(HIGHEST_PX, max(160, MAP_WIDTH_PX * ratio)))


def places_section(
    places: PlacesPlanned | None, unit: float, charts: Mapping[str, Figure]
) -> Html:
    """The section on places; empty where the campaign declares no map."""
    if places is None:
        return Html("")
    counties = sorted(places.counties, key=lambda county: -county.n_planned)
    return html_section(
        "places",
        "Where",
        _maps(places, charts),
        _map_notes(places),
        folded("All counties as a table", _county_table(counties, unit)),
    )


def _maps(places: PlacesPlanned, charts: Mapping[str, Figure]) -> Html:
    if places.fault:
        return paragraph(f"The map is not shown: {places.fault}.", "quiet")
    if "map/contacts" not in charts:
        return paragraph("None of the campaign's counties is on the map.", "quiet")
    pair = "".join(
        f"<div>{chart_place(charts, name, alternative, widest_px=MAP_WIDTH_PX)}</div>"
        for name, alternative in (
            ("map/contacts", "Map of counties by planned contacts per 1,000 voters"),
            ("map/gain", "Map of counties by expected gain in points per voter"),
        )
    )
    return Html(f'<div class="pair">{pair}</div>')


def _map_notes(places: PlacesPlanned) -> Html:
    if places.topology is None:
        return Html("")
    missing = places.not_on_map
    note = (
        f" {len(missing)} of {len(places.counties)} counties of the campaign are "
        f"not on the map: {', '.join(missing[:12])}"
        f"{' …' if len(missing) > 12 else ''}."
        if missing
        else ""
    )
    basis = (
        "Expected gain is by prediction, over all voters of a county. Counts are "
        f"rounded down to multiples of {SMALLEST_CELL}."
    )
    return paragraph(f"{basis}{note}", "quiet")


def _county_table(counties: Sequence[CountyPlanned], unit: float) -> Html:
    rows = [_county_row(county, unit) for county in counties[:TABLE_ROWS]]
    header = ["County", "Voters", "Contacts planned", "Per 1,000 voters",
              "Expected gain, points per voter"]  # fmt: skip
    rest = len(counties) - TABLE_ROWS
    caption = "Counties by planned contacts"
    cut_note = f", the first {TABLE_ROWS} of {len(counties)}" if rest > 0 else ""
    return html_table(caption + cut_note, header, rows)


def _county_row(county: CountyPlanned, unit: float) -> tuple[str, ...]:
    is_large = county.gain is not None
    return (
        county.county,
        _at_least(county.n_voters),
        _at_least(county.n_planned),
        number_text(_contacts_per(county, unit)) if is_large else NOT_SHOWN,
        number_text(_points_per(county, unit), 2, sign=True) if is_large else NOT_SHOWN,
    )
