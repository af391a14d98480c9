"""Planned contacts and expected gain by county, and the map to show them on."""

from pathlib import Path

import pandas as pd

from hustings.experiments.declaration import data_dir
from hustings.experiments.stages.context import Json, Run
from hustings.features.tables import SMALLEST_CELL
from hustings.features.topology import MapError, county_code, read_topology, states_only


def places_planned(run: Run) -> Json | None:
    """Planned contacts by county, with the map; None where no map is declared.

    Args:
        run: Holds the plan.

    Returns:
        `counties`, a row each (`county`, `n_voters`, `n_planned`, `cost_usd`, and
        `gain` in outcome units where at least `SMALLEST_CELL` people are planned),
        `topology` with the same by county, `not_on_map`, and `fault` where the map
        could not be read.
    """
    declared = run.campaign.report
    voters = run.table("voters")
    if declared.map is None or "county_fips" not in voters:
        return None
    counties = by_county(voters, run.read("plan"))
    planned: Json = {"counties": counties}
    try:
        path = _map_file(run, declared.map)
        topology, name = read_topology(path, declared.map_object)
    except MapError as failure:
        return planned | {"fault": str(failure)}
    by_code = {row["county"]: row for row in counties}
    planned["topology"], planned["not_on_map"] = states_only(
        topology, name, declared.map_id, by_code, lambda code: by_code.get(code, {})
    )
    return planned


def _map_file(run: Run, declared: str) -> Path:
    prefix, _, rest = declared.partition(":")
    if prefix == "raw":
        return run.home / "raw" / rest
    return data_dir() / rest if prefix == "data" else run.campaign.folder / declared


def by_county(voters: pd.DataFrame, contacts: pd.DataFrame) -> list[Json]:
    """Voters, planned contacts, cost and expected gain of every county.

    Args:
        voters: VOTERS table with `county_fips`.
        contacts: PLAN table.

    Returns:
        A row for each county code; `gain` and `cost_usd` are missing where fewer than
        `SMALLEST_CELL` contacts are planned.
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
        n_planned = int(row["n_planned"])
        entry: Json = {
            "county": str(code),
            "n_voters": int(row["n_voters"]),
            "n_planned": n_planned,
        }
        if n_planned >= SMALLEST_CELL:
            entry |= {"gain": float(row["gain"]), "cost_usd": float(row["cost_usd"])}
        rows.append(entry)
    return rows
