"""What is read under a name is whole, whenever the writer was cut off."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from hustings.features import atomic


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"n": np.int64(3)})

    def cut_off() -> None:
        with atomic.whole_file(path) as aside:
            aside.write_text("half")
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        cut_off()
    assert json.loads(path.read_text()) == {"n": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_killed_writer_leaves_the_old_folder(tmp_path: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from hustings.features.atomic import whole_folder
with whole_folder(Path(sys.argv[1])) as aside:
    (aside / "new.txt").write_text("new")
    os.kill(os.getpid(), 9)
"""
    path = tmp_path / "plan"
    with atomic.whole_folder(path) as aside:
        (aside / "old.txt").write_text("old")
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert [p.name for p in path.iterdir()] == ["old.txt"]
    with atomic.whole_folder(path) as aside:
        (aside / "again.txt").write_text("again")
    assert [p.name for p in path.iterdir()] == ["again.txt"]
    # what was cut off counts for nothing, whatever is written later
    others = [p.name for p in tmp_path.iterdir() if p != path]
    assert all(n.startswith(".plan.") and n.endswith(atomic.ASIDE) for n in others)


def test_two_writers_of_one_file_at_once_both_end_and_one_is_whole(
    tmp_path: Path,
) -> None:
    path = tmp_path / "identity.json"
    with atomic.whole_file(path) as first, atomic.whole_file(path) as second:
        first.write_text("first" * 1000)
        second.write_text("second")
    assert path.read_text() == "first" * 1000
    assert [p.name for p in tmp_path.iterdir()] == ["identity.json"]


def test_a_second_name_keeps_the_content_where_no_link_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, second, third = (tmp_path / name for name in "abc")
    file.write_text("voters")
    atomic.write_same(second, file)
    assert second.samefile(file)
    refused = OSError("expected one disk, got two")
    monkeypatch.setattr(Path, "hardlink_to", Mock(side_effect=refused))
    atomic.write_same(third, file)
    assert third.read_text() == "voters"
    assert not third.samefile(file)


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    frame = pd.DataFrame({"voter_id": ["1", "2"], "lift": [0.5, np.nan]})
    atomic.write_parquet(tmp_path / "deep" / "scores.parquet", frame)
    again = pd.read_parquet(tmp_path / "deep" / "scores.parquet")
    pd.testing.assert_frame_equal(again, frame)
