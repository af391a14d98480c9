"""Policies that `[plan] policy` can name, with what each was judged to gain."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hustings.experiments.stages.context import Json
from hustings.training.estimators.metrics import Interval
from hustings.training.policy_value.policies import CHAMPION
from hustings.training.policy_value.results import NOT_LEARNT, Evaluation

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class PlannablePolicy:
    """One policy as one experiment judged it.

    Attributes:
        experiment_id: The experiment.
        policy: The name that `[plan] policy` takes.
        label: As a person reads it.
        gain: Per voter over sending nothing, in points, under the limits of the plan.
        is_champions: Whether the champion goes by it in this experiment.
        is_planned: Whether `[plan]` names it.
    """

    experiment_id: str
    policy: str
    label: str
    gain: Interval
    is_champions: bool
    is_planned: bool

    def to_json(self) -> Json:
        """Convert to plain JSON values."""
        return {**vars(self), "gain": self.gain.as_dict()}

    def sentence(self) -> str:
        """As a line of the terminal."""
        marks = [self.is_champions * "the champion's", self.is_planned * "planned"]
        gain = f"{self.gain.value:+.2f} ({self.gain.low:+.2f} to {self.gain.high:+.2f})"
        line = f"{self.experiment_id}  {self.policy:<20}{gain:<26}{self.label}"
        return ", ".join([line, *(mark for mark in marks if mark)])


def latest_evaluated(home: Path) -> str:
    """The last run that was judged: a run of a later voter file may be of no test.

    Args:
        home: The campaign's folder.

    Raises:
        FileNotFoundError: If there is none.
    """
    judged = sorted(path.parent.name for path in home.glob(f"[!.]*/{EVALUATION}"))
    if not judged:
        raise FileNotFoundError(
            f"{home}: expected a run with {EVALUATION}, found none; `hustings run` "
            "judges every policy"
        )
    return judged[-1]


def plannable_policies(
    evaluation: Mapping[str, Any], planned: str
) -> list[PlannablePolicy]:
    """Every policy that can be planned by name, by experiment.

    Args:
        evaluation: As in `evaluation.json`.
        planned: `[plan] policy`.

    Returns:
        A plan names one policy for all experiments, so a policy that is unknown in one
        of them is left out. `champion` is whichever policy the verdict chose.
    """
    judged = {
        name: Evaluation.from_json(stored)
        for name, stored in evaluation["experiments"].items()
        if stored["verdict"] not in NOT_LEARNT
    }
    unit = float(evaluation["outcome"]["unit_per_point"])
    return [
        _judged_policy(experiment, result, name, unit, planned)
        for experiment, result in judged.items()
        for name in (CHAMPION, *(n for n in result.policies if n != CHAMPION))
        if all(name in (CHAMPION, *other.policies) for other in judged.values())
    ]


def _judged_policy(
    experiment: str, result: Evaluation, name: str, unit: float, planned: str
) -> PlannablePolicy:
    champion = result.verdict.champion
    value = result.policies[champion if name == CHAMPION else name]
    gain = Interval(
        value.gain.value / unit, value.gain.low / unit, value.gain.high / unit
    )
    return PlannablePolicy(
        experiment, name, value.label, gain, name in (CHAMPION, champion),
        name == planned,
    )  # fmt: skip
