"""Tracking of runs in MLflow for comparison: metrics, tables, figures, trials.

Every figure has the same name in every run of every campaign: `<family>__<of what>`,
with `_low` and `_high` for its interval. Which way is better is a tag of the family,
`direction.<family>`.
"""

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

Json = Mapping[str, Any]

DIRECTIONS = {
    "gain": "higher_is_better",
    "difference": "higher_is_better",
    "area": "higher_is_better",
    "gain_from_personalising": "higher_is_better",
    "gain_from_one_split": "higher_is_better",
    "calibration_slope": "closer_to_1_is_better",
    "calibration_pooled_slope": "closer_to_1_is_better",
    "calibration_rmse": "lower_is_better",
    "reliability_slope": "closer_to_1_is_better",
    "reliability_ece": "lower_is_better",
    "reliability_brier": "lower_is_better",
    "partner_slope": "closer_to_1_is_better",
    "partner_over_best_baseline": "higher_is_better",
    "partner_over_personalised": "higher_is_better",
    "permuted_gain": "closer_to_0_is_better",
    "sample_ratio_p_value": "below_0.001_is_an_alarm",
    "attrition_p_value": "below_0.001_is_an_alarm",
    "held_out_loss": "lower_is_better",
}
"""Of the families of figures; a gain is positive where the outcome moves as wished."""
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""What MLflow calls the end of a trial."""
PROCESS = "process"
"""Tag of a run: the process that writes it, by which one that died is known."""
BATCH = 900
"""Metrics that a store takes at once."""
NAMED = ("policies", "differences", "area", "reliability", "partners")
NOT_COMPARED = ("turnout_effect", "label", "description")


# --- figures under the same names ---


def flat_metrics(evaluation: Json) -> dict[str, float]:
    """The figures of an evaluation under the same names in every run.

    With several experiments each figure is also under `<experiment>/`, and the plain
    name is their mean by voters. Its interval is the mean of theirs: never too narrow,
    whether or not the experiments share voters.
    """
    experiments = evaluation["experiments"]
    each = {name: _figures(result) for name, result in experiments.items()}
    weight = {name: float(r.get("n_voters", 1)) for name, r in experiments.items()}
    metrics = _mean(list(each.values()), list(weight.values()))
    if len(each) > 1:
        for name, figures in each.items():
            metrics |= {f"{_metric_name(name)}/{key}": v for key, v in figures.items()}
    return metrics


def _figures(result: Json) -> dict[str, float]:
    # doing nothing gains nothing, by definition
    intervals = {
        f"gain__{policy}": row["gain"]
        for policy, row in result["policies"].items()
        if policy != "nobody"
    }
    intervals |= {f"difference__{p}": gain for p, gain in result["differences"].items()}
    intervals |= {f"area__{p}": a for p, a in result["area"].items() if p != "nobody"}
    intervals |= _of_partners(result.get("partners") or {})
    figures = dict(_intervals(intervals))
    figures |= _reliability(result.get("reliability") or {})
    rest = {k: v for k, v in result.items() if k not in NAMED}
    figures |= dict(_intervals(rest))
    groups = result["calibration"].get("groups", [])
    if groups:
        figures["calibration_rmse"] = _calibration_rmse(groups)
    for name, check in result["checks"].items():
        if isinstance(check, Mapping) and "p_value" in check:
            figures[f"{name}_p_value"] = float(check["p_value"])
    return figures


def _of_partners(partners: Json) -> Json:
    """How far every partner's lifts come true, and what they gain."""
    return {
        f"partner_{family}__{policy.removeprefix('partner:')}": interval
        for policy, figures in partners.items()
        for family, interval in figures.items()
    }


def _reliability(outcomes: Json) -> dict[str, float]:
    """Reliability of predicted turnout and support: slope, calibration error, Brier."""
    slopes = {
        f"reliability_slope__{o}": figures["slope"] for o, figures in outcomes.items()
    }
    misses = {
        f"reliability_{miss}__{outcome}": float(figures[miss])
        for outcome, figures in outcomes.items()
        for miss in ("ece", "brier")
    }
    return dict(_intervals(slopes)) | misses


def _intervals(nested: Json, within: str = "") -> Iterator[tuple[str, float]]:
    """Every interval of nested tables as three figures; lists are left to the file."""
    for key, value in nested.items():
        if key in NOT_COMPARED or not isinstance(value, Mapping):
            continue
        name = _metric_name(f"{within}{key}")
        if {"value", "low", "high"} <= set(value):
            for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high")):
                yield f"{name}{suffix}", float(value[end])
        else:
            yield from _intervals(value, _PREFIX.get(key, f"{name}__"))


_PREFIX = {"calibration": "calibration_", "checks": ""}


def _calibration_rmse(groups: Sequence[Json]) -> float:
    """Distance of predicted from realised lift over groups, by voters."""
    gap = [row["predicted"] - row["realised"]["value"] for row in groups]
    size = [row["n"] for row in groups]
    return float(np.sqrt(np.average(np.square(gap), weights=size)))


def _mean(
    figures: Sequence[Mapping[str, float]], weight: Sequence[float]
) -> dict[str, float]:
    """Mean by voters of what all experiments have; a p-value is the smallest."""
    shared = [k for k in figures[0] if all(k in other for other in figures)]
    means = {}
    for name in shared:
        values = [other[name] for other in figures]
        least = name.endswith("p_value")
        means[name] = min(values) if least else np.average(values, weights=weight)
    return {name: float(value) for name, value in means.items()}


def _metric_name(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return "".join(c if c.isalnum() or c in "_-./" else "_" for c in name)


# --- tables ---


def policy_table(evaluation: Json) -> pd.DataFrame:
    """A row per experiment and policy: gain, area and what personalising adds."""
    rows = []
    for experiment_id, result in evaluation["experiments"].items():
        for policy, row in result["policies"].items():
            cells = {"experiment": experiment_id, "policy": policy}
            cells |= _ends("gain", row["gain"])
            cells |= _ends("area", result["area"].get(policy))
            cells |= _ends("personalised_adds", result["differences"].get(policy))
            cells["spend_per_voter_usd"] = row.get("spend_per_voter_usd")
            cells["contacted_share"] = row.get("contacted_share")
            rows.append(cells)
    return pd.DataFrame(rows)


def _ends(name: str, interval: Json | None) -> dict[str, Any]:
    keys = (("", "value"), ("_low", "low"), ("_high", "high"))
    return {f"{name}{suffix}": (interval or {}).get(key) for suffix, key in keys}


def log_table(frame: pd.DataFrame, name: str) -> None:
    """Log a table that MLflow's compare view can show next to another run's.

    Unlike `mlflow.log_table` it replaces what a repeated stage wrote before.
    """
    split = json.loads(frame.to_json(orient="split", index=False, date_format="iso"))
    mlflow.log_dict(split, name)
    active = mlflow.active_run().info.run_id
    tags = MlflowClient().get_run(active).data.tags
    artifacts = json.loads(tags.get("mlflow.loggedArtifacts", "[]"))
    artifact = {"path": name, "type": "table"}
    if artifact not in artifacts:
        mlflow.set_tag("mlflow.loggedArtifacts", json.dumps([*artifacts, artifact]))


def describe(sentence: str, facts: Mapping[str, str]) -> None:
    """Describe a run in MLflow: its answer, and the facts that the answer is about."""
    rows = [f"| {name} | {value} |" for name, value in facts.items()]
    text = "\n".join([f"**{sentence}**", "", "| | |", "|---|---|", *rows])
    mlflow.set_tags(
        {
            "mlflow.note.content": text,
            **{
                f"direction.{name}": direction for name, direction in DIRECTIONS.items()
            },
        }
    )


# --- trials ---


def log_trials(
    trials: pd.DataFrame, steps: pd.DataFrame, tags: Mapping[str, str]
) -> None:
    """Every trial as a run nested under the active one, in three calls each.

    Args:
        trials: As `registry.tune.Tuned` has them; those that wait are left out.
        steps: Running held-out loss: number, step, loss.
        tags: Of every trial: experiment, half, model.
    """
    parent, client = mlflow.active_run().info, MlflowClient()
    losses = dict(iter(steps.groupby("number")))
    for row in trials[trials["state"].isin(list(STATUS))].to_dict("records"):
        trial = {str(name): value for name, value in row.items()}
        _log_trial(client, parent, trial, losses.get(trial["number"]), tags)


def _log_trial(
    client: MlflowClient,
    parent: Any,
    trial: Mapping[str, Any],
    losses: pd.DataFrame | None,
    tags: Mapping[str, str],
) -> None:
    began = _milliseconds(trial["started_at"])
    ended = began + int(1000 * _number(trial["duration_s"], 0.0))
    run = client.create_run(
        parent.experiment_id,
        start_time=began,
        run_name=f"{'/'.join(tags.values())} trial {trial['number']}",
        tags={
            **tags, PROCESS: this_process(), "kind": "trial", "state": trial["state"],
            "reason": trial["reason"], "mlflow.parentRunId": parent.run_id,
            "mlflow.source.name": "hustings",
        },
    )  # fmt: skip
    metrics = [Metric("duration_s", (ended - began) / 1000, ended, 0)]
    if not pd.isna(trial["value"]):
        metrics.append(Metric("held_out_loss", float(trial["value"]), ended, 0))
    if losses is not None:
        metrics += [
            Metric("running_loss", float(loss), ended, int(step))
            for step, loss in zip(losses["step"], losses["loss"], strict=True)
        ]
    params = [
        Param(name, str(value))
        for name, value in trial.items()
        if name not in NOT_A_SETTING and not pd.isna(value)
    ]
    for first in range(0, len(metrics), BATCH):
        batch = metrics[first : first + BATCH]
        client.log_batch(run.info.run_id, batch, params if first == 0 else [])
    client.set_terminated(run.info.run_id, STATUS[trial["state"]], end_time=ended)


NOT_A_SETTING = ("number", "value", "state", "reason", "started_at", "duration_s")


def _milliseconds(moment: Any) -> int:
    return 0 if pd.isna(moment) else int(pd.Timestamp(moment).timestamp() * 1000)


def _number(value: Any, otherwise: float) -> float:
    return otherwise if pd.isna(value) else float(value)


# --- runs ---


def log_settings(settings: Mapping[str, Any]) -> None:
    """Chosen settings as parameters `best__...` of the active run, in one call."""
    params = [Param(f"best__{_metric_name(k)}", str(v)) for k, v in settings.items()]
    active = mlflow.active_run().info.run_id
    for first in range(0, len(params), 90):
        MlflowClient().log_batch(active, params=params[first : first + 90])


def this_process() -> str:
    """Identity of this process: digest of its machine, number and start."""
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_started(pid)}"


def _machine() -> str:
    # the name of somebody's machine says nothing to others
    return hashlib.sha256(platform.node().encode()).hexdigest()[:12]


def _started(pid: int) -> str:
    """When a process started, in clock ticks; "0" where the system does not say.

    Raises:
        ProcessLookupError: If there is no process of this number.
    """
    os.kill(pid, 0)
    status = Path(f"/proc/{pid}/stat")
    # the command's name may hold spaces and brackets; start is the 20th field after it
    return status.read_text().rpartition(")")[2].split()[19] if status.exists() else "0"


def _has_died(process: str) -> bool:
    """Whether a process of this machine is no more; of others nobody can tell."""
    machine, pid, started = process.split("/")
    if machine != _machine():
        return False
    try:
        return _started(int(pid)) != started
    except ProcessLookupError:
        return True
    except PermissionError:
        return False  # of another account, so it is there


def close_dead(campaign: str) -> list[str]:
    """End the runs of a campaign whose process has died, trials included.

    Args:
        campaign: Names the MLflow experiment.

    Returns:
        Ids of the runs, which are KILLED from now on.
    """
    client = MlflowClient()
    experiment = client.get_experiment_by_name(campaign)
    if experiment is None:
        return []
    running = client.search_runs(
        [experiment.experiment_id],
        filter_string=f"attributes.status = 'RUNNING' AND tags.{PROCESS} LIKE '%'",
    )
    dead = [r.info.run_id for r in running if _has_died(r.data.tags[PROCESS])]
    for run_id in dead:
        client.log_batch(run_id, tags=[RunTag("cut_off", "its process died")])
        client.set_terminated(run_id, "KILLED")
    return dead


def recent_runs(campaign: str, n: int) -> pd.DataFrame:
    """The last runs of a campaign, the newest first, trials left out.

    Args:
        campaign: Names the MLflow experiment.
        n: At most so many.

    Returns:
        run, started_at, status, model, verdict, commit, the three gains from
        personalising, and the calibration slope; no rows without any run.
    """
    client = MlflowClient()
    experiment = client.get_experiment_by_name(campaign)
    if experiment is None:
        return pd.DataFrame()
    runs = client.search_runs(
        [experiment.experiment_id],
        filter_string="tags.campaign LIKE '%'",
        order_by=["attributes.start_time DESC"],
        max_results=n,
    )
    return pd.DataFrame(_run_row(run) for run in runs)


def _run_row(run: Any) -> dict[str, Any]:
    tags, metrics = run.data.tags, run.data.metrics
    gain = "gain_from_personalising"
    return {
        "run": run.info.run_name,
        "started_at": pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
        "status": run.info.status,
        "model": tags.get("model", ""),
        "verdict": tags.get("verdict", ""),
        "commit": tags.get("git_commit", "")[:8],
        **{
            f"gain{end}": metrics.get(f"{gain}{end}", math.nan)
            for end in ("", "_low", "_high")
        },
        "slope": metrics.get("calibration_slope", math.nan),
    }
