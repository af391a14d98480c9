"""A declared campaign → every stage, each from the files of the one before.

A run is a folder `.data/<campaign>/<run_id>/`. Every file is written aside and renamed;
a whole run is a folder written aside and renamed. A stage can be repeated by itself.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.spec import Campaign, check_experiments, data_dir, feature_columns
from features.ingest import (
    Folders,
    TableSource,
    ingest,
    read_raw,
)
from features.sample import simulate, write_sample
from features.tables import ASSIGNMENTS, PLAN, QUARANTINE, RAW_TABLES, SCORES, check
from features.training_set import (
    Arm,
    MessageTest,
    TrainingSet,
    arm_costs,
    build_training_set,
    household,
    message_tests,
)
from features.voter import Encoding, segments
from serving.eligible import Eligibility, eligibility
from serving.load import load_champion, load_version, write_bundle
from serving.plan import Plan, PlanTerms, plan_contacts
from serving.score import score_voters
from training.baselines import one_covariate, untargeted
from training.evaluate import (
    answer,
    channel_rows,
    evaluate,
    message_rows,
    permuted_gain,
    turnout_effects,
)
from training.gbm import DEFAULT_PARAMS, Prepared, fit_gbm, prepare
from training.judge import HALVES, Market, judge_halves, training_half
from training.metrics import Interval
from training.model import KINDS, CampaignModel, LiftModel, Reader
from training.register import (
    Version,
    champion_version,
    environment,
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
    synthetic_example,
    tracked_run,
)
from training.split import unit_uniforms
from training.tune import tune

Floats = npt.NDArray[np.float64]
Json = dict[str, Any]
Tell = Callable[[str, int, int], None]
"""Stage or step, how much is done, of how much."""

STAGES = (
    "ingest", "features", "train", "evaluate", "promote", "score", "plan", "report",
)  # fmt: skip
CANDIDATES = ("personalised", "one_covariate", "untargeted")
N_EXAMPLE_FROM = 2_000
PERMUTED_AT_MOST = 60_000
"""The refutation by shuffled labels uses this many voters of a large test."""


def silent(_step: str, _done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Run:
    """One run of a campaign.

    Attributes:
        campaign: The declaration.
        home: `.data/<campaign>`: runs, raw sample data, tuning, serving bundle.
        folder: Of this run.
        run_id: Name of that folder once it is whole.
        store: Folder of the MLflow store where there is no server.
        mlflow_uri: MLflow server; empty for the store.
        n_trials: Settings tried in each tuning.
        time_limit_s: No trial starts after this long in one tuning.
        tell: Told of progress.
    """

    campaign: Campaign
    home: Path
    folder: Path
    run_id: str
    store: Path
    mlflow_uri: str = ""
    n_trials: int = 10
    time_limit_s: float = 60.0
    tell: Tell = silent

    # --- files ---

    def read(self, name: str) -> pd.DataFrame:
        """A table of the run."""
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            raise FileNotFoundError(f"{path}: run the stage that makes it first")
        return pd.read_parquet(path)

    def write(self, name: str, frame: pd.DataFrame) -> None:
        """A table of the run, written aside and renamed."""
        path = self.folder / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".partial")
        frame.to_parquet(aside, index=False, compression="zstd")
        aside.replace(path)

    def read_json(self, name: str) -> Json:
        """A JSON file of the run."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            raise FileNotFoundError(f"{path}: run the stage that makes it first")
        found: Json = json.loads(path.read_text())
        return found

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """A JSON file of the run, written aside and renamed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.json"
        aside = path.with_suffix(".partial")
        aside.write_text(json.dumps(value, indent=1, default=_plain))
        aside.replace(path)

    def note(self, **facts: Any) -> None:
        """Add facts to run.json."""
        path = self.folder / "run.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        self.write_json("run", {**known, **facts})

    def table(self, name: str) -> pd.DataFrame:
        """A checked table."""
        return self.read(f"tables/{name}")

    def optional_table(self, name: str) -> pd.DataFrame | None:
        """A checked table that the campaign may not have."""
        path = self.folder / "tables" / f"{name}.parquet"
        return pd.read_parquet(path) if path.exists() else None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    return str(value)


# --- the whole way --------------------------------------------------------------------


def run_campaign(run: Run) -> Path:
    """Every stage in order; gives the folder of the finished run.

    The folder appears whole or not at all.
    """
    final = run.home / run.run_id
    aside = run.home / f".{run.run_id}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    working = replace(run, folder=aside)
    for stage in STAGES:
        run_stage(working, stage)
    aside.rename(final)
    point_to(run.home, run.run_id)
    return final


def run_stage(run: Run, stage: str) -> None:
    """One stage, its time noted in run.json."""
    started = time.perf_counter()
    run.tell(stage, STAGES.index(stage), len(STAGES))
    _STAGES[stage](run)
    run.tell(stage, STAGES.index(stage) + 1, len(STAGES))
    known = json.loads((run.folder / "run.json").read_text())
    spent = {**known.get("timings_s", {}), stage: time.perf_counter() - started}
    run.note(timings_s=spent)


def point_to(home: Path, run_id: str) -> None:
    """Make a run the latest of its campaign."""
    aside = home / "latest.partial"
    aside.write_text(run_id)
    aside.replace(home / "latest")


def latest(home: Path) -> str | None:
    """The latest run of a campaign, None where there is none."""
    path = home / "latest"
    return path.read_text().strip() if path.exists() else None


# --- ingest ---------------------------------------------------------------------------


def stage_ingest(run: Run) -> None:
    """Raw files → checked tables and quarantine."""
    raw_dir = _simulated(run)
    campaign = run.campaign
    found = ingest(
        campaign.tables,
        outcome=campaign.outcome.name,
        outcome_kind=campaign.outcome.kind,
        campaign_dir=campaign.folder,
        data_dir=data_dir(),
        raw_dir=raw_dir,
        on_table=lambda name: run.tell(f"reading {name}", 0, 0),
    )
    for name, frame in found.tables.items():
        run.write(f"tables/{name}", check(RAW_TABLES[name], frame))
    run.write("quarantine", check(QUARANTINE, found.quarantine))
    run.write_json("ingest", found.report)
    mapping = found.sources["voters"].model_dump(mode="json", by_alias=True)
    run.write_json("voters_mapping", mapping)
    run.write("example", _example(campaign, found.sources["voters"], raw_dir))
    run.note(
        run_id=run.run_id,
        campaign=campaign.campaign.name,
        seed=campaign.campaign.seed,
        versions=environment(),
        git_commit=git_commit(),
        data_hash=_data_hash(campaign, found.report),
        rows={name: len(frame) for name, frame in found.tables.items()},
        data_hashes={name: told["sha256"] for name, told in found.report.items()},
    )


def _simulated(run: Run) -> Path | None:
    """Folder of the simulated tables, drawn once for each declaration of them."""
    declared = run.campaign.simulate
    if declared is None:
        return None
    folder, wanted = run.home / "raw", declared.model_dump()
    stamp = folder / "simulated.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != wanted:
        run.tell("simulating", 0, 0)
        write_sample(simulate(**wanted), folder)
        stamp.write_text(json.dumps(wanted))
    return folder


def _data_hash(campaign: Campaign, report: Mapping[str, Any]) -> str:
    told = {name: row["sha256"] for name, row in sorted(report.items())}
    declared = campaign.model_dump(mode="json", exclude={"plan"})
    text = json.dumps([told, declared], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _example(
    campaign: Campaign, source: TableSource, raw_dir: Path | None
) -> pd.DataFrame:
    """Synthetic rows in the voter file's own columns, for the model's signature."""
    folders = Folders(campaign=campaign.folder, data=data_dir(), raw=raw_dir)
    raw = read_raw(source, "voters", folders).frame.head(N_EXAMPLE_FROM)
    return synthetic_example(raw, seed=campaign.campaign.seed)


# --- features -------------------------------------------------------------------------


def stage_features(run: Run) -> None:
    """Checked tables → training set and the reader of voter rows."""
    campaign, voters = run.campaign, run.table("voters")
    tables = {
        name: run.table(name) for name in ("designs", "deliveries", "responses")
    } | {"voters": voters}
    check_experiments(campaign, tables["designs"]["experiment_id"].unique())
    columns = feature_columns(campaign, list(voters.columns))
    made = build_training_set(
        tables,
        columns,
        outcome=campaign.outcome.name,
        absent=campaign.outcome.absent,
        higher_is_better=campaign.outcome.higher_is_better,
    )
    run.write("training_set", made.rows)
    run.write("features", made.features)
    reader = Reader(
        TableSource.model_validate(run.read_json("voters_mapping")),
        tuple(columns),
        made.rows["sent_on"].min().normalize(),
        Encoding.fit(made.features),
    )
    run.write_json("reader", reader.to_json())


@dataclass(frozen=True)
class _Materials:
    """What the modelling stages share."""

    reader: Reader
    rows: pd.DataFrame
    features: pd.DataFrame
    tests: Mapping[str, MessageTest]
    issue_of: Mapping[str, str]
    discloses: Mapping[str, str]

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
    return _Materials(
        reader,
        rows,
        features,
        message_tests(training_set, reader.encoding),
        dict(zip(messages["message_id"], messages["issue"], strict=True)),
        dict(zip(messages["message_id"], messages["discloses"], strict=True)),
    )


def _eligibility(
    run: Run, voter_id: pd.Series, arms: tuple[Arm, ...], lowers: frozenset[str]
) -> Eligibility:
    return eligibility(
        voter_id,
        arms,
        run.table("messages"),
        run.optional_table("permissions"),
        rule_set=run.campaign.campaign.rule_set,
        as_of=pd.Timestamp(run.campaign.campaign.as_of),
        lowers_turnout=lowers,
    )


def _lowers_turnout(run: Run) -> frozenset[str]:
    """Messages whose measured turnout effect lies below zero, from `train`."""
    return frozenset(run.read_json("turnout")["lowers"])


def spend_per_voter(run: Run, n_audience: int) -> float:
    """Declared spend, or budget / audience, the holdout included."""
    plan = run.campaign.plan
    if plan.spend_per_voter_usd is not None:
        return plan.spend_per_voter_usd
    assert plan.budget_usd is not None
    return plan.budget_usd / n_audience


def _market(run: Run, test: MessageTest) -> Market:
    """Price and permission of a test's voters at the campaign's spend."""
    cost = arm_costs(run.table("costs"), test.arms)
    who = pd.Series(test.voter_id, dtype="str")
    allowed = _eligibility(run, who, test.arms, _lowers_turnout(run)).allowed
    return Market(cost, allowed, spend_per_voter(run, len(run.table("voters"))))


# --- train ----------------------------------------------------------------------------


def stage_train(run: Run) -> None:
    """Training set → tuned settings and candidate models, in one MLflow run."""
    materials = _materials(run)
    run.write_json("turnout", _turnout(run, materials))
    shutil.rmtree(run.folder / "candidates", ignore_errors=True)
    with _tracking(run):
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
    candidates: dict[str, LiftModel] = {
        "personalised": fit_gbm(prepared, settings["all"], seed=seed),
        "one_covariate": one_covariate(
            prepared, materials.categorical, test.arms, market.allowed, market.cost,
            spend=market.spend,
        ),
        "untargeted": untargeted(prepared.ground),
    }  # fmt: skip
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


def slug(name: str) -> str:
    """A name that is safe in a file name or a metric."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)


def _turnout(run: Run, materials: _Materials) -> Json:
    """Effect of every message on turnout where it was observed, and what lowers it."""
    campaign = run.campaign
    if campaign.outcome.turnout is None:
        return {"lowers": [], "effects": {}}
    responses = run.table("responses")
    mine = responses[responses["outcome"] == campaign.outcome.turnout]
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


# --- tracking -------------------------------------------------------------------------


@contextmanager
def _tracking(run: Run) -> Iterator[str]:
    """The run's MLflow run, started by `train` and taken up by later stages."""
    uri = open_store(run.mlflow_uri or None, run.store)
    artifacts = None if run.mlflow_uri else run.store / "artifacts"
    known = run.read_json("run").get("mlflow_run_id")
    tags = {
        "campaign": run.campaign.campaign.name,
        "git_commit": git_commit(),
        "data_hash": str(run.read_json("run")["data_hash"]),
    }
    with tracked_run(
        run.campaign.campaign.name, run.run_id, artifacts, tags, resume=known
    ) as run_id:
        if known != run_id:
            run.note(mlflow_run_id=run_id, mlflow_uri=uri.split("@")[-1])
        yield run_id


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


# --- evaluate -------------------------------------------------------------------------


def stage_evaluate(run: Run) -> None:
    """Candidates against the baselines, on halves that did not train them."""
    materials, settings = _materials(run), run.read_json("settings")
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
        "outcome": run.campaign.outcome.model_dump(mode="json"),
        "spend_per_voter_usd": spend_per_voter(run, n_audience),
        "n_eligible": n_audience,
        "experiments": experiments,
        "headline": _headline(experiments),
    }
    run.write_json("evaluation", evaluation)
    with _tracking(run):
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
    halves = judge_halves(
        test, market, settings=lambda _, label: settings[label], **common
    )
    mine = materials.of(test.experiment_id)
    segment = segments(materials.features[mine], run.campaign.features.segment)
    result = evaluate(
        test,
        market,
        halves,
        segment=segment.to_numpy(dtype=object),
        champion_values=_champion_values(champion, test),
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
    result["channels"] = channel_rows(test, ground.effects, market.cost)
    effects = run.read_json("turnout")["effects"]
    known = {m: effects[m] for m in test.messages if m in effects}
    result["turnout_effect"] = known or "unknown"
    outcome = run.campaign.outcome
    result["sentence"] = answer(
        result, unit_per_point=outcome.unit_per_point, label=outcome.label
    )
    return result


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
    champion: CampaignModel | None, test: MessageTest
) -> Floats | None:
    """Lift of every voter and arm by the champion, by trees that never saw the unit."""
    lift = champion.lifts.get(test.experiment_id) if champion else None
    if lift is None or lift.ground.messages != test.messages:
        return None
    predicted = lift.predict(test.X, test.unit_id).lift
    return lift.ground.option_values(predicted, test.arms)


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


# --- promote --------------------------------------------------------------------------


def stage_promote(run: Run) -> None:
    """The judged candidates → a registered version; the champion by the verdict."""
    materials, evaluation = _materials(run), run.read_json("evaluation")
    champions = {
        name: result["champion"] for name, result in evaluation["experiments"].items()
    }
    with _tracking(run) as run_id:
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
    lifts = {}
    for experiment_id, name in champions.items():
        if name == "champion":
            assert present is not None
            lifts[experiment_id] = present.lifts[experiment_id]
        else:
            kind = name if name in CANDIDATES else "untargeted"
            lifts[experiment_id] = _candidate(run, materials, experiment_id, kind)
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


# --- score ----------------------------------------------------------------------------


def _promoted(run: Run) -> tuple[CampaignModel, Version]:
    """Exactly the version that this run promoted (or kept)."""
    open_store(run.mlflow_uri or None, run.store)
    known = run.read_json("promoted")
    version = Version(known["name"], known["version"], known["run_id"], known["tags"])
    return load_version(version), version


def stage_score(run: Run) -> None:
    """Registered model → lift of every message for every voter."""
    model, _ = _promoted(run)
    voters = run.table("voters")
    path = run.folder / "scores.parquet"
    aside, writer, done = path.with_suffix(".partial"), None, 0
    for part in score_voters(model, voters):
        checked = check(SCORES, part)
        table = pa.Table.from_pandas(checked, preserve_index=False)
        writer = writer or pq.ParquetWriter(aside, table.schema, compression="zstd")
        writer.write_table(table)
        done += len(part)
        run.tell("scoring", done, len(voters) * len(model.messages))
    if writer is None:
        raise ValueError("expected voters to score, got none")
    writer.close()
    aside.replace(path)
    run.note(n_scores=done)


# --- plan -----------------------------------------------------------------------------


def stage_plan(run: Run) -> None:
    """Scores + costs + budget + eligibility → plan, assignments, serving bundle."""
    (model, version), voters = _promoted(run), run.table("voters")
    audiences = _audiences(run, model, voters)
    made = {name: _plan_one(run, model, who) for name, who in audiences.items()}
    contacts = pd.concat([m.plan.contacts for m in made.values()], ignore_index=True)
    assigned = pd.concat([m.plan.assignments for m in made.values()], ignore_index=True)
    run.write("plan", check(PLAN, contacts))
    run.write("assignments", check(ASSIGNMENTS, assigned))
    told = _plan_told(run, model, voters, contacts, assigned, list(made.values()))
    terms = {
        "salt": _salt(run),
        "holdout_share": run.campaign.plan.holdout_share,
        "rule_set": run.campaign.campaign.rule_set,
        "audiences": {name: m.terms for name, m in made.items()},
    }
    run.write_json("plan", terms)
    run.note(plan=told)
    write_bundle(version, terms, run.home / "serving")


@dataclass(frozen=True)
class _Audience:
    """Voters who share a budget, and what they may be offered."""

    voters: pd.DataFrame
    experiments: tuple[str, ...]


@dataclass(frozen=True)
class _Made:
    """A plan of one audience, who could not be reached, and terms for the endpoint."""

    plan: Plan
    eligible: Eligibility
    terms: Json
    budget_usd: float


def _audiences(
    run: Run, model: CampaignModel, voters: pd.DataFrame
) -> dict[str, _Audience]:
    if run.campaign.plan.audience == "all":
        return {"all": _Audience(voters, tuple(model.lifts))}
    drawn = run.table("deliveries")
    found = {}
    for name in model.lifts:
        own = drawn.loc[drawn["experiment_id"] == name, "voter_id"]
        mine = voters[voters["voter_id"].isin(own)].reset_index(drop=True)
        found[name] = _Audience(mine, (name,))
    return found


def _plan_one(run: Run, model: CampaignModel, who: _Audience) -> _Made:
    campaign, voters = run.campaign, who.voters
    predicted = model.predict(voters)
    worth = {n: section.value for n, section in campaign.experiments.items()}
    values: list[Floats] = []
    arms: list[Arm] = []
    for name in who.experiments:
        lift = model.lifts[name]
        per_arm = lift.ground.option_values(predicted[name].lift, model.arms[name])
        values.append(per_arm * worth.get(name, 1.0))
        arms.extend(model.arms[name])
    cost = arm_costs(run.table("costs"), arms)
    lowers = _lowers_turnout(run)
    allowed = _eligibility(run, voters["voter_id"], tuple(arms), lowers)
    n_all = len(run.table("voters"))
    budget = spend_per_voter(run, n_all) * len(voters)
    plan = plan_contacts(
        voters["voter_id"].to_numpy(dtype=object),
        _deciding_unit(run, voters),
        np.hstack(values),
        allowed.allowed,
        arms,
        cost,
        _terms(run, budget, len(voters) / n_all),
        np.random.default_rng([campaign.campaign.seed, len(voters)]),
    )
    price = plan.chosen.price @ plan.limits.use
    terms = {
        "experiments": list(who.experiments),
        "worth": worth,
        "arms": [
            {
                "message_id": arm.message_id,
                "channel": arm.channel,
                "cost_usd": float(cost[a]),
                "price": float(price[a]),
                "barred": allowed.barred_messages.get(arm.message_id),
            }
            for a, arm in enumerate(arms)
        ],
        "shadow_price": float(plan.chosen.price[0]),
        "unit": "household" if _by_household(run) else "voter",
    }
    return _Made(plan, allowed, terms, budget)


def _salt(run: Run) -> str:
    return f"{run.campaign.campaign.name}-{run.campaign.campaign.seed}"


def _terms(run: Run, budget_usd: float, share: float) -> PlanTerms:
    """Terms of an audience that has a share of the campaign's capacities."""
    plan, costs = run.campaign.plan, run.table("costs")
    per_day = costs.dropna(subset="capacity_per_day").groupby("channel")
    capacity = {
        str(channel): float(most) * share
        for channel, most in per_day["capacity_per_day"].max().items()
    }
    in_all = plan.capacity_per_day
    return PlanTerms(
        salt=_salt(run),
        holdout_share=plan.holdout_share,
        explore_share=plan.explore_share,
        budget_usd=budget_usd,
        start_on=pd.Timestamp(plan.start_on),
        days=plan.days,
        capacity=capacity,
        capacity_per_day=None if in_all is None else in_all * share,
    )


def _by_household(run: Run) -> bool:
    return bool((run.table("deliveries")["randomised_by"] != "person").any())


def _deciding_unit(run: Run, voters: pd.DataFrame) -> npt.NDArray[np.object_]:
    unit = household(voters) if _by_household(run) else voters["voter_id"]
    return unit.to_numpy(dtype=object)


def _plan_told(
    run: Run,
    model: CampaignModel,
    voters: pd.DataFrame,
    contacts: pd.DataFrame,
    assigned: pd.DataFrame,
    made: list[_Made],
) -> Json:
    """What the report says of the plan; counts only."""
    spent = float(contacts["cost_usd"].sum())
    budget = sum(m.budget_usd for m in made)
    bound = sum(m.plan.chosen.bound for m in made)
    worth = sum(m.plan.chosen.value for m in made)
    by_day = contacts.groupby(["send_on", "channel"]).size().rename("n").reset_index()
    planned = contacts.groupby(["message_id", "channel", "role"], observed=True).agg(
        n=("lift", "size"), cost_usd=("cost_usd", "sum"), lift_mean=("lift", "mean")
    )
    refused = [row for m in made for row in m.eligible.told()]
    refusals = pd.DataFrame(refused, columns=["reason", "n_voters"])
    features = model.reader.features(voters)
    segment = segments(features, run.campaign.features.segment)
    contacted = segment.index.isin(contacts["voter_id"])
    shares = pd.DataFrame({"segment": segment.to_numpy(), "planned": contacted})
    counted = shares.groupby("segment")["planned"].agg(["sum", "size"]).reset_index()
    counted.columns = ["segment", "n_planned", "n_voters"]
    return {
        "budget_usd": budget,
        "spent_usd": spent,
        "shadow_price": made[0].terms["shadow_price"] if len(made) == 1 else None,
        "optimality_gap": (bound - worth) / bound if bound > 0 else 0.0,
        "n_contacts": len(contacts),
        "explore_share": float(np.mean([m.plan.explored for m in made])),
        "roles": assigned["role"].value_counts().to_dict(),
        "contacts_by_day": by_day.assign(
            send_on=by_day["send_on"].dt.strftime("%Y-%m-%d")
        ).to_dict("records"),
        "planned": planned.reset_index().to_dict("records"),
        "not_eligible": refusals.groupby("reason", sort=False)["n_voters"]
        .sum()
        .reset_index()
        .to_dict("records"),
        "segments": counted.to_dict("records"),
    }


# --- report ---------------------------------------------------------------------------


def stage_report(run: Run) -> None:
    """Everything a person reads, in one page; its figures to MLflow too."""
    from experiments.report import figure_png, figures, write_report

    evaluation, messages = run.read_json("evaluation"), run.table("messages")
    told = run.read_json("run")
    told["model_version"] = run.read_json("promoted")
    ingested = run.read_json("ingest")
    described = {
        **run.campaign.campaign.model_dump(mode="json"),
        "outcome": run.campaign.outcome.model_dump(mode="json"),
        "plan": run.campaign.plan.model_dump(mode="json"),
        "sources": [{"table": name, **row} for name, row in ingested.items()],
    }
    aside = run.folder / "report.partial"
    write_report(
        aside,
        campaign=described,
        evaluation=evaluation,
        plan=run.read("plan"),
        assignments=run.read("assignments"),
        quarantine=run.read("quarantine"),
        messages=messages,
        run=told,
    )
    aside.replace(run.folder / "report.html")
    with _tracking(run):
        for name, chart in figures(evaluation, told, messages).items():
            path = run.folder / "figures" / f"{slug(name)}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(figure_png(chart))
            log_file(path, folder="figures")
        log_file(run.folder / "report.html")


_STAGES: Mapping[str, Callable[[Run], None]] = {
    "ingest": stage_ingest,
    "features": stage_features,
    "train": stage_train,
    "evaluate": stage_evaluate,
    "promote": stage_promote,
    "score": stage_score,
    "plan": stage_plan,
    "report": stage_report,
}
