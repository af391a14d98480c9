"""Train, evaluate and promote: from the training set to the registered champion."""

import shutil
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.report import figures, judged_only
from hustings.experiments.stages.audience import (
    eligible_voters,
    lowers_turnout,
    spend_per_voter,
)
from hustings.experiments.stages.context import Json, Run, rounded
from hustings.experiments.stages.declared import group_bounds
from hustings.experiments.stages.electorate import electorate_check, write_overlaps
from hustings.experiments.stages.external_priors import evidence_of
from hustings.experiments.stages.groups import honest_groups
from hustings.experiments.stages.guardrails import (
    closed_to,
    edges_of_segments,
    guardrail_rows,
    stored_guardrails,
    write_guardrails,
)
from hustings.experiments.stages.learnable import Learnable, learnable
from hustings.experiments.stages.meanwhile import Helper, meanwhile
from hustings.experiments.stages.model_card import model_card
from hustings.experiments.stages.offers import moment_of
from hustings.experiments.stages.plan_limits import campaign_value, limits_per_voter
from hustings.experiments.stages.proxies import proxy_check
from hustings.experiments.stages.publication import to_publish
from hustings.experiments.stages.response_model import (
    in_votes,
    predicted_response_of,
    write_predicted_response,
)
from hustings.experiments.stages.sendable import sendable
from hustings.experiments.stages.tracking import log_figure, tracking
from hustings.experiments.stages.tuning import Tunings
from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.message import MessageFeatures, message_features
from hustings.features.partner import providers
from hustings.features.tables import HISTORY_PREFIX
from hustings.features.training_set import (
    MessageTest,
    TrainingSet,
    arm_costs,
    message_tests,
    with_affinity_columns,
)
from hustings.features.voter import HISTORY_SHARE, segment_parts, segments
from hustings.serving.eligible import Eligibility
from hustings.serving.load import load_champion
from hustings.training.estimators.metrics import Interval
from hustings.training.estimators.split import unit_uniforms
from hustings.training.learners.average_effects import (
    MIN_MEASURED,
    Nuisances,
    estimates_of,
    fit_nuisances,
    judging_weight,
)
from hustings.training.learners.baselines import (
    CellLift,
    never_sent,
    one_covariate,
    untargeted,
    with_spread,
)
from hustings.training.learners.boosting import binned
from hustings.training.learners.forecasts import forecast_rows
from hustings.training.learners.lift_model import (
    FittedLift,
    load_lift,
    save_lift,
    variance_between,
)
from hustings.training.learners.priors import with_prior
from hustings.training.learners.response import LinearColumns
from hustings.training.learners.stack import StackLift
from hustings.training.policy_value.chosen_policies import chosen_policies
from hustings.training.policy_value.gate import is_expired
from hustings.training.policy_value.held_out_halves import (
    HALVES,
    Comparator,
    Contender,
    HeldOutHalf,
    judge_halves,
    training_half,
)
from hustings.training.policy_value.heterogeneity import (
    BalancedGroup,
    balanced_groups,
)
from hustings.training.policy_value.judged_policies import joined
from hustings.training.policy_value.partner import PartnerLift, partner_policy
from hustings.training.policy_value.policies import (
    BY_LIFT,
    ONE_COVARIATE,
    PARTNER,
    PERSONALISED,
    Policy,
    VoterFacts,
)
from hustings.training.policy_value.results import (
    NOT_LEARNT,
    NOTHING_CAN_BE_SAID,
    NOTHING_MAY_BE_SENT,
    VerdictName,
)
from hustings.training.policy_value.spending import Market
from hustings.training.policy_value.verdict import (
    answer,
    channel_rows,
    evaluate,
    message_rows,
    not_learnt,
    partner_slope,
    permuted_gain,
    prior_rows,
)
from hustings.training.registry.campaign_model import (
    CampaignModel,
    Reader,
    lifts_of,
)
from hustings.training.registry.learn import Learnt, Lesson, learn, learn_elsewhere
from hustings.training.registry.register import (
    Version,
    champion_version,
    earlier_attempts,
    git_commit,
    log_and_register,
    log_data,
    log_file,
    log_metrics,
    log_params,
    log_tags,
    open_store,
    operator,
)
from hustings.training.registry.track import (
    describe,
    flat_metrics,
    log_table,
    policy_table,
)

CANDIDATES = ("personalised", "one_covariate", "untargeted")
SEGMENTED_MESSAGES = 12
PERMUTED_AT_MOST = 40_000
"""The refutation by shuffled labels uses this many voters of a large test."""


@dataclass(frozen=True)
class _Materials:
    """Inputs that the modelling stages share.

    Attributes:
        reader: Of voter rows.
        rows: The training set without the people of arms that too few answered.
        features: Of the same rows.
        tests: The experiments, of the same rows.
        issue_of: Issue of every message.
        discloses: What every message discloses.
        learnable: What was set aside of the training set, and why.
        full_tests: Experiments of which arms were set aside, with everybody.
    """

    reader: Reader
    rows: pd.DataFrame
    features: pd.DataFrame
    tests: Mapping[str, MessageTest]
    issue_of: Mapping[str, str]
    discloses: Mapping[str, str]
    learnable: Learnable
    full_tests: Mapping[str, MessageTest]

    def without(self, experiments: Collection[str]) -> Self:
        """The materials of the other experiments."""
        tests = {n: test for n, test in self.tests.items() if n not in experiments}
        return replace(self, tests=tests)

    def valued(self, run: Run) -> Self:
        """The tests with votes as their outcome, where the campaign values votes."""
        if run.campaign.outcome.value == "outcome":
            return self
        worth = {name: in_votes(run, test) for name, test in self.tests.items()}
        return replace(self, tests=worth)

    @property
    def categorical(self) -> list[int]:
        return self.reader.encoding.categorical

    def of(self, experiment_id: str) -> Bools:
        """Rows of an experiment."""
        in_experiment: Bools = (self.rows["experiment_id"] == experiment_id).to_numpy(
            dtype=bool
        )
        return in_experiment


def _materials(run: Run) -> _Materials:
    reader = Reader.from_json(run.read_json("reader"))
    rows, features = run.read("training_set"), run.read("features")
    outcome = run.campaign.outcome
    full = TrainingSet(rows, features, run.table("designs"))
    teaches = learnable(full, outcome=outcome.name, direction=outcome.direction)
    training_set = teaches.training_set
    messages = run.table("messages")
    issue_of = dict(zip(messages["message_id"], messages["issue"], strict=True))
    tests = {
        name: with_affinity_columns(test, reader.encoding.names, issue_of)
        for name, test in message_tests(training_set, reader.encoding).items()
    }
    if run.has("priors.parquet"):
        priors = run.read("priors")
        tests = {
            name: with_prior(test, priors, run.campaign.outcome.direction)
            for name, test in tests.items()
        }
    tests = {
        name: replace(test, outcome_range=outcome.improving_range)
        for name, test in tests.items()
    }
    full_tests = message_tests(full, reader.encoding) if teaches.few_answers else {}
    evidence = evidence_of(run)
    if evidence is not None:
        tests, full_tests = (
            {name: replace(test, evidence=evidence) for name, test in of.items()}
            for of in (tests, full_tests)
        )
    return _Materials(
        reader,
        training_set.rows,
        training_set.features,
        tests,
        issue_of,
        dict(zip(messages["message_id"], messages["discloses"], strict=True)),
        teaches,
        {name: full_tests[name] for name in teaches.few_answers},
    )


def _texts(run: Run, model: str) -> MessageFeatures | None:
    """Features of the messages' texts for the learner "net", which reads them."""
    return message_features(run.table("messages")) if model == "net" else None


def _eligibility(
    run: Run, test: MessageTest, lowers: frozenset[str] = frozenset()
) -> Eligibility:
    """Permission of a test's voters at the plan's moment."""
    voter_id = pd.Series(test.voter_id, dtype="str")
    at = moment_of(pd.Timestamp(run.campaign.plan.start_on), run.at)
    return eligible_voters(run, voter_id, test.arms, lowers, at=at)


def _market(run: Run, materials: _Materials, test: MessageTest) -> Market:
    """Price, permission and the plan's limits for a test's voters."""
    plan, voters = run.campaign.plan, run.table("voters")
    n_all, of_test = len(voters), _voters_of(run, test)
    allowed = _eligibility(run, test, lowers_turnout(run)).allowed
    features = materials.features[materials.of(test.experiment_id)]
    allowed = allowed & ~closed_to(run, features, test.arms)
    if plan.only is not None:
        inside = of_test[plan.only.column].astype(str).isin(plan.only.values)
        allowed = allowed & inside.to_numpy(dtype=bool)[:, None]
    bounds = group_bounds(run, voters, 1 / n_all)
    row = pd.Index(voters["voter_id"]).get_indexer(pd.Index(test.voter_id))
    members = [bound.members[row] for bound in bounds]
    chances = predicted_response_of(run, test)
    segment = _segment_of(run, materials, test)
    facts = VoterFacts(segment) if chances is None else chances.facts(segment)
    return Market(
        arm_costs(run.table("costs"), test.arms),
        allowed,
        spend_per_voter(run, n_all),
        facts,
        np.column_stack(members) if members else None,
        limits_per_voter(run, test.arms, bounds, n_all),
        partial(campaign_value, confidence=plan.confidence, block=plan.block_backlash),
    )


def _segment_of(run: Run, materials: _Materials, test: MessageTest) -> Objects:
    """Segment of a test's voters, in its order."""
    features = materials.features[materials.of(test.experiment_id)]
    columns, edges = run.campaign.features.segment, edges_of_segments(run)
    of_voters = segments(features, columns, edges)
    return np.asarray(of_voters.to_numpy(dtype=object))


@dataclass(frozen=True)
class _NotLearnt:
    """Why nothing is learnt of an experiment, as was found before training."""

    verdict: VerdictName
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        is_forbidden = self.verdict == NOTHING_MAY_BE_SENT
        finding = "may be sent, because" if is_forbidden else "can be said yet:"
        return f"nothing {finding} {'; '.join(self.reasons)}"


def _not_sent(run: Run, test: MessageTest) -> tuple[_NotLearnt | None, list[str]]:
    """Rules that leave nothing to be sent of a test; else what they leave out."""
    of_test = sendable(run, _voters_of(run, test), test.arms)
    if not of_test.nothing:
        return None, of_test.notes()
    return _NotLearnt(NOTHING_MAY_BE_SENT, tuple(map(str, of_test.stops))), []


def _not_learnt(
    run: Run, materials: _Materials
) -> tuple[dict[str, _NotLearnt], list[str]]:
    """Experiments of which nothing is learnt, and what is set aside of the others.

    A rule that forbids everything comes first: better data would not help.
    """
    why: dict[str, _NotLearnt] = {}
    notes = list(materials.learnable.notes)
    for name, test in materials.tests.items():
        forbidden, set_aside = _not_sent(run, test)
        notes += [f"experiment {name}: {note}" for note in set_aside]
        if forbidden:
            why[name] = forbidden
        elif name in materials.learnable.lacking:
            reason = materials.learnable.lacking[name]
            why[name] = _NotLearnt(NOTHING_CAN_BE_SAID, (reason,))
    return why, notes


# --- train ---


class BeforeTraining(NamedTuple):
    """What is known of the experiments before anything is trained.

    Attributes:
        not_learnt: Experiment → why nothing is learnt of it.
        notes: What is set aside of the others, a sentence each.
        n_learnt: Experiments that are learnt from.
    """

    not_learnt: Mapping[str, str]
    notes: tuple[str, ...]
    n_learnt: int


def before_training(run: Run) -> BeforeTraining:
    """Find what may not be sent or cannot be learnt; write it to `not_learnt.json`."""
    return _to_learn(run)[1]


def _to_learn(run: Run) -> tuple[_Materials, BeforeTraining]:
    """The experiments that are learnt from, and why the others are not."""
    materials = _materials(run)
    why, notes = _not_learnt(run, materials)
    learnt = materials.without(why)
    if learnt.tests:
        notes += write_guardrails(
            run, learnt.rows, learnt.features, learnt.tests, learnt.categorical,
            learnt.issue_of,
        )  # fmt: skip
        for name, test in learnt.tests.items():
            # what harms may not be sent either
            forbidden, _ = _not_sent(run, test)
            why |= {name: forbidden} if forbidden else {}
    stored = {
        name: {"verdict": finding.verdict, "reasons": list(finding.reasons)}
        for name, finding in why.items()
    }
    few_answers = sorted(
        {m for n in materials.learnable.few_answers.values() for m in n}
    )
    run.write_json(
        "not_learnt",
        {"experiments": stored, "few_answers": few_answers, "notes": notes},
    )
    materials = materials.without(why)
    reasons = {name: str(finding) for name, finding in why.items()}
    return materials, BeforeTraining(reasons, tuple(notes), len(materials.tests))


def stage_train(run: Run) -> None:
    """Training set → tuned settings and candidate models, in one MLflow run.

    An experiment of which nothing may be sent to anybody, or that is too small to learn
    from, is left out: nothing is learnt of it. Where that is all, nothing is trained.
    """
    materials, findings = _to_learn(run)
    for note in findings.notes:
        run.say(note)
    for name, reason in findings.not_learnt.items():
        run.say(f"experiment {name}: {reason}")
    if not materials.tests:
        run.write_json("settings", {})
        run.write_json("policies", {})
        return
    write_predicted_response(run, materials.tests, materials.reader)
    materials = materials.valued(run)
    shutil.rmtree(run.folder / "candidates", ignore_errors=True)
    n_voters = max(len(test.Y) for test in materials.tests.values())
    with (
        tracking(run, anew=True),
        meanwhile(run.n_workers, n_voters) as helper,
    ):
        _log_what_is_asked(run, materials)
        tunings = Tunings(run)
        settings, policies = {}, {}
        for i, (experiment_id, test) in enumerate(materials.tests.items()):
            lessons = _lessons(run, materials, i, test, tunings, helped=helper.helps)
            halves = {
                label: helper.submit(learn_elsewhere, lessons.pop(label))
                for label in HALVES
            }
            learnt = learn(lessons["all"], tunings.progress(experiment_id))
            chosen = _train_one(run, materials, i, test, learnt)
            policies[experiment_id] = {n: p.to_json() for n, p in chosen.items()}
            tuned = {label: half.result() for label, half in halves.items()}
            settings[experiment_id] = {
                label: tunings.finished(of_part, experiment_id, label)
                for label, of_part in (tuned | {"all": learnt.tuned}).items()
            }
            tunings.notes += _unsettled(experiment_id, learnt.model)
        tunings.log(settings)
    run.write_json("settings", settings)
    run.write_json("policies", policies)
    for note in tunings.notes:
        run.say(note)
    not_learnt = run.read_json("not_learnt")
    notes = not_learnt["notes"] + tunings.notes
    run.write_json("not_learnt", not_learnt | {"notes": notes})


def _lessons(
    run: Run,
    materials: _Materials,
    i: int,
    test: MessageTest,
    tunings: Tunings,
    *,
    helped: bool,
) -> dict[str, Lesson]:
    """What is learnt of an experiment: of each half, and of all.

    Args:
        run: The run.
        materials: Experiments that are learnt from.
        i: Position of the experiment among them.
        test: The experiment.
        tunings: Searches of their settings.
        helped: Whether another process learns of the halves meanwhile.
    """
    seed, texts = run.campaign.campaign.seed, _texts(run, run.model)
    n_experiments = len(materials.tests) - i
    # searches of one process follow each other, and share what is left of the time
    n_left = n_experiments * (len(HALVES) if helped else len(HALVES) + 1)
    lessons = {}
    for label in (*HALVES, "all"):
        alone = helped and label == "all"
        part = training_half(test, label, seed=seed)
        lessons[label] = Lesson(
            test if label == "all" else test.take(part),
            materials.categorical, materials.issue_of, texts,
            tunings.search(test.experiment_id, label),
            tunings.hours(n_experiments if alone else n_left),
            max(1, run.n_workers // 2) if helped else run.n_workers,
            run.folder / "candidates" / str(i) / _OF_PART[label],
        )  # fmt: skip
        n_left -= 1
    return lessons


_OF_PART: Mapping[str, str] = {
    **{label: label for label in HALVES},
    "all": PERSONALISED,
}
"""Folder of the model of each half, and of all, among the candidates."""


def _unsettled(experiment_id: str, model: FittedLift) -> list[str]:
    """Whether the linear model's search ended before it had settled, in a sentence."""
    n_unsettled = model.linear.n_unsettled if isinstance(model, StackLift) else 0
    if not n_unsettled:
        return []
    return [
        f"experiment {experiment_id}: {n_unsettled} of the linear fits had not settled "
        "when the search of their prior ended; their lifts may be a little off"
    ]


def _train_one(
    run: Run, materials: _Materials, i: int, test: MessageTest, learnt: Learnt
) -> dict[str, Policy]:
    """Fit the other candidates and choose policies on all."""
    market, prepared = _market(run, materials, test), learnt.prepared
    split = one_covariate(
        prepared, materials.categorical, test.arms, market.allowed, market.cost,
        spend=market.spend,
    )  # fmt: skip
    spread = variance_between(learnt.model, test.X, test.unit_id)
    candidates: dict[str, FittedLift] = {
        "one_covariate": with_spread(split, test.X, spread),
        "untargeted": with_spread(untargeted(prepared.nuisances), test.X, spread),
    }
    for name, model in candidates.items():
        folder = run.folder / "candidates" / str(i) / name
        folder.mkdir(parents=True)
        save_lift(model, folder)
    band = run.campaign.outcome.persuadable
    return chosen_policies(prepared, test, market, band)


def _log_what_is_asked(run: Run, materials: _Materials) -> None:
    campaign = run.campaign
    declared = {
        **campaign.campaign.model_dump(mode="json", exclude={"title", "question"}),
        **{f"outcome_{k}": v for k, v in campaign.outcome.model_dump().items()},
        **{f"plan_{k}": v for k, v in campaign.plan.model_dump(mode="json").items()},
        "model": run.model,
        "n_trials": run.n_trials,
        "time_limit_s": run.time_limit_s,
        "n_workers": run.n_workers,
        "n_features": len(materials.reader.encoding.names),
        "features": ",".join(materials.reader.encoding.names)[:6000],
        "n_voters": len(materials.rows),
    }
    log_params(declared)
    trained = materials.features.assign(
        outcome=materials.rows["outcome"], propensity=materials.rows["propensity"]
    )
    log_data(trained, name=campaign.campaign.name, context="training")


# --- evaluate ---


def stage_evaluate(run: Run) -> None:
    """Candidates against the baselines, on halves that did not train them."""
    materials, not_learnt_json = _materials(run), run.read_json("not_learnt")
    every, why = dict(materials.tests), not_learnt_json["experiments"]
    materials = materials.without(why)
    if materials.tests:
        materials = materials.valued(run)
    settings = run.read_json("settings")
    champion, attempt = _comparable_champion(run), _attempt(run)
    experiments = {
        name: _left_out(run, every[name], stored, attempt)
        for name, stored in why.items()
    }
    n_voters = max((len(test.Y) for test in materials.tests.values()), default=0)
    with meanwhile(run.n_workers, n_voters) as helper:
        for n_judged, (experiment_id, test) in enumerate(materials.tests.items()):
            run.tell(f"judging {experiment_id}", n_judged, len(materials.tests))
            experiments[experiment_id] = _evaluate_one(
                run, materials, settings[experiment_id], test, champion, attempt, helper
            )
    checks = {name: r["checks"].get("electorate") for name, r in experiments.items()}
    write_overlaps(run, {name: check for name, check in checks.items() if check})
    n_audience = len(run.table("voters"))
    evaluation: Json = {
        "campaign": run.campaign.campaign.name,
        "outcome": run.campaign.outcome.as_valued().model_dump(mode="json"),
        "spend_per_voter_usd": spend_per_voter(run, n_audience),
        "n_eligible": n_audience,
        "notes": not_learnt_json["notes"],
        "experiments": experiments,
        "headline": _headline(experiments),
    }
    run.write_json("evaluation", rounded(evaluation))
    with tracking(run, anew=not materials.tests):
        if materials.tests:
            _log_what_is_answered(run, evaluation)
        else:
            # a verdict without training is no attempt of the gate
            log_tags({"verdict": evaluation["headline"]["verdict"]})
            log_file(run.path("evaluation.json"))
            describe(evaluation["headline"]["sentence"], {})


def _left_out(run: Run, test: MessageTest, stored: Json, attempt: int) -> Json:
    """The verdict on an experiment of which nothing is learnt."""
    result = not_learnt(
        test, stored["verdict"], stored["reasons"], attempt=attempt
    ).to_json()
    outcome = run.campaign.outcome.as_valued()
    return result | {
        "guardrails": guardrail_rows(run, test.experiment_id),
        "split": None,
        "sentence": answer(
            result, unit_per_point=outcome.unit_per_point, label=outcome.label
        ),
    }


def _log_what_is_answered(run: Run, evaluation: Json) -> None:
    """Log metrics, tables and charts under the names that all runs share."""
    evaluation = dict(judged_only(evaluation))
    log_metrics(flat_metrics(evaluation))
    log_tags({"verdict": evaluation["headline"]["verdict"]})
    log_table(policy_table(evaluation), "policies.json")
    log_file(run.path("evaluation.json"))
    record, campaign = run.record(), run.campaign
    facts = {
        "campaign": campaign.campaign.name,
        "outcome": f"{campaign.outcome.label}; gains are in its units, "
        f"{campaign.outcome.unit_per_point:g} to a point",
        "spend per voter": f"{evaluation['spend_per_voter_usd']:g} USD",
        "voters": f"{evaluation['n_eligible']:,}",
        "model": ", ".join(sorted(_models_of(run.read_json("settings")))),
        "champion": ", ".join(
            f"{name}: {result['champion']}"
            for name, result in evaluation["experiments"].items()
        ),
        "data": str(record.data_hash)[:16],
        "code": str(record.git_commit)[:12],
        "figures": "gain__(policy), area__(policy) and difference__(policy): what "
        "personalising adds to it; _low and _high are the ends of the 95 % interval",
        "trials": "nested runs; all in trials.json, the policies in policies.json",
    }
    describe(evaluation["headline"]["sentence"], facts)
    for name, chart in figures(evaluation, None, run.table("messages")).items():
        log_figure(run, name, chart)


def _models_of(settings: Json) -> set[str]:
    """Kinds of model that were tuned, as the settings name them."""
    return {halves["all"].get("model", "stack") for halves in settings.values()}


def _evaluate_one(
    run: Run,
    materials: _Materials,
    settings: Json,
    test: MessageTest,
    champion: CampaignModel | None,
    attempt: int,
    helper: Helper,
) -> Json:
    market, seed = _market(run, materials, test), run.campaign.campaign.seed
    common: Json = {
        "categorical": materials.categorical,
        "issue_of": materials.issue_of,
        "seed": seed,
        "texts": _texts(run, settings["all"]["model"]),
    }
    sampled = _at_most(test, PERMUTED_AT_MOST)
    shuffled = helper.submit(
        _shuffled_gain, test.take(sampled), market.take(sampled), settings["all"],
        common,
    )  # fmt: skip
    in_experiment = materials.of(test.experiment_id)
    halves = judge_halves(
        test,
        market,
        settings=lambda _, label: settings[label],
        band=run.campaign.outcome.persuadable,
        current_practice=_partner_policies(run, test),
        models={
            label: _candidate(run, materials, test.experiment_id, label)
            for label in HALVES
        },
        **common,
    )
    balanced = _balanced_groups(run, materials, test, halves, helper)
    seen = _candidate(run, materials, test.experiment_id, "personalised").predict(
        test.X, test.unit_id
    )
    audits = {"proxies": proxy_check(run, test.voter_id, test.unit_id, seen.lift)}
    result = evaluate(
        test,
        market,
        halves,
        audits=audits,
        segment=_segment_of(run, materials, test),
        champion=_in_use(run, champion, test),
        attempt=attempt,
        worthwhile_gain=run.campaign.champion.worthwhile_gain,
    ).to_json()
    result["checks"]["electorate"] = electorate_check(
        run, materials.reader, test, halves, result["champion"]
    )
    result["groups"] = honest_groups(
        run, materials.features[in_experiment], test, market, halves
    )
    nuisances = _candidate(run, materials, test.experiment_id, "untargeted").nuisances
    result["checks"]["permuted_gain"] = shuffled.result().as_dict()
    result["messages"] = message_rows(
        test, nuisances.effects, materials.issue_of, materials.discloses
    )
    result["messages"] += _shown_only(run, materials, test.experiment_id)
    best = {row["message_id"] for row in _best(result["messages"])}
    result["segments"] = [r for r in result["segments"] if r["message_id"] in best]
    result["balanced_groups"] = [
        {"message_id": test.messages[r.message], **r.as_dict()}
        for r in balanced.result() if test.messages[r.message] in best
    ]  # fmt: skip
    result["channels"] = channel_rows(test, nuisances.effects, market.cost)
    _tell_slopes(run, test, halves, result, nuisances)
    if test.evidence is not None:
        result["forecasts"] = forecast_rows(
            test.evidence, estimates_of(test.evidence, nuisances),
            usual_effect=float(nuisances.effects.usual_effect),
        )  # fmt: skip
    result["priors"] = prior_rows(test, nuisances.effects)
    if result["priors"]:
        result["panel_overlap"] = run.read_json("overlap")
    result["guardrails"] = guardrail_rows(run, test.experiment_id)
    effects = run.read_json("turnout")["effects"]
    effect_of_message = {m: effects.get(m, "unknown") for m in test.messages}
    result["turnout_effect"] = effect_of_message if effects else "unknown"
    result["reliability"] = run.read_json("reliability")[test.experiment_id]
    split = _candidate(run, materials, test.experiment_id, ONE_COVARIATE)
    result["split"] = None
    if result["champion"] == ONE_COVARIATE and isinstance(split, CellLift):
        result["split"] = split.question(materials.reader.encoding)
    outcome = run.campaign.outcome.as_valued()
    result["sentence"] = answer(
        result, unit_per_point=outcome.unit_per_point, label=outcome.label
    )
    return result


def _shuffled_gain(
    test: MessageTest, market: Market, params: Json, common: Json
) -> Interval:
    """What personalising gains where the labels of the treatment are shuffled."""
    return permuted_gain(
        test, market, params=params, categorical=common["categorical"],
        issue_of=common["issue_of"], seed=common["seed"], texts=common["texts"],
    )  # fmt: skip


BALANCED_AT_MOST = 40_000
"""Groups of a large test are compared with others among so many of its voters."""


def _balanced_groups(
    run: Run,
    materials: _Materials,
    test: MessageTest,
    halves: Sequence[HeldOutHalf],
    helper: Helper,
) -> Future[list[BalancedGroup]]:
    """Lift of every bin of the segments' columns against all others, others alike."""
    inside = materials.of(test.experiment_id)
    parts = segment_parts(
        materials.features[inside], run.campaign.features.segment,
        edges_of_segments(run),
    )  # fmt: skip
    sampled = _at_most(test, BALANCED_AT_MOST)
    left = test.take(sampled)
    names = materials.reader.encoding.names
    covariates = {}
    for column in parts:
        counted = [
            i for i, name in enumerate(names) if not _is_part_of(name, str(column))
        ]
        codes = [counted.index(i) for i in materials.categorical if i in counted]
        X = left.X[:, counted]
        covariates[str(column)] = LinearColumns.of(X, codes).matrix(X)[:, 1:]
    scores = joined(halves, lambda half: half.message_scores)[sampled]
    return helper.submit(
        _balanced, scores[:, 1:] - scores[:, :1],
        {str(c): parts[c].to_numpy(dtype=object)[sampled] for c in parts},
        covariates, np.unique(left.cluster, return_inverse=True)[1],
        judging_weight(left),
    )  # fmt: skip


def _balanced(
    lift_scores: Floats,
    groups: Mapping[str, Objects],
    covariates: Mapping[str, Floats],
    cluster: Ints,
    weight: Floats | None,
) -> list[BalancedGroup]:
    return balanced_groups(lift_scores, groups, covariates, cluster, weight)


def _is_part_of(name: str, column: str) -> bool:
    """Whether a feature is the column, or one of the elections that it counts."""
    return name == column or (
        column == HISTORY_SHARE and name.startswith(HISTORY_PREFIX)
    )


def _shown_only(run: Run, materials: _Materials, experiment_id: str) -> list[Json]:
    """Effects of messages that too few answered to be planned, as far as any did."""
    few_answers = materials.learnable.few_answers.get(experiment_id, {})
    answered = {m: n for m, n in few_answers.items() if n >= MIN_MEASURED}
    if not answered:
        return []
    test = materials.full_tests[experiment_id]
    data = binned(test.X, materials.categorical)
    seed = run.campaign.campaign.seed
    nuisances = fit_nuisances(test, data, materials.issue_of, seed=seed)
    rows = message_rows(
        test, nuisances.effects, materials.issue_of, materials.discloses
    )
    return [row | {"planned": False} for row in rows if row["message_id"] in answered]


def _best(messages: list[Json]) -> list[Json]:
    """The messages whose segments are reported: the strongest `SEGMENTED_MESSAGES`."""
    planned = [row for row in messages if row["planned"]]
    ordered = sorted(planned, key=lambda row: -row["shrunken"]["value"])
    return ordered[:SEGMENTED_MESSAGES]


def _at_most(test: MessageTest, n: int) -> Bools:
    """Whole units that hold about n voters."""
    return unit_uniforms(test.unit_id, salt="permuted") < n / len(test.Y)


def _candidate(
    run: Run, materials: _Materials, experiment_id: str, name: str
) -> FittedLift:
    i = list(materials.tests).index(experiment_id)
    return load_lift(run.folder / "candidates" / str(i) / name)


def _comparable_champion(run: Run) -> CampaignModel | None:
    """The present champion where it reads the same voter rows, else None."""
    open_store(run.mlflow_uri or None, run.store)
    loaded = load_champion(run.campaign.campaign.name)
    if loaded is None:
        return None
    model, version = loaded
    same = model.reader.to_json() == run.read_json("reader")
    expired = _is_expired(run, version)
    compared = same and not expired
    champion_before = {"version": version.version, "compared": compared}
    run.note(champion_before=champion_before | ({"expired": True} if expired else {}))
    return model if compared else None


def _is_expired(run: Run, version: Version) -> bool:
    trained_at = pd.Timestamp(version.tags["trained_at"])
    days = run.campaign.champion.max_age_days
    return is_expired(trained_at, now=run.at, max_age_days=days)


def _attempt(run: Run) -> int:
    """Number of this promotion attempt among those of the campaign, from 1."""
    open_store(run.mlflow_uri or None, run.store)
    data_hash = str(run.record().data_hash)
    name = run.campaign.campaign.name
    return 1 + earlier_attempts(name, data_hash=data_hash)


def _in_use(
    run: Run, champion: CampaignModel | None, test: MessageTest
) -> Contender | None:
    """The champion's policy and its lifts, by trees that never saw the unit."""
    lift = champion.lifts.get(test.experiment_id) if champion else None
    if champion is None or lift is None or lift.nuisances.messages != test.messages:
        return None
    lifts = lifts_of(lift, _voters_of(run, test), test.X, test.unit_id)
    policy = champion.policy(test.experiment_id)
    return Contender(policy, lifts.lift, lifts.se, lift.nuisances)


def _voters_of(run: Run, test: MessageTest) -> pd.DataFrame:
    """VOTERS rows of a test, in its order."""
    voters = run.table("voters")
    row = pd.Index(voters["voter_id"]).get_indexer(pd.Index(test.voter_id))
    rows: pd.DataFrame = voters.iloc[row].reset_index(drop=True)
    return rows


def _partner_policies(run: Run, test: MessageTest) -> dict[str, Comparator]:
    """Partners that know a message of the test, as challengers."""
    scores = run.optional_table("partner_scores")
    if scores is None:
        return {}
    test_scores = scores[scores["message_id"].isin(test.messages)]
    voters, campaign = _voters_of(run, test), run.campaign
    return {
        f"{PARTNER}{provider}": partner_policy(
            provider, voters, campaign.outcome.direction
        )
        for provider in providers(test_scores)
    }


def _tell_slopes(
    run: Run,
    test: MessageTest,
    halves: Sequence[HeldOutHalf],
    result: Json,
    nuisances: Nuisances,
) -> None:
    """Add the calibration slope of every partner's lifts."""
    for name, comparison in result["partners"].items():
        model = PartnerLift(
            nuisances, name.removeprefix(PARTNER), run.campaign.outcome.direction
        )
        lifts = lifts_of(model, _voters_of(run, test), test.X, test.unit_id)
        comparison["slope"] = partner_slope(test, halves, lifts.lift).as_dict()


def _headline(experiments: Mapping[str, Json]) -> Json:
    verdicts = [result["verdict"] for result in experiments.values()]
    n = verdicts.count("personalise")
    if len(experiments) == 1:
        (only,) = experiments.values()
        return {
            "sentence": only["sentence"],
            "verdict": only["verdict"],
            "n_personalise": n,
        }
    splits = verdicts.count("one_split_suffices")
    worst = "personalise" if n else "not_worth_personalising"
    if not n and splits:
        worst = "one_split_suffices"
    if set(verdicts) <= set(NOT_LEARNT):
        sentences = [f"{name}: {r['sentence']}" for name, r in experiments.items()]
        return {
            "sentence": " ".join(sentences),
            "verdict": verdicts[0] if len(set(verdicts)) == 1 else NOTHING_CAN_BE_SAID,
            "n_personalise": 0,
        }
    n_blocked = sum(bool(r["gate"]["blocked_by"]) for r in experiments.values())
    n_forbidden = verdicts.count(NOTHING_MAY_BE_SENT)
    n_small = verdicts.count(NOTHING_CAN_BE_SAID)
    n_other = len(verdicts) - n - splits - n_forbidden - n_small
    rules = f"; of {n_forbidden} nothing may be sent to anybody" if n_forbidden else ""
    rules += f"; {n_small} can say nothing yet" if n_small else ""
    distrust = f"; the data of {n_blocked} cannot be trusted" if n_blocked else ""
    return {
        "sentence": f"Of {len(verdicts)} experiments personalising pays in {n}, one "
        f"split suffices in {splits}, and in "
        f"{n_other} nothing beats the best message (or mix) for everyone"
        f"{rules}{distrust}.",
        "verdict": worst,
        "n_personalise": n,
    }


def learnt_anything(run: Run) -> bool:
    """Whether the verdict is one on what was learnt of an experiment."""
    verdict: str = run.read_json("evaluation")["headline"]["verdict"]
    return verdict not in NOT_LEARNT


# --- promote ---


def stage_promote(run: Run) -> None:
    """The judged candidates → a registered version; the champion by the verdict.

    It is the champion from the run's publication on.

    Raises:
        CampaignError: If nothing was learnt, since nothing may be sent or the data are
            too few: there is nothing to register, and nothing to plan.
    """
    evaluation = run.read_json("evaluation")
    if evaluation["headline"]["verdict"] in NOT_LEARNT:
        raise CampaignError(evaluation["headline"]["sentence"])
    materials = _materials(run).without(run.read_json("not_learnt")["experiments"])
    champions = {
        name: result["champion"]
        for name, result in evaluation["experiments"].items()
        if name in materials.tests
    }
    with tracking(run) as run_id:
        present = champion_version(run.campaign.campaign.name)
        blocked = [r["gate"]["blocked_by"] for r in evaluation["experiments"].values()]
        # data that cannot be trusted are no reason to drop what is in use
        if present and (set(champions.values()) == {"champion"} or all(blocked)):
            run.write_json("promoted", vars(present) | {"kept": True})
            return
        model = _composed(run, materials, evaluation, champions)
        folder = run.folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        model.save(folder)
        tags = {
            "verdict": evaluation["headline"]["verdict"],
            "data_hash": str(model.facts["data_hash"]),
            "judged_by": run_id,
            "git_commit": git_commit(),
            "trained_at": str(model.facts["trained_at"]),
            "hustings_run": run.run_id,
        }
        card = model_card(run, model.facts, champions)
        version = log_and_register(model, folder, run.read("example"), tags, card)
        log_tags({"registered": f"{version.name}/{version.version}"})
    run.write_json("promoted", vars(version) | {"kept": False})
    to_publish(run, champion={"by": operator(), "at": tags["trained_at"]})


def _composed(
    run: Run, materials: _Materials, evaluation: Json, champions: Mapping[str, str]
) -> CampaignModel:
    """One model of the champions of all experiments, with every other policy."""
    present = _comparable_champion(run)
    lifts: dict[str, FittedLift] = {}
    stored = run.read_json("policies")
    policies = {
        experiment_id: {
            n: Policy.from_json(p) for n, p in stored[experiment_id].items()
        }
        for experiment_id in champions
    }
    names = dict(champions)
    for experiment_id, name in champions.items():
        if name == "champion":
            assert present is not None
            lifts[experiment_id] = present.lifts[experiment_id]
            policy = present.policy(experiment_id)
            names[experiment_id] = policy.name
            policies[experiment_id][policy.name] = policy
        elif name.startswith(PARTNER):
            nuisances = _candidate(
                run, materials, experiment_id, "untargeted"
            ).nuisances
            direction = run.campaign.outcome.direction
            lifts[experiment_id] = PartnerLift(
                nuisances, name.removeprefix(PARTNER), direction
            )
        else:
            kind = name if name in CANDIDATES else "untargeted"
            candidate = _candidate(run, materials, experiment_id, kind)
            if name == "nobody":
                candidate = never_sent(candidate.nuisances)
            lifts[experiment_id] = candidate
    facts = {
        "outcome": evaluation["outcome"],
        "verdict": evaluation["headline"]["verdict"],
        "sentence": evaluation["headline"]["sentence"],
        "data_hash": run.record().data_hash,
        "lowers_turnout": run.read_json("turnout")["lowers"],
        "guardrails": stored_guardrails(run),
        "trained_at": run.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    arms = {name: test.arms for name, test in materials.tests.items()}
    other_lifts = {
        name: {
            experiment_id: _candidate(run, materials, experiment_id, name)
            for experiment_id in champions if names[experiment_id] != name
        }
        for name in BY_LIFT
    }  # fmt: skip
    return CampaignModel(
        run.campaign.campaign.name, materials.reader, lifts, arms, names, facts,
        policies, {name: lifts for name, lifts in other_lifts.items() if lifts},
    )  # fmt: skip
