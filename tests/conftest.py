"""What holds for every test: nothing is reported to anybody, and time is no judge.

Also the one small campaign that several tests look at, run once through every stage.
"""

import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

# before numpy and the others read them
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["BENTOML_DO_NOT_TRACK"] = "true"
# tests run side by side: threads of one that spin while they wait starve the other
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pandas as pd
import pytest
import sqlalchemy
from hypothesis import settings

from tests.checkout import python_path
from tests.once import once, unchanged
from tests.servers import free_port, serving

# a process that a test starts takes this checkout's package
os.environ["PYTHONPATH"] = python_path()

# a busy machine is no failure; tests/speed measures time
settings.register_profile("hustings", deadline=None)
settings.load_profile("hustings")

SPREAD = 3.0
"""How much farther lifts of the story lie apart than those of the shipped sample, so
that 12,000 voters are enough to see that personalising pays."""
N_STORY = 12_000
NOW = pd.Timestamp.now("UTC").floor("s")


@dataclass(frozen=True)
class Story:
    """A campaign as a user would bring it, every stage run, and what is true of it.

    Attributes:
        folder: Of campaign.toml and raw/.
        run: The finished run (`experiments.stages.Run`).
        truth: By voter_id: baseline, and `lift__<message>` by mail.
        multiplier: Of the lift, by channel.
    """

    folder: Path
    run: Any
    truth: pd.DataFrame
    multiplier: dict[str, float]

    def elsewhere(self, home: Path) -> Any:
        """A run of the same campaign that shares nothing with the first."""
        return replace(
            self.run, home=home / "spread", folder=home / "spread" / "again",
            run_id="again", store=home / "mlflow",
        )  # fmt: skip

    def true_lift(self, sent: pd.DataFrame) -> pd.Series:
        """True lift of what each row of voter_id, message_id, channel was sent."""
        named = pd.Index("lift__" + sent["message_id"])
        column = self.truth.columns.get_indexer(named)
        row = self.truth.index.get_indexer(pd.Index(sent["voter_id"]))
        by_mail = pd.Series(self.truth.to_numpy()[row, column], index=sent.index)
        return by_mail * sent["channel"].map(self.multiplier)


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine are slower than one."""
    import hustings.training.learners.boosting

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hustings.training.learners.boosting._FIXED, "num_threads", 1)
        patch.setattr(hustings.training.learners.boosting, "N_THREADS", 1)
        yield


@pytest.fixture(scope="session")
def mlflow_store_file() -> Path:
    """An empty store as MLflow's own migrations leave it, to be copied.

    A new store takes MLflow two seconds of migrations.
    """

    def make(folder: Path) -> None:
        from mlflow.store.db import utils

        engine = sqlalchemy.create_engine(f"sqlite:///{folder / 'mlflow.db'}")
        utils._initialize_tables(engine)
        engine.dispose()

    return once("mlflow_store", make) / "mlflow.db"


@pytest.fixture(scope="session", autouse=True)
def _mlflow_migrated_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """A new SQLite store of MLflow is a copy of one that was migrated."""
    utils = sys.modules.get("mlflow.store.db.utils")
    if utils is None:
        yield
        return
    template: Path = request.getfixturevalue("mlflow_store_file")

    def initialize(engine: sqlalchemy.Engine) -> None:
        with (
            closing(sqlite3.connect(template)) as migrated,
            closing(sqlite3.connect(str(engine.url.database))) as new,
        ):
            migrated.backup(new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", initialize)
        from mlflow.store.model_registry import sqlalchemy_store

        patch.setattr(sqlalchemy_store, "_initialize_tables", initialize)
        yield


@pytest.fixture(scope="session")
def story(
    one_thread: None,  # noqa: ARG001 - for its effect
    _mlflow_migrated_once: None,
) -> Iterator[Story]:
    """Every stage on 12,000 simulated voters whose lifts lie far apart.

    Shared by all: a test that writes works in a copy (`Story.elsewhere`).
    """
    home = once("story", _play)
    with unchanged(home):
        yield _as_played(home)


def _play(home: Path) -> None:
    from hustings.experiments.run import run_campaign

    truth, multiplier = _bring(home / "campaign")
    truth.to_parquet(home / "truth.parquet")
    (home / "multiplier.json").write_text(json.dumps(multiplier))
    run_campaign(_run_of(home))


def _as_played(home: Path) -> Story:
    truth = pd.read_parquet(home / "truth.parquet")
    multiplier = json.loads((home / "multiplier.json").read_text())
    run = _run_of(home)
    folder = run.home / "first"
    return Story(home / "campaign", replace(run, folder=folder), truth, multiplier)


def _run_of(home: Path) -> Any:
    from hustings.experiments.declaration import load_campaign
    from hustings.experiments.stages.context import Run

    campaign = load_campaign(home / "campaign")
    runs = home / "runs" / campaign.campaign.name
    return Run(
        campaign, runs, runs / "first", "first", home / "mlflow", n_trials=2, at=NOW
    )


def _bring(folder: Path) -> tuple[pd.DataFrame, dict[str, float]]:
    """A campaign folder with its raw files, two of whose rows are wrong."""
    from hustings.experiments.declaration import EXPERIMENTS
    from hustings.features.simulated.campaign import simulate, write_sample

    sample = simulate(n_voters=N_STORY, seed=5, n_messages=4)
    truth = sample.truth.set_index("voter_id").astype(float)
    named = sample.channels.set_index("channel")["multiplier"]
    multiplier = {str(channel): float(k) for channel, k in named.items()}
    lifts = truth.filter(like="lift__")
    farther = (SPREAD - 1) * (lifts - lifts.mean())
    tables = sample.tables
    tables["responses"] = _moved(tables, farther, multiplier)
    voters = tables["voters"]
    old = voters.tail(1).assign(voter_id="V9999999", age=430.0)
    tables["voters"] = pd.concat([voters, old], ignore_index=True)
    write_sample(sample, folder / "raw")
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    start, end = shipped.index("[simulate]"), shipped.index("[outcome]")
    declared = (shipped[:start] + shipped[end:]).replace('"raw:', '"raw/')
    declared = declared.replace('name = "sample"', 'name = "spread"')
    (folder / "campaign.toml").write_text(declared)
    truth[lifts.columns] += farther
    return truth, multiplier


def _moved(
    tables: dict[str, pd.DataFrame], farther: pd.DataFrame, multiplier: dict[str, float]
) -> pd.DataFrame:
    """Responses with the lifts spread, and one without a delivery."""
    sent = tables["deliveries"].query("message_id != 'control'")
    row = farther.index.get_indexer(pd.Index(sent["voter_id"]))
    column = farther.columns.get_indexer(pd.Index("lift__" + sent["message_id"]))
    by_mail = farther.to_numpy()[row, column]
    more = pd.Series(
        by_mail * sent["channel"].map(multiplier).to_numpy(), index=sent["voter_id"]
    )
    responses = tables["responses"].copy()
    support = responses["outcome"] == "support"
    added = more.reindex(responses["voter_id"]).fillna(0.0).to_numpy()
    responses["value"] += added * support.to_numpy()
    stray = responses.tail(1).assign(voter_id="V8888888")
    return pd.concat([responses, stray], ignore_index=True)


def _postgres_folder() -> Path | None:
    on_path = shutil.which("postgres")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if installed:
        return installed[-1].parent
    return Path(on_path).resolve().parent if on_path else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Callable[[str], str]]:
    """The addresses of the databases of a server of our own, by their names.

    It listens on a socket in a temporary folder.
    """
    psycopg = pytest.importorskip(
        "psycopg", reason="psycopg: pip install 'hustings[postgres]'"
    )
    programs = _postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: no postgres")
    with TemporaryDirectory() as made:
        folder, user = Path(made), "-"
        demote: dict[str, Any] = {}
        if os.geteuid() == 0:  # the server refuses to run as root
            user = "nobody"
            nobody = pwd.getpwnam(user)
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            demote = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data, env = folder / "data", {"LC_ALL": "C"}
        subprocess.run(
            [programs / "initdb", "--no-sync", "-D", data, "-U", "reader", "-A",
             "trust"],
            check=True, cwd=folder, env=env, stdout=subprocess.DEVNULL, **demote,
        )  # fmt: skip

        def address(name: str) -> str:
            return f"postgresql://reader@/{name}?host={folder}"

        def ready() -> bool:
            try:
                psycopg.connect(address("postgres")).close()
            except psycopg.OperationalError:
                return False
            return True

        # nobody pulls the plug of the machine: what the server kills lose, fsync keeps
        command = [programs / "postgres", "-D", data, "-k", folder, "-c",
                   "listen_addresses=", "-c", "fsync=off"]  # fmt: skip
        with serving(
            command, ready=ready, home=folder, env=env, end_by="SIGQUIT", user=user
        ):
            yield address


@pytest.fixture
def postgres(postgres_server: Callable[[str], str]) -> str:
    """The address of an empty database of the test's own."""
    import psycopg

    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_server("postgres"), autocommit=True) as session:
        session.execute(f'CREATE DATABASE "{name}"')
    return postgres_server(name)


@pytest.fixture(scope="session")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, mlflow_store_file: Path
) -> Iterator[str]:
    """A tracking server of its own on loopback, with its helper processes."""
    home = tmp_path_factory.mktemp("server")
    shutil.copyfile(mlflow_store_file, home / "server.db")
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
        "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{home / 'server.db'}",
        "--artifacts-destination", str(home / "artifacts"),
    ]  # fmt: skip
    with serving(command, ready=ready, home=home):
        yield url
