"""A small bundle, and real servers of it on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# threads that wait without sleeping starve each other on a busy machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import httpx
import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import feature_columns, load_campaign
from hustings.features.ingest import ingest
from hustings.features.persons.keys import Never
from hustings.features.simulated.campaign import simulate, write_sample
from hustings.features.training_set import build_training_set, message_tests
from hustings.features.voter import Encoding
from hustings.serving.contact_lists import ContactLists
from hustings.serving.offer import OfferSettings
from hustings.training.learners.gbm import DEFAULT_PARAMS, fit_gbm, prepare
from hustings.training.policy_value.policies import Policy
from hustings.training.registry.campaign_model import CampaignModel, Reader

KEY = "a-key-of-the-tests"
START_WITHIN_S = 60.0
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Served:
    """A bundle and what it was made from."""

    folder: Path
    model: CampaignModel
    plan: dict[str, Any]
    voters: pd.DataFrame
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    log: Path

    def client(self, **headers: str) -> httpx.Client:
        given = headers or {"Authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=self.url, headers=given, timeout=60.0)

    def get(self, path: str) -> httpx.Response:
        with self.client() as client:
            return client.get(path)

    def post(self, path: str, body: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The sample campaign on 3,000 voters, with lifts that differ between them."""
    home = tmp_path_factory.mktemp("served")
    campaign = load_campaign("sample")
    write_sample(simulate(n_voters=3_000, seed=5, n_messages=3), home / "raw")
    found = ingest(
        campaign.tables,
        outcome=campaign.outcome.name,
        campaign_dir=campaign.folder,
        data_dir=home,
        raw_dir=home / "raw",
    )
    columns = feature_columns(campaign, list(found.tables["voters"].columns))
    made = build_training_set(
        found.tables, columns, outcome="support", absent="missing"
    )
    encoding = Encoding.fit(made.features)
    ((name, test),) = message_tests(made, encoding).items()
    issue_of = found.tables["messages"].set_index("message_id")["issue"].to_dict()
    prepared = prepare(test, encoding.categorical, issue_of, seed=5)
    lift = fit_gbm(prepared, {**DEFAULT_PARAMS, "min_child_samples": 100}, seed=5)
    # believed in full: on so few voters the calibration would leave no differences
    n_messages = len(test.messages)
    believed = replace(
        lift.calibration, weight=np.array([1.0, 0.5]), slope=np.ones(n_messages)
    )
    as_of = made.rows["sent_on"].min().normalize()
    model = CampaignModel(
        campaign="sample",
        reader=Reader(found.sources["voters"], tuple(columns), as_of, encoding),
        lifts={name: replace(lift, calibration=believed)},
        arms={name: test.arms},
        champions={name: "personalised"},
        facts={
            "outcome": campaign.outcome.model_dump(mode="json"),
            "verdict": "personalise",
            "sentence": "Personalising pays.",
            "data_hash": "d" * 64,
            "trained_at": "2026-09-01T00:00:00Z",
        },
    )
    folder = home / "bundle"
    model.save(folder / "model")
    price = {"mail": 2.0, "sms": 1.0, "phone": 3.0}
    plan = {
        "salt": "sample-5",
        "holdout_share": 0.2,
        "rule_set": "us_default",
        "audiences": {
            "all": {
                "settings": OfferSettings((name,), by_household=True).to_json(),
                "policy": Policy("personalised").to_json(),
                "arms": [
                    {
                        "message_id": arm.message_id,
                        "channel": arm.channel,
                        "cost_usd": price[arm.channel] / 4,
                        "price": price[arm.channel],
                    }
                    for arm in test.arms
                ],
                "shadow_price": 4.0,
            }
        },
        "rules": {
            "messages": found.tables["messages"][
                ["message_id", "text", "sponsor", "disclaimer", "discloses"]
            ].to_dict("records"),
            "lowers_turnout": [],
            "signed": [],
        },
        "limits": {
            "budget_usd": 1e6,
            "capacity_by_channel": {},
            "capacity_per_day": None,
            "contacts_per_voter": 1,
            "window_days": None,
        },
        "never": Never.of(b"k", []).to_json(),
    }
    version = {
        "name": "hustings-sample",
        "version": "7",
        "alias": "champion",
        "run_id": "r" * 32,
        "tag_verdict": "personalise",
        "tag_data_hash": "d" * 64,
        "tag_trained_at": "2026-09-01T00:00:00Z",
        "tag_judged_by": "j" * 32,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    ContactLists().write(folder)
    (folder / "version.json").write_text(json.dumps(version))
    raw = pd.read_parquet(home / "raw" / "voters.parquet")
    voters = found.tables["voters"].reset_index(drop=True)
    return Served(folder, model, plan, voters, _as_json(raw))


def _as_json(raw: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a voter file as a client would send them."""
    rows: list[dict[str, Any]] = json.loads(
        raw.to_json(orient="records", date_format="iso", double_precision=15)
    )
    return rows


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@contextmanager
def running(
    command: Sequence[str], *, cwd: Path, home: Path, env: Mapping[str, str]
) -> Iterator[Server]:
    """A server process from its first answer until the end of the block."""
    port, log = _free_port(), home / "server.log"
    there = {
        **os.environ,
        "BENTOML_HOME": str(home / "bentoml"),
        "HUSTINGS_API_KEY": KEY,
        **env,
    }
    line = [*command, "--port", str(port)]
    with log.open("w") as out:
        process = subprocess.Popen(
            line, cwd=cwd, env=there, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            server = Server(f"http://127.0.0.1:{port}", log)
            _until_ready(server, process)
            yield server
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if server.get("/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the server did not start:\n{server.log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def run_server() -> Callable[..., AbstractContextManager[Server]]:
    return running


@pytest.fixture(scope="session")
def server(
    served: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The bundle behind `serve_bundle`, as `hustings serve` starts it."""
    home = tmp_path_factory.mktemp("server")
    code = (
        "import sys; from pathlib import Path; "
        "from hustings.serving.service import serve_bundle; "
        "serve_bundle(Path(sys.argv[1]), port=int(sys.argv[3]))"
    )
    command = [sys.executable, "-c", code, str(served.folder)]
    env = {"PYTHONPATH": str(ROOT / ".package")}
    with running(command, cwd=home, home=home, env=env) as started:
        yield started
