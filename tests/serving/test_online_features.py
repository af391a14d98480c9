"""Features of a request's rows: the very ones that tables of voters give."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hustings.features.affinity import CELL, CellAffinities, affinity_column
from hustings.features.ingest.plain import VoterArrays
from hustings.features.tables import TableError
from hustings.features.voter import TENURE_YEARS, Encoding
from hustings.serving.voter_rows import VoterReader
from hustings.training.registry.campaign_model import Reader


def cells() -> CellAffinities:
    """A table of cells with some that lack a row, of which a margin speaks."""
    rows = [
        ("18-34", "F", "26001"), ("18-34", "M", "26003"), ("35-64", "F", ""),
        ("35-64", "", ""), ("65+", "", ""), ("", "F", ""), ("", "", "26005"),
        ("", "", ""),
    ]  # fmt: skip
    index = pd.MultiIndex.from_tuples(rows, names=CELL)
    values = np.arange(2.0 * len(rows)).reshape(-1, 2)
    table = pd.DataFrame(values, index, columns=["jobs", "schools"])
    return CellAffinities("county_fips", table)


def with_affinities(reader: Reader) -> Reader:
    columns = (
        *reader.feature_columns, "registered_on", "birth_year", "reacted__jobs",
        "partner__p__m",
        affinity_column("jobs"), affinity_column("schools"),
    )  # fmt: skip
    names = [c for c in columns if c not in ("registered_on", "birth_year")]
    encoding = Encoding((*names, TENURE_YEARS), reader.encoding.levels)
    return replace(
        reader, feature_columns=columns, encoding=encoding, affinities=cells()
    )


@pytest.mark.parametrize("without", [(), ("age",), ("sex",), ("age", "county_fips")])
def test_a_matrix_without_tables_is_the_one_by_tables(served, without):
    reader = with_affinities(served.model.reader)
    columns = {k: c for k, c in reader.mapping.columns.items() if k not in without}
    mapping = reader.mapping.model_copy(update={"columns": columns})
    left = tuple(c for c in reader.feature_columns if c not in without)
    names = tuple(c for c in reader.encoding.names if c not in without or c == "age")
    encoding = Encoding(names, reader.encoding.levels)
    reader = replace(reader, mapping=mapping, feature_columns=left, encoding=encoding)
    rng = np.random.default_rng(0)
    rows = [
        {
            c: None if rng.random() < 0.1 and c != "voter_id" else v
            for c, v in row.items()
        }
        for row in served.rows[:500]
    ]
    for row in rows[::3]:
        row["county_fips"] = str(rng.choice(["26001", "26003", "26005"]))
    voters = VoterReader.of(mapping).read(rows).voters
    table = voters.frame(list(voters.columns))
    expected = reader.encoding.transform(reader.features(table))
    matrix = reader.online().matrix(voters)
    assert np.array_equal(matrix, expected, equal_nan=True)
    assert len(np.unique(matrix[:, names.index("affinity__jobs")])) > 3
    alone = VoterReader.of(mapping).read(rows[7:8]).voters
    one = reader.online().matrix(alone)
    assert np.array_equal(one, expected[7:8], equal_nan=True)


def test_segments_of_a_request_are_made_of_the_same_features(served):
    reader = served.model.reader
    voters = VoterReader.of(reader.mapping).read(served.rows[:50]).voters
    table = reader.features(voters.frame(list(voters.columns)))
    columns = reader.online().columns(voters, ["age", "sex", "history_share", "nope"])
    assert list(columns) == ["age", "sex", "history_share"]
    for name, values in columns.items():
        pd.testing.assert_series_equal(
            pd.Series(values, table.index, name=name, dtype=table[name].dtype),
            table[name],
        )


def test_what_only_the_whole_file_tells_is_asked_for(served):
    reader = served.model.reader
    of_the_file = replace(
        reader, feature_columns=(*reader.feature_columns, "county__turnout")
    )
    voters = VoterArrays(1, {"voter_id": np.array(["v"], dtype=object)})
    with pytest.raises(TableError, match="county__turnout"):
        of_the_file.online().matrix(voters)


def test_rows_as_json_brings_them_are_read_as_a_files(served):
    """The sample's own rows are plain: none is asked of DuckDB."""
    reader = VoterReader.of(served.model.reader.mapping)
    rows = json.loads(json.dumps(served.rows[:200]))
    read = reader.read(rows).voters
    expected = served.voters.head(200)
    names = [c for c in expected.columns if c in read]
    assert len(names) > 20
    pd.testing.assert_frame_equal(read.frame(names), expected[names])
