"""Rollback of the champion to an earlier version, and of what the endpoint serves."""

import json
from dataclasses import replace
from pathlib import Path

from hustings.experiments.stages.context import Run, point_to
from hustings.experiments.stages.offers import contact_lists
from hustings.serving.decided import SERVING
from hustings.serving.load import write_bundle
from hustings.training.registry.register import Version, open_store, roll_back


def roll_back_campaign(
    run: Run, *, to: str, by: str, at: str, why: str
) -> tuple[Version, Path | None]:
    """Make an earlier version the champion, and serve the plan that was made with it.

    Args:
        run: Names the campaign, its runs and the store; it need not be finished.
        to: Version; empty for the champion before the present one.
        by: Name of the person who decides.
        at: Time of the decision.
        why: Reason in words.

    Returns:
        The champion from now on, and the run whose plan is served and which is the
        latest again: None where no run has a plan of that version, and the bundle
        stays as it was.
    """
    open_store(run.mlflow_uri or None, run.store)
    version = roll_back(run.campaign.campaign.name, to=to, by=by, at=at, why=why)
    planned = _planned_with(run.home, version)
    if planned is not None:
        terms = json.loads((planned / "plan.json").read_text())
        lists = contact_lists(replace(run, folder=planned))
        write_bundle(version, terms, lists, run.home / SERVING)
        point_to(run.home, planned.name)
    return version, planned


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
