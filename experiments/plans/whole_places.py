"""Whole places of a plan: their money, and which of them go out together."""

from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.plans.money import amounts
from hustings.experiments.plans.record import PlanRecord
from hustings.features.tables import NO_CHANNEL, PLACES, check

PLACES_FILE, N_PLACES = "places.parquet", "n_places"
"""A plan's table of places, and what the entry that opens the plan says of it."""


def taken_places(places: pd.DataFrame) -> pd.DataFrame:
    """The rows of PLACES that get something."""
    rows: pd.DataFrame = places[places["channel"] != NO_CHANNEL]
    return rows.reset_index(drop=True)


def place_amounts(places: pd.DataFrame) -> list[dict[str, Any]]:
    """Money of places by channel and day; a place is no contact of anybody."""
    return [{**row, "n": 0} for row in amounts(taken_places(places))]


def places_of_plan(folder: Path, record: PlanRecord) -> pd.DataFrame | None:
    """PLACES of a plan; None of a plan that offers nothing to places."""
    if N_PLACES not in record.draft_body:
        return None
    return check(PLACES, pd.read_parquet(folder / PLACES_FILE))


def place_batches(places: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows that get something by batch, one for each channel and day."""
    rows = taken_places(places)
    days = rows["send_on"].dt.strftime("%Y-%m-%d")
    return {
        f"{day}-{channel}": batch
        for (day, channel), batch in rows.groupby([days, "channel"], observed=True)
    }
