"""How long the main job takes and how much memory; printed beside its target.

Peers run in the same process right before or after, since a busy machine is busy for
both. Nothing here fails for being slow: what is asserted is that both did the same.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hustings.experiments.declaration import data_dir
from hustings.features.arrays import Floats
from hustings.features.training_set import Arm
from hustings.serving.plan import (
    Limits,
    PlanSettings,
    choose_options,
    limits_of,
    plan_contacts,
)
from hustings.serving.score import score_block
from hustings.training.estimators.spend_path import NOTHING, whole_budget_path
from tests.checkout import environment

pytestmark = pytest.mark.speed

ROOT = Path(__file__).parents[2]
MAILERS = data_dir() / "ggl2008_mailers"


def say(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n  {line}")  # noqa: T201 - this is what a benchmark is for


def seconds(work: Callable[[], Any], *, best_of: int = 1) -> tuple[float, Any]:
    """Least time of a few, and the last result."""
    times, found = [], None
    for _ in range(best_of):
        started = time.perf_counter()
        found = work()
        times.append(time.perf_counter() - started)
    return min(times), found


def ran(home: Path, campaign: str, *options: str) -> tuple[float, float, str]:
    """Seconds, peak GB and output of `hustings run` in a process of its own."""
    code = (
        "import resource, sys\n"
        "from hustings.experiments.cli import app\n"
        "sys.argv[0] = 'hustings'\n"
        "try:\n    app()\n"
        "finally:\n"
        "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    print('PEAK_KB', peak)\n"
    )
    folders = ["--data", str(home / "runs"), "--store", str(home / "mlflow")]
    taken, done = seconds(
        lambda: subprocess.run(
            [sys.executable, "-c", code, "run", "--campaign", campaign, *folders,
             *options],
            capture_output=True, text=True, cwd=ROOT, check=False,
            env=environment(),
        )
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    peak_kb = int(done.stdout.split("PEAK_KB")[1].split()[0])
    return taken, peak_kb / 2**20, done.stdout


def test_main_job_on_200_000_simulated_voters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, peak_gb, said = ran(tmp_path, "sample", "--debug")
    assert "Results:" in said
    say(
        capsys,
        f"main job, sample, 200,000 voters: {taken:.0f} s (target 120), peak "
        f"{peak_gb:.1f} GB, load {os.getloadavg()[0]:.1f}",
    )


@pytest.mark.skipif(
    not MAILERS.is_dir(), reason=f"needs the published mailer data in {MAILERS}"
)
def test_main_job_on_240_729_real_voters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, peak_gb, said = ran(tmp_path, "2006_mailers", "--debug")
    assert "Results:" in said
    say(
        capsys,
        f"main job, 2006_mailers, 240,729 voters: {taken:.0f} s (target 600), peak "
        f"{peak_gb:.1f} GB (target 4), load {os.getloadavg()[0]:.1f}",
    )


def test_help_beside_a_bare_interpreter(capsys: pytest.CaptureFixture[str]) -> None:
    there = environment()

    def timed(*arguments: str) -> float:
        line = [sys.executable, *arguments]
        return seconds(
            lambda: subprocess.run(
                line, check=True, capture_output=True, cwd=ROOT, env=there
            )
        )[0]

    pairs = [
        (timed("-m", "hustings.experiments.cli", "--help"), timed("-c", "pass"))
        for _ in range(7)
    ]
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    say(
        capsys,
        f"hustings --help: {ours:.2f} s (target 0.5), bare interpreter {bare:.2f} s",
    )


@pytest.fixture(scope="module")
def voters(story: Any) -> pd.DataFrame:
    """The story's voters over and over, about 200,000, each with an id of its own."""
    some: pd.DataFrame = story.run.table("voters")
    times = -(-200_000 // len(some))
    many = pd.concat([some] * times, ignore_index=True).head(200_000)
    return many.assign(voter_id=[f"V{i:07d}" for i in range(len(many))])


def test_scoring_rate(
    story: Any,
    voters: pd.DataFrame,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from hustings.serving.load import load_champion
    from hustings.training.registry.register import open_store

    # the story is told on one thread; a server scores on two
    monkeypatch.setattr("hustings.training.learners.boosting.N_THREADS", 2)
    open_store(None, story.run.store)
    found = load_champion(story.run.campaign.campaign.name)
    assert found is not None
    model, n = found[0], len(voters)
    assert len(model.messages) == 4
    assert model.champions == {"spring_test": "personalised"}
    rows = pa.Table.from_pandas(voters, preserve_index=False)
    predict_s, _ = seconds(lambda: model.predict(voters), best_of=3)
    score_s, _ = seconds(lambda: score_block(model, rows), best_of=3)
    features = model.reader.features(voters)
    encode_s, _ = seconds(lambda: model.reader.encoding.transform(features), best_of=3)
    say(
        capsys,
        f"scoring, {n:,} voters x 4 messages: predict {n / predict_s:,.0f} voters/s "
        f"(target 200,000), with intervals as a table {n / score_s:,.0f} voters/s; of "
        f"{predict_s:.2f} s the encoding takes {encode_s:.2f}",
    )


# --- planner --------------------------------------------------------------------------


def market(n: int, n_arms: int) -> tuple[Floats, Floats, Limits]:
    """Rows of one voter, arms in three channels with capacities, one budget."""
    rng = np.random.default_rng(0)
    channels = ("mail", "sms", "phone")
    arms = [Arm(f"m{a // 3}", channels[a % 3]) for a in range(n_arms)]
    cost = np.array([{"mail": 0.6, "sms": 0.3, "phone": 1.1}[a.channel] for a in arms])
    value = rng.normal(0.5, 1.0, (n, n_arms)) + rng.normal(0, 1.0, (n, 1))
    limits = limits_of(
        arms, cost, budget_usd=0.25 * n, capacity={"sms": 0.2 * n, "phone": 0.05 * n},
        total_capacity=0.5 * n,
    )  # fmt: skip
    return value, np.ones((n, n_arms)), limits


def lp_optimum(value: Floats, limits: Limits) -> float:
    """The linear relaxation by HiGHS' interior point."""
    row, arm = np.nonzero(value > 0)
    n, k, n_limits = len(value), len(row), len(limits.most)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = k, n + n_limits
    lp.col_cost_ = -value[row, arm]
    lp.col_lower_, lp.col_upper_ = np.zeros(k), np.ones(k)
    lp.row_lower_ = np.full(n + n_limits, -highspy.kHighsInf)
    lp.row_upper_ = np.concatenate([np.ones(n), limits.most])
    # a column of ones for its voter, and what its arm uses of every limit
    entries = np.column_stack([np.ones(k), limits.use[:, arm].T])
    index = np.column_stack([row, np.tile(n + np.arange(n_limits), (k, 1))])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = np.arange(k + 1) * (1 + n_limits)
    lp.a_matrix_.index_ = index.ravel()
    lp.a_matrix_.value_ = entries.ravel()
    solver: Any = highspy.Highs()  # type: ignore[no-untyped-call]
    solver.silent()
    solver.setOptionValue("solver", "ipm")
    solver.setOptionValue("run_crossover", "off")
    solver.passModel(lp)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return -float(solver.getInfo().objective_function_value)


def test_planner_beside_highs(capsys: pytest.CaptureFixture[str]) -> None:
    value, reach, limits = market(20_000, 24)
    rng = np.random.default_rng(1)
    ours_s, chosen = seconds(lambda: choose_options(value, reach, limits, rng))
    highs_s, best = seconds(lambda: lp_optimum(value, limits))
    assert chosen.value <= best * (1 + 1e-6) <= chosen.bound * (1 + 2e-6)
    say(
        capsys,
        f"planner, 20,000 voters x 24 options, 4 limits: {ours_s:.2f} s, HiGHS ipm "
        f"{highs_s:.2f} s ({highs_s / ours_s:.1f} x); short of the optimum by "
        f"{1 - chosen.value / best:.1e}",
    )
    large = market(200_000, 24)
    large_s, chosen = seconds(lambda: choose_options(*large, rng))
    say(
        capsys,
        f"planner, 200,000 voters x 24 options, 4 limits: {large_s:.1f} s, gap "
        f"{chosen.gap:.1e}",
    )


def test_whole_plan_of_200_000_voters(capsys: pytest.CaptureFixture[str]) -> None:
    value, _, limits = market(200_000, 24)
    n = len(value)
    voter_id = np.array([f"V{i:07d}" for i in range(n)], dtype=object)
    unit_id = np.array([f"H{i // 2:07d}" for i in range(n)], dtype=object)
    channels = ("mail", "sms", "phone")
    terms = PlanSettings(
        salt="bench", holdout_share=0.1, explore_share=0.05, budget_usd=0.25 * n,
        start_on=pd.Timestamp("2026-09-08"), days=10,
        capacity={"sms": 0.02 * n, "phone": 0.005 * n}, capacity_per_day=0.05 * n,
    )  # fmt: skip
    taken, plan = seconds(
        lambda: plan_contacts(
            voter_id, unit_id, value, np.ones(value.shape, dtype=bool),
            [Arm(f"m{a // 3}", channels[a % 3]) for a in range(24)], limits.use[0],
            terms, np.random.default_rng(2),
        )
    )  # fmt: skip
    assert plan.contacts["cost_usd"].sum() <= terms.budget_usd * (1 + 1e-9)
    say(
        capsys,
        f"plan with holdout, exploration and days, 200,000 voters x 24: {taken:.1f} s, "
        f"gap {plan.chosen.gap:.1e}",
    )


# --- whole-budget path ----------------------------------------------------------------


def gift_wrapped(value: Floats, cost: Floats) -> tuple[Floats, Floats]:
    """Spend and value at every step, a voter at a time: what one would write first."""
    steps = []
    for i in range(len(value)):
        at_cost, at_value, falling = 0.0, 0.0, np.inf
        while True:
            extra_cost, extra = cost - at_cost, value[i] - at_value
            ahead = (extra > 0) & (extra_cost > 0)
            if not ahead.any():
                break
            slope = np.where(ahead, extra / np.where(ahead, extra_cost, 1.0), -np.inf)
            best = int(slope.argmax())
            falling = min(falling, float(slope[best]))
            steps.append((falling, extra_cost[best], extra[best]))
            at_cost, at_value = cost[best], value[i, best]
    table = np.array(sorted(steps, key=lambda step: -step[0]))
    return np.cumsum(table[:, 1]), np.cumsum(table[:, 2])


def test_whole_budget_path_beside_plain_gift_wrapping(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = np.random.default_rng(3)
    cost = np.array([1.0, 15.0, 30.0, 45.0, 60.0])
    value = rng.normal(0.5, 1.0, (20_000, 5)) * np.sqrt(cost)
    ours_s, path = seconds(lambda: whole_budget_path(value, cost), best_of=3)
    plain_s, (spend, gain) = seconds(lambda: gift_wrapped(value, cost))
    assert np.allclose(path.spend, spend)
    assert np.allclose(np.cumsum(path.value), gain)
    say(
        capsys,
        f"whole-budget path, 20,000 voters x 5: {ours_s * 1e3:.0f} ms, a voter at a "
        f"time {plain_s * 1e3:.0f} ms ({plain_s / ours_s:.0f} x)",
    )
    many = rng.normal(0.5, 1.0, (1_000_000, 5)) * np.sqrt(cost)
    taken, path = seconds(lambda: whole_budget_path(many, cost))
    assert (path.options_at(float(path.spend[-1])) != NOTHING).any()
    say(capsys, f"whole-budget path, 1,000,000 voters x 5: {taken:.2f} s")
