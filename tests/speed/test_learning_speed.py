"""How long learning and scoring take, and how much memory: figures side by side.

`make bench` prints them. Nothing is asserted of the clock but what was promised.
"""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from hustings.features.training_set import Arm, MessageTest
from hustings.training.learners.arm_trees import fit_arm_trees
from hustings.training.learners.gbm import fit_gbm, prepare
from hustings.training.learners.linear import fit_linear

LARGE = """
import json, resource, time
import numpy as np
from hustings.features.training_set import Arm, MessageTest
from hustings.training.learners.gbm import prepare
from hustings.training.learners.registry import fit_lift

n, p, m = {n}, {p}, 3
rng = np.random.default_rng(0)
X = rng.normal(size=(n, p)).astype(np.float32)
X[:, : p // 2] = X[:, : p // 2] > 0.5
e = np.array([0.4, 0.2, 0.2, 0.2])
arm = rng.choice(4, size=n, p=e)
lift = [X[:, 0] + 1.0, 1.0 * (X[:, -1] > 1), 0 * X[:, 1]]
effect = np.column_stack([np.zeros(n), *lift])
Y = X[:, 2] + effect[np.arange(n), arm] + rng.normal(0, 3, n)
unit = np.arange(n)
ids = unit.astype(str).astype(object)
test = MessageTest(
    experiment_id="large", arms=tuple(Arm(f"m{{k}}", "mail") for k in range(m)),
    voter_id=ids, unit=unit, unit_id=ids, household=unit, drawn=unit,
    block=np.zeros(n, np.int64), X=X, arm=arm, Y=Y, propensities=np.tile(e, (n, 1)),
)
began = time.perf_counter()
ready = prepare(test, [], {{f"m{{k}}": "issue" for k in range(m)}}, seed=1)
nuisances = time.perf_counter() - began
model = fit_lift(ready, {{"model": "{model}"}}, seed=1)
fitted = time.perf_counter() - began
lifts = model.predict(X[:200_000])
true = effect[:200_000, 1:]
error = lifts.lift - true
print(json.dumps({{
    "nuisances_s": nuisances, "fit_s": fitted,
    "predict_200k_s": time.perf_counter() - began - fitted,
    "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    "rmse": float(np.sqrt((error**2).mean())),
    "rmse_constant": float(np.sqrt(((true - true.mean(0))**2).mean())),
    "coverage": float((np.abs(error) < 1.96 * lifts.se).mean()),
}}))
"""


@pytest.mark.speed
def test_a_million_voters_by_200_features_by_3_messages() -> None:
    """In a process of its own, so that the peak of memory is its own."""
    script = LARGE.format(n=1_000_000, p=200, model="stack")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    print("\n1,000,000 × 200 × 3, intervals included:", told)  # noqa: T201
    assert told["rmse"] < 0.5 * told["rmse_constant"]


@pytest.mark.speed
def test_scoring_from_a_feature_array() -> None:
    """Pairs of voter and message a second on two threads, by the same model as the
    reference, which multiplies all columns in double precision."""
    rng = np.random.default_rng(1)
    n, m = 400_000, 12
    X = rng.normal(size=(n, 20)).astype(np.float32)
    X[:, :12] = X[:, :12] > 0.3
    lift = np.column_stack([X[:, k] + X[:, 12] * X[:, k + 1] for k in range(m)])
    few = slice(0, 30_000)
    scores = lift[few] + rng.normal(0, 5, (30_000, m))
    fold = rng.integers(4, size=30_000)
    parts = ["a"] * m
    model = fit_linear(X[few], scores, 25 * np.eye(m), fold, parts, [])
    model.deviation(X[few], None)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        found = model.deviation(X, None)
        seconds.append(time.perf_counter() - began)
    raw = model.basis.raw(X[few]).astype(np.float64)
    centred = (raw - model.basis.centre[:, None]) / model.basis.scale[:, None]
    reference = centred.T @ model.coefficients[-1]
    gap = np.abs(found[few] - reference).max()
    rate = n * m / np.median(seconds)
    used = int((model.coefficients[-1] != 0).any(axis=1).sum())
    told = f"linear: {rate / 1e6:.1f}M pairs/s, {used} columns, gap {gap:.1e}"
    print("\n" + told)  # noqa: T201
    assert gap < 1e-5 * max(1.0, np.abs(reference).max())


@pytest.mark.speed
def test_scoring_by_trees_from_a_feature_array() -> None:
    """Pairs a second of both kinds of trees, each voter by the trees of its fold."""
    rng = np.random.default_rng(2)
    n, m = 60_000, 4
    X = rng.normal(size=(n, 20)).astype(np.float32)
    arm = rng.integers(0, m + 1, size=n)
    Y = X[:, 0] + (arm > 0) * (1 + X[:, 1]) + rng.normal(0, 2, n)
    unit = np.arange(n)
    ids = unit.astype(str).astype(object)
    test = MessageTest(
        experiment_id="trees", arms=tuple(Arm(f"m{k}", "mail") for k in range(m)),
        voter_id=ids, unit=unit, unit_id=ids, household=unit, drawn=unit,
        block=np.zeros(n, np.int64), X=X, arm=arm, Y=Y,
        propensities=np.full((n, m + 1), 1 / (m + 1)),
    )  # fmt: skip
    ready = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    gbm, (arms, _) = fit_gbm(ready, seed=1), fit_arm_trees(ready, seed=1)
    for name, predict in {
        "gbm": lambda: gbm.deviation(X, ids)[0],
        "arm trees": lambda: arms.deviation(X, ready.fold),
    }.items():
        predict()
        began = time.perf_counter()
        for _ in range(3):
            found = predict()
        rate = 3 * found.size / (time.perf_counter() - began)
        print(f"\n{name}: {rate / 1e6:.2f}M pairs/s")  # noqa: T201
        assert np.isfinite(found).all()
