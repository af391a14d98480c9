"""A platform's export of page insights → reaction counts by post, kind and time.

An export is long (a column of kinds and one of counts) or wide (a column for each
kind). Columns are recognised by the names that platforms use; a campaign may declare
its own. An export holds no persons.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from hustings.features.ingest import raw_head
from hustings.features.tables import TableError

Payload = dict[str, Any]

ALL_ROWS = 2**31 - 1
NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "post_id": ("post_id", "status_id", "permalink", "url", "id"),
        "occurred_at": ("occurred_at", "status_published", "publish_time",
                        "published", "created_at", "end_time", "date", "time"),
        "platform": ("platform", "network"),
        "message_id": ("message_id",),
        "kind": ("kind", "reaction_type", "reaction", "metric"),
        "count": ("count", "value", "n"),
        "post_text": ("post_text", "status_message", "text", "message", "title"),
        "place": ("place", "county_fips", "county", "region", "state"),
        "age_band": ("age_band", "age_group", "age"),
        "sex": ("sex", "gender"),
        "segment": ("segment",),
        "issue": ("issue",),
    }
)  # fmt: skip
"""Our column → the names under which exports have it, the first that is there."""
COUNTS: Mapping[str, str] = MappingProxyType(
    {
        "likes": "like", "loves": "love", "wows": "wow", "hahas": "haha",
        "sads": "sad", "angrys": "angry", "angries": "angry", "comments": "comment",
        "shares": "share", "clicks": "click", "unsubscribes": "unsubscribe",
        "replies": "comment", "retweets": "share", "favorites": "like",
    }
)  # fmt: skip
"""Column of a wide export, without "num_" → kind. A column of all reactions together
is not among them."""
BREAKDOWN = ("platform", "place", "age_band", "sex", "segment", "message_id", "issue")
_PREFIX = re.compile(r"^(num|n|count|total|lifetime|post)_")


@dataclass(frozen=True)
class Insights:
    """An export in our columns.

    Attributes:
        frame: As read, every column.
        columns: Ours → theirs.
        counts: Their column → kind, for a wide export; empty for a long one.
        platform: Platform where no column says it.
    """

    frame: pd.DataFrame
    columns: Mapping[str, str]
    counts: Mapping[str, str]
    platform: str

    def events(self) -> Iterator[Payload]:
        """One event for every post, breakdown, kind and time that was counted.

        The id of an event is made of what was counted, so that the same export read
        twice adds nothing. Rows that differ only in a breakdown outside `BREAKDOWN`
        are added up. A count that cannot be read is passed on unchanged, for the
        intake to set aside.
        """
        events_by_id: dict[str, Payload] = {}
        for row in self.distinct().to_dict("records"):
            row_fields = self.row_fields(
                {str(name): value for name, value in row.items()}
            )
            for kind, count in self._counted(row):
                if count == 0:
                    continue
                event = {**row_fields, "kind": kind, "count": count}
                event["event_id"] = name = _event_id(event)
                if not isinstance(count, int):
                    events_by_id[f"{name} {len(events_by_id)}"] = event
                elif name in events_by_id:
                    events_by_id[name]["count"] += count
                else:
                    events_by_id[name] = event
        yield from events_by_id.values()

    def distinct(self) -> pd.DataFrame:
        """Rows of the export without repeats, as a file joined to itself has."""
        return self.frame[~self.frame.astype("str").duplicated()]

    def row_fields(self, row: Mapping[str, Any]) -> Payload:
        """The fields of a row other than its counts."""
        fields = {
            ours: _plain(row[theirs])
            for ours, theirs in self.columns.items()
            if ours not in ("kind", "count")
        }
        present = {name: value for name, value in fields.items() if value is not None}
        return {"platform": self.platform, **present}

    def _counted(self, row: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
        if self.counts:
            for column, kind in self.counts.items():
                yield kind, whole_number(row[column])
        else:
            kind = _plain(row[self.columns["kind"]])
            yield kind, whole_number(row[self.columns["count"]])


def read_insights(
    path: Path,
    *,
    columns: Mapping[str, str] | None = None,
    counts: Mapping[str, str] | None = None,
    platform: str = "facebook",
) -> Insights:
    """Read an export of a page: CSV, gzipped or not, or Parquet.

    Args:
        path: The file.
        columns: Ours → theirs, over `NAMES`.
        counts: Their column → kind, over `COUNTS`.
        platform: Where no column tells it.

    Raises:
        FileNotFoundError: If it is not there.
        TableError: If it lacks a column; the message lists those that it has.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an export of a page, found none")
    frame = raw_head(path, n_rows=ALL_ROWS)
    there = {_normal(str(name)): str(name) for name in frame.columns}
    column_of = dict(columns or {})
    for ours, names in NAMES.items():
        theirs = next((there[name] for name in names if name in there), None)
        if ours not in column_of and theirs is not None:
            column_of[ours] = theirs
    wide = {**_wide(frame), **(counts or {})}
    if "kind" in column_of and "count" in column_of and not counts:
        wide = {}
    _require(path, frame, column_of, wide)
    return Insights(frame, column_of, wide, platform)


def _wide(frame: pd.DataFrame) -> dict[str, str]:
    bare = {str(name): _PREFIX.sub("", _normal(str(name))) for name in frame.columns}
    return {name: COUNTS[word] for name, word in bare.items() if word in COUNTS}


def _require(
    path: Path,
    frame: pd.DataFrame,
    column_of: Mapping[str, str],
    wide: Mapping[str, str],
) -> None:
    available = ", ".join(map(str, frame.columns))
    strange = sorted({*column_of.values(), *wide} - set(frame.columns))
    lacking = [name for name in ("post_id", "occurred_at") if name not in column_of]
    if not wide:
        lacking += [name for name in ("kind", "count") if name not in column_of]
    if strange or lacking:
        raise TableError(
            f"{path.name}: expected a column {(strange or lacking)[0]!r}, "
            f"got {available}; mend [reactions.columns] or [reactions.counts] in "
            "campaign.toml"
        )


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _plain(value: Any) -> Any:
    if value is None or value is pd.NaT or value != value or value == "":
        return None
    return value.isoformat() if isinstance(value, pd.Timestamp) else str(value)


def whole_number(value: Any) -> Any:
    """A whole number from a text or a number; anything else as it is.

    >>> [whole_number(v) for v in ("1,204", 3.0, "", "many")]
    [1204, 3, 0, 'many']
    """
    text = "" if value is None or value != value else str(value).strip()
    bare = text.replace(",", "").removesuffix(".0")
    if not bare:
        return 0
    return int(bare) if bare.isdecimal() and bare.isascii() else text


def _event_id(event: Mapping[str, Any]) -> str:
    id_parts = [
        event.get(name) for name in ("post_id", "kind", "occurred_at", *BREAKDOWN)
    ]
    return hashlib.sha256(repr(id_parts).encode()).hexdigest()[:32]
