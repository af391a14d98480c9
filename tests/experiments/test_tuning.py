"""Tuning within a run: it never sees the judging half, and MLflow is told all of it."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run as MlflowRun

from hustings.experiments.run import run_stage
from hustings.experiments.stages import meanwhile, models
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.tracking import tracking
from hustings.training.learners import pooled
from hustings.training.learners.linear import DEFAULT_LINEAR
from hustings.training.policy_value.held_out_halves import training_half
from hustings.training.registry.register import (
    champion_version,
    log_metrics,
    log_params,
    open_store,
)

VOTER = re.compile(r"[VH]\d{6,7}")
N_TRIALS = 2
UNHURRIED_S = 3600.0
"""A slow machine must not cut a trial short."""


def told(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def copied(story: Any, home: Path, **changed: Any) -> Run:
    """The finished run in a home of its own: no trial is known there."""
    shutil.copytree(story.run.folder, home / "again")
    made: Run = replace(
        story.run, home=home, folder=home / "again", run_id="again",
        store=home / "mlflow", n_trials=N_TRIALS, time_limit_s=UNHURRIED_S, **changed,
    )  # fmt: skip
    known = told(made.folder, "run")
    made.write_json("run", {k: v for k, v in known.items() if k != "mlflow_run_id"})
    return made


@pytest.fixture(autouse=True)
def _pointed_back() -> Iterator[None]:
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    yield
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


# --- nested ---------------------------------------------------------------------------


def tuned(run: Run, half: str) -> tuple[dict[str, Any], pd.DataFrame]:
    (settings,) = told(run.folder, "settings").values()
    return settings[half], run.read(f"tuning/spring_test_{half}")


@pytest.mark.slow
def test_no_outcome_of_the_judging_half_has_a_say_in_the_settings(
    story: Any, tmp_path: Path
) -> None:
    """Other outcomes of those who judge half0: its settings stay, to the last bit."""
    plain, other = (copied(story, tmp_path / name) for name in ("plain", "other"))
    (test,) = models._materials(other).tests.values()
    seed = other.campaign.campaign.seed
    judging = set(test.voter_id[~training_half(test, "half0", seed=seed)])
    rows = other.read("training_set")
    theirs = rows["voter_id"].isin(judging)
    assert 0.4 < theirs.mean() < 0.6
    noise = np.random.default_rng(0).normal(0, 50, len(rows))
    rows["outcome"] = rows["outcome"].where(~theirs, noise)
    other.write("training_set", rows)
    for run in (plain, other):
        run_stage(run, "train")
    (first, trials), (second, again) = (tuned(run, "half0") for run in (plain, other))
    assert first == second
    pd.testing.assert_series_equal(trials["value"], again["value"])
    # and the test can fail: they train the other half
    _, before = tuned(plain, "half1")
    _, after = tuned(other, "half1")
    assert not np.allclose(before["value"], after["value"], equal_nan=True)


@pytest.mark.slow
def test_without_time_the_defaults_are_taken_and_what_was_cut_is_said(
    story: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was tried, and the stage still ends, as on a machine that is too busy."""
    said: list[str] = []
    run = replace(copied(story, tmp_path), time_limit_s=0.0, say=said.append)
    monkeypatch.setattr(pooled, "MAX_SWEEPS", 2)
    run_stage(run, "train")
    settings, trials = tuned(run, "half0")
    assert trials.empty
    shared = set(settings) & set(DEFAULT_LINEAR)
    assert shared
    assert {k: settings[k] for k in shared} == {k: DEFAULT_LINEAR[k] for k in shared}
    notes = told(run.folder, "not_learnt")["notes"]
    cut = [note for note in notes if "time limit" in note]
    assert len(cut) == 3
    assert f"with {N_TRIALS} of {N_TRIALS} trials to go" in cut[0]
    (unsettled,) = (note for note in notes if "had not settled" in note)
    assert {*cut, unsettled} <= set(said)


@pytest.mark.slow
def test_another_process_learns_and_shuffles_the_same(
    story: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The story is played in one process; a model's own code has come first since."""
    code = tmp_path / "code" / "hustings"
    code.mkdir(parents=True)
    (code / "__init__.py").touch()
    monkeypatch.syspath_prepend(code.parent)
    run = copied(story, tmp_path, n_workers=2)
    monkeypatch.setattr(meanwhile, "WORTH_A_PROCESS", 0)
    run_stage(run, "train")
    run_stage(run, "evaluate")
    for name in ("settings", "policies", "evaluation"):
        assert told(run.folder, name) == told(story.run.folder, name)


# --- a real server --------------------------------------------------------------------


@dataclass(frozen=True)
class Tracked:
    """What a server says over its REST interface of one campaign's run."""

    run: Run
    client: mlflow.MlflowClient
    parent: MlflowRun
    trials: list[MlflowRun]


@pytest.fixture(scope="module")
def tracked(
    story: Any, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Tracked:
    home = tmp_path_factory.mktemp("tracked")
    run = copied(story, home, mlflow_uri=mlflow_server)
    for stage in ("train", "evaluate", "promote", "report"):
        run_stage(run, stage)
    client = mlflow.MlflowClient(mlflow_server)
    parent = client.get_run(told(run.folder, "run")["mlflow_run_id"])
    under = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    trials = client.search_runs([parent.info.experiment_id], under)
    return Tracked(run, client, parent, list(trials))


@pytest.mark.slow
def test_the_server_has_a_nested_run_for_every_trial(tracked: Tracked) -> None:
    by_half = pd.Series([t.data.tags["half"] for t in tracked.trials]).value_counts()
    assert by_half.to_dict() == dict.fromkeys(("half0", "half1", "all"), N_TRIALS)
    files = sorted((tracked.run.folder / "tuning").glob("*all.parquet"))
    (expected,) = (pd.read_parquet(file).set_index("number") for file in files)
    for trial in (t for t in tracked.trials if t.data.tags["half"] == "all"):
        row = expected.loc[int((trial.info.run_name or "").split()[-1])]
        assert trial.data.tags["state"] == row["state"]
        assert trial.data.metrics["held_out_loss"] == pytest.approx(row["value"])
        assert float(trial.data.params["num_leaves"]) == row["num_leaves"]
        steps = tracked.client.get_metric_history(trial.info.run_id, "running_loss")
        assert [m.step for m in steps] == list(range(len(steps)))
        assert len(steps) > 1


@pytest.mark.slow
def test_the_server_has_figures_tags_and_an_answer(tracked: Tracked) -> None:
    data, evaluation = tracked.parent.data, told(tracked.run.folder, "evaluation")
    (result,) = evaluation["experiments"].values()
    for name, interval in (
        ("gain__personalised", result["policies"]["personalised"]["gain"]),
        ("gain__best_mix", result["policies"]["best_mix"]["gain"]),
        ("difference__best_mix", result["differences"]["best_mix"]),
        ("area__personalised", result["area"]["personalised"]),
        ("calibration_slope", result["calibration"]["slope"]),
        ("gain_from_personalising", result["gain_from_personalising"]),
    ):
        for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            found = data.metrics[f"{name}{suffix}"]
            assert found == pytest.approx(interval[key], rel=1e-5, abs=1e-9)
    assert data.metrics["calibration_rmse"] > 0
    tags = data.tags
    assert tags["verdict"] == evaluation["headline"]["verdict"]
    assert tags["data_hash"] == told(tracked.run.folder, "run")["data_hash"]
    assert (tags["model"], tags["direction.gain"]) == ("stack", "higher_is_better")
    assert re.fullmatch(r"([0-9a-f]{40}(\+changes)?|unknown)", tags["git_commit"])
    assert evaluation["headline"]["sentence"] in tags["mlflow.note.content"]
    (settings,) = told(tracked.run.folder, "settings").values()
    assert data.params["best__num_leaves"] == str(settings["all"]["num_leaves"])


@pytest.mark.slow
def test_the_server_has_tables_that_compare_and_pictures(tracked: Tracked) -> None:
    run_id = tracked.parent.info.run_id
    within = tracked.parent.info.experiment_id

    def table(name: str) -> pd.DataFrame:
        return tracked.client.load_table(within, name, run_ids=[run_id])

    policies, trials = table("policies.json"), table("trials.json")
    assert {"nobody", "best_mix", "personalised"} <= set(policies["policy"])
    assert (policies["gain_low"] <= policies["gain_high"]).all()
    assert len(trials) == 3 * N_TRIALS
    drawn = {
        Path(f.path).name for f in tracked.client.list_artifacts(run_id, "figures")
    }
    assert "trials.png" in drawn
    for kind in ("policies", "curve", "calibration"):
        assert any(kind in name for name in drawn)


@pytest.mark.slow
def test_the_champion_on_the_server_was_judged_by_this_run(
    tracked: Tracked, tmp_path: Path
) -> None:
    open_store(tracked.run.mlflow_uri, tmp_path)
    champion = champion_version(tracked.run.campaign.campaign.name)
    assert champion is not None
    assert champion.tags["judged_by"] == tracked.parent.info.run_id


@pytest.mark.slow
def test_no_voter_is_named_by_the_server(tracked: Tracked, tmp_path: Path) -> None:
    some = tracked.run.table("voters").head(50)
    assert all(VOTER.fullmatch(i) for i in [*some["voter_id"], *some["household_id"]])
    for run in (tracked.parent, *tracked.trials):
        said = json.dumps(run.to_dictionary())
        assert run.info.run_id in said
        assert not VOTER.search(said)
    (model,) = tracked.client.search_registered_models(
        f"name = 'hustings-{tracked.run.campaign.campaign.name}'"
    )
    assert not VOTER.search(repr(dict(model.tags)))
    mlflow.set_tracking_uri(tracked.run.mlflow_uri)
    mlflow.artifacts.download_artifacts(
        run_id=tracked.parent.info.run_id, dst_path=str(tmp_path)
    )
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert {"policies.json", "trials.json", "report.html"} <= {f.name for f in files}
    for file in files:
        assert not VOTER.search(file.read_bytes().decode("latin-1")), file


def test_training_again_leaves_what_was_trained_before_as_it_was(
    story: Any, tmp_path: Path
) -> None:
    """MLflow lets no parameter change: another training is another MLflow run."""
    run = copied(story, tmp_path)
    with tracking(run, anew=True) as first:
        log_params({"n_trials": 3})
    with tracking(run) as taken_up:
        log_metrics({"gain": 1.0})
    assert taken_up == first
    with tracking(run, anew=True) as second:
        log_params({"n_trials": 4})
    assert told(run.folder, "run")["mlflow_run_id"] == second != first
    before, after = (mlflow.get_run(i) for i in (first, second))
    assert before.data.params == {"n_trials": "3"}
    assert before.data.metrics == {"gain": 1.0}
    assert after.data.params == {"n_trials": "4"}
    assert before.data.tags["hustings_run"] == "again"
    assert str(tmp_path) not in json.dumps(before.data.tags)
