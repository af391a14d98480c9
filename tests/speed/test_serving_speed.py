"""The endpoint's times: one voter, a thousand, and what the HTTP around them adds.

All in one run on one machine, as ratios: what a request costs over the model alone.
"""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from hustings.serving.load import read_bundle
from tests.checkout import environment

pytestmark = pytest.mark.speed

KEY = "a-key-of-the-benchmark"
N_VOTERS = 20_000
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample campaign, run whole, and its bundle."""
    folder = tmp_path_factory.mktemp("campaign")
    command = [
        sys.executable, "-m", "hustings.experiments.cli", "run",
        "--campaign", "sample",
        "--voters", str(N_VOTERS), "--trials", "1",
        "--data", str(folder / "data"), "--store", str(folder / "store"),
    ]  # fmt: skip
    there = environment()
    subprocess.run(command, check=True, env=there, capture_output=True)
    return folder / "data" / "sample"


@pytest.fixture(scope="module")
def rows(home: Path) -> list[dict[str, Any]]:
    raw = pd.read_parquet(home / "raw" / "voters.parquet")
    text = raw.to_json(orient="records", date_format="iso", double_precision=15)
    found: list[dict[str, Any]] = json.loads(text)
    return found


@pytest.fixture(scope="module")
def client(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = {
        **environment(),
        "HUSTINGS_API_KEY": KEY,
        "HUSTINGS_BUNDLE": str(home / "serving"),
        "BENTOML_HOME": str(tmp_path_factory.mktemp("bentoml")),
    }
    command = [
        sys.executable, "-m", "bentoml", "serve", "hustings.serving.service:Hustings",
        "--working-dir", str(ROOT), "--port", str(port),
    ]  # fmt: skip
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=there, stdout=quiet, stderr=quiet)
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"X-API-Key": KEY},
            timeout=120,
        ) as session:
            _until_ready(session)
            yield session
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def _until_ready(session: httpx.Client) -> None:
    for _ in range(600):
        try:
            if session.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail("the server did not start")


def milliseconds(call: Callable[[], object], n_calls: int) -> np.ndarray:
    call()
    found = []
    for _ in range(n_calls):
        started = time.perf_counter()
        call()
        found.append((time.perf_counter() - started) * 1e3)
    return np.array(found)


def test_what_a_request_costs_over_the_model_alone(home, rows, client, capsys):
    """Prints p50 and p99 side by side; holds what no machine changes."""
    model, _, _ = read_bundle(home / "serving")
    voters = pd.read_parquet(next(home.glob("2*/tables/voters.parquet")))
    told = ["", f"{'':28}{'p50 ms':>10}{'p99 ms':>10}{'voters/s':>12}{'ratio':>8}"]
    alone: dict[int, float] = {}
    for n, n_calls in ((1, 200), (1_000, 10), (10_000, 3)):
        few, body = voters.head(n), json.dumps({"voters": rows[:n]})
        calls: dict[str, Callable[[], object]] = {
            "model alone": lambda few=few: model.score(few),
            "POST /score": lambda body=body: client.post("/score", content=body),
            "POST /recommend": lambda body=body: client.post(
                "/recommend", content=body
            ),
        }
        for name, call in calls.items():
            times = milliseconds(call, n_calls)
            p50, p99 = np.percentile(times, [50, 99])
            alone.setdefault(n, p50)
            told.append(
                f"{name + f', {n:,} voters':28}{p50:10.1f}{p99:10.1f}"
                f"{n / p50 * 1e3:12,.0f}{p50 / alone[n]:8.1f}"
            )
    health = np.percentile(milliseconds(lambda: client.get("/healthz"), 200), 50)
    told.append(f"{'GET /healthz':28}{health:10.1f}")
    with capsys.disabled():
        sys.stdout.write("\n".join(told) + "\n")
    answer = client.post("/score", json={"voters": rows[:1]})
    assert answer.status_code == 200
    # a thousand voters cost less than a thousand requests: most of one is fixed
    one, many = alone[1], alone[1_000]
    assert many < 1_000 * one
