"""Whether the plan's voters are like the tested; what that means for lifts and plan."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.stages.context import Json, Run
from hustings.features.arrays import Floats
from hustings.features.membership import among
from hustings.features.training_set import MessageTest, household
from hustings.training.learners.average_effects import judging_weight
from hustings.training.policy_value.electorate import (
    REFUSED,
    ElectorateOverlap,
    electorate_overlap,
    sampled_rows,
)
from hustings.training.policy_value.held_out_halves import UNTARGETED, HeldOutHalf
from hustings.training.policy_value.heterogeneity import weighted_mean
from hustings.training.policy_value.judged_policies import joined
from hustings.training.policy_value.policies import Policy
from hustings.training.registry.campaign_model import Reader


class UnlikeTestedError(CampaignError):
    """A plan by voters' features of voters who are not like those tested."""


def overlap_of(
    run: Run, reader: Reader, experiment_id: str
) -> tuple[ElectorateOverlap, pd.Series] | None:
    """Overlap of the plan's voters with an experiment's, and weights of the tested.

    Both are read from the present file, so that nobody differs by a birthday.

    Args:
        run: Its tables say who was tested; its declaration who may be contacted.
        reader: Of voter rows.
        experiment_id: The experiment.

    Returns:
        None where the run does not know who was tested; weights by voter_id.
    """
    drawn = run.optional_table("deliveries")
    if drawn is None:
        return None
    voters, plan = run.table("voters"), run.campaign.plan
    ids = drawn.loc[drawn["experiment_id"] == experiment_id, "voter_id"]
    is_tested = among(voters["voter_id"], ids)
    is_planned = np.ones(len(voters), dtype=bool)
    if plan.audience == "experiment":
        is_planned = is_tested
    if plan.only is not None and plan.only.column in voters:
        inside = voters[plan.only.column].astype(str).isin(plan.only.values)
        is_planned = is_planned & inside.to_numpy(dtype=bool)
    if not is_tested.any() or not is_planned.any():
        return None
    tested = voters.loc[is_tested, "voter_id"]
    if (is_tested == is_planned).all():
        alike = ElectorateOverlap.of_the_tested(len(tested))
        return alike, pd.Series(1.0, index=tested)
    seed = run.campaign.campaign.seed
    # a few of the planned tell what they are like, however many there are
    sampled = sampled_rows(np.flatnonzero(is_planned), np.random.default_rng(seed))
    counted = np.zeros(len(voters), dtype=bool)
    counted[sampled] = True
    left = is_tested | counted
    overlap, weight = electorate_overlap(
        reader.encoding.transform(reader.features(voters[left])), is_tested[left],
        counted[left], household(voters[left]).to_numpy(dtype=object),
        reader.encoding.names, reader.encoding.categorical, seed=seed,
    )  # fmt: skip
    overlap = replace(
        overlap, n_planned=int(is_planned.sum()),
        n_both=int((is_planned & is_tested).sum()),
    )  # fmt: skip
    return overlap, pd.Series(weight, index=tested)


def electorate_check(
    run: Run,
    reader: Reader,
    test: MessageTest,
    halves: Sequence[HeldOutHalf],
    champion: str,
) -> Json:
    """The check of an experiment for `evaluation.json`, and what carries over.

    Args:
        run: See `overlap_of`.
        reader: Of voter rows.
        test: The experiment, arms as sent.
        halves: From `judge_halves`.
        champion: The policy to use.

    Returns:
        The overlap, `ok` and, where weights carry the lift over, the average effect of
        every message and the champion's gain among the planned. The doubt about the
        weights themselves is not in their intervals.
    """
    compared = overlap_of(run, reader, test.experiment_id)
    if compared is None:
        return {}
    overlap, by_voter = compared
    result: Json = {
        **overlap.to_json(), "ok": overlap.verdict != REFUSED,
        "reasons": overlap.reasons, "messages": [], "gain": None,
    }  # fmt: skip
    if overlap.verdict != "reweighted":
        return result
    weight = by_voter.reindex(test.voter_id).fillna(0.0).to_numpy(dtype=np.float64)
    judging = judging_weight(test)
    survey = np.ones(len(weight)) if judging is None else judging
    scores = joined(halves, lambda half: half.message_scores)
    of_planned, of_tested = weight * survey, survey
    for m, message in enumerate(test.messages):
        lift = scores[:, 1 + m] - scores[:, 0]
        result["messages"].append(
            {
                "message_id": message,
                "tested": weighted_mean(
                    lift, test.cluster, _mean_one(of_tested)
                ).as_dict(),
                "planned": weighted_mean(
                    lift, test.cluster, _mean_one(of_planned)
                ).as_dict(),
            }
        )
    if all(champion in half.choices for half in halves):
        # scores of policies have the judging weight in them
        realised = joined(halves, lambda h: h.choices[champion].realised(h.scores))
        gain = weighted_mean(realised, test.cluster, _mean_one(weight))
        result["gain"] = {"policy": champion, "planned": gain.as_dict()}
    return result


def _mean_one(weight: Floats) -> Floats:
    return np.asarray(weight / weight.mean(), dtype=np.float64)


def require_like_the_tested(run: Run, reader: Reader, policy: Policy) -> None:
    """Refuse a plan by voters' features of voters who are not like those tested.

    What sends to random people needs no features, and is planned all the same.

    Args:
        run: Its `evaluate` compared them; a run of a later voter file compares now.
        reader: Of voter rows.
        policy: What is to be planned.

    Raises:
        UnlikeTestedError: Naming the reasons and the ways out.
    """
    parts = policy.parts or {"": policy}
    if all(part.name in UNTARGETED for part in parts.values()):
        return
    for experiment, overlap in _overlaps(run, reader).items():
        part = parts.get(experiment) or parts.get("")
        if part is None or part.name in UNTARGETED or overlap.verdict != REFUSED:
            continue
        raise UnlikeTestedError(
            f"Not planned: the policy {part.name!r} goes by what is known of voters, "
            f"and the plan's are not like those of experiment {experiment!r}: "
            f"{'; '.join(overlap.reasons)}. {overlap.n_both:,} of "
            f"{overlap.n_planned:,} were in it. Leave columns that only the tested "
            "have out of [features] and train again; or plan those alone who are like "
            'the tested ([plan] audience = "experiment", [plan.only]); or send by the '
            'average: [plan] policy = "best_mix" or "single_best"'
        )


def _overlaps(run: Run, reader: Reader) -> dict[str, ElectorateOverlap]:
    """Overlap by experiment: as `evaluate` found it, else of the present file."""
    if not run.has("electorate.json"):
        drawn = run.optional_table("deliveries")
        ids = [] if drawn is None else sorted(set(drawn["experiment_id"]))
        compared = {name: overlap_of(run, reader, name) for name in ids}
        write_overlaps(
            run, {name: c[0].to_json() for name, c in compared.items() if c is not None}
        )
    stored = run.read_json("electorate")
    return {name: ElectorateOverlap.from_json(row) for name, row in stored.items()}


def write_overlaps(run: Run, by_experiment: Json) -> None:
    """Write the overlap of every experiment that was compared."""
    run.write_json("electorate", by_experiment)
