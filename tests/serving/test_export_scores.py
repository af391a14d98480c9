"""A scores file is what a voter-contact system loads, or it is refused."""

import io
import json
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hustings.serving.export import ExportError
from hustings.serving.export.scores import Slot, System, Universe, export_scores, scaled

AT = pd.Timestamp("2026-09-07")
SUPPORT = Slot("Support", "support", "share", 49.5, 1.0)
LIFT = Slot("Jobs", "lift__jobs", "rank", 50.5, 0.5, decimals=1)
SYSTEM = System("VoterID", (SUPPORT, LIFT), 5, (Universe("jobs", "Jobs", 90.0),))


def scores_of(n: int = 100) -> pd.DataFrame:
    """Support 0 to .99, lifts the other way round."""
    number = np.arange(n)
    return pd.DataFrame(
        {
            "voter_id": [f"0{i:04}" for i in number],
            "support": number / n,
            "lift__jobs": -number / 1e3,
        }
    )


def written(
    folder: Path, system: System = SYSTEM, scores: pd.DataFrame | None = None,
    code: pd.Series | None = None, planned: pd.Series | None = None,
) -> Path:  # fmt: skip
    """An export of everybody, all of whom have a contact."""
    scores = scores_of() if scores is None else scores
    code = pd.Series("", index=scores.index) if code is None else code
    planned = scores["voter_id"] if planned is None else planned
    return export_scores(scores, system, folder, "1", code=code, planned=planned, at=AT)


def text_of(folder: Path) -> str:
    """The file inside the archive."""
    with ZipFile(folder / "scores.zip") as archive:
        assert archive.namelist() == ["scores.csv"]
        return archive.read("scores.csv").decode()


def test_the_file_is_a_zipped_csv_with_the_id_first(tmp_path: Path) -> None:
    lines = text_of(written(tmp_path)).splitlines()
    assert lines[0] == "VoterID,Support,Jobs"
    assert lines[1] == "00000,0,100"
    assert lines[100] == "00099,99,1"
    assert len(lines) == 101


def test_a_missing_score_is_empty(tmp_path: Path) -> None:
    scores = scores_of()
    scores.loc[50, "support"] = np.nan
    assert text_of(written(tmp_path, scores=scores)).splitlines()[51] == "00050,,50"


def test_a_file_whose_mean_is_off_is_refused_and_nothing_is_left(
    tmp_path: Path,
) -> None:
    mixed = scores_of()
    mixed["support"] **= 2
    with pytest.raises(ExportError, match=r"a mean of 49\.5 ± 1, got 32\.79"):
        written(tmp_path, scores=mixed)
    assert not list(tmp_path.glob("1*"))


def test_a_file_without_any_score_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="got nan"):
        written(tmp_path, scores=scores_of().assign(support=np.nan))


def test_scores_outside_the_convention_are_refused(tmp_path: Path) -> None:
    wrong = replace(SYSTEM, slots=(replace(LIFT, scale="points"),), universes=())
    with pytest.raises(
        ExportError, match=r"from 0 to 100 by scale .points., got -0\.001"
    ):
        written(tmp_path, wrong)


def test_more_slots_than_the_system_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected 1 to 1 score slots, got 2"):
        written(tmp_path, replace(SYSTEM, max_slots=1))


def test_a_column_twice_or_of_nothing_is_refused(tmp_path: Path) -> None:
    twice = replace(SYSTEM, slots=(SUPPORT, replace(LIFT, name="Support")))
    with pytest.raises(ExportError, match="'Support' twice"):
        written(tmp_path, twice)
    unknown = replace(SYSTEM, slots=(replace(LIFT, column="lift__x"),))
    with pytest.raises(ExportError, match="one of the scores support, lift__jobs"):
        written(tmp_path, unknown)
    lost = replace(SYSTEM, universes=(Universe("u", "Trade", 50.0),))
    with pytest.raises(ExportError, match="expected a slot, one of Support, Jobs"):
        written(tmp_path, lost)


def test_nobody_refused_is_in_a_file_and_the_sums_agree(tmp_path: Path) -> None:
    code = pd.Series("", index=range(100))
    code[::10] = "held_out"
    system = replace(SYSTEM, slots=(replace(SUPPORT, tolerance=2), LIFT))
    folder = written(tmp_path, system, code=code)
    told = json.loads((folder / "manifest.json").read_text())
    assert told["scored"] == told["exported"] + sum(told["refused"].values())
    assert told["refused"] == {"held_out": 10}
    rows = pyarrow.csv.read_csv(io.BytesIO(text_of(folder).encode())).num_rows
    assert rows == told["exported"] == told["files"][0]["rows"]
    assert "00010" not in text_of(folder)
    assert "00010" not in (folder / "universe-jobs.csv").read_text()


def test_a_universe_names_those_who_score_high_and_have_a_contact(
    tmp_path: Path,
) -> None:
    folder = written(tmp_path, planned=pd.Series(["00001", "00003", "00050"]))
    lines = (folder / "universe-jobs.csv").read_text().splitlines()
    assert lines == ["VoterID", "00001", "00003"]


def test_the_same_scores_make_the_same_file(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a"), written(tmp_path / "b")
    assert (one / "scores.zip").read_bytes() == (other / "scores.zip").read_bytes()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_ranks_keep_the_order_and_stay_within_the_convention(lift: list[float]) -> None:
    values = pd.Series(lift)
    rank = scaled(values, replace(LIFT, decimals=1))
    assert rank.between(0, 100).all()
    assert rank.max() == 100
    assert (rank[values.argsort()].diff().dropna() >= 0).all()
