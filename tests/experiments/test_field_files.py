"""Voter files as states, vendors and spreadsheets write them, read through the command.

Each case writes one file of sixty invented voters in another way and asks `hustings
ingest` for the same table. Sources of the ways: layouts of North Carolina, Florida, L2
and VAN; bug reports of pandas, OpenRefine and arrow on quotes, nulls and large ids.
"""

import gzip
import json
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import openpyxl
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import BAD_INPUT, OK, app
from tests.one_message import answers_text, campaign_text

N = 60
HEADER = ["voter_id", "household_id", "dob", "sex", "party", "zip", "g2020", "income"]
VOTERS = """
[tables.voters]
{where}
source = "s"
licence = "l"
permitted_use = "p"
observed_on = 2026-01-01
[tables.voters.columns]
voter_id = "{voter_id}"
household_id = "household_id"
birth_year = {birth}
sex = {sex}
party = "party"
postcode = "zip"
[tables.voters.history]
"2020-11-03 general" = {voted}
[tables.voters.extra]
income = {income}
"""
PLAIN = {
    "where": 'path = "voters.csv"', "voter_id": "voter_id",
    "birth": '{ column = "dob", format = "%m/%d/%Y" }',
    "sex": '{ column = "sex", map = { F = "F", M = "M" }, default = "U" }',
    "voted": '{ column = "g2020", map = { Y = 1, "" = 0 } }',
    "income": '"income"',
}  # fmt: skip


def person(k: int) -> list[str]:
    """A voter as a file has one: born 1935 to 1994, every third voted."""
    return [
        f"NC{k:06d}", f"H{k // 2:05d}", f"05/{k % 28 + 1:02d}/{1935 + k}", "FM"[k % 2],
        ("DEM", "REP", "UNA")[k % 3], f"0{2000 + k}", "Y" if k % 3 == 0 else "",
        str(20_000 + 1_000 * k),
    ]  # fmt: skip


ROWS = [person(k) for k in range(N)]
IDS = [row[0] for row in ROWS]


def lines(rows: list[list[str]], sign: str = ",", header: bool = True) -> str:
    head = [HEADER] if header else []
    return "".join(sign.join(row) + "\n" for row in [*head, *rows])


def with_cell(column: str, value: str, row: int = 6) -> list[list[str]]:
    """The rows with another value in one cell."""
    k = HEADER.index(column)
    return [
        [*r[:k], value, *r[k + 1 :]] if n == row else r for n, r in enumerate(ROWS, 1)
    ]


class Ingest(NamedTuple):
    """What the command said and wrote.

    Attributes:
        code: Exit code.
        output: On the console.
        report: `ingest.json`; empty where nothing was written.
        voters: The checked voters.
    """

    code: int
    output: str
    report: dict[str, Any]
    voters: pd.DataFrame


def ingest(folder: Path, **declared: str) -> Ingest:
    given = {**PLAIN, **declared}
    ids = json.loads(given.pop("ids", "[]")) or IDS
    text = campaign_text("field", VOTERS.format(**given))
    (folder / "campaign.toml").write_text(text)
    (folder / "test.csv").write_text(answers_text(ids))
    done = CliRunner().invoke(
        app,
        ["ingest", "--campaign", str(folder), "--data", str(folder / "d"), "--store",
         str(folder / "m")],
        env={"MLFLOW_TRACKING_URI": None},
    )  # fmt: skip
    said = " ".join(done.output.split())
    if done.exit_code != OK:
        return Ingest(done.exit_code, said, {}, pd.DataFrame())
    run = folder / "d" / "field" / (folder / "d" / "field" / "latest").read_text()
    return Ingest(
        done.exit_code, said, json.loads((run / "ingest.json").read_text()),
        pd.read_parquet(run / "tables" / "voters.parquet"),
    )  # fmt: skip


def check_all_read(read: Ingest) -> None:
    """The table of the plain file, whatever the file looked like."""
    assert read.code == OK, read.output
    assert read.report["voters"]["rows_in"] == read.report["voters"]["accepted"] == N
    voters = read.voters
    assert voters["voter_id"].tolist() == IDS
    assert voters["household_id"].tolist() == [row[1] for row in ROWS]
    assert voters["birth_year"].tolist() == [1935.0 + k for k in range(N)]
    assert voters["postcode"].tolist() == [row[5] for row in ROWS]
    assert voters["voted_20201103_general"].tolist() == [
        float(k % 3 == 0) for k in range(N)
    ]
    assert voters["income"].tolist() == [20_000.0 + 1_000 * k for k in range(N)]


# --- ways in which one file is written ------------------------------------------------


def _text(encoding: str, sign: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(lines(ROWS, sign).encode(encoding))


def _gz(path: Path) -> None:
    path.write_bytes(gzip.compress(lines(ROWS).encode()))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("extract/voters.txt", lines(ROWS, "|"))
        archive.writestr("__MACOSX/._voters.txt", "x")


def _padded(path: Path) -> None:
    head = ",".join(f" {name} " for name in HEADER)
    body = "".join(" , ".join(row) + "\r\n" for row in ROWS)
    path.write_bytes((head + "\r\n" + body).encode())


def _old_mac(path: Path) -> None:
    path.write_bytes(lines(ROWS).replace("\n", "\r").encode())


def _quoted(path: Path) -> None:
    path.write_text(
        "".join(",".join(f'"{v}"' for v in row) + "\n" for row in [HEADER, *ROWS])
    )


def _blank_lines(path: Path) -> None:
    path.write_text("\n\n" + lines(ROWS).replace("\n", "\n\n"))


WAYS: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "tabs declared": ("v.txt", 'delimiter = "\\t"', _text("utf-8", "\t")),
    "tabs detected": ("v.txt", "", _text("utf-8", "\t")),
    "pipes": ("v.txt", 'delimiter = "|"', _text("utf-8", "|")),
    "semicolons": ("v.csv", "", _text("utf-8", ";")),
    "utf-16 of a spreadsheet": ("v.txt", "", _text("utf-16", "\t")),
    "utf-16 declared": ("v.txt", 'encoding = "utf-16-le"', _text("utf-16-le", "\t")),
    "byte order mark": ("v.csv", "", _text("utf-8-sig", ",")),
    "gz": ("v.csv.gz", "", _gz),
    "zip": ("v.zip", "", _zip),
    "padded": ("v.csv", "", _padded),
    "old line ends": ("v.csv", "", _old_mac),
    "all quoted": ("v.csv", "", _quoted),
    "blank lines": ("v.csv", "", _blank_lines),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_reads_the_same_however_it_is_written(way: str, tmp_path: Path) -> None:
    name, declared, write = WAYS[way]
    write(tmp_path / name)
    check_all_read(ingest(tmp_path, where=f'path = "{name}"\n{declared}'))


def test_a_file_without_a_header_is_read_by_declared_names(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text(lines(ROWS, "\t", header=False))
    names = json.dumps(HEADER)
    check_all_read(ingest(tmp_path, where=f'path = "v.txt"\nnames = {names}'))
    bare = ingest(tmp_path, where='path = "v.txt"')
    assert bare.code == BAD_INPUT
    assert "without one; name its columns by names" in bare.output
    assert "NC000000" not in bare.output


def test_a_workbook_is_read_with_its_numbers_as_digits(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Voters"
    sheet.append(HEADER)
    for row in ROWS:
        sheet.append([*row[:7], float(row[7])])
    book.save(tmp_path / "v.xlsx")
    check_all_read(ingest(tmp_path, where='path = "v.xlsx"'))
    book.create_sheet("Notes")
    book.save(tmp_path / "v.xlsx")
    assert (
        "expected one sheet, got Voters, Notes"
        in ingest(tmp_path, where='path = "v.xlsx"').output
    )
    check_all_read(ingest(tmp_path, where='path = "v.xlsx"\nmember = "Voters"'))


# --- records are counted --------------------------------------------------------------


def test_a_lone_quotation_mark_is_told_by_its_line_or_means_itself(
    tmp_path: Path,
) -> None:
    rows = with_cell("party", '"DEM', row=3)
    rows = [[*r[:4], '"REP', *r[5:]] if n == 41 else r for n, r in enumerate(rows, 1)]
    (tmp_path / "v.txt").write_text(lines(rows, "|"))
    stopped = ingest(tmp_path, where='path = "v.txt"')
    assert stopped.code == BAD_INPUT
    assert "v.txt: line 4: a quotation mark opens a field of 39 lines" in stopped.output
    read = ingest(tmp_path, where='path = "v.txt"\nquoting = false')
    assert read.report["voters"]["accepted"] == N
    assert read.voters["party"][2] == '"DEM'


def test_a_mark_that_is_never_closed_and_lines_cut_short_are_told(
    tmp_path: Path,
) -> None:
    path, where = tmp_path / "v.csv", 'path = "v.csv"\nmost_quarantined = 0.1'
    path.write_text(lines(with_cell("party", '"DEM', row=55)))
    stopped = ingest(tmp_path, where=where)
    assert (stopped.code, "line 56: expected the quotation mark" in stopped.output) == (
        BAD_INPUT, True,
    )  # fmt: skip
    path.write_text(lines(ROWS).replace("NC000007,H00003,", "NC000007\n", 1))
    cut = ingest(tmp_path, where=where)
    assert cut.report["voters"]["rows_in"] == N + 1
    assert cut.report["voters"]["quarantined"] == 2
    assert "(row): expected 8 fields, got 1" in cut.output


def test_a_field_over_two_lines_is_one_record(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(lines(with_cell("party", '"DE\nM"', row=9)))
    read = ingest(tmp_path, where='path = "v.csv"')
    assert read.voters["party"][8] == "DE\nM"
    assert read.report["voters"]["lines"] == N + 2


# --- values and types -----------------------------------------------------------------


@pytest.mark.parametrize("value", ["NULL", "inf", "n/a", "#DIV/0!", "-", "$52,340"])
def test_one_text_among_numbers_is_a_missing_value_and_told(
    value: str, tmp_path: Path
) -> None:
    (tmp_path / "v.txt").write_text(lines(with_cell("income", value), "\t"))
    read = ingest(tmp_path, where='path = "v.txt"')
    assert read.report["voters"]["types"] == {"income": "number"}
    assert read.voters["income"].isna().tolist() == [k == 5 for k in range(N)]
    assert f"(such as row 6: {value})" in read.output


def test_numbers_are_read_by_their_declared_writing(tmp_path: Path) -> None:
    rows = [[*row[:7], f"$ {int(row[7]):,}.50"] for row in ROWS]
    (tmp_path / "v.txt").write_text(lines(rows, "\t"))
    dollars = '{ column = "income", unit = "$", thousands = "," }'
    read = ingest(tmp_path, where='path = "v.txt"', income=dollars)
    assert read.voters["income"].tolist() == [20_000.5 + 1_000 * k for k in range(N)]
    rows = [
        [*row[:7], f"{int(row[7]) / 1000:.1f}".replace(".", ",") + " %"] for row in ROWS
    ]
    (tmp_path / "v.txt").write_text(lines(rows, "\t"))
    shares = '{ column = "income", unit = "%", decimal = "," }'
    read = ingest(tmp_path, where='path = "v.txt"', income=shares)
    assert read.voters["income"].tolist() == [20.0 + k for k in range(N)]


def test_a_text_of_many_values_is_no_category(tmp_path: Path) -> None:
    rows = [[*row[:7], f"comment {k} of many"] for k, row in enumerate(ROWS)]
    many = [[f"{r[0]}x{j}", *r[1:7], f"{r[7]} {j}"] for j in range(3) for r in rows]
    (tmp_path / "v.csv").write_text(lines(many))
    ids = json.dumps([row[0] for row in many])
    read = ingest(tmp_path, where='path = "v.csv"', ids=ids)
    assert "income" not in read.voters
    assert "left out, income: about" in read.output


@pytest.mark.parametrize("kind", ["int64 and a null", "sqlite", "floats"])
def test_ids_are_the_digits_that_were_stored(kind: str, tmp_path: Path) -> None:
    numbers: list[Any] = [10**17 + 1000 + k for k in range(N)]
    if kind == "floats":
        numbers = [float(10**9 + k) for k in range(N)]
    frame = pd.DataFrame(ROWS, columns=HEADER).drop(columns="voter_id")
    wanted = [str(int(n)) for n in numbers]
    where = 'path = "v.parquet"\nmost_quarantined = 0.05'
    if kind == "sqlite":
        with sqlite3.connect(tmp_path / "v.db") as connection:
            frame.assign(voter_id=numbers).to_sql("voters", connection, index=False)
        where = 'database = "sqlite:///v.db"\ntable = "voters"'
    elif kind == "floats":
        frame.assign(voter_id=numbers).to_parquet(tmp_path / "v.parquet")
    else:
        ids = pd.array([*numbers[:-1], None], dtype="Int64")
        frame.assign(voter_id=ids).to_parquet(tmp_path / "v.parquet")
        wanted = wanted[:-1]
    read = ingest(tmp_path, where=where, ids=json.dumps(wanted))
    assert read.code == OK, read.output
    assert read.voters["voter_id"].tolist() == wanted
    assert ("leading zeros are lost" in read.output) == (kind == "floats")


@pytest.mark.parametrize("stored", ["fraction", "too large", "spreadsheet"])
def test_ids_that_lost_digits_are_refused_never_rounded(
    stored: str, tmp_path: Path
) -> None:
    frame = pd.DataFrame(ROWS, columns=HEADER)
    spoilt: dict[str, list[Any]] = {
        "fraction": [k + 0.5 for k in range(N)],
        "too large": [1e17 + 1000 * k for k in range(N)],
        "spreadsheet": [f"1.0000000{k:02d}E+17" for k in range(N)],
    }
    frame.assign(voter_id=spoilt[stored]).to_parquet(tmp_path / "v.parquet")
    read = ingest(tmp_path, where='path = "v.parquet"')
    assert read.code == BAD_INPUT
    assert "expected an id as text, got a number" in read.output


def test_a_cell_that_cannot_be_read_costs_the_cell(tmp_path: Path) -> None:
    rows = with_cell("sex", "X")
    for row, (column, value) in enumerate(
        [("dob", "##/##/####"), ("dob", "01/01/1900"), ("household_id", "0"),
         ("dob", "13/45/1980"), ("dob", "05/05/1905"), ("zip", "00000")],
        start=10,
    ):  # fmt: skip
        k = HEADER.index(column)
        rows[row] = [*rows[row][:k], value, *rows[row][k + 1 :]]
    (tmp_path / "v.csv").write_text(lines(rows))
    read = ingest(
        tmp_path, where='path = "v.csv"',
        sex='{ column = "sex", map = { F = "F", M = "M" } }',
    )  # fmt: skip
    assert read.report["voters"]["accepted"] == N
    lost = {
        key: value["n"] for key, value in read.report["voters"]["values_lost"].items()
    }
    assert lost == {
        "birth_year: stands for no value": 2,
        "birth_year: expected a date written as %m/%d/%Y": 1,
        "birth_year: expected an age of at most 115": 1,
        "household_id: stands for no value": 1,
        "postcode: stands for no value": 1,
        "sex: expected one of F, M (the map of sex)": 1,
    }
    assert read.voters["birth_year"].isna().sum() == 4


def test_years_of_two_digits_are_those_of_living_voters(tmp_path: Path) -> None:
    rows = [[*r[:2], r[2][:6] + r[2][-2:], *r[3:]] for r in ROWS]
    (tmp_path / "v.csv").write_text(lines(rows))
    two = '{ column = "dob", format = "%m/%d/%y" }'
    check_all_read(ingest(tmp_path, where='path = "v.csv"', birth=two))
    mixed = [
        [*r[:2], f"{r[2][-4:]}-05-01" if k % 2 else r[2], *r[3:]]
        for k, r in enumerate(ROWS)
    ]
    (tmp_path / "v.csv").write_text(lines(mixed))
    several = '{ column = "dob", format = ["%m/%d/%Y", "%Y-%m-%d"] }'
    check_all_read(ingest(tmp_path, where='path = "v.csv"', birth=several))


def test_a_default_holds_for_a_blank(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(lines(ROWS))
    voted = '{ column = "g2020", map = { Y = 1 }, default = 0 }'
    check_all_read(ingest(tmp_path, where='path = "v.csv"', voted=voted))


# --- losses stop ----------------------------------------------------------------------


def test_a_map_that_misses_most_values_stops(tmp_path: Path) -> None:
    (tmp_path / "v.csv").write_text(
        lines([[*r[:6], "YNAE"[k % 4], r[7]] for k, r in enumerate(ROWS)])
    )
    read = ingest(
        tmp_path, where='path = "v.csv"',
        voted='{ column = "g2020", map = { Y = 1 } }',
    )  # fmt: skip
    assert read.code == BAD_INPUT
    assert "could not be read in 45 of 60 rows: expected one of Y" in read.output


def test_rows_set_aside_beyond_the_share_stop_with_reasons_and_a_row(
    tmp_path: Path,
) -> None:
    rows = [["", *r[1:]] if k % 20 == 3 else r for k, r in enumerate(ROWS)]
    (tmp_path / "v.csv").write_text(lines(rows))
    stopped = ingest(tmp_path, where='path = "v.csv"')
    assert stopped.code == BAD_INPUT
    assert "table voters: 3 of 60 rows" in stopped.output
    assert "3 × voter_id: expected a value, got none (row 4)" in stopped.output
    assert not (tmp_path / "d" / "field" / "latest").exists()
