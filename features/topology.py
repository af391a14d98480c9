"""County maps as TopoJSON: reading, reduction to some states, schematic maps.

A topology holds arcs once and shapes as chains of arcs (`~i` runs arc i backwards), so
that neighbours share their border.

Source: Bostock & Metcalf (2013), the TopoJSON format specification.
"""

import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Topology = dict[str, Any]

OBJECT = "counties"
"""Object of an invented map."""
COLUMNS, CELL_PX, JITTER_PX = 8, 100, 24
_FIPS_DIGITS, _STATE_DIGITS = 5, 2


class MapError(ValueError):
    """A map is not there, or is not what is declared."""


def read_topology(path: Path, object_name: str | None) -> tuple[Topology, str]:
    """A TopoJSON file, gzipped or not, and the object in it that holds the counties.

    Args:
        path: The file.
        object_name: As declared; None where the file has one object only.

    Raises:
        MapError: If there is no such file or object, or it is no TopoJSON.
    """
    if not path.is_file():
        raise MapError(f"expected a map, found no file {path.name}")
    packed = path.read_bytes()
    try:
        plain = gzip.decompress(packed) if path.suffix == ".gz" else packed
        topology = json.loads(plain)
    except (ValueError, OSError) as failure:
        raise MapError(f"{path.name}: expected TopoJSON, got {failure}") from None
    objects = topology.get("objects") if isinstance(topology, dict) else None
    if not isinstance(objects, dict) or "arcs" not in topology:
        raise MapError(f"{path.name}: expected TopoJSON with objects and arcs")
    if object_name is None and len(objects) == 1:
        object_name = next(iter(objects))
    if object_name not in objects:
        raise MapError(
            f"{path.name}: expected [report].map_object to be one of "
            f"{', '.join(objects)}, got {object_name}"
        )
    return topology, str(object_name)


def county_code(value: Any) -> str:
    """A county's code with five digits, however a map writes it.

    >>> county_code(1001), county_code("01001"), county_code("0500000US26163")
    ('01001', '01001', '26163')
    """
    text = str(value).rsplit("US", 1)[-1].strip()
    return text.zfill(_FIPS_DIGITS) if text.isdigit() else text


def county_shapes(
    topology: Topology, object_name: str, id_name: str
) -> dict[str, list[Mapping[str, Any]]]:
    """Shapes by county code; those without a shape or a code are left out.

    Args:
        topology: The map.
        object_name: Its object.
        id_name: "id", or the property that holds the code.
    """
    shapes_by_code: dict[str, list[Mapping[str, Any]]] = {}
    for shape in topology["objects"][object_name].get("geometries", []):
        properties = shape.get("properties") or {}
        code = shape.get("id") if id_name == "id" else properties.get(id_name)
        if code is not None and shape.get("type") in ("Polygon", "MultiPolygon"):
            shapes_by_code.setdefault(county_code(code), []).append(shape)
    return shapes_by_code


def states_only(
    topology: Topology,
    object_name: str,
    id_name: str,
    codes: Iterable[str],
    tell: Callable[[str], Mapping[str, Any]],
) -> tuple[Topology, list[str]]:
    """The map of the states that hold some counties, with properties of each county.

    Args:
        topology: A map of the country.
        object_name: Its object.
        id_name: "id", or the property that holds a county's code.
        codes: Counties of the campaign.
        tell: Properties of a county by its code.

    Returns:
        A map of one object `OBJECT` with no arc that is not used, and the counties of
        the campaign that are not on the map, in order.
    """
    shapes = county_shapes(topology, object_name, id_name)
    campaign_codes = {county_code(code) for code in codes}
    states = {code[:_STATE_DIGITS] for code in campaign_codes & shapes.keys()}
    state_shapes = [
        {"type": shape["type"], "arcs": shape["arcs"], "properties": dict(tell(code))}
        for code, parts in shapes.items()
        if code[:_STATE_DIGITS] in states
        for shape in parts
    ]
    return _with_arcs_of(topology, state_shapes), sorted(campaign_codes - shapes.keys())


def _with_arcs_of(topology: Topology, shapes: Sequence[dict[str, Any]]) -> Topology:
    position: dict[int, int] = {}

    def renamed(arcs: Any) -> Any:
        if isinstance(arcs, list):
            return [renamed(arc) for arc in arcs]
        arc_index = arcs if arcs >= 0 else ~arcs
        new = position.setdefault(arc_index, len(position))
        return new if arcs >= 0 else ~new

    renumbered = [{**shape, "arcs": renamed(shape["arcs"])} for shape in shapes]
    reduced: Topology = {
        "type": "Topology",
        "arcs": [topology["arcs"][i] for i in position],
        "objects": {OBJECT: {"type": "GeometryCollection", "geometries": renumbered}},
    }
    if "transform" in topology:
        reduced["transform"] = topology["transform"]
    return reduced


def extent(topology: Topology) -> tuple[float, float, float, float]:
    """West, south, east and north bound of the arcs, in the map's coordinates."""
    transform = topology.get("transform")
    points = []
    for arc in topology["arcs"]:
        at = np.asarray([point[:2] for point in arc], dtype=np.float64)
        # only a quantised map writes each point as its step from the one before
        points.append(at if transform is None else at.cumsum(axis=0))
    every = np.concatenate(points) if points else np.zeros((1, 2))
    if transform is not None:
        every = every * transform["scale"] + transform["translate"]
    (west, south), (east, north) = every.min(axis=0), every.max(axis=0)
    return float(west), float(south), float(east), float(north)


def schematic(codes: Sequence[str]) -> Topology:
    """A map of invented counties: as many uneven cells, neighbours sharing borders.

    Args:
        codes: Their codes, row by row.
    """
    n_rows = -(-len(codes) // COLUMNS)
    shift = np.random.default_rng(len(codes)).uniform(
        -JITTER_PX, JITTER_PX, size=(n_rows + 1, COLUMNS + 1, 2)
    )
    grid = np.stack(np.meshgrid(range(COLUMNS + 1), range(n_rows + 1)), axis=-1)
    corners = (grid * CELL_PX + shift).round(1)
    arcs: list[list[list[float]]] = []

    def edge(a: tuple[int, int], b: tuple[int, int]) -> int:
        arcs.append([corners[a].tolist(), corners[b].tolist()])
        return len(arcs) - 1

    across = [[edge((r, c), (r, c + 1)) for c in range(COLUMNS)]
              for r in range(n_rows + 1)]  # fmt: skip
    down = [[edge((r, c), (r + 1, c)) for c in range(COLUMNS + 1)]
            for r in range(n_rows)]  # fmt: skip
    shapes = []
    for i, code in enumerate(codes):
        r, c = divmod(i, COLUMNS)
        ring = [across[r][c], down[r][c + 1], ~across[r + 1][c], ~down[r][c]]
        shapes.append({"type": "Polygon", "id": code, "arcs": [ring]})
    held = {"type": "GeometryCollection", "geometries": shapes}
    return {"type": "Topology", "arcs": arcs, "objects": {OBJECT: held}}
