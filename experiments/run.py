"""Runs of a campaign: every stage in order, or one again.

A run is a folder `.data/<campaign>/<run_id>/`. A folder that a run begins is written
under a hidden name and renamed when its last stage has finished. That rename is the one
moment from which its champion, its bundle, its plan and `latest` count: what is left to
do then is done by the next command where this one is killed, and a run that was killed
before leaves nothing under a name of its own; the next command removes what it left.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from hustings.experiments.plans import PLANS
from hustings.experiments.plans.backups import remove_unpacked
from hustings.experiments.plans.folder import one_command
from hustings.experiments.record import RESULTS, received, received_ballots
from hustings.experiments.stages.contacts import stage_plan, stage_score
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.electorate import UnlikeTestedError
from hustings.experiments.stages.models import (
    learnt_anything,
    stage_evaluate,
    stage_promote,
    stage_train,
)
from hustings.experiments.stages.page import stage_report
from hustings.experiments.stages.publication import (
    UNPUBLISHED,
    discard_drafts,
    publish,
    to_publish,
)
from hustings.experiments.stages.tables import stage_features, stage_ingest
from hustings.features.atomic import ASIDE, rename_to_disk
from hustings.features.checksums import write_checksums
from hustings.serving.decided import SERVING
from hustings.training.registry.register import (
    StoreUnreachableError,
    server_answers,
)

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
_OF_A_MODEL = ("promote", "score", "plan")
"""Stages that have nothing to do where nothing was learnt."""
STOPPED = ".stopped"
"""Ending of the folder of a run whose MLflow server was gone."""


class RunStoppedError(OSError):
    """A run stopped before a stage, and can be taken up there."""

    def __init__(self, reason: str, stage: str, run_id: str) -> None:
        super().__init__(
            f"{reason}; the run stopped before `{stage}` and is kept: the same command "
            f"with --run {run_id} takes it up there"
        )


def run_campaign(run: Run) -> Path:
    """Run every stage in order and return the folder of the finished run.

    A run that stopped because its MLflow server was gone is taken up where it stopped.

    Raises:
        LockedError: If another command is at work on the campaign.
        RunStoppedError: If the MLflow server does not answer.
        UnlikeTestedError: If the voters are not like those tested, so that nothing
            personal may be planned; the run is finished without a plan.
    """
    return _stages_in_new_folder(run, STAGES)


def begin_run(run: Run) -> Path:
    """Run the first stage, ingest, in a folder of its own; the others may follow.

    Raises:
        LockedError: If another command is at work on the campaign.
    """
    return _stages_in_new_folder(run, STAGES[:1])


def _stages_in_new_folder(run: Run, stages: tuple[str, ...]) -> Path:
    """Stages in a folder that appears under its name when the last has finished."""
    final = run.home / run.run_id
    stopped = stopped_run(run)
    run.home.mkdir(parents=True, exist_ok=True)
    with one_command(run.home, "run", at=run.at):
        aside = run.home / f".{run.run_id}{ASIDE}"
        shutil.rmtree(aside, ignore_errors=True)
        if stopped.exists():
            # under its own name: whatever ends this command, it can be taken up again
            aside = stopped
        working = replace(run, folder=aside)
        finished = [
            name for name in stages if name in (working.record().timings_s or {})
        ]
        if finished:
            run.say(
                f"Run {run.run_id} is taken up: {', '.join(finished)} stay as they "
                "were computed, with what was set then, whatever is set now."
            )
        refused: UnlikeTestedError | None = None
        for stage in stages:
            if stage in finished:
                continue
            if stage not in _OF_A_MODEL or learnt_anything(working):
                try:
                    _timed(working, stage)
                except UnlikeTestedError as reason:
                    # what was learnt and judged stays, and the report says so
                    refused = reason
                except StoreUnreachableError as gone:
                    if aside != stopped:
                        rename_to_disk(aside, stopped)
                    raise RunStoppedError(str(gone), stage, run.run_id) from None
        to_publish(working, latest=True)
        write_checksums(aside, apart=(SERVING, UNPUBLISHED))
        rename_to_disk(aside, final)
        publish(run.home, run.run_id, run.mlflow_uri, run.store)
    if refused is not None:
        raise refused
    return final


def stopped_run(run: Run) -> Path:
    """Where the folder of a run lies that stopped before it was finished."""
    return run.home / f".{run.run_id}{STOPPED}"


def run_stage(run: Run, stage: str) -> None:
    """Run one stage of a finished run again, and show what comes of it."""
    _timed(run, stage)
    publish(run.home, run.folder.name, run.mlflow_uri, run.store)


def _timed(run: Run, stage: str) -> None:
    """Run one stage and note its seconds in `timings_s` of run.json."""
    started = time.perf_counter()
    run.tell(stage, STAGES.index(stage), len(STAGES))
    with server_answers(run.mlflow_uri):
        _STAGES[stage](run)
    run.tell(stage, STAGES.index(stage) + 1, len(STAGES))
    before = run.record().timings_s or {}
    run.note(timings_s={**before, stage: time.perf_counter() - started})


def remove_unfinished(home: Path, *, at: pd.Timestamp) -> list[str]:
    """Remove what commands that were killed left half written; say what it was.

    Only the holder of the campaign's lock (`one_command`) may ask for it. Plans have
    rules of their own: a step of theirs is finished or discarded as the ledger says,
    and drafts of a run that never was finished are rejected, before its folder goes. A
    folder of answers that the ledger does not name counts for nothing, and goes too.

    Args:
        home: The campaign's folder.
        at: When, for the ledger.

    Returns:
        Paths under the campaign's folder, and folders beside it.
    """
    removed = [
        f"{PLANS}/{plan_id}, a draft that is rejected"
        for aside in sorted(home.glob(f".*{ASIDE}"))
        for run_id in [aside.name.removeprefix(".").removesuffix(ASIDE)]
        for plan_id in discard_drafts(home, run_id, at=at)
    ]
    left = [
        path
        for path in sorted(home.rglob(f"*{ASIDE}"))
        if path.relative_to(home).parts[0] != PLANS
    ]
    received_folders = {
        file.folder for file in (*received(home), *received_ballots(home))
    }
    left += [
        folder
        for folder in sorted((home / RESULTS).glob("*/*"))
        if folder.is_dir() and folder not in received_folders and folder not in left
    ]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            continue  # within a folder that has gone
        removed.append(str(path.relative_to(home)))
    return removed + remove_unpacked(home)
