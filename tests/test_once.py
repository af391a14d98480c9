"""What tests share is made once, is whole, and stays as it was."""

import multiprocessing
import subprocess
import time
from pathlib import Path

import pytest

from tests import once as shared
from tests.checkout import PACKAGE, ROOT, code
from tests.once import once, unchanged


def make(folder: Path) -> None:
    time.sleep(0.3)
    with (folder.parent / "log").open("a") as log:
        log.write("made\n")
    (folder / "table").write_text("whole")


def make_in_a_worker(cache_folder: Path) -> None:
    folder = once("thing", make, cache_folder=cache_folder)
    assert (folder / "table").read_text() == "whole"


def test_workers_make_a_shared_folder_once(tmp_path: Path) -> None:
    there = multiprocessing.get_context("spawn")
    workers = [there.Process(target=make_in_a_worker, args=(tmp_path,)) for _ in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (tmp_path / shared.digest() / "log").read_text() == "made\n"


def test_a_folder_cut_off_in_the_making_is_made_again(tmp_path: Path) -> None:
    def cut_off(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once("thing", cut_off, cache_folder=tmp_path)
    folder = once("thing", make, cache_folder=tmp_path)
    assert [path.name for path in folder.iterdir()] == ["table"]


def test_what_other_sources_made_is_not_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    for digest in ("a", "b", "c", "d"):
        monkeypatch.setattr(shared, "digest", lambda name=digest: name)
        folders.append(once("thing", make, cache_folder=tmp_path))
    assert len(set(folders)) == 4
    # this process uses all four: none may go
    assert [folder.is_dir() for folder in folders] == [True] * 4
    for digest in ("a", "b", "c"):
        shared._held.pop(tmp_path / digest).close()
    shared.remove_older(tmp_path, tmp_path / "d")
    assert [folder.is_dir() for folder in folders] == [False, False, True, True]


def test_a_test_that_writes_into_what_all_share_is_found_out(tmp_path: Path) -> None:
    (tmp_path / "table").write_text("whole")
    with unchanged(tmp_path):
        (tmp_path / "table").read_text()
    with (
        pytest.raises(AssertionError, match=r"tests wrote .*table"),
        unchanged(tmp_path),
    ):
        (tmp_path / "table").write_text("spoilt")


def test_a_process_of_a_test_runs_the_package_of_this_checkout(tmp_path: Path) -> None:
    line = code("import hustings.features.tables as t; print(t.__file__)")
    said = subprocess.run(
        line, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(said.stdout.strip()).resolve() == ROOT / "features" / "tables.py"
    assert PACKAGE.is_dir()
