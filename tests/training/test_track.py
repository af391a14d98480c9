"""What a run leaves in MLflow: the same names everywhere, and every trial."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from hustings.training.registry.register import open_store, tracked_run
from hustings.training.registry.track import (
    DIRECTIONS,
    close_dead,
    describe,
    flat_metrics,
    log_settings,
    log_table,
    log_trials,
    policy_table,
    recent_runs,
)

HALF, WIDE = (
    {"value": 1.0, "low": 0.5, "high": 1.5},
    {"value": 3.0, "low": 0.0, "high": 6.0},
)

NOTHING = {"value": 0.0, "low": 0.0, "high": 0.0}


def judged(interval: dict[str, float], **changed: Any) -> dict[str, Any]:
    """An experiment as `training.policy_value.verdict.evaluate` tells it."""
    row = {"label": "Best mix", "gain": interval, "contacted_share": 0.5}
    nothing = {"label": "Nobody", "gain": NOTHING, "contacted_share": 0.0}
    groups = [
        {"message_id": "all", "predicted": 1.0, "realised": {"value": 4.0}, "n": 100},
        {"message_id": "all", "predicted": 2.0, "realised": {"value": 2.0}, "n": 800},
    ]
    return {
        "n_voters": 100,
        "gain_from_personalising": interval,
        "calibration": {"slope": interval, "groups": groups},
        "policies": {"nobody": nothing, "best_mix": row},
        "differences": {"nobody": interval, "best_mix": interval},
        "area": {"nobody": NOTHING, "best_mix": interval},
        "segments": [{"effect": interval}],
        "turnout_effect": {"m1": interval},
        "checks": {
            "permuted_gain": interval,
            "sample_ratio": {"p_value": 0.4, "ok": True},
            "attrition": {"p_value": 0.3, "ok": True},
        },
        **changed,
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that takes seconds to make; each test has a campaign of its own."""
    home = tmp_path_factory.mktemp("store")
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    open_store(None, home)
    yield home / "artifacts"
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


# --- names ----------------------------------------------------------------------------


def test_partners_and_predicted_chances_have_figures_under_their_own_names() -> None:
    told = {"slope": HALF, "ece": 0.02, "ece_by_chance": 0.01, "brier": 0.2, "n": 90}
    partner = {"slope": HALF, "over_best_baseline": WIDE, "over_personalised": NOTHING}
    result = judged(
        HALF, reliability={"turnout": told}, partners={"partner:acme": partner}
    )
    found = flat_metrics({"experiments": {"e1": result}})
    plain = flat_metrics({"experiments": {"e1": judged(HALF)}})
    added = {name: value for name, value in found.items() if name not in plain}
    assert {name: value for name, value in added.items() if value} == {
        "reliability_slope__turnout": 1.0, "reliability_slope__turnout_low": 0.5,
        "reliability_slope__turnout_high": 1.5, "reliability_ece__turnout": 0.02,
        "reliability_brier__turnout": 0.2, "partner_slope__acme": 1.0,
        "partner_slope__acme_low": 0.5, "partner_slope__acme_high": 1.5,
        "partner_over_best_baseline__acme": 3.0,
        "partner_over_best_baseline__acme_high": 6.0,
    }  # fmt: skip
    assert all(name.split("__")[0] in DIRECTIONS for name in added)


def test_figures_have_their_family_their_object_and_their_ends_in_the_name() -> None:
    found = flat_metrics({"experiments": {"e1": judged(HALF)}})
    intervals = {
        "gain__best_mix", "difference__best_mix", "difference__nobody",
        "area__best_mix", "calibration_slope", "gain_from_personalising",
        "permuted_gain",
    }  # fmt: skip
    ends = {f"{name}{end}" for name in intervals for end in ("", "_low", "_high")}
    plain = {"calibration_rmse", "sample_ratio_p_value", "attrition_p_value"}
    assert set(found) == ends | plain
    assert found["gain__best_mix_low"] == 0.5
    assert found["sample_ratio_p_value"] == 0.4
    # √((3² × 100 + 0² × 800) / 900)
    assert found["calibration_rmse"] == pytest.approx(1.0)


def test_every_family_of_figures_says_which_way_is_better() -> None:
    families = {
        name.partition("__")[0].removesuffix("_low").removesuffix("_high")
        for name in flat_metrics({"experiments": {"e1": judged(HALF)}})
    }
    assert families <= set(DIRECTIONS)


def test_several_experiments_have_the_names_of_one_and_their_own_too() -> None:
    two = {"e 1": judged(HALF), "e2": judged(WIDE, n_voters=300)}
    one, both = (
        flat_metrics({"experiments": {"e1": judged(HALF)}}),
        flat_metrics({"experiments": two}),
    )
    assert set(one) <= set(both)
    assert len(both) == 3 * len(one)
    assert both["e_1/gain__best_mix_high"] == 1.5
    assert both["e2/gain__best_mix_high"] == 6.0
    # by voters, 100 and 300
    assert both["gain__best_mix"] == pytest.approx(0.25 * 1.0 + 0.75 * 3.0)
    assert both["gain__best_mix_low"] == pytest.approx(0.25 * 0.5)
    assert both["sample_ratio_p_value"] == 0.4


def test_the_interval_of_the_mean_is_never_narrower_than_that_of_the_sum() -> None:
    """Of independent experiments it would be narrower; these may share voters."""
    two = {"a": judged(HALF), "b": judged(HALF)}
    both = flat_metrics({"experiments": two})
    width = both["gain__best_mix_high"] - both["gain__best_mix_low"]
    assert width >= (HALF["high"] - HALF["low"]) / np.sqrt(2)


def test_figures_that_judging_adds_are_found_without_being_named_here() -> None:
    more = judged(HALF, rate={"m1": HALF}, checks={"blp": WIDE})
    found = flat_metrics({"experiments": {"e1": more}})
    assert found["rate__m1_high"] == 1.5
    assert found["blp_low"] == 0.0


def test_the_policy_table_has_a_row_per_policy_and_experiment() -> None:
    table = policy_table({"experiments": {"a": judged(HALF), "b": judged(WIDE)}})
    assert table[["experiment", "policy"]].to_numpy().tolist() == [
        ["a", "nobody"], ["a", "best_mix"], ["b", "nobody"], ["b", "best_mix"],
    ]  # fmt: skip
    assert table["gain_low"].tolist() == [0.0, 0.5, 0.0, 0.0]
    assert table["personalised_adds_high"].tolist() == [1.5, 1.5, 6.0, 6.0]


# --- the store ------------------------------------------------------------------------

TRIALS = pd.DataFrame(
    {
        "number": [0, 1, 2, 3],
        "value": [-0.25, np.nan, np.nan, np.nan],
        "state": ["COMPLETE", "PRUNED", "FAIL", "WAITING"],
        "reason": ["", "above the median", "ValueError: no", ""],
        "started_at": pd.to_datetime(["2026-11-01T10:00Z"] * 4),
        "duration_s": [2.0, 1.0, 0.5, np.nan],
        "n_trees": [40, 20, 30, np.nan],
    }
)
STEPS = pd.DataFrame(
    {"number": [0, 0, 1], "step": [0, 1, 0], "loss": [-0.5, -0.25, 0.1]}
)
TAGS = {"experiment": "e1", "half": "half0", "model": "gbm"}


def test_every_trial_is_a_run_under_its_parent_and_says_how_it_ended(
    store: Path,
) -> None:
    with tracked_run("c6", "r1", store, {"campaign": "c6"}) as parent:
        log_trials(TRIALS, STEPS, TAGS)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("c6")
    assert experiment is not None
    under = f"tags.`mlflow.parentRunId` = '{parent}'"
    found = client.search_runs([experiment.experiment_id], under)
    runs = {r.data.tags["state"]: r for r in found}
    assert set(runs) == {"COMPLETE", "PRUNED", "FAIL"}
    assert [runs[s].info.status for s in ("COMPLETE", "PRUNED", "FAIL")] == [
        "FINISHED", "KILLED", "FAILED",
    ]  # fmt: skip
    complete = runs["COMPLETE"]
    assert complete.info.run_name == "e1/half0/gbm trial 0"
    assert complete.data.metrics["held_out_loss"] == -0.25
    assert complete.data.metrics["duration_s"] == 2.0
    assert complete.data.params == {"n_trees": "40.0"}
    assert complete.info.end_time - complete.info.start_time == 2_000
    steps = client.get_metric_history(complete.info.run_id, "running_loss")
    assert [(m.step, m.value) for m in steps] == [(0, -0.5), (1, -0.25)]
    assert runs["PRUNED"].data.tags["reason"] == "above the median"
    assert runs["FAIL"].data.tags["reason"] == "ValueError: no"


def test_more_steps_than_a_store_takes_at_once_are_all_there(store: Path) -> None:
    steps = pd.DataFrame({"number": 0, "step": range(2_500), "loss": 0.5})
    with tracked_run("c7", "r1", store, {"campaign": "c7"}):
        log_trials(TRIALS.head(1), steps, TAGS)
    client = mlflow.MlflowClient()
    (run,) = mlflow.search_runs(
        experiment_names=["c7"],
        filter_string="tags.kind = 'trial'",
        output_format="list",
    )
    assert len(client.get_metric_history(run.info.run_id, "running_loss")) == 2_500


def test_a_table_that_is_logged_again_replaces_the_first(store: Path) -> None:
    frame = pd.DataFrame({"policy": ["nobody"], "gain": [0.5]})
    with tracked_run("c8", "r1", store, {"campaign": "c8"}) as run_id:
        log_table(frame, "policies.json")
        log_table(frame.assign(gain=0.25), "policies.json")
        log_table(frame, "trials.json")
    client, within = mlflow.MlflowClient(), mlflow.get_run(run_id).info.experiment_id
    found = client.load_table(within, "policies.json", run_ids=[run_id])
    assert found.to_dict("records") == [{"policy": "nobody", "gain": 0.25}]
    told = mlflow.get_run(run_id).data.tags["mlflow.loggedArtifacts"]
    assert [row["path"] for row in json.loads(told)] == ["policies.json", "trials.json"]


def test_a_run_says_its_answer_and_the_settings_it_chose(store: Path) -> None:
    with tracked_run("c9", "r1", store, {"campaign": "c9"}) as run_id:
        describe("Send it.", {"voters": "12"})
        log_settings({"model": "gbm", "n_trees": 40})
    data = mlflow.get_run(run_id).data
    assert data.tags["mlflow.note.content"].startswith("**Send it.**")
    assert "| voters | 12 |" in data.tags["mlflow.note.content"]
    assert data.tags["direction.gain"] == "higher_is_better"
    assert data.params == {"best__model": "gbm", "best__n_trees": "40"}


BEGINS = """
import pathlib, sys
from hustings.training.registry.register import open_store, tracked_run
folder = pathlib.Path(sys.argv[1])
open_store(None, folder)
with tracked_run("c10", "left", folder, {"campaign": "c10"}):
    print("runs", flush=True)
    sys.stdin.read()
"""


def test_a_run_whose_process_was_killed_does_not_run_for_ever(store: Path) -> None:
    root = Path(__file__).parents[2] / ".package"
    with (
        tracked_run("c10", "mine", store, {"campaign": "c10"}) as mine,
        subprocess.Popen(
            [sys.executable, "-c", BEGINS, str(store.parent)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(root), "MLFLOW_TRACKING_URI": ""},
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "runs\n"
        # both are at work
        assert close_dead("c10") == []
        process.kill()
        process.wait()
        (left,) = close_dead("c10")
        client = mlflow.MlflowClient()
        assert client.get_run(left).info.status == "KILLED"
        assert client.get_run(left).data.tags["cut_off"] == "its process died"
        assert client.get_run(mine).info.status == "RUNNING"
        assert close_dead("c10") == []
    assert client.get_run(mine).info.status == "FINISHED"
    assert close_dead("never run") == []


def test_the_last_runs_of_a_campaign_are_told_without_their_trials(
    store: Path,
) -> None:
    for name, gain in (("r1", 0.1), ("r2", 0.2), ("r3", None)):
        tags = {"campaign": "c11", "verdict": "personalise", "git_commit": "a" * 40}
        with tracked_run("c11", name, store, tags):
            log_trials(TRIALS, STEPS, TAGS)
            if gain is not None:
                mlflow.log_metrics({"gain_from_personalising": gain})
    found = recent_runs("c11", 2)
    assert found["run"].tolist() == ["r3", "r2"]
    assert np.isnan(found["gain"][0])
    assert found["gain"][1] == 0.2
    assert found["commit"].tolist() == ["a" * 8] * 2
    assert recent_runs("nobody's", 5).empty
