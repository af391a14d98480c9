"""The runs of a campaign that lie in its folder, the newest first."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.results import record_of_run
from hustings.experiments.stages.context import latest
from hustings.experiments.stages.plannable import EVALUATION
from hustings.features.stored import Stored
from hustings.training.registry.register import Version

Json = dict[str, Any]


@dataclass(frozen=True)
class ListedRun(Stored):
    """One run.

    Attributes:
        run: Its name.
        began_at: ISO 8601; None where its name does not say, nor its model.
        verdict: Of its evaluation; None where it was not judged.
        sentence: The same in words.
        model: Version that it promoted, kept or adopted, as name/version; None without.
        plan_id: The plan that it drafted; None without.
        took_s: Seconds of its stages.
        is_latest: Whether commands work in it unless told otherwise.
        is_champion: Whether the present champion was trained in it.
    """

    run: str
    began_at: str | None
    verdict: str | None
    sentence: str | None
    model: str | None
    plan_id: str | None
    took_s: float
    is_latest: bool
    is_champion: bool

    def line(self) -> str:
        """As a line of the terminal."""
        began = "" if self.began_at is None else self.began_at[:16].replace("T", " ")
        marks = [self.is_latest * "latest", self.is_champion * "champion"]
        parts = (
            f"{self.run:<24}",
            f"{began:<16}",
            f"{self.verdict or 'not judged':<24}",
            f"{self.model or 'no model':<20}",
            ", ".join(mark for mark in marks if mark),
        )
        return "  ".join(parts).rstrip()


def listed_runs(home: Path, champion: Version | None) -> list[ListedRun]:
    """Runs of a campaign, finished by their first stage at least, the newest first.

    Args:
        home: The campaign's folder.
        champion: Its present champion; None without.

    Raises:
        FileNotFoundError: If there is none.
    """
    folders = [path.parent for path in home.glob("[!.]*/run.json")]
    if not folders:
        raise FileNotFoundError(
            f"{home}: expected a run, found none; `hustings run` makes one"
        )
    trained_in = None if champion is None else champion.tags.get("hustings_run")
    runs = [_listed(folder, latest(home), trained_in) for folder in folders]
    return sorted(runs, key=lambda run: (run.began_at or "", run.run), reverse=True)


def _listed(folder: Path, newest: str | None, trained_in: str | None) -> ListedRun:
    record = record_of_run(folder)
    headline = _json(folder / EVALUATION).get("headline", {})
    promoted = _json(folder / "promoted.json")
    version = f"{promoted['name']}/{promoted['version']}" if promoted else None
    return ListedRun(
        run=folder.name,
        began_at=_began_at(folder.name, promoted),
        verdict=headline.get("verdict"),
        sentence=headline.get("sentence"),
        model=version,
        plan_id=record.plan_id,
        took_s=float(sum((record.timings_s or {}).values())),
        is_latest=folder.name == newest,
        is_champion=folder.name == trained_in,
    )


def _began_at(name: str, promoted: Json) -> str | None:
    """When a run began: as its name says, else the model that was trained in it."""
    stamp = pd.to_datetime(
        name.partition("-")[0], format="%Y%m%dT%H%M%SZ", errors="coerce"
    )
    if not pd.isna(stamp):
        return str(stamp.isoformat()) + "Z"
    tags = promoted.get("tags", {})
    return tags.get("trained_at") if tags.get("hustings_run") == name else None


def _json(path: Path) -> Json:
    loaded: Json = json.loads(path.read_text()) if path.exists() else {}
    return loaded
