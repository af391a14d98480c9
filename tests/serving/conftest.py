"""A small bundle, and real servers of it on loopback."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import feature_columns, load_campaign
from hustings.features.persons.keys import Never
from hustings.features.simulated.campaign import simulate, write_sample
from hustings.features.training_set import build_training_set, message_tests
from hustings.features.voter import Encoding
from hustings.serving.contact_lists import ContactLists
from hustings.serving.offer import OfferSettings
from hustings.training.learners.gbm import DEFAULT_PARAMS, fit_gbm, prepare
from hustings.training.policy_value.policies import Policy
from hustings.training.registry.campaign_model import CampaignModel, Reader
from tests.servers import free_port, serving
from tests.taken import ingest_all

KEY = "a-key-of-the-tests"
OF_VOTERS = Never.of(b"k", [])
"""Nobody, under the key of the voters' digests of these bundles."""


@pytest.fixture(scope="session", autouse=True)
def voter_key_of_bundles() -> Iterator[None]:
    """The secret that a bundle needs which is served away from its campaign."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUSTINGS_VOTER_KEY", OF_VOTERS.key.hex())
        yield


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
    found = ingest_all(
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
        "run": "a-run",
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
        "never": OF_VOTERS.to_json(),
        "forgotten": OF_VOTERS.to_json(),
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


@contextmanager
def running(
    command: Sequence[str], *, cwd: Path, home: Path, env: Mapping[str, str]
) -> Iterator[Server]:
    """A server process from its first answer until the end of the block."""
    port, log = free_port(), home / "server.log"
    server = Server(f"http://127.0.0.1:{port}", log)

    def ready() -> bool:
        try:
            return server.get("/readyz").status_code == 200
        except httpx.TransportError:
            return False

    there = {
        **os.environ,
        "BENTOML_HOME": str(home / "bentoml"),
        "HUSTINGS_API_KEY": KEY,
        **env,
    }
    line = [*command, "--port", str(port)]
    with serving(line, ready=ready, home=home, cwd=cwd, env=there, end_by="SIGINT"):
        yield server


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
    with running(command, cwd=home, home=home, env={}) as started:
        yield started
