"""Planted reactions in the columns of the store of events."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

START = pd.Timestamp("2026-09-01")
_NOTHING = {
    "message_id": "m", "post_id": None, "kind": "like", "hour": 0.0, "received": None,
    "count": 1, "person": None, "segment": None, "age_band": None, "sex": None,
    "in_area": None, "account_age_days": None, "issue": None,
}  # fmt: skip


def events(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A frame as `Events.since` gives it; `hour` is hours after `START`."""
    frame = pd.DataFrame([{**_NOTHING, **row} for row in rows])
    received = frame.pop("received").astype("float64").fillna(frame["hour"])
    hours = frame.pop("hour").astype("float64")
    texts = (
        "message_id", "post_id", "kind", "person", "segment", "age_band", "sex", "issue"
    )  # fmt: skip
    return frame.assign(
        occurred_at=START + pd.to_timedelta(hours, unit="h"),
        received_at=START + pd.to_timedelta(received, unit="h"),
    ).astype(
        {
            **dict.fromkeys(texts, "str"),
            "in_area": "boolean",
            "account_age_days": "float64",
        }
    )
