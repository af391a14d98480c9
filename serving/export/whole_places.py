"""Lists of whole places, for channels that address nobody; no row names a person.

A row is a place that gets a message: a county, a postcode. Places that are held out are
in no list, and neither are those of fewer voters than `SMALLEST_CELL`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hustings.features.tables import NO_CHANNEL, SMALLEST_CELL
from hustings.serving.export.folder import exports_of, file_entry
from hustings.serving.export.lists import Part, day_texts
from hustings.serving.export.settings import ExportError

PLACES_STATUS = "whole-places.parquet"
LIST_STEM = "whole-places"
KEY = ["place", "channel", "message_id", "send_on"]


@dataclass(frozen=True)
class PlaceLists:
    """Lists of places, and what became of each.

    Attributes:
        parts: The files.
        status: Place, channel, message_id, send_on, and `code`: why it may not go, ''
            where it may.
        n_first: Places that leave for the first time, or are refused then.
        n_removed: Places that left earlier and are taken out now.
    """

    parts: list[Part]
    status: pd.DataFrame
    n_first: int
    n_removed: int

    def counts(self) -> dict[str, Any]:
        """Counts for the manifest: planned = exported + refused."""
        code = self.status["code"]
        refused = code[code != ""].value_counts().sort_index()
        return {
            "planned": len(code),
            "exported": int((code == "").sum()),
            "refused": {str(why): int(n) for why, n in refused.items()},
            "removed_now": self.n_removed,
        }

    def written(self, folder: Path) -> list[dict[str, Any]]:
        """Write what became of each place; a row of the manifest, none without any."""
        if self.status.empty:
            return []
        path = folder / PLACES_STATUS
        self.status.to_parquet(path, index=False, compression="zstd")
        return [file_entry(path) | {"rows": len(self.status)}]


def whole_place_lists(
    places: pd.DataFrame,
    messages: pd.DataFrame,
    earlier: pd.DataFrame,
    *,
    stopped: Mapping[str, str],
    cancelled: str,
    channels: Sequence[str],
) -> PlaceLists:
    """Lists of places by channel and day, and of those to take out of earlier ones.

    Args:
        places: PLACES of a plan.
        messages: MESSAGES, for the 'paid for by' line.
        earlier: Status of places that have left, from `earlier_places`.
        stopped: Message → code of the reason why it may not go now.
        cancelled: Code of a plan that was cancelled; empty for one that was not.
        channels: Only these; all without.

    Raises:
        ExportError: If a place is held out and gets something all the same.
    """
    rows = places[places["channel"] != NO_CHANNEL].reset_index(drop=True)
    n_held = int((rows["role"] == "holdout").sum())
    if n_held:
        raise ExportError(f"expected held-out places to get nothing, got {n_held:,}")
    if channels:
        rows = rows[rows["channel"].isin(channels)].reset_index(drop=True)
    now = _of_messages(rows, stopped)
    now = now.mask((now == "") & (rows["n_voters"] < SMALLEST_CELL), "small_cell")
    now = now.mask(now == "", cancelled)
    keys = pd.MultiIndex.from_frame(rows[KEY])
    before = earlier.set_index(KEY)["code"].reindex(keys).set_axis(rows.index)
    # once refused, always refused
    code = now.mask(before.notna() & (before != ""), before).astype("str")
    said = messages.set_index("message_id").reindex(columns=["title", "disclaimer"])
    said = said.astype("object").fillna("")
    of_message = {
        str(name): _of_messages(rows, dict(zip(said.index, said[name], strict=True)))
        for name in said
    }
    listed = rows.assign(
        send_on=day_texts(rows), cost_usd=rows["cost_usd"].round(2), code=code,
        **of_message,
    )  # fmt: skip
    going, gone = before.isna() & (code == ""), (before == "") & (code != "")
    columns = ["place", "message_id", "channel", "send_on", "n_voters", "cost_usd",
               "title", "disclaimer"]  # fmt: skip
    parts = _parts(LIST_STEM, listed[going], columns)
    parts += _parts(f"removed-{LIST_STEM}", listed[gone], [*columns[:4], "code"])
    return PlaceLists(
        parts, rows[KEY].assign(code=code), int(before.isna().sum()), int(gone.sum())
    )


def _of_messages(rows: pd.DataFrame, texts: Mapping[str, str]) -> pd.Series:
    """Text of every row's message, '' where there is none."""
    values = [texts.get(str(message), "") for message in rows["message_id"]]
    return pd.Series(values, index=rows.index, dtype="str")


def _parts(stem: str, rows: pd.DataFrame, columns: list[str]) -> list[Part]:
    return [
        Part(f"{stem}-{channel}-{day}", part[columns].reset_index(drop=True), _no(part))
        for (channel, day), part in rows.groupby(["channel", "send_on"], observed=True)
    ]


def _no(rows: pd.DataFrame) -> pd.DataFrame:
    """The messages of a list of places, which holds no contact of anybody."""
    messages = np.unique(rows["message_id"].to_numpy(dtype=str))
    return pd.DataFrame({"message_id": messages, "n": 0})


def earlier_places(parent: Path) -> pd.DataFrame:
    """The latest status of every place that an export has written."""
    said = [
        pd.read_parquet(folder / PLACES_STATUS)
        for folder in exports_of(parent)
        if (folder / PLACES_STATUS).is_file()
    ]
    if not said:
        return pd.DataFrame({name: pd.Series(dtype="str") for name in [*KEY, "code"]})
    return pd.concat(said, ignore_index=True).drop_duplicates(KEY, keep="last")
