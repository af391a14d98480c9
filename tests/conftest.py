"""What holds for every test: nothing is reported to anybody, and time is no judge.

Also the one small campaign that several tests look at, run once through every stage.
"""

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

import pytest
import sqlalchemy
from hypothesis import settings

from tests.checkout import environment, python_path
from tests.once import once, unchanged
from tests.servers import free_port, serving
from tests.story import Story, as_played, play

# a process that a test starts takes this checkout's package
os.environ["PYTHONPATH"] = python_path()

# a busy machine is no failure; tests/speed measures time
settings.register_profile("hustings", deadline=None)
settings.load_profile("hustings")


LONG = (
    # while one worker makes the story, the others take what needs none
    "test_cli", "test_evaluate", "test_judged_is_planned", "test_kill",
    "test_campaign_holds", "test_day_whole_way", "test_tune", "test_forget",
    "test_net", "test_elsewhere", "test_fuzz_files", "test_online", "test_recommend",
    "test_tuning", "test_spark", "test_web", "test_run", "test_api", "test_register",
    "test_day", "test_ingest", "test_sealed", "test_links", "test_plan", "test_bento",
    "test_affinities", "test_policy_tree", "test_affinity", "test_model",
    "test_service", "test_judging", "test_site", "test_whole_places", "test_lift",
    "test_linked_answers", "test_promotion", "test_guardrails", "test_description",
    "test_forecasts", "test_right_reason", "test_ballots", "test_electorate",
)  # fmt: skip
"""Files that take longest (`make test-times`), the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: no worker waits for another at the end."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:  # noqa: ARG001
    """MLflow notes there which store it was given last: no test's, nor a person's."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)


def _given_to_hustings() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k.startswith("HUSTINGS_")}


@pytest.fixture(scope="module", autouse=True)
def _nothing_stays_in_the_environment() -> Iterator[None]:
    """A key or a store that one file's tests set is not there for the next file's."""
    before = _given_to_hustings()
    yield
    assert _given_to_hustings() == before


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
    if "mlflow" not in sys.modules:  # no test of this session writes to a store
        yield
        return
    from mlflow.store.db import utils
    from mlflow.store.model_registry import sqlalchemy_store

    template: Path = request.getfixturevalue("mlflow_store_file")

    def initialize(engine: sqlalchemy.Engine) -> None:
        with (
            closing(sqlite3.connect(template)) as migrated,
            closing(sqlite3.connect(str(engine.url.database))) as new,
        ):
            migrated.backup(new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", initialize)
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
    home = once("story", play)
    played = as_played(home)
    # to read plans and models leaves locks and an index beside them, no more
    with unchanged(home / "campaign"), unchanged(played.run.folder):
        yield played


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
def spark() -> Any:
    """The engine of `[engine] spark = "local[2]"`, one for all tests."""
    pytest.importorskip("pyspark", reason="Spark: pip install 'hustings[spark]'")
    from hustings.features.engine import EngineMissing, engine_of

    try:
        return engine_of("local[2]")
    except EngineMissing as reason:
        pytest.skip(f"Spark: {reason}")


@pytest.fixture(scope="session")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, mlflow_store_file: Path
) -> Iterator[str]:
    """A tracking server of its own on loopback."""
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
    env = environment(
        # jobs are run by six processes more, which no test asks for
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        # a receiver of webhooks on this machine, known to the server at once
        MLFLOW_WEBHOOK_ALLOWED_SCHEMES="http,https",
        MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS="true", MLFLOW_WEBHOOK_CACHE_TTL="0",
    )  # fmt: skip
    with serving(command, ready=ready, home=home, env=env):
        yield url
