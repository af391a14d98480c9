"""`Campaign`: what the commands have written of a campaign, as frames."""

import json
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from hustings.experiments.api.frames import long_lifts
from hustings.experiments.api.verdict import PolicyVerdict
from hustings.experiments.declaration import Campaign, load_campaign
from hustings.experiments.lift import LIFT_TABLE
from hustings.experiments.plans import find, folder_of
from hustings.experiments.stages.context import latest
from hustings.experiments.stages.plannable import EVALUATION, latest_evaluated
from hustings.serving.score import LIFT, SE
from hustings.training.policy_value.policies import Policy
from hustings.training.policy_value.results import Evaluation

RUNS = Path(".data")


class CampaignFolder:
    """A campaign and the folder that the commands have written; nothing is changed.

    Attributes:
        declared: The declaration.
        home: Folder of its runs, plans and answers.
    """

    def __init__(self, declared: Campaign, home: Path) -> None:
        self.declared = declared
        self.home = home

    @classmethod
    def open(cls, campaign: str | Path, *, data: str | Path = RUNS) -> Self:
        """Open a campaign.

        Args:
            campaign: A folder with a campaign.toml, the file, or a shipped campaign's
                name.
            data: Folder of runs, as the commands' `--data`.

        Raises:
            CampaignError: If it is not declared, or declared wrongly.
        """
        declared = load_campaign(campaign)
        return cls(declared, Path(data) / declared.campaign.name)

    def __repr__(self) -> str:
        return f"Campaign({self.declared.campaign.name!r}, home={str(self.home)!r})"

    def results(self, run: str = "") -> dict[str, PolicyVerdict]:
        """The verdict on every experiment of a run; the last one judged without.

        Raises:
            FileNotFoundError: If it was not judged.
        """
        folder = self.home / (run or latest_evaluated(self.home))
        evaluation = json.loads(
            _written(folder / EVALUATION, "hustings run").read_text()
        )
        policies = json.loads((folder / "policies.json").read_text())
        outcome = self.declared.outcome.as_valued()
        verdicts = {}
        for name, stored in evaluation["experiments"].items():
            chosen = policies.get(name, {}).get(stored["champion"])
            verdicts[name] = PolicyVerdict(
                Evaluation.from_json(stored),
                None if chosen is None else Policy.from_json(chosen),
                None,
                outcome.unit_per_point,
                outcome.label,
                tuple(evaluation["notes"]),
                "",
            )
        return verdicts

    def scores(self, run: str = "", *, level: float = 0.95) -> pd.DataFrame:
        """Lift of every message for every voter; of the latest run without.

        Args:
            run: The run.
            level: Of the intervals.

        Returns:
            Columns voter_id, message_id, lift, se, low, high, in outcome units.

        Raises:
            FileNotFoundError: If it was not scored.
            ValueError: If the level is not in (0, 1).
        """
        wide = pd.read_parquet(
            _written(self._run(run) / "scores.parquet", "hustings score")
        )
        columns = map(str, wide.columns)
        messages = [c.removeprefix(LIFT) for c in columns if c.startswith(LIFT)]
        lift = wide[[LIFT + m for m in messages]].to_numpy(dtype=np.float64)
        error = wide[[SE + m for m in messages]].to_numpy(dtype=np.float64)
        return long_lifts(
            wide["voter_id"].to_numpy(dtype=object), {"message_id": messages}, lift,
            error, level,
        )  # fmt: skip

    def plan(self, name: str = "") -> pd.DataFrame:
        """Contacts of a plan, by its name or the beginning of it; the latest without.

        Raises:
            PlanStepError: If there is no such plan.
        """
        return pd.read_parquet(
            folder_of(self.home, find(self.home, name)) / "plan.parquet"
        )

    def lift(self) -> pd.DataFrame:
        """What the plans brought, as `hustings lift` measured it last.

        Raises:
            FileNotFoundError: If it was not measured.
        """
        return pd.read_parquet(_written(self.home / LIFT_TABLE, "hustings lift"))

    def _run(self, run: str) -> Path:
        name = run or latest(self.home)
        if not name:
            raise FileNotFoundError(
                f"{self.home}: expected a run, found none; `hustings run` makes one"
            )
        return self.home / name


def _written(path: Path, command: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a file, found none; `{command}` writes it"
        )
    return path
