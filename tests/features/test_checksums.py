"""Checksums take up what a command wrote, and nothing that a disk did before it."""

import time
from pathlib import Path

import pytest

from hustings.features.checksums import (
    altered_files,
    file_sha256,
    lost_files,
    renew_checksums,
    sha256,
    write_checksums,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    write_checksums(tmp_path)
    return tmp_path


def now_ns(folder: Path) -> int:
    """The file system's clock, once it has moved on."""
    time.sleep(0.02)
    (folder / ".clock").write_text("")
    moment = (folder / ".clock").stat().st_ctime_ns
    time.sleep(0.02)
    return moment


def test_what_was_altered_lost_or_added_before_a_command_is_still_said_after_it(
    folder: Path,
) -> None:
    (folder / "a").write_text("altered")
    (folder / "b").unlink()
    (folder / "stray").write_text("")
    lost, begun = lost_files(folder), now_ns(folder)
    (folder / "c").write_text("by the command")
    (folder / "d").write_text("by the command")
    renew_checksums(folder, since_ns=begun, lost=lost)
    lines = altered_files(folder)
    assert [line.split(":")[0].split("/")[1] for line in lines] == ["stray", "a", "b"]


def test_what_a_command_at_work_has_written_is_its_own(folder: Path) -> None:
    begun = now_ns(folder)
    (folder / "a").write_text("by the command")
    (folder / "d").write_text("by the command")
    assert len(altered_files(folder)) == 2
    assert altered_files(folder, at_work_since_ns=begun) == []
    assert len(altered_files(folder, at_work_since_ns=now_ns(folder))) == 2


def test_a_digest_is_that_of_the_file_as_it_is(folder: Path) -> None:
    before = file_sha256(folder / "a")
    now_ns(folder)
    (folder / "a").write_text("b")
    assert file_sha256(folder / "a") == sha256(folder / "b") != before
