"""Scores and universes for a voter-contact system, in the form such systems load.

A zipped CSV, the voter's id first, then one column per score slot, each from 0 to 100,
one decimal at most, nothing where there is no score. Each slot states the mean that its
scores should have and how far it may be off: a file that was mixed up is refused before
it is loaded. Nobody held out is in either file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from hustings.features.membership import among
from hustings.serving.export.folder import (
    file_entry,
    write_manifest,
    write_table,
    write_zipped,
    written_whole,
)
from hustings.serving.export.settings import ExportError

Scale = Literal["share", "points", "rank"]


@dataclass(frozen=True)
class Slot:
    """One score.

    Attributes:
        name: Of the column, as the system knows it.
        column: Of the scores.
        scale: share: from 0 to 1, times 100. points: from 0 to 100 as they are. rank:
            share of the voters in the file who score no higher, times 100, since a
            lift has no scale of its own.
        mean: What the file's mean should be.
        tolerance: How far it may be off.
        decimals: 0 or 1.
    """

    name: str
    column: str
    scale: Scale
    mean: float
    tolerance: float
    decimals: int = 0


@dataclass(frozen=True)
class Universe:
    """A list of voters by score.

    Attributes:
        name: Of the file.
        slot: Name of the slot that decides.
        at_least: From which score on.
    """

    name: str
    slot: str
    at_least: float


@dataclass(frozen=True)
class System:
    """A voter-contact system, as the campaign declares it.

    Attributes:
        id_column: How it calls the voter's id.
        slots: Scores, in the order of the file.
        max_slots: How many it takes.
        universes: Lists by score.
    """

    id_column: str
    slots: Sequence[Slot]
    max_slots: int
    universes: Sequence[Universe] = ()


def export_scores(
    scores: pd.DataFrame,
    system: System,
    parent: Path,
    stamp: str,
    *,
    code: pd.Series,
    planned: pd.Series,
    at: pd.Timestamp,
) -> Path:
    """Write the scores file, its universes and a manifest.

    Args:
        scores: A row per voter: voter_id and the slots' columns.
        system: Which slots, under which names.
        parent: Folder of such exports.
        stamp: Name of the new one.
        code: Why each voter is left out, '' for voters in the file; index as of the
            scores. Every held-out voter needs a code.
        planned: Voter ids with an exported contact: a universe lists only these, so
            that the contacts stay those that were drawn.
        at: Now.

    Returns:
        The folder.

    Raises:
        ExportError: If there are too many slots, a score is outside 0 to 100, or a mean
            is off.
    """
    require_slots(system, list(scores.columns))
    exported = scores[code == ""].reset_index(drop=True)
    frame = _slots(exported, system)
    with written_whole(parent, stamp) as (aside, folder):
        path = aside / "scores.zip"
        write_zipped(frame, path, "scores.csv")
        files = [file_entry(path) | {"rows": len(frame)}]
        may = pd.Series(among(exported["voter_id"], planned), index=exported.index)
        for universe in system.universes:
            rows = universe_list(frame, universe, system, may)
            path = write_table(rows, aside / f"universe-{universe.name}", "csv")
            files.append(file_entry(path) | {"rows": len(rows)})
        write_manifest(
            aside, _manifest_of(scores, frame, code, system, files, folder.name, at)
        )
    return folder


def require_slots(system: System, columns: Sequence[str]) -> None:
    """Refuse slots that the system does not take, or that nothing fills.

    Raises:
        ExportError: Naming the slot.
    """
    names = [system.id_column, *(slot.name for slot in system.slots)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ExportError(f"expected each column once, got {min(twice)!r} twice")
    if not 1 <= len(system.slots) <= system.max_slots:
        raise ExportError(
            f"expected 1 to {system.max_slots} score slots, got {len(system.slots)}; "
            "mend [export.van] in campaign.toml"
        )
    for slot in system.slots:
        if slot.column not in columns:
            there = ", ".join(c for c in columns if c != "voter_id")
            raise ExportError(
                f"slot {slot.name!r}: expected one of the scores {there}, got "
                f"{slot.column!r}"
            )
    for universe in system.universes:
        if universe.slot not in names[1:]:
            raise ExportError(
                f"universe {universe.name!r}: expected a slot, one of "
                f"{', '.join(names[1:])}, got {universe.slot!r}"
            )


def universe_list(
    frame: pd.DataFrame, universe: Universe, system: System, may: pd.Series
) -> pd.DataFrame:
    """Ids of those who score high enough and may be contacted.

    Args:
        frame: The scores as written.
        universe: From which score on.
        system: How it calls the id.
        may: Who has a contact.
    """
    high = frame[universe.slot] >= universe.at_least
    return frame.loc[high & may, [system.id_column]].reset_index(drop=True)


def scaled(values: pd.Series, slot: Slot) -> pd.Series:
    """Scores from 0 to 100, rounded as the slot says; missing stays missing.

    Raises:
        ExportError: If one is outside 0 to 100.

    >>> scaled(pd.Series([0.25, 0.5]), Slot("S", "s", "share", 0, 0)).tolist()
    [25.0, 50.0]
    """
    if slot.scale == "rank":
        score = 100 * values.rank(pct=True, method="max")
    else:
        score = values * (100.0 if slot.scale == "share" else 1.0)
    outside = (score < 0) | (score > 100) | np.isinf(score)
    if outside.any():
        raise ExportError(
            f"slot {slot.name!r}: expected scores from 0 to 100 by scale "
            f"{slot.scale!r}, got {score[outside].iloc[0]:g} and "
            f"{int(outside.sum()) - 1:,} others"
        )
    return score.round(slot.decimals)


def _slots(exported: pd.DataFrame, system: System) -> pd.DataFrame:
    columns: dict[str, Any] = {system.id_column: exported["voter_id"]}
    for slot in system.slots:
        score = scaled(exported[slot.column].astype("float64"), slot)
        _require_mean(score, slot)
        columns[slot.name] = score if slot.decimals else score.astype("Int64")
    return pd.DataFrame(columns)


def _require_mean(score: pd.Series, slot: Slot) -> None:
    mean = float(score.mean())
    # a file without any score has no mean, which is off as well
    if not abs(mean - slot.mean) <= slot.tolerance:
        raise ExportError(
            f"slot {slot.name!r}: expected a mean of {slot.mean:g} ± "
            f"{slot.tolerance:g}, got {mean:.2f}: the scores are not what was declared"
        )


def _manifest_of(
    scores: pd.DataFrame,
    frame: pd.DataFrame,
    code: pd.Series,
    system: System,
    files: list[dict[str, Any]],
    stamp: str,
    at: pd.Timestamp,
) -> dict[str, Any]:
    reasons = code[code != ""].value_counts().sort_index()
    return {
        "stamp": stamp,
        "at": str(at),
        "id_column": system.id_column,
        "scored": len(scores),
        "exported": len(frame),
        "refused": {str(why): int(n) for why, n in reasons.items()},
        "slots": [
            {
                "name": slot.name,
                "of": slot.column,
                "scale": slot.scale,
                "mean": round(float(frame[slot.name].mean()), 2),
                "declared_mean": slot.mean,
                "tolerance": slot.tolerance,
                "missing": int(frame[slot.name].isna().sum()),
            }
            for slot in system.slots
        ],
        "universes": [
            {"name": u.name, "slot": u.slot, "at_least": u.at_least}
            for u in system.universes
        ],
        "files": files,
    }
