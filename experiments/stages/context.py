"""The folder of one run: its settings, and reading and writing of its files."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.artifacts import require_artifact
from hustings.experiments.declaration import Campaign
from hustings.experiments.results import RunRecord, record_of_run
from hustings.features.atomic import write_json, write_parquet, write_text
from hustings.features.blocks import (
    BlockWriter,
    columns_of,
    n_rows,
    written_in_blocks,
)
from hustings.features.engine import Engine, engine_of

Json = dict[str, Any]
Tell = Callable[[str, int, int], None]
"""Reports progress: name of the stage or step, steps finished, steps in all."""

Say = Callable[[str], None]
"""Says a sentence to the person at the console, at once."""


def silent(_step: str, _n_finished: int, _total: int) -> None:
    """Report no progress."""


def unsaid(_sentence: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Run:
    """One run of a campaign.

    Attributes:
        campaign: The declaration.
        home: `.data/<campaign>`: runs, raw sample data, tuning, serving bundle.
        folder: This run's folder.
        run_id: Name of that folder once the run is finished.
        store: Folder of the MLflow store where there is no server.
        mlflow_uri: MLflow server; empty for the store.
        n_trials: Settings tried in each tuning; 1 takes the defaults.
        time_limit_s: For all tunings of the run together.
        model: Kind of model that is tuned, as `training.registry.tune.SPACES` names it.
        n_workers: Processes that learn.
        tuning_storage: Database of trials; empty for a journal in `home`.
        say: Called with what a person has to know, before the next stage goes on.
        tell: Called with the progress of stages and steps.
        at: When the command began, UTC: dates what its stages write and judge.
    """

    campaign: Campaign
    home: Path
    folder: Path
    run_id: str
    store: Path
    mlflow_uri: str = ""
    n_trials: int = 6
    time_limit_s: float = 120.0
    model: str = "stack"
    n_workers: int = 2
    tuning_storage: str = ""
    tell: Tell = silent
    say: Say = unsaid
    at: pd.Timestamp = field(kw_only=True)

    @property
    def engine(self) -> Engine:
        """What works on large tables, as the campaign declares it.

        Raises:
            EngineMissing: If it cannot be had here.
        """
        return engine_of(self.campaign.engine.spark)

    # --- files ---

    def path(self, file: str) -> Path:
        """Where a file of the run lies, there or not.

        Raises:
            ArtifactError: If `experiments.artifacts` does not list it.
        """
        require_artifact(file)
        return self.folder / file

    def has(self, file: str) -> bool:
        """Whether a stage has written a file."""
        return self.path(file).exists()

    def read(self, name: str) -> pd.DataFrame:
        """Read a table of the run.

        Raises:
            FileNotFoundError: If no stage has written it yet.
        """
        return pd.read_parquet(self._written(f"{name}.parquet"))

    def write(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table of the run."""
        write_parquet(self.path(f"{name}.parquet"), frame)

    def written_in_blocks(self, name: str) -> AbstractContextManager[BlockWriter]:
        """A writer of a table block by block; it appears once it is whole."""
        return written_in_blocks(self.path(f"{name}.parquet"))

    def columns(self, name: str) -> list[str]:
        """Columns of a table."""
        return columns_of(self._written(f"{name}.parquet"))

    def n_voters(self) -> int:
        """Voters of the run's file."""
        return n_rows(self._written("tables/voters.parquet"))

    def read_json(self, name: str) -> Json:
        """Read a JSON file of the run.

        Raises:
            FileNotFoundError: If no stage has written it yet.
        """
        value: Json = json.loads(self._written(f"{name}.json").read_text())
        return value

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file of the run."""
        write_json(self.path(f"{name}.json"), value)

    def record(self) -> RunRecord:
        """What was noted of the run so far."""
        return record_of_run(self.folder)

    def note(self, **facts: Any) -> None:
        """Add facts to run.json, by the fields of `RunRecord`."""
        self.write_json("run", replace(self.record(), **facts).to_json())

    def table(self, name: str) -> pd.DataFrame:
        """Read a checked table."""
        return self.read(f"tables/{name}")

    def optional_table(self, name: str) -> pd.DataFrame | None:
        """Read a checked table, None where the campaign does not have it."""
        return self.optional(f"tables/{name}")

    def optional(self, name: str) -> pd.DataFrame | None:
        """Read a table, None where the run does not have it."""
        return self.read(name) if self.has(f"{name}.parquet") else None

    def _written(self, file: str) -> Path:
        path = self.path(file)
        if not path.exists():
            raise FileNotFoundError(f"{path}: run the stage that makes it first")
        return path


def rounded(value: Any) -> Any:
    """Round JSON values to seven significant digits, for a file that people compare."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def slug(name: str) -> str:
    """A name that is safe in a file name or a metric."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def point_to(home: Path, run_id: str) -> None:
    """Make a run the latest of its campaign."""
    write_text(home / "latest", run_id)


def latest(home: Path) -> str | None:
    """The latest run of a campaign, None where there is none.

    Raises:
        FileNotFoundError: If its name is not that of a run.
    """
    path = home / "latest"
    if not path.exists():
        return None
    name = path.read_text(errors="backslashreplace").strip()
    if not name.isascii() or not (home / name).is_dir():
        raise FileNotFoundError(f"{path}: expected the name of a run, got {name!r}")
    return name
