"""Which tasks are for building and which for the verdict, and the log of every look."""

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from tests.speed.peers import __main__ as bench
from tests.speed.peers import looks, tasks
from tests.speed.peers.studies import STUDIES
from tests.speed.peers.worlds import ROWS

TINY = "world_dense_3"


def test_no_task_is_on_both_sides_and_half_of_the_surveys_are_on_each() -> None:
    build, verdict = tasks.build_tasks(), tasks._VERDICT
    assert not set(build) & set(verdict)
    assert len(STUDIES) == len(set(STUDIES)) == 38
    surveys = {f"survey_{name}" for name in STUDIES}
    assert len(surveys & set(verdict)) == len(surveys & set(build)) == 19
    assert surveys <= {*build, *verdict}
    # whatever had a figure before is build
    assert {"2006_mailers", "hillstrom", "br2017", "sample12", "newhaven"} <= set(build)


def test_the_verdict_holds_the_studies_whose_names_hash_lowest() -> None:
    def digest(name: str) -> str:
        return sha256(name.encode()).hexdigest()

    chosen = tasks.verdict_studies()
    others = set(STUDIES) - set(chosen)
    assert max(map(digest, chosen)) < min(map(digest, others))


@pytest.fixture
def repository(tmp_path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for folder in tasks.LEARNERS:
        (tmp_path / folder).mkdir()
    git(tmp_path, "init", "-q")
    commit(tmp_path, "training/learner.py", "1")
    return tmp_path


def git(root: Path, *command: str) -> None:
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(root), *who, *command], check=True)


def commit(root: Path, file: str, text: str) -> None:
    (root / file).write_text(text)
    git(root, "add", file)
    git(root, "commit", "-q", "-m", file)


def worlds(root: Path) -> list[str]:
    return [name for name in tasks.verdict_tasks(root) if name.startswith("world_")]


def test_fresh_worlds_change_with_a_learner_and_with_nothing_else(repository) -> None:
    first = worlds(repository)
    assert len(set(first)) == tasks.N_WORLDS + tasks.N_RARE12
    assert not set(first) & set(tasks.build_tasks())
    commit(repository, "README.md", "words")
    assert worlds(repository) == first
    commit(repository, "features/column.py", "2")
    assert not set(worlds(repository)) & set(first)


def test_a_learner_that_no_commit_holds_has_no_verdict(repository) -> None:
    (repository / "training/learner.py").write_text("3")
    with pytest.raises(RuntimeError, match=r"as committed.*\n.*learner\.py"):
        tasks.verdict_tasks(repository)


def test_a_fresh_world_by_its_own_name_is_a_look_too(repository) -> None:
    fresh = worlds(repository)[0]
    asked = ["hillstrom", fresh, "bs2013", "world_flat_1"]
    assert tasks.verdict_among(asked, repository) == (fresh, "bs2013")


def test_a_world_by_name_is_the_world_of_its_seed() -> None:
    made = tasks.loader_of("world_private_4", most_rows=ROWS[0])()
    assert made.name == "world_private_4"
    assert len(made.test.Y) == ROWS[0]
    with pytest.raises(ValueError, match="expected a task of"):
        tasks.loader_of("world_private_x")
    with pytest.raises(ValueError, match="got 'verdicts'"):
        tasks.loader_of("verdicts")


@pytest.fixture
def aside(tmp_path, monkeypatch) -> Path:
    """A working folder with a cache and a log of looks of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(looks, "LOG", tmp_path / "looks.md")
    return tmp_path


def test_without_tasks_the_build_tasks_run_and_never_the_verdict() -> None:
    request = bench._request([])
    assert request.tasks == tasks.build_tasks()
    assert request.out == bench.FOLDER / "peers"
    assert not request.partial
    some = bench._request(["--tasks", TINY])
    assert (some.out, some.partial) == (None, True)


@pytest.mark.usefixtures("aside")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tasks", "bs2013"], "say who decided"),
        (["--tasks", "bs2013", "--decided", "x", "--most-rows", "5000"], "fixed"),
        (["--tasks", "nothing"], "expected a task of"),
    ],
)
def test_what_is_no_task_or_an_undecided_look_is_refused(
    arguments, says, capsys
) -> None:
    with pytest.raises(SystemExit):
        bench.main(arguments)
    assert says in capsys.readouterr().err
    assert not looks.LOG.exists()


def test_a_look_is_logged_when_it_begins_and_when_it_ends(
    aside, capsys, monkeypatch
) -> None:
    look_at = ["--tasks", TINY, "--splits", "1", "--cached", "--threads", "1"]
    # the tiny world stands for one of the verdict
    monkeypatch.setattr(bench, "verdict_among", lambda names: tuple(names))
    monkeypatch.setattr(looks, "commit_of", lambda: "0123456789ab")
    monkeypatch.setattr(bench, "MOST_ROWS", ROWS[0])
    few = ["--most-rows", str(ROWS[0])]
    bench.main([*look_at, *few, "--decided", "the judge | tries", "--out", "seen"])
    head, rows = looks.LOG.read_text().split("| --- |\n", 1)[0], log_rows()
    assert head.startswith("# Looks at the verdict tasks")
    assert [row[-1] for row in rows] == [looks.BEGUN, rows[1][-1]]
    assert rows[1][2:5] == rows[0][2:5]
    assert rows[0][2] == f"1: {TINY}"
    assert rows[0][4] == "the judge / tries"
    assert rows[1][-1].startswith("1 tasks; ours: stack: mean rank")
    text = (aside / "seen.md").read_text()
    assert TINY in text
    assert text in capsys.readouterr().out

    def breaks(*_: object) -> None:
        raise KeyError("half way")

    monkeypatch.setattr(bench, "_seen", breaks)
    with pytest.raises(KeyError):
        bench.main([*look_at, *few, "--decided", "again"])
    assert [row[-1] for row in log_rows()][2:] == [
        looks.BEGUN, "broken off: KeyError: 'half way'",
    ]  # fmt: skip


def log_rows() -> list[list[str]]:
    lines = looks.LOG.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| ---"))
    return [line.strip("| ").split(" | ") for line in lines[start + 1 :]]
