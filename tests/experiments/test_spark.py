"""Two engines: the same rows, types, values and faults, whatever a file holds.

All that starts a session of Spark stands in this file: one serves it.
"""

import sys
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
from hustings.experiments.cli.common import BAD_INPUT
from hustings.features.derived import with_derived
from hustings.features.engine import ONE_MACHINE, Engine, EngineMissing, engine_of
from hustings.features.ingest import Folders, TableSource
from hustings.features.ingest.mapping import MappedBlock, map_block, mapping_queries
from hustings.features.ingest.rows import read_rows
from tests.features.test_derived import ALL, voter_file

ON_SPARK = '\n[engine]\nspark = "local[2]"\n'
TEXTS = (
    "", "1", "0", "00", "-1", "+3", "3.5", ".5", "5.", "1e5", "1E-5", "1e400", "-1e400",
    "1.8e308", "NaN", "inf", "Infinity", "null", "N/A", "-", "?", "1,234", "12,34",
    "1,234,567.5", "$5", "$1,000.50", "7%", "1.234,5", "0x10", "1d", "1f", "1L", "True",
    "FALSE", "abc", "İ", "K", "日本", "1\u00a0000", "\uff11", "##/##/####", "0012",
    "1e+05", "4,5E+11", "2012-11-06", "2012-11-06T10:00", "2012-11-06T10:00Z",
    "2012-11-06 10:00:00+05:30", "2012-11-06 10:00+0530", "2012-11-06 10:00:00.1234567",
    "2012-11-06 10:00:00.5+02", "2012-11-06 24:00:00", "2012-02-30", "2012-02-29",
    "0000-00-00", "0001-01-01", "1500-02-29", "9999-12-31", "10000-01-01",
    "2012-11-06 10:00 no", "2012-11-06 10:00:00 UTC", "2012-11-06 10:00:00 -08:00",
    "2012-11-06 10:00:00 America/New_York", "2012-11-06 10:00:00.",
    "2012-11-06 00:00:00+19:00", "2012-11-06 10:00:00GMT", "20121106", "20121301",
    "6/11/2012", "6/1/12", "31/12/30", "29/02/1900", "Nov 6, 2012", "11/06/2012 10:00",
    "13/13/2013", "99", "115", "116", "15", "1990", "a\nb", '"dq"', "back\\slash",
)  # fmt: skip
NUMBERS = (1.5, 0.0, -0.0, 1e-5, 1e20, 2.0**53, 123456789.25, float("nan"),
           float("inf"), 1 / 3, 1e300, 5e-324, None)  # fmt: skip
STATED = {
    "path": "file", "source": "-", "licence": "-", "permitted_use": "-",
    "observed_on": "2024-01-01",
}  # fmt: skip


def cycled(values: Any, kind: pa.DataType) -> pa.Array:
    """As many values as there are texts."""
    return pa.array([values[k % len(values)] for k in range(len(TEXTS))], kind)


@pytest.fixture
def raw() -> pa.Table:
    return pa.table({
        "row__": range(1, len(TEXTS) + 1), "text": TEXTS,
        "float": cycled(NUMBERS, pa.float64()),
        "unsigned": cycled((5, 2**63 + 7, None), pa.uint64()),
        "decimal": cycled((Decimal("1.2500"), Decimal(0), None, Decimal("-0.0050")),
                          pa.decimal128(18, 4)),
        "time": cycled((0, -(10**15), 10**12 + 5, None), pa.timestamp("us")),
        "truth": cycled((True, False, None), pa.bool_()),
    })  # fmt: skip


def voters(**columns: Any) -> TableSource:
    extra = {
        **{f"text of {n}": {"column": n} for n in ("float", "decimal", "time")},
        "number of unsigned": {"column": "unsigned"}, "truth": {"column": "truth"},
        "thousands": {"column": "text", "thousands": ",", "unit": "$%"},
        "comma": {"column": "text", "decimal": ","},
        "code": {"column": "text", "digits": 5},
    }  # fmt: skip
    types = {
        name: "text" if name.startswith(("text", "code")) else "number"
        for name in extra
    }
    return TableSource.model_validate(
        {**STATED, "columns": columns, "extra": extra, "types": types}
    )


def assert_same(mapped: MappedBlock, there: MappedBlock) -> None:
    assert there.rows.schema == mapped.rows.schema
    for name in mapped.rows.column_names:
        here, of_spark = mapped.rows[name].to_pylist(), there.rows[name].to_pylist()
        parted = [pair for pair in zip(here, of_spark, strict=True) if len({*pair}) > 1]
        assert parted == [], name
    pd.testing.assert_frame_equal(there.faults, mapped.faults)


def test_every_value_of_a_file_reads_alike(raw: pa.Table, spark: Engine) -> None:
    source = voters(
        voter_id="text", household_id="float", age="text", registered_on="text",
        birth_year={"column": "text", "format": ["%d/%m/%y", "%b %d, %Y", "%Y"]},
    )  # fmt: skip
    mapped = map_block(mapping_queries(), raw, source, "voters")
    assert_same(mapped, map_block(spark, raw, source, "voters"))
    ages = dict(zip(TEXTS, mapped.rows["registered_on"].to_pylist(), strict=True))
    assert str(ages["2012-11-06 10:00+0530"]) == "2012-11-06 04:30:00"
    assert ages["2012-11-06 10:00:00."] is None


def test_numbers_that_no_integer_holds_are_read_as_texts() -> None:
    rows = pa.table({"row__": [1, 2, 3], "n": [1e20, 12.0, 0.5]})
    source = TableSource.model_validate({**STATED, "columns": {"voter_id": "n"}})
    mapped = map_block(mapping_queries(), rows, source, "voters")
    assert mapped.rows["voter_id"].to_pylist() == [None, "12", None]
    assert mapped.faults["value"].tolist() == ["1e+20", "0.5"]


def test_a_file_read_on_spark_is_the_file_with_its_types_filter_and_faults(
    spark: Engine, tmp_path: Path
) -> None:
    n = 70_000  # more than a block of the source
    rows = pd.DataFrame({"id": [f"v{k}" for k in range(n)], "kept": "y"})
    rows["kept"] = rows["kept"].where(rows.index % 7 != 0, "n")
    rows["age"] = [str(18 + k % 70) if k % 1_000 else "old" for k in range(n)]
    rows["score"] = [f"{k % 101}.5" if k % 5_000 else "none" for k in range(n)]
    rows["zone"] = [f"0{k % 9}" for k in range(n)]
    rows.to_csv(tmp_path / "file.csv", index=False)
    source = TableSource.model_validate({
        **STATED, "path": "file.csv", "columns": {"voter_id": "id", "age": "age"},
        "extra": {"score": "score", "zone": "zone"},
        "where": {"column": "kept", "equals": "y"},
    })  # fmt: skip
    folders = Folders(tmp_path, tmp_path)
    here, there = (
        read_rows(source, "voters", folders, on) for on in (ONE_MACHINE, spark)
    )
    pd.testing.assert_frame_equal(there.frame, here.frame)
    pd.testing.assert_frame_equal(there.faults, here.faults)
    assert there.table.settled().types == {"score": "number", "zone": "text"}
    assert there.table.losses.as_json() == here.table.losses.as_json()
    assert (there.rows_in, there.table.not_belonging) == (n - n // 7, n // 7)


def _doubled(column: str, rows: pa.Table) -> pa.Table:
    return pa.table({
        "twice": pc.multiply(rows[column], 2), "n": [len(rows)] * len(rows)
    })  # fmt: skip


def test_blocks_are_cut_by_the_file_and_come_in_its_order(
    spark: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "rows.parquet"
    rows = pa.table({"k": range(1_000), "other": ["x"] * 1_000})
    pq.write_table(rows, file, row_group_size=300)
    function = partial(_doubled, "k")
    here, there = (
        list(engine.map_blocks(function, file, ["k"]))
        for engine in (ONE_MACHINE, spark)
    )
    assert [len(part) for part in here] == [300, 300, 300, 100]
    assert there == here
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_derived_columns_are_the_same_on_spark(spark: Engine) -> None:
    voters = voter_file(21, 90)
    pd.testing.assert_frame_equal(
        with_derived(voters, ALL, spark), with_derived(voters, ALL), atol=1e-9, rtol=0
    )


# --- the commands ---------------------------------------------------------------------


def campaign_of(story: Any, folder: Path, more: str) -> Path:
    """The story's campaign with derived columns, and what more is declared."""
    folder.mkdir()
    (folder / "raw").symlink_to(story.folder / "raw")
    declared = (story.folder / "campaign.toml").read_text()
    derived = 'derived = ["history", "household", "neighbours"]\n'
    declared = declared.replace("[features]\n", f"[features]\n{derived}")
    (folder / "campaign.toml").write_text(declared + more)
    return folder


def run_folder(story: Any, folder: Path) -> Path:
    """What `ingest`, `features` and `score` write, by the story's champion."""
    for command in ("ingest", "features", "score"):
        given = [command, "--campaign", folder, "--data", folder / "runs",
                 "--store", story.run.store]  # fmt: skip
        done = CliRunner().invoke(
            app, [str(part) for part in given], env={"MLFLOW_TRACKING_URI": None}
        )
        assert done.exit_code == 0, done.output
    home = folder / "runs" / "spread"
    return home / (home / "latest").read_text()


def test_the_commands_write_the_same_tables_on_spark(
    story: Any,
    spark: Engine,  # noqa: ARG001 - skips where there is none
    tmp_path: Path,
) -> None:
    here = run_folder(story, campaign_of(story, tmp_path / "here", ""))
    there = run_folder(story, campaign_of(story, tmp_path / "there", ON_SPARK))
    files = sorted(str(path.relative_to(here)) for path in here.rglob("*.parquet"))
    assert files == sorted(
        str(path.relative_to(there)) for path in there.rglob("*.parquet")
    )
    assert {"tables/voters.parquet", "scores.parquet", "quarantine.parquet"} < {*files}
    for file in files:
        one, other = pd.read_parquet(here / file), pd.read_parquet(there / file)
        if file == "example.parquet":  # drawn with random ids
            one, other = one.head(0), other.head(0)
        pd.testing.assert_frame_equal(other, one, atol=1e-6, rtol=0, obj=file)
    for file in ("ingest.json", "reader.json"):
        assert (there / file).read_text() == (here / file).read_text()


# --- an engine that cannot be had -----------------------------------------------------


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.errors", None)
    with pytest.raises(EngineMissing, match=r"pip install 'hustings\[spark\]'"):
        engine_of("local[7]")


def test_without_java_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("pyspark", reason="Spark: pip install 'hustings[spark]'")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(EngineMissing, match="needs Java 17 or later"):
        engine_of("local[7]")


def test_an_engine_that_cannot_be_had_is_one_line(
    story: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    folder = campaign_of(story, tmp_path / "c", ON_SPARK.replace("[2]", "[9]"))
    given = ["run", "--campaign", folder, "--data", tmp_path / "runs"]
    done = CliRunner().invoke(app, [str(part) for part in given])
    assert done.exit_code == BAD_INPUT
    (line,) = [row for row in done.output.splitlines() if "error" in row]
    assert '[engine].spark = "local[9]" needs' in line
    assert "Java 17" in done.output or "hustings[spark]" in done.output
    assert not list((tmp_path / "runs" / "spread").glob("2*"))


def test_a_master_that_is_none_is_refused(story: Any, tmp_path: Path) -> None:
    folder = campaign_of(
        story, tmp_path / "c", ON_SPARK.replace("local[2]", "http://x")
    )
    done = CliRunner().invoke(app, ["ingest", "--campaign", str(folder)])
    assert done.exit_code == BAD_INPUT
    assert "engine.spark" in done.output.replace("[engine]", "engine")
