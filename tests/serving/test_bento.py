"""The Bento, served from an empty folder by processes blind to the repository."""

import json
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import httpx
import pytest

from hustings.serving.bento import build_bento
from hustings.serving.service import Hustings
from tests.checkout import environment
from tests.sockets import are_private, listening_of

ROOT = Path(__file__).parents[2]
BLIND = '''
"""Takes the repository out of reach, and leaves a mark that it did."""
import os
import sys
from importlib.util import find_spec
from pathlib import Path

root = Path(os.environ["REPOSITORY"])
sys.path[:] = [p for p in sys.path if p and not Path(p).resolve().is_relative_to(root)
               or Path(p).resolve().is_relative_to(sys.prefix)]
sys.path[:] = [p for p in sys.path if not (Path(p) / "hustings").exists()]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
sys.path_hooks[:] = [h for h in sys.path_hooks if "editable" not in repr(h).lower()]
if find_spec("hustings"):
    os._exit(97)
(Path(os.environ["MARKS"]) / str(os.getpid())).touch()
'''


@pytest.fixture(scope="module")
def bento(served, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUSTINGS_API_KEY", "the-builders-own-key-of-22")
        return build_bento(served.folder, tmp_path_factory.mktemp("bentos"))


@pytest.fixture(scope="module")
def answers(served, bento, run_server, tmp_path_factory) -> dict[str, httpx.Response]:
    """What the Bento answers, and how many processes were blind."""
    home, empty = (tmp_path_factory.mktemp(n) for n in ("home", "empty"))
    (home / "sitecustomize.py").write_text(BLIND)
    (home / "marks").mkdir()
    env = {
        "PYTHONPATH": str(home),
        "REPOSITORY": str(ROOT),
        "MARKS": str(home / "marks"),
    }
    command = [sys.executable, "-m", "bentoml", "serve", str(bento)]
    with run_server(command, cwd=empty, home=home, env=env) as server:
        there = listening_of(server.url)
        assert {host for host, _ in there.tcp} == {"127.0.0.1"}
        assert len(there.tcp) == 1
        assert there.files
        assert are_private(there.files)
        rows = served.rows[:50]
        found = {
            "model": server.get("/model"),
            "score": server.post("/score", {"voters": rows}),
            "recommend": server.post("/recommend", {"voters": rows}),
        }
    # the server and its worker at least
    assert len(list((home / "marks").iterdir())) >= 2
    assert list(empty.iterdir()) == []
    return found


def test_a_bento_serves_its_exact_version_without_the_repository(answers):
    told = answers["model"].json()
    assert (told["name"], told["version"]) == ("hustings-sample", "7")


def test_a_bento_scores_as_the_model_does_offline(answers, served):
    assert answers["score"].status_code == 200, answers["score"].text
    scores = served.model.score(served.voters.head(50))
    columns = ["lift", "lift_low", "lift_high", "response", "baseline"]
    told = [
        [score[name] for name in columns]
        for voter in answers["score"].json()["voters"]
        for score in voter["scores"]
    ]
    assert told == scores[columns].to_numpy().tolist()


def test_a_bento_recommends_by_its_own_plan(answers):
    told = answers["recommend"].json()["voters"]
    assert {bool(voter["recommendation"]) for voter in told} == {True, False}


def test_a_bento_holds_pinned_libraries_no_experiments_and_no_key(bento):
    files = [path for path in bento.rglob("*") if path.is_file()]
    package = bento / "src" / "hustings"
    parts = {path.name for path in package.iterdir() if path.is_dir()}
    assert {"features", "training", "serving"} <= parts
    assert "experiments" not in parts
    assert (bento / "src" / "bundle" / "plan.json").is_file()
    pins = (bento / "env/python/requirements.txt").read_text().split()
    assert all("==" in pin for pin in pins)
    # a value that is not plain is asked of DuckDB, by an expression of ibis
    names = {pin.partition("==")[0] for pin in pins}
    assert {"lightgbm", "duckdb", "ibis-framework", "sqlglot"} <= names
    assert not any(b"the-builders-own-key-of-22" in p.read_bytes() for p in files)


def test_a_store_is_opened_and_answers_come_with_a_bentos_libraries_alone(
    bento, tmp_path
):
    """Others that are installed here are hidden from the process."""
    listed = json.loads((bento / "src" / "components.cdx.json").read_text())
    mine = {re.sub(r"[-_.]+", "-", c["name"]).lower() for c in listed["components"]}
    hidden = sorted(
        module
        for module, names in packages_distributions().items()
        if not mine & {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    )
    code = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(hidden) - {"hustings"}!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from hustings.serving.reactions.store import Events
Events.open({str(tmp_path / "events.db")!r}).close()
import hustings.serving.service
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=environment(PYTHONPATH=str(bento / "src")), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_bento_lists_its_libraries_with_their_licences(bento):
    listed = json.loads((bento / "src" / "components.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    by_name = {c["name"]: c for c in listed["components"]}
    for pin in (bento / "env/python/requirements.txt").read_text().split():
        name, _, version = pin.partition("==")
        assert by_name[name.replace("_", "-").lower()]["version"] == version
    # also what a library of ours needs in its turn
    assert by_name["numpy"]["licenses"] == [
        {"expression": "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0"}
    ]
    assert by_name["attrs"]["licenses"] == [{"expression": "MIT"}]


def test_a_bento_knows_no_decisions_and_listens_on_loopback_unless_told(
    answers,
) -> None:
    assert answers["model"].json()["decided"] == "unknown here"
    assert '"host": "127.0.0.1"' in json.dumps(Hustings.config["http"])


def test_a_bento_needs_a_whole_bundle(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"plan\.json"):
        build_bento(tmp_path, tmp_path / "out")
