"""A declared campaign → every stage, each from the files of the one before.

A run is a folder `.data/<campaign>/<run_id>/`. Every file is written aside and renamed;
a whole run is a folder written aside and renamed. A stage can be repeated by itself.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from hustings.experiments.stages.contacts import stage_plan, stage_score
from hustings.experiments.stages.context import Run, latest, point_to
from hustings.experiments.stages.models import (
    stage_evaluate,
    stage_promote,
    stage_train,
)
from hustings.experiments.stages.page import stage_report
from hustings.experiments.stages.rollback import roll_back_campaign
from hustings.experiments.stages.tables import stage_features, stage_ingest

__all__ = [
    "STAGES", "Run", "latest", "point_to", "roll_back_campaign", "run_campaign",
    "run_stage",
]  # fmt: skip

_STAGES: Mapping[str, Callable[[Run], None]] = {
    "ingest": stage_ingest,
    "features": stage_features,
    "train": stage_train,
    "evaluate": stage_evaluate,
    "promote": stage_promote,
    "score": stage_score,
    "plan": stage_plan,
    "report": stage_report,
}
STAGES = tuple(_STAGES)


def run_campaign(run: Run) -> Path:
    """Every stage in order; gives the folder of the finished run.

    The folder appears whole or not at all.
    """
    final = run.home / run.run_id
    aside = run.home / f".{run.run_id}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    working = replace(run, folder=aside)
    for stage in STAGES:
        run_stage(working, stage)
    aside.rename(final)
    point_to(run.home, run.run_id)
    return final


def run_stage(run: Run, stage: str) -> None:
    """One stage, its time noted in run.json."""
    started = time.perf_counter()
    run.tell(stage, STAGES.index(stage), len(STAGES))
    _STAGES[stage](run)
    run.tell(stage, STAGES.index(stage) + 1, len(STAGES))
    record = json.loads((run.folder / "run.json").read_text())
    spent = {**record.get("timings_s", {}), stage: time.perf_counter() - started}
    run.note(timings_s=spent)
