"""Training the champion again on the declared rhythm of the loop."""

from dataclasses import replace

import pandas as pd

from hustings.experiments.loop.declared import LoopSettings
from hustings.experiments.loop.learners import has_champion
from hustings.experiments.run import run_campaign
from hustings.experiments.stages.context import Run

SUFFIX = "-retrained"


def retrained(
    run: Run,
    settings: LoopSettings,
    date: pd.Timestamp,
    phase: str,
    *,
    at: pd.Timestamp,
) -> tuple[Run, str]:
    """The run whose champion a day uses: trained anew where that is due.

    It is due on the first planned day without a champion, and once the last training
    for a day of the loop (else the first planned day) is `retrain_every_days` past.
    Every stage is run, on the files and all that has come back. The run is named by the
    day, so that one that was cut off is replaced by the next attempt.

    Returns:
        The run, and its name where it was trained now.
    """
    every, loop = settings.loop.retrain_every_days, settings.loop
    if loop.learner != "champion" or every is None or phase == "wave":
        return run, ""
    trained_on = last_trained(run, settings)
    if has_champion(run) and (date - trained_on).days < every:
        return run, ""
    name = f"{date:%Y%m%d}{SUFFIX}"
    new = replace(run, run_id=name, folder=run.home / name, at=at)
    run_campaign(new)
    return new, name


def last_trained(run: Run, settings: LoopSettings) -> pd.Timestamp:
    """Day of the loop for which the champion was last trained."""
    days = [
        pd.Timestamp(path.name.removesuffix(SUFFIX))
        for path in run.home.glob(f"*{SUFFIX}")
        if not path.name.startswith(".")
    ]
    first = settings.start_on + pd.Timedelta(days=settings.first_planned_day)
    return max([first, *days])
