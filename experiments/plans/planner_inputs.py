"""The planner's inputs, stored with a plan so that the plan can be computed again.

The inputs are the value and the permission of every arm for every voter, the units
that decide together, the holdout, the terms and the seed. The replay needs neither the
model nor the tables of the run, so it works after both are deleted.
"""

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hustings.experiments.plans.designs import (
    Belief,
    Designed,
    designed,
)
from hustings.features.arrays import Bools, Floats, Objects
from hustings.features.tables import ASSIGNMENTS, DESIGNS, PLAN, UNDECIDED, check
from hustings.features.training_set import Arm
from hustings.serving.plan import (
    ChannelCharges,
    GroupBound,
    PlaceOffers,
    PlaceOption,
    Plan,
    PlanError,
    PlanSettings,
    least_budget,
    plan_contacts,
)

Json = dict[str, Any]

INPUTS = "inputs-"
"""Files of a plan's folder that begin so hold the inputs of an audience."""
_OF_ARMS = ("lift", "allowed", "explore_odds", "predicted")
_OF_VOTERS = ("held_voters", "pool_probability")
PLACE = "place"
"""Column of the inputs: which place may be taken whole, and who lives there."""


@dataclass(frozen=True)
class PlanInputs:
    """Arguments of `plan_contacts`, as they are stored.

    Attributes:
        frame: A row for each voter: voter_id, unit_id, and columns named for the
            planner's arguments: `lift:0`, `allowed:0`, ... by arm; `held_voters`, ...
        terms: Arms, their cost, PlanSettings, options of whole places and the seed, as
            JSON values.
    """

    frame: pd.DataFrame
    terms: Json


def inputs_of(
    voter_id: Objects,
    unit_id: Objects,
    lift: Floats,
    allowed: Bools,
    arms: Sequence[Arm],
    cost: Floats,
    terms: PlanSettings,
    seed: Sequence[int],
    belief: Belief,
    *,
    decided_only: bool = False,
    bounds: Sequence[GroupBound] = (),
    places: PlaceOffers | None = None,
    **further_arrays: npt.NDArray[Any] | None,
) -> PlanInputs:
    """The arguments of `plan_contacts`, as they are kept.

    Args:
        voter_id: Shape (n,).
        unit_id: Shape (n,).
        lift: Shape (n, A).
        allowed: Shape (n, A).
        arms: Length A.
        cost: Shape (A,).
        terms: Of the plan.
        seed: Of the random draws.
        belief: Experiments of the arms, and the model.
        decided_only: Whether the plan's folder keeps the assignments of those alone
            who were decided.
        bounds: Limits on groups of voters.
        places: What whole places may be offered; None where nothing is.
        further_arrays: Arrays that the planner takes by name: `held_voters`,
            `explore_odds`, `pool_probability`, `predicted`.
    """
    wide: dict[str, npt.NDArray[Any]] = {"voter_id": voter_id, "unit_id": unit_id}
    given = {"lift": lift, "allowed": allowed, **further_arrays}
    for name, values in given.items():
        if values is None:
            continue
        if name not in (*_OF_ARMS, *_OF_VOTERS):
            raise ValueError(
                f"expected one of {', '.join((*_OF_ARMS, *_OF_VOTERS))}, got {name!r}"
            )
        parts = values.T if name in _OF_ARMS else [values]
        wide |= {
            f"{name}:{a}" if name in _OF_ARMS else name: part
            for a, part in enumerate(parts)
        }
    wide |= {f"bound:{b}": bound.members for b, bound in enumerate(bounds)}
    if places is not None:
        wide[PLACE] = places.place
        wide |= {f"counted:{b}": part for b, part in enumerate(places.counted.T)}
    settings = {
        "places": None if places is None else [list(o) for o in places.options],
        "bounds": [[b.name, b.low, b.high, b.most] for b in bounds],
        "arms": [list(arm) for arm in arms], "cost_usd": [float(c) for c in cost],
        "terms": _settings_json(terms), "seed": [int(s) for s in seed],
        "decided_only": decided_only,
        "experiments": list(belief.experiment_of_arm),
        "model_version": belief.model_version,
    }  # fmt: skip
    return PlanInputs(pd.DataFrame(wide), settings)


def planned_again(inputs: PlanInputs) -> Plan:
    """The plan that these inputs give."""
    frame, settings = inputs.frame, inputs.terms
    arms = [Arm(*arm) for arm in settings["arms"]]
    optional_inputs: Json = {
        name: frame[name].to_numpy() for name in _OF_VOTERS if name in frame
    }
    for name in ("explore_odds", "predicted"):
        if f"{name}:0" in frame:
            optional_inputs[name] = _wide(frame, name, len(arms))
    if settings.get("bounds"):
        optional_inputs["bounds"] = [
            GroupBound(name, frame[f"bound:{b}"].to_numpy(), *limits)
            for b, (name, *limits) in enumerate(settings["bounds"])
        ]
    if settings.get("places") is not None:
        options = tuple(PlaceOption(*option) for option in settings["places"])
        optional_inputs["places"] = PlaceOffers(
            frame[PLACE].to_numpy(dtype=object), options,
            _wide(frame, "counted", len(options)),
        )  # fmt: skip
    return plan_contacts(
        frame["voter_id"].to_numpy(dtype=object),
        frame["unit_id"].to_numpy(dtype=object),
        _wide(frame, "lift", len(arms)),
        _wide(frame, "allowed", len(arms)),
        arms,
        np.array(settings["cost_usd"]),
        _settings_of_json(settings["terms"]),
        np.random.default_rng(settings["seed"]),
        **optional_inputs,
    )


def cheapest(inputs: PlanInputs, *, wanted: float) -> tuple[PlanInputs, float]:
    """The inputs with the least budget whose plan is predicted to lift what is wanted.

    Args:
        inputs: Their budget is the most that may be spent.
        wanted: Predicted lift of all contacts and places together, outcome units.

    Returns:
        The inputs, and their budget in USD.

    Raises:
        PlanError: If the budget does not buy that lift within the other limits.
    """

    def at(budget_usd: float) -> PlanInputs:
        terms = {**inputs.terms["terms"], "budget_usd": budget_usd}
        return replace(inputs, terms={**inputs.terms, "terms": terms})

    def lift_at(budget_usd: float) -> float:
        try:
            plan = planned_again(at(budget_usd))
        except PlanError:
            # too little money for floors and shares is too little
            if budget_usd == most:
                raise
            return 0.0
        return float(plan.contacts["lift"].sum() + plan.places["lift"].sum())

    most = float(inputs.terms["terms"]["budget_usd"])
    budget = least_budget(lift_at, wanted=wanted, most_usd=most)
    return at(budget), budget


def designed_again(inputs: PlanInputs, plan: Plan) -> Designed:
    """Assignments and designs of the plan that these inputs gave."""
    terms = inputs.terms
    belief = Belief(tuple(terms["experiments"]), terms["model_version"])
    arms = [Arm(*arm) for arm in terms["arms"]]
    return designed(
        plan, arms, belief, holdout=terms["terms"]["holdout_share"],
        decided_only=terms["decided_only"],
    )  # fmt: skip


def tables_again(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables `plan`, `assignments` and `designs` of a plan, computed again.

    Of a plan that offers something to whole places also `places`.

    Raises:
        FileNotFoundError: If its inputs were not kept.
    """
    facts = json.loads((folder / "terms.json").read_text())
    parts: list[tuple[pd.DataFrame, Designed]] = []
    of_places: dict[str, pd.DataFrame] = {}
    for name, settings in facts["terms"].get("audiences", {}).items():
        path = folder / f"{INPUTS}{name}.parquet"
        inputs = PlanInputs(pd.read_parquet(path), settings)
        plan = planned_again(inputs)
        parts.append((plan.contacts, designed_again(inputs, plan)))
        if settings.get("places") is not None:
            of_places["places"] = plan.places
    if not parts:
        raise FileNotFoundError(
            f"plan {folder.name}: expected its inputs ({INPUTS}*.parquet), got none: "
            "it was drafted without them"
        )
    return tables_of(parts) | of_places


def tables_of(
    parts: Sequence[tuple[pd.DataFrame, Designed]],
) -> dict[str, pd.DataFrame]:
    """The tables of a plan's folder, from the contacts and designs of its audiences.

    Args:
        parts: PLAN and what was decided, of every audience.
    """
    several = len(parts) > 1
    contacts = [contacts for contacts, _ in parts]
    renamed_parts = [
        _with_block_prefix(d, f"a{k} " if several else "")
        for k, (_, d) in enumerate(parts)
    ]
    return {
        "plan": check(PLAN, pd.concat(contacts, ignore_index=True)),
        "assignments": check(
            ASSIGNMENTS,
            pd.concat([d.assignments for d in renamed_parts], ignore_index=True),
        ),
        "designs": check(
            DESIGNS, pd.concat([d.designs for d in renamed_parts], ignore_index=True)
        ),
    }


def _with_block_prefix(part: Designed, prefix: str) -> Designed:
    """Blocks of an audience under names of their own among those of a plan."""
    if not prefix:
        return part
    decided = part.assignments["block"] != UNDECIDED
    block = part.assignments["block"]
    return Designed(
        part.assignments.assign(block=block.where(~decided, prefix + block)),
        part.designs.assign(block=prefix + part.designs["block"]),
    )


def _wide(frame: pd.DataFrame, name: str, n_arms: int) -> npt.NDArray[Any]:
    return frame[[f"{name}:{a}" for a in range(n_arms)]].to_numpy()


def _settings_json(settings: PlanSettings) -> Json:
    """Settings as JSON values, without loss."""
    return {
        name: str(value) if isinstance(value, pd.Timestamp) else _plain(value)
        for name, value in vars(settings).items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def _settings_of_json(stored: Json) -> PlanSettings:
    parameters = inspect.signature(PlanSettings).parameters
    strange = stored.keys() - parameters.keys()
    if strange:
        raise ValueError(
            f"expected terms of a plan, got {', '.join(sorted(strange))}: it was made "
            "by another version; replay it with that one"
        )
    terms = PlanSettings(**{**stored, "start_on": pd.Timestamp(stored["start_on"])})
    entered = {
        channel: ChannelCharges(*values) for channel, values in terms.entered.items()
    }
    return replace(terms, entered=entered)
