"""Days of the daily loop as further rows of the campaign's own experiment."""

from pathlib import Path

import pandas as pd

from hustings.experiments.plans import BINDING, plans

LOOP = "loop"
TABLES = ("designs", "deliveries")


def loop_rows(home: Path, name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """What the loop adds to a table: designs and deliveries of its days.

    Every block has its own known chances, so that training reads a day like any other
    randomised test. A voter's first randomised delivery teaches: who was in the test,
    or was decided on an earlier day, is not added again.

    Args:
        home: The campaign's folder.
        name: Of the table.
        frame: The table as it is without the loop.

    Returns:
        Further rows of days that went out, none where the loop has not begun.
    """
    if name not in TABLES:
        return frame.iloc[:0]
    # a draft, or a day that was cancelled, was sent to nobody and teaches nothing
    days = sorted(n for n, plan in plans(home).items() if plan.state in BINDING)
    files = [home / LOOP / day / f"{name}.parquet" for day in days]
    files = [path for path in files if path.exists()]
    if not files:
        return frame.iloc[:0]
    found = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    if name == "deliveries":
        key = ["voter_id", "experiment_id"]
        had = pd.MultiIndex.from_frame(frame[key])
        again = pd.MultiIndex.from_frame(found[key]).isin(had) | found.duplicated(key)
        found = found[~again]
    return found
