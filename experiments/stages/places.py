"""Planned contacts and expected gain by county, and the map to show them on."""

from pathlib import Path

import pandas as pd

from hustings.experiments.declaration import data_dir
from hustings.experiments.results import CountyPlanned, PlacesPlanned
from hustings.experiments.stages.context import Run
from hustings.features.tables import in_twenties
from hustings.features.topology import (
    MapError,
    Topology,
    county_code,
    read_topology,
    states_only,
)


def places_planned(run: Run) -> PlacesPlanned | None:
    """Planned contacts by county, with the map; None where no map is declared.

    Args:
        run: Holds the plan.
    """
    declared = run.campaign.report
    voters = run.table("voters")
    if declared.map is None or "county_fips" not in voters:
        return None
    counties = by_county(voters, run.read("plan"))
    try:
        path = _map_file(run, declared.map)
        topology, name = read_topology(path, declared.map_object)
    except MapError as failure:
        return PlacesPlanned(counties, fault=str(failure))
    return on_map(counties, topology, name, declared.map_id)


def on_map(
    counties: tuple[CountyPlanned, ...], topology: Topology, name: str, map_id: str
) -> PlacesPlanned:
    """The counties with their map.

    Args:
        counties: From `by_county`.
        topology: The map.
        name: Of its object with the counties.
        map_id: Property that holds a county's code.
    """
    by_code = {county.county: county.to_json() for county in counties}
    drawn_map, missing = states_only(
        topology, name, map_id, by_code, lambda code: by_code.get(code, {})
    )
    return PlacesPlanned(counties, drawn_map, tuple(missing))


def _map_file(run: Run, declared: str) -> Path:
    prefix, _, rest = declared.partition(":")
    if prefix == "raw":
        return run.home / "raw" / rest
    return data_dir() / rest if prefix == "data" else run.campaign.folder / declared


def by_county(
    voters: pd.DataFrame, contacts: pd.DataFrame
) -> tuple[CountyPlanned, ...]:
    """Voters, planned contacts, cost and expected gain of every county.

    Args:
        voters: VOTERS table with `county_fips`.
        contacts: PLAN table.

    Returns:
        One for each county code. Voters and contacts are rounded down to twenties, and
        the cost with them: what is left of the plan's total tells of no small county.
        Cost and gain are None where fewer than `SMALLEST_CELL` contacts are planned.
    """
    county = voters.set_index("voter_id")["county_fips"].dropna().map(county_code)
    planned = contacts.set_index("voter_id")[["lift", "cost_usd"]].reindex(county.index)
    grouped = planned.assign(county=county).groupby("county")
    totals = grouped.agg(
        n_voters=("lift", "size"), n_planned=("lift", "count"),
        gain=("lift", "sum"), cost_usd=("cost_usd", "sum"),
    )  # fmt: skip
    rows = []
    for code, row in totals.iterrows():
        n_planned = in_twenties(int(row["n_planned"]))
        is_large = n_planned > 0
        cost_usd = row["cost_usd"] * n_planned / max(row["n_planned"], 1)
        rows.append(
            CountyPlanned(
                str(code), in_twenties(int(row["n_voters"])), n_planned,
                float(cost_usd) if is_large else None,
                float(row["gain"]) if is_large else None,
            )
        )  # fmt: skip
    return tuple(rows)
