"""What holds for every test: nothing is reported to anybody, and time is no judge.

Also the one small campaign that several tests look at, run once through every stage.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import settings

# before any test imports them
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["BENTOML_DO_NOT_TRACK"] = "true"
# tests run side by side: threads of one that spin while they wait starve the other
for _threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

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
def story(
    tmp_path_factory: pytest.TempPathFactory,
    one_thread: None,  # noqa: ARG001 - for its effect
) -> Story:
    """Every stage on 12,000 simulated voters whose lifts lie far apart."""
    from hustings.experiments.declaration import load_campaign
    from hustings.experiments.run import run_campaign
    from hustings.experiments.stages.context import Run

    home = tmp_path_factory.mktemp("story")
    truth, multiplier = _bring(home / "campaign")
    campaign = load_campaign(home / "campaign")
    runs = home / "runs" / campaign.campaign.name
    run = Run(
        campaign, runs, runs / "first", "first", home / "mlflow", n_trials=2, at=NOW
    )
    folder = run_campaign(run)
    return Story(home / "campaign", replace(run, folder=folder), truth, multiplier)


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
    on_path = shutil.which("pg_ctl")
    known = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if known:
        return known[-1].parent
    return Path(on_path).parent if on_path else None


@pytest.fixture
def postgres() -> Iterator[str]:
    """The address of a server of our own, on a socket in a temporary folder."""
    pytest.importorskip("psycopg", reason="psycopg: pip install 'hustings[postgres]'")
    programs = _postgres_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: no pg_ctl")
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    demote: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        demote = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=folder, env={"LC_ALL": "C"},
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       **demote)  # fmt: skip

    run(str(programs / "initdb"), "-D", str(data), "-U", "reader", "-A", "trust")
    options = f"-k {folder} -c listen_addresses=''"
    control = [str(programs / "pg_ctl"), "-D", str(data), "-w"]
    run(*control, "-o", options, "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql://reader@/postgres?host={folder}"
    finally:
        run(*control, "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server of its own on loopback, with its helper processes."""
    home = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = home / "server.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
                "--port", str(port), "--workers", "1",
                "--backend-store-uri", f"sqlite:///{home / 'server.db'}",
                "--artifacts-destination", str(home / "artifacts"),
            ],
            cwd=home, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _until_ready(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _until_ready(url: str, process: subprocess.Popen[Any], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.25)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
