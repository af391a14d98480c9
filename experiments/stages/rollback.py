"""Rollback of the champion to an earlier version, and of what the endpoint serves."""

import json
from dataclasses import replace
from pathlib import Path

from hustings.experiments.results import record_of_run
from hustings.experiments.stages.champion import adopt, with_unseen
from hustings.experiments.stages.context import Run, latest, point_to
from hustings.experiments.stages.offers import contact_lists
from hustings.features.checksums import require_unaltered
from hustings.serving.decided import SERVING
from hustings.serving.load import load_version, write_bundle
from hustings.training.registry.register import (
    Version,
    open_store,
    roll_back,
    version_before,
)


def roll_back_campaign(
    run: Run, *, to: str, by: str, at: str, why: str
) -> tuple[Version, Path | None]:
    """Make an earlier version the champion, and serve the plan that was made with it.

    The run with the campaign's last voter file stays the latest. Where that is another
    than the run that planned, it scores and plans by the earlier version from now on.

    Args:
        run: Names the campaign, its runs and the store; it need not be finished.
        to: Version; empty for the champion before the present one.
        by: Name of the person who decides.
        at: Time of the decision.
        why: Reason in words.

    Returns:
        The champion from now on, and the run whose plan is served: None where no run
        has a plan of that version, and the bundle stays as it was.

    Raises:
        AlteredError: If a file of that run is not what was written; nothing was done.
    """
    open_store(run.mlflow_uri or None, run.store)
    campaign = run.campaign.campaign.name
    planned = _planned_with(run.home, version_before(campaign, to=to))
    if planned is not None:
        # before the champion moves: what is not what was written is not served
        require_unaltered(planned)
    version = roll_back(campaign, to=to, by=by, at=at, why=why)
    present = _latest_run(run)
    if planned is not None:
        of_plan = replace(run, folder=planned, run_id=planned.name)
        model = with_unseen(of_plan, load_version(version))
        terms = json.loads((planned / "plan.json").read_text())
        write_bundle(version, model, terms, contact_lists(of_plan), run.home / SERVING)
        if present is None or _snapshot(planned) == _snapshot(present.folder):
            point_to(run.home, planned.name)
            return version, planned
    if present is not None and (present.folder / "tables/voters.parquet").exists():
        adopt(present, version=version.version)
    return version, planned


def _latest_run(run: Run) -> Run | None:
    name = latest(run.home)
    if name is None or not (run.home / name).is_dir():
        return None
    return replace(run, folder=run.home / name, run_id=name)


def _snapshot(folder: Path) -> str:
    """Voter file that a run read; empty before it was read."""
    return record_of_run(folder).snapshot or ""


def _planned_with(home: Path, version: Version) -> Path | None:
    """The last run that planned with a version."""
    for promoted in sorted(home.glob("[!.]*/promoted.json"), reverse=True):
        promotion = json.loads(promoted.read_text())
        same = (promotion["name"], promotion["version"]) == (
            version.name,
            version.version,
        )
        if same and (promoted.parent / "plan.json").exists():
            return promoted.parent
    return None
