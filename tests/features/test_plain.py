"""Values read in plain Python: the same as by DuckDB, or left to it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hustings.features.ingest import TableSource
from hustings.features.ingest.mapping import map_with_faults, scalar_text
from hustings.features.ingest.plain import FEW_VALUES, PlainMapping

SOURCE = TableSource.model_validate(
    {
        "path": "file.csv",
        "source": "s",
        "licence": "l",
        "permitted_use": "u",
        "observed_on": "2026-03-15",
        "missing": ["N/A", "99"],
        "columns": {
            "voter_id": "ID",
            "household_id": "HH",
            "sex": {"column": "GENDER", "map": {"1": "F", "0": "M", "": "U"}},
            "county_fips": {"column": "CTY", "digits": 5},
            "state": {"value": "MI"},
            "age": "AGE",
            "birth_year": {"column": "BORN", "format": ["%m/%d/%Y", "%Y"]},
            "registered_on": "REG",
            "party": {"column": "PARTY", "map": {"DEM": "D"}, "keep": True},
            "postcode": "ZIP",
        },
        "history": {"2004-11-02 general": {"column": "VG", "map": {"Y": 1, "N": 0}},
                    "2008-11-04 general": "VG8"},
        "extra": {
            "income": {"column": "INC", "unit": "$", "thousands": ","},
            "score": "SCORE",
            "magazine": {"column": "MAG", "missing": ["none"]},
        },
        "types": {"income": "number", "score": "number", "magazine": "text"},
    }
)  # fmt: skip
PLAIN = PlainMapping.of(SOURCE, "voters")
TEXTS = [
    "", " ", "0", "00", "1", "1.0", "7", "+7", "-7", "12.50", "1e5", "1E-3", "5.", ".5",
    "inf", "nan", "NULL", "true", "False", "99", "999", "115", "116", "16", "15", "26",
    "026", "00026", "  26 ", "26\u00a0", "\u0663", "1,234", "$1,234", "$ 12", "Y", "N",
    "DEM", "REP", "D", "#N/A", "##/##/####", "1.2E+10", "1e400", "1e-400", "-0",
    "\x1f7",
    "2012-11-06", "2012-11-06 00:00:00", "2012-11-06T00:00:00.000Z", "2012-02-30",
    "20121106", "2012-11-06 10:30", "2012-11-06T10:30:00+02:00", "1900-01-01",
    "0001-01-01", "01/02/1980", "1980", "1899", "2011", "ä", "none", "H#1", "a+b", "😀",
    "\u200b5", "9007199254740993", "123456789012345678901234567890", "0x10", "1_000",
]  # fmt: skip
CELLS = st.one_of(
    st.sampled_from([*TEXTS, None, True, False]),
    st.integers(-(2**70), 2**70),
    st.integers(-5, 2100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 120).map(lambda x: round(x, 1)),
    st.text(max_size=6),
)
COLUMNS = ["ID", "HH", "GENDER", "CTY", "AGE", "BORN", "REG", "PARTY", "ZIP", "VG",
           "VG8", "INC", "SCORE", "MAG"]  # fmt: skip
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, CELLS)), min_size=1,
                max_size=3)  # fmt: skip


def by_duckdb(rows: list[dict[str, Any]]) -> tuple[pd.DataFrame, set[tuple[int, str]]]:
    raw = {
        c: pd.Series([scalar_text(row[c]) for row in rows], dtype="str")
        for c in COLUMNS
    }
    mapped = map_with_faults(pd.DataFrame(raw), SOURCE, "voters")
    places = zip(mapped.faults["row"], mapped.faults["column"], strict=True)
    return mapped.frame, set(places)


def assert_read_alike(rows: list[dict[str, Any]]) -> None:
    assert PLAIN is not None
    expected, faults = by_duckdb(rows)
    read = PLAIN.read({c: [row[c] for row in rows] for c in COLUMNS}, len(rows))
    if faults:
        assert read is None
        return
    assert read is not None
    assert list(read.columns) == list(expected)
    pd.testing.assert_frame_equal(read.frame(list(expected)), expected)


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(rows=ROWS)
def test_rows_read_plainly_are_those_that_duckdb_reads(rows):
    assert_read_alike(rows)


@pytest.mark.parametrize("column", COLUMNS)
def test_every_value_of_a_column_reads_alike_alone(column):
    """A fault hides all else in a row: here it is alone."""
    good = dict.fromkeys(COLUMNS) | {"ID": "v"}
    values = [*TEXTS, None, True, False, 0, 1, 26, 45.5, -3, 2**53, 2**60, 1e-7, 1e16]
    rows = [{**good, column: value} for value in values]
    expected, faults = by_duckdb(rows)
    at_fault = {row for row, _ in faults}
    assert PLAIN is not None
    PLAIN.read({c: [row[c] for row in rows] for c in COLUMNS}, len(rows))
    for k, row in enumerate(rows):
        read = PLAIN.read({c: [row[c]] for c in COLUMNS}, 1)
        assert (read is None) == (k in at_fault), row[column]
        if read is not None:
            frame = read.frame(list(expected))
            expected_row = expected.iloc[[k]].reset_index(drop=True)
            pd.testing.assert_frame_equal(frame, expected_row)


PLAIN_NUMBERS = {"AGE": [18, 45.5, 101, None], "SCORE": [-0.0, 0, 2.5, -3, None],
                 "VG8": [0, 1.0, None]}  # fmt: skip
ODD_NUMBERS = [
    99, 99.0, 16, 17, 115, 2000, -1, 0.5, 1e-7, 1e-300, 1e16, 2**53, 2**70, 10**400,
    True, "7", "N/A",
]  # fmt: skip


@pytest.mark.parametrize("column", PLAIN_NUMBERS)
def test_many_numbers_at_once_are_those_that_duckdb_reads(column):
    good = dict.fromkeys(COLUMNS)
    plain = (PLAIN_NUMBERS[column] * FEW_VALUES)[:FEW_VALUES]
    for odd in [*ODD_NUMBERS, None]:
        # one alone is in doubt: the others would be read at once
        values = [*plain, odd]
        assert_read_alike(
            [{**good, "ID": f"v{k}", column: value} for k, value in enumerate(values)]
        )


def test_plain_values_are_read_without_duckdb(monkeypatch):
    """Else the way that is fast would be so for nobody."""
    rows = [
        {"ID": f"V{k}", "HH": f"H{k}", "CTY": 26, "AGE": 45.5 + k, "GENDER": "1",
         "REG": "2012-11-06", "PARTY": "DEM", "ZIP": "48104", "BORN": "01/02/1980",
         "VG": "Y", "VG8": 1, "INC": "$1,234", "SCORE": k / 7, "MAG": None}
        for k in range(20)
    ]  # fmt: skip
    assert_read_alike(rows[:1])  # what is asked once is remembered
    monkeypatch.setattr(
        "hustings.features.ingest.plain.map_with_faults",
        lambda *_args, **_options: pytest.fail("asked DuckDB"),
    )
    assert PLAIN is not None
    read = PLAIN.read({c: [row[c] for row in rows] for c in COLUMNS}, 20)
    assert read is not None
    assert np.array_equal(read["score"], np.arange(20) / 7)


def test_a_column_whose_type_only_other_rows_tell_is_not_compiled():
    open_types = SOURCE.model_copy(update={"types": {}})
    assert PlainMapping.of(open_types, "voters") is None
