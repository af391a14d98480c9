"""Train, evaluate and promote: training set → registered champion."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from experiments.run.audience import (
    eligible_voters,
    lowers_turnout,
    spend_per_voter,
)
from experiments.run.chances import chances_of, in_votes, write_chances
from experiments.run.context import Json, Run, rounded, slug
from experiments.run.tracking import tracking
from features.partner import providers
from features.training_set import (
    MessageTest,
    TrainingSet,
    arm_costs,
    message_tests,
)
from features.voter import segments
from serving.load import load_champion
from training.baselines import (
    never_sent,
    one_covariate,
    untargeted,
    with_spread,
)
from training.comparators import comparators
from training.effects import Ground
from training.evaluate import (
    answer,
    channel_rows,
    evaluate,
    message_rows,
    partner_slope,
    permuted_gain,
    prior_rows,
    turnout_effects,
)
from training.gbm import DEFAULT_PARAMS, Prepared, fit_gbm, prepare
from training.judge import (
    HALVES,
    Comparator,
    Half,
    Market,
    judge_halves,
    training_half,
)
from training.metrics import Interval
from training.model import KINDS, CampaignModel, LiftModel, Reader, lifts_of
from training.partner import PARTNER, PartnerLift, partner_policy
from training.priors import with_prior
from training.register import (
    champion_version,
    flat_metrics,
    git_commit,
    log_and_register,
    log_data,
    log_file,
    log_metrics,
    log_params,
    log_tags,
    open_store,
    promote,
)
from training.split import unit_uniforms
from training.tune import tune

Floats = npt.NDArray[np.float64]

CANDIDATES = ("personalised", "one_covariate", "untargeted")
SEGMENTED_MESSAGES = 12
PERMUTED_AT_MOST = 40_000
"""The refutation by shuffled labels uses this many voters of a large test."""


@dataclass(frozen=True)
class _Materials:
    """What the modelling stages share."""

    reader: Reader
    rows: pd.DataFrame
    features: pd.DataFrame
    tests: Mapping[str, MessageTest]
    issue_of: Mapping[str, str]
    discloses: Mapping[str, str]

    def valued(self, run: Run) -> Self:
        """The tests with what a lift is worth as their outcome."""
        if run.campaign.outcome.value == "outcome":
            return self
        worth = {name: in_votes(run, test) for name, test in self.tests.items()}
        return replace(self, tests=worth)

    @property
    def categorical(self) -> list[int]:
        return self.reader.encoding.categorical

    def of(self, experiment_id: str) -> npt.NDArray[np.bool_]:
        """Rows of an experiment."""
        found: npt.NDArray[np.bool_] = (
            self.rows["experiment_id"] == experiment_id
        ).to_numpy(dtype=bool)
        return found


def _materials(run: Run) -> _Materials:
    reader = Reader.from_json(run.read_json("reader"))
    rows, features = run.read("training_set"), run.read("features")
    training_set = TrainingSet(rows, features, run.table("designs"))
    messages = run.table("messages")
    tests = message_tests(training_set, reader.encoding)
    if (run.folder / "priors.parquet").exists():
        known = run.read("priors")
        tests = {
            name: with_prior(test, known, run.campaign.outcome.direction)
            for name, test in tests.items()
        }
    return _Materials(
        reader,
        rows,
        features,
        tests,
        dict(zip(messages["message_id"], messages["issue"], strict=True)),
        dict(zip(messages["message_id"], messages["discloses"], strict=True)),
    )


def _market(run: Run, test: MessageTest) -> Market:
    """Price and permission of a test's voters at the campaign's spend."""
    cost = arm_costs(run.table("costs"), test.arms)
    who = pd.Series(test.voter_id, dtype="str")
    allowed = eligible_voters(run, who, test.arms, lowers_turnout(run)).allowed
    return Market(cost, allowed, spend_per_voter(run, len(run.table("voters"))))


# --- train ---


def stage_train(run: Run) -> None:
    """Training set → tuned settings and candidate models, in one MLflow run."""
    materials = _materials(run)
    run.write_json("turnout", _turnout(run, materials))
    write_chances(run, materials.tests, materials.reader)
    materials = materials.valued(run)
    shutil.rmtree(run.folder / "candidates", ignore_errors=True)
    with tracking(run):
        _log_what_is_asked(run, materials)
        settings = {
            experiment_id: _train_one(run, materials, i, test)
            for i, (experiment_id, test) in enumerate(materials.tests.items())
        }
    run.write_json("settings", settings)


def _train_one(run: Run, materials: _Materials, i: int, test: MessageTest) -> Json:
    """Tune on each half and on all, fit the candidates on all."""
    market, seed = _market(run, test), run.campaign.campaign.seed
    settings: Json = {}
    for label in (*HALVES, "all"):
        mine = training_half(test, label, seed=seed)
        prepared = prepare(
            test.take(mine), materials.categorical, materials.issue_of, seed=seed
        )
        settings[label] = _tuned(run, prepared, f"{test.experiment_id}/{label}")
    personalised = fit_gbm(prepared, settings["all"], seed=seed)
    split = one_covariate(
        prepared, materials.categorical, test.arms, market.allowed, market.cost,
        spend=market.spend,
    )  # fmt: skip
    spread = personalised.variance(test.X, test.unit_id)
    candidates: dict[str, LiftModel] = {
        "personalised": personalised,
        "one_covariate": with_spread(split, test.X, spread),
        "untargeted": with_spread(untargeted(prepared.ground), test.X, spread),
    }
    for name, model in candidates.items():
        folder = run.folder / "candidates" / str(i) / name
        folder.mkdir(parents=True)
        model.save(folder)
    return settings


def _tuned(run: Run, prepared: Prepared, name: str) -> Json:
    data_hash = run.read_json("run")["data_hash"]
    done = 0

    def on_trial(_trial: object) -> None:
        nonlocal done
        done += 1
        run.tell(f"tuning {name}", done, run.n_trials)

    found = tune(
        prepared,
        name=f"{name}-{data_hash[:16]}",
        journal=run.home / "tuning.journal",
        n_trials=run.n_trials,
        time_limit_s=run.time_limit_s,
        seed=run.campaign.campaign.seed,
        on_trial=on_trial,
    )
    run.write(f"tuning/{slug(name)}", found.trials)
    return dict(found.params)


def _turnout(run: Run, materials: _Materials) -> Json:
    """Effect of every message on turnout where it was observed, and what lowers it."""
    campaign = run.campaign
    who_voted = campaign.outcome.turnout
    if campaign.outcome.measures == "turnout":
        who_voted = campaign.outcome.name
    if who_voted is None:
        return {"lowers": [], "effects": {}}
    responses = run.table("responses")
    mine = responses[responses["outcome"] == who_voted]
    voted = mine.set_index(["experiment_id", "voter_id"])["value"]
    found: dict[str, Interval] = {}
    for experiment_id, test in materials.tests.items():
        if experiment_id in voted.index.get_level_values(0):
            turnout = voted.loc[experiment_id].reindex(test.voter_id).to_numpy()
            found |= turnout_effects(
                test,
                turnout.astype(np.float64),
                materials.categorical,
                materials.issue_of,
                seed=campaign.campaign.seed,
            )
    return {
        "lowers": [m for m, effect in found.items() if effect.high < 0],
        "effects": {m: effect.as_dict() for m, effect in found.items()},
    }


def _log_what_is_asked(run: Run, materials: _Materials) -> None:
    campaign = run.campaign
    declared = {
        **campaign.campaign.model_dump(mode="json", exclude={"title", "question"}),
        **{f"outcome_{k}": v for k, v in campaign.outcome.model_dump().items()},
        **{f"plan_{k}": v for k, v in campaign.plan.model_dump(mode="json").items()},
        "n_trials": run.n_trials,
        "n_features": len(materials.reader.encoding.names),
        "features": ",".join(materials.reader.encoding.names)[:6000],
        **{f"default_{k}": v for k, v in DEFAULT_PARAMS.items()},
    }
    log_params(declared)
    trained = materials.features.assign(
        outcome=materials.rows["outcome"], propensity=materials.rows["propensity"]
    )
    log_data(trained, name=campaign.campaign.name, context="training")


# --- evaluate ---


def stage_evaluate(run: Run) -> None:
    """Candidates against the baselines, on halves that did not train them."""
    materials = _materials(run).valued(run)
    settings = run.read_json("settings")
    champion = _comparable_champion(run)
    experiments = {}
    for done, (experiment_id, test) in enumerate(materials.tests.items()):
        run.tell(f"judging {experiment_id}", done, len(materials.tests))
        experiments[experiment_id] = _evaluate_one(
            run, materials, settings[experiment_id], test, champion
        )
    n_audience = len(run.table("voters"))
    evaluation: Json = {
        "campaign": run.campaign.campaign.name,
        "outcome": run.campaign.outcome.as_valued().model_dump(mode="json"),
        "spend_per_voter_usd": spend_per_voter(run, n_audience),
        "n_eligible": n_audience,
        "experiments": experiments,
        "headline": _headline(experiments),
    }
    run.write_json("evaluation", rounded(evaluation))
    with tracking(run):
        log_metrics(flat_metrics(evaluation))
        log_tags({"verdict": evaluation["headline"]["verdict"]})
        log_file(run.folder / "evaluation.json")


def _evaluate_one(
    run: Run,
    materials: _Materials,
    settings: Json,
    test: MessageTest,
    champion: CampaignModel | None,
) -> Json:
    market, seed = _market(run, test), run.campaign.campaign.seed
    common: Json = {
        "categorical": materials.categorical,
        "issue_of": materials.issue_of,
        "seed": seed,
    }
    mine = materials.of(test.experiment_id)
    segment = segments(
        materials.features[mine], run.campaign.features.segment
    ).to_numpy(dtype=object)
    halves = judge_halves(
        test,
        market,
        settings=lambda _, label: settings[label],
        comparators={
            **comparators(chances_of(run, test), segment),
            **_partner_policies(run, test),
        },
        **common,
    )
    result = evaluate(
        test,
        market,
        halves,
        segment=segment,
        champion_values=_champion_values(run, champion, test),
    )
    ground = _candidate(run, materials, test.experiment_id, "untargeted").ground
    few = _at_most(test, PERMUTED_AT_MOST)
    shuffled = permuted_gain(
        test.take(few), market.take(few), params=settings["all"], **common
    )
    result["checks"]["permuted_gain"] = shuffled.as_dict()
    result["messages"] = message_rows(
        test, ground.effects, materials.issue_of, materials.discloses
    )
    best = {row["message_id"] for row in _best(result["messages"])}
    result["segments"] = [r for r in result["segments"] if r["message_id"] in best]
    result["channels"] = channel_rows(test, ground.effects, market.cost)
    _tell_slopes(run, test, halves, result, ground)
    result["priors"] = prior_rows(test, ground.effects)
    if result["priors"]:
        result["panel_overlap"] = run.read_json("overlap")
    effects = run.read_json("turnout")["effects"]
    known = {m: effects.get(m, "unknown") for m in test.messages}
    result["turnout_effect"] = known if effects else "unknown"
    result["reliability"] = run.read_json("reliability")[test.experiment_id]
    outcome = run.campaign.outcome.as_valued()
    result["sentence"] = answer(
        result, unit_per_point=outcome.unit_per_point, label=outcome.label
    )
    return result


def _best(messages: list[Json]) -> list[Json]:
    """The messages whose segments are told: of hundreds nobody reads more."""
    ordered = sorted(messages, key=lambda row: -row["shrunken"]["value"])
    return ordered[:SEGMENTED_MESSAGES]


def _at_most(test: MessageTest, n: int) -> npt.NDArray[np.bool_]:
    """Whole units that hold about n voters."""
    return unit_uniforms(test.unit_id, salt="permuted") < n / len(test.Y)


def _candidate(
    run: Run, materials: _Materials, experiment_id: str, name: str
) -> LiftModel:
    i = list(materials.tests).index(experiment_id)
    folder = run.folder / "candidates" / str(i) / name
    kind = "GbmLift" if name == "personalised" else "CellLift"
    return KINDS[kind].load(folder)


def _comparable_champion(run: Run) -> CampaignModel | None:
    """The present champion where it reads the same voter rows, else None."""
    open_store(run.mlflow_uri or None, run.store)
    found = load_champion(run.campaign.campaign.name)
    if found is None:
        return None
    model, version = found
    same = model.reader.to_json() == run.read_json("reader")
    run.note(champion_before={"version": version.version, "compared": same})
    return model if same else None


def _champion_values(
    run: Run, champion: CampaignModel | None, test: MessageTest
) -> Floats | None:
    """Lift of every voter and arm by the champion, by trees that never saw the unit."""
    lift = champion.lifts.get(test.experiment_id) if champion else None
    if lift is None or lift.ground.messages != test.messages:
        return None
    voters = _voters_of(run, test)
    predicted = lifts_of(lift, voters, test.X, test.unit_id).lift
    return lift.ground.option_values(predicted, test.arms)


def _voters_of(run: Run, test: MessageTest) -> pd.DataFrame:
    """VOTERS rows of a test, in its order."""
    voters = run.table("voters")
    row = pd.Index(voters["voter_id"]).get_indexer(pd.Index(test.voter_id))
    mine: pd.DataFrame = voters.iloc[row].reset_index(drop=True)
    return mine


def _partner_policies(run: Run, test: MessageTest) -> dict[str, Comparator]:
    """Partners that know a message of the test, as challengers."""
    scores = run.optional_table("partner_scores")
    if scores is None:
        return {}
    mine = scores[scores["message_id"].isin(test.messages)]
    voters, campaign = _voters_of(run, test), run.campaign
    return {
        f"{PARTNER}{provider}": partner_policy(
            provider, voters, campaign.outcome.direction, seed=campaign.campaign.seed
        )
        for provider in providers(mine)
    }


def _tell_slopes(
    run: Run, test: MessageTest, halves: Sequence[Half], result: Json, ground: Ground
) -> None:
    """Add how far every partner's lifts come true."""
    for name, told in result["partners"].items():
        model = PartnerLift(
            ground, name.removeprefix(PARTNER), run.campaign.outcome.direction
        )
        lifts = lifts_of(model, _voters_of(run, test), test.X, test.unit_id)
        told["slope"] = partner_slope(test, halves, lifts.lift).as_dict()


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
    return {
        "sentence": f"Of {len(verdicts)} experiments personalising pays in {n}, one "
        f"split suffices in {splits}, and in {len(verdicts) - n - splits} nothing "
        "beats the best message (or mix) for everyone.",
        "verdict": worst,
        "n_personalise": n,
    }


# --- promote ---


def stage_promote(run: Run) -> None:
    """The judged candidates → a registered version; the champion by the verdict."""
    materials, evaluation = _materials(run), run.read_json("evaluation")
    champions = {
        name: result["champion"] for name, result in evaluation["experiments"].items()
    }
    with tracking(run) as run_id:
        present = champion_version(run.campaign.campaign.name)
        if present and set(champions.values()) == {"champion"}:
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
        version = log_and_register(model, folder, run.read("example"), tags)
        promote(version)
        log_tags({"registered": f"{version.name}/{version.version}"})
    run.write_json("promoted", vars(version) | {"kept": False})


def _composed(
    run: Run, materials: _Materials, evaluation: Json, champions: Mapping[str, str]
) -> CampaignModel:
    """One model of the champions of all experiments."""
    present = _comparable_champion(run)
    lifts: dict[str, LiftModel] = {}
    for experiment_id, name in champions.items():
        if name == "champion":
            assert present is not None
            lifts[experiment_id] = present.lifts[experiment_id]
        elif name.startswith(PARTNER):
            ground = _candidate(run, materials, experiment_id, "untargeted").ground
            direction = run.campaign.outcome.direction
            lifts[experiment_id] = PartnerLift(
                ground, name.removeprefix(PARTNER), direction
            )
        else:
            kind = name if name in CANDIDATES else "untargeted"
            found = _candidate(run, materials, experiment_id, kind)
            if name == "nobody":
                found = never_sent(found.ground)
            lifts[experiment_id] = found
    facts = {
        "outcome": evaluation["outcome"],
        "verdict": evaluation["headline"]["verdict"],
        "sentence": evaluation["headline"]["sentence"],
        "data_hash": run.read_json("run")["data_hash"],
        "trained_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    arms = {name: test.arms for name, test in materials.tests.items()}
    name = run.campaign.campaign.name
    return CampaignModel(name, materials.reader, lifts, arms, dict(champions), facts)
