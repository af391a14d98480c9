"""The planner's inputs, stored with a plan so that the plan can be computed again.

The inputs are the value and the permission of every arm for every voter, the units
that decide together, the holdout, the terms and the seed. The replay needs neither the
model nor the tables of the run, so it works after both are deleted.
"""

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
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
from hustings.features.blocks import blocks_of, columns_of, n_rows
from hustings.features.spilled import blank, let_go, row_blocks
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
_LIFTS = ("lift", "predicted")
PLACE = "place"
"""Column of the inputs: which place may be taken whole, and who lives there."""
_TEXTS = ("voter_id", "unit_id", PLACE)


@dataclass(frozen=True)
class PlanInputs:
    """Arguments of `plan_contacts`, as they are stored.

    Attributes:
        texts: voter_id, unit_id and, where whole places are offered something, their
            place, each of shape (n,).
        arrays: By the names of the planner's arguments, of shape (n,) or (n, A):
            `lift`, `allowed`, `held_voters`, ...; lifts in single precision.
        terms: Arms, their cost, PlanSettings, options of whole places and the seed, as
            JSON values.
    """

    texts: Mapping[str, Objects]
    arrays: Mapping[str, npt.NDArray[Any]]
    terms: Json

    def __len__(self) -> int:
        return len(self.texts["voter_id"])

    def frames(self) -> Iterator[pd.DataFrame]:
        """A row for each voter, block by block: columns `voter_id`, `lift:0`, ..."""
        blocks = list(row_blocks(len(self))) or [slice(0, 0)]
        for rows in blocks:
            wide = {name: values[rows] for name, values in self.texts.items()}
            for name, values in self.arrays.items():
                if values.ndim == 1:
                    wide[name] = values[rows]
                    continue
                wide |= {f"{name}:{a}": c for a, c in enumerate(values[rows].T)}
            yield pd.DataFrame(wide)
        let_go(*self.arrays.values())

    @classmethod
    def read(cls, path: Path, terms: Json) -> "PlanInputs":
        """Read what was kept of a plan's inputs, block by block.

        Args:
            path: Their file.
            terms: As they stand in the plan's terms.
        """
        n = n_rows(path)
        # a file from which somebody was taken out carries an index along
        names = [name for name in columns_of(path) if not name.startswith("__")]
        columns: dict[str, list[str]] = {}
        for name in names:
            columns.setdefault(name.partition(":")[0], []).append(name)
        texts = {name: np.empty(n, dtype=object) for name in _TEXTS if name in columns}
        arrays: dict[str, npt.NDArray[Any]] = {}
        start = 0
        for frame in blocks_of(path):
            rows = slice(start, start + len(frame))
            for name, parts in columns.items():
                if name in texts:
                    texts[name][rows] = frame[name].to_numpy(dtype=object)
                    continue
                values = frame[parts].to_numpy()
                if name not in arrays:
                    arrays[name] = blank((n, len(parts)), values.dtype)
                arrays[name][rows] = values
            start += len(frame)
        flat = {name: a[:, 0] for name, a in arrays.items() if name in names}
        return cls(texts, arrays | flat, terms)


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
    texts = {"voter_id": voter_id, "unit_id": unit_id}
    arrays: dict[str, npt.NDArray[Any]] = {}
    given = {"lift": lift, "allowed": allowed, **further_arrays}
    for name, values in given.items():
        if values is None:
            continue
        if name not in (*_OF_ARMS, *_OF_VOTERS):
            raise ValueError(
                f"expected one of {', '.join((*_OF_ARMS, *_OF_VOTERS))}, got {name!r}"
            )
        arrays[name] = _single(values) if name in _LIFTS else values
    if "predicted" in arrays and _are_equal(arrays["predicted"], arrays["lift"]):
        # the planner states the lifts by which it plans
        del arrays["predicted"]
    if bounds:
        arrays["bound"] = np.column_stack([bound.members for bound in bounds])
    if places is not None:
        texts[PLACE] = places.place
        arrays["counted"] = places.counted
    settings = {
        "places": None if places is None else [list(o) for o in places.options],
        "bounds": [[b.name, b.low, b.high, b.most] for b in bounds],
        "arms": [list(arm) for arm in arms], "cost_usd": [float(c) for c in cost],
        "terms": _settings_json(terms), "seed": [int(s) for s in seed],
        "decided_only": decided_only,
        "experiments": list(belief.experiment_of_arm),
        "model_version": belief.model_version,
    }  # fmt: skip
    return PlanInputs(texts, arrays, settings)


def _single(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values in single precision, copied block by block where they are not."""
    if values.dtype == np.float32:
        return values
    single = blank(values.shape, np.float32)
    for rows in row_blocks(len(values)):
        single[rows] = values[rows]
    let_go(values, single)
    return single


def _are_equal(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> bool:
    equal = all(np.array_equal(one[r], two[r]) for r in row_blocks(len(one)))
    let_go(one, two)
    return equal


def planned_again(inputs: PlanInputs) -> Plan:
    """The plan that these inputs give."""
    arrays, settings = inputs.arrays, inputs.terms
    arms = [Arm(*arm) for arm in settings["arms"]]
    optional_inputs: Json = {
        name: arrays[name]
        for name in (*_OF_VOTERS, "explore_odds", "predicted")
        if name in arrays
    }
    if settings.get("bounds"):
        optional_inputs["bounds"] = [
            GroupBound(name, arrays["bound"][:, b], *limits)
            for b, (name, *limits) in enumerate(settings["bounds"])
        ]
    if settings.get("places") is not None:
        options = tuple(PlaceOption(*option) for option in settings["places"])
        optional_inputs["places"] = PlaceOffers(
            inputs.texts[PLACE], options, arrays["counted"]
        )
    return plan_contacts(
        inputs.texts["voter_id"],
        inputs.texts["unit_id"],
        arrays["lift"],
        arrays["allowed"],
        arms,
        np.array(settings["cost_usd"]),
        _settings_of_json(settings["terms"]),
        np.random.default_rng(settings["seed"]),
        **optional_inputs,
    )


def without_bounds(inputs: PlanInputs) -> PlanInputs:
    """The inputs as they were if no group of voters had limits."""
    arrays = {name: values for name, values in inputs.arrays.items() if name != "bound"}
    return replace(inputs, arrays=arrays, terms={**inputs.terms, "bounds": []})


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
        inputs = PlanInputs.read(path, settings)
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
