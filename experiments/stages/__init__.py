"""The stages of a run, from ingest to report, and the commands that run them.

A run is a folder `.data/<campaign>/<run_id>/`. Each stage reads the files of the stages
before it and can be repeated by itself. The folder of a run is written under a hidden
name and renamed when its last stage has finished.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from hustings.experiments.stages.champion import adopt
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
    "STAGES", "Run", "adopt", "latest", "point_to", "roll_back_campaign",
    "run_campaign", "run_stage",
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
    """Run every stage in order and return the folder of the finished run.

    The folder appears under its name when every stage has finished. A run that fails
    leaves its files in the hidden folder, which the next run of that id replaces.
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
    """Run one stage and note its seconds in `timings_s` of run.json."""
    started = time.perf_counter()
    run.tell(stage, STAGES.index(stage), len(STAGES))
    _STAGES[stage](run)
    run.tell(stage, STAGES.index(stage) + 1, len(STAGES))
    record = json.loads((run.folder / "run.json").read_text())
    spent = {**record.get("timings_s", {}), stage: time.perf_counter() - started}
    run.note(timings_s=spent)
