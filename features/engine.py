"""Where a campaign's rows are worked on: on one machine, or on Spark.

Both engines take the same expressions, as SQL of their own dialect, and the same
functions of blocks. An engine decides nothing: blocks are cut by the file and not by
the engine, results come in the order of the rows, and what is drawn at random is drawn
from the id of the unit. So every engine gives the same tables.

Spark's machines open the files of a run by the paths of the machine that commands them:
the folder of runs lies on storage that all of them share. They have Hustings installed.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pandas as pd
import pyarrow
import pyarrow.parquet as pq

from hustings.features.atomic import ASIDE, ROW_GROUP

BlockFunction = Callable[[pyarrow.Table], pyarrow.Table]
"""Rows of a file → rows of the result. It can be pickled, and knows no other rows."""
OLDEST_JAVA = 17
SENT_ROWS = 1 << 19
"""Rows of a source that are sent to Spark together: so many are in memory at once."""


class EngineMissing(ValueError):  # noqa: N818 - the field's word
    """The declared engine cannot be had here; the message says what it needs."""


class Queries(Protocol):
    """What answers queries over tables of Arrow."""

    @property
    def dialect(self) -> str:
        """Dialect of its SQL, as ibis names it."""

    def query(self, sql: str, tables: Mapping[str, pyarrow.Table]) -> pyarrow.Table:
        """Answer a query whose result fits into memory.

        Args:
            sql: In this dialect.
            tables: By the names that the query has for them.

        Returns:
            The rows, in no order unless the query asks for one.
        """


class Engine(Queries, Protocol):
    """What works on the rows of a campaign."""

    @property
    def rows_together(self) -> int:
        """Rows of a source that are best queried together, where it has so many."""

    def map_blocks(
        self, function: BlockFunction, file: Path, columns: Sequence[str]
    ) -> Iterator[pyarrow.Table]:
        """Run a function over the blocks of a Parquet file, such as that of the voters.

        Args:
            function: Sees one block at a time.
            file: Is cut by its row groups, of which a block is at most `ROW_GROUP`.
            columns: That the function reads.

        Returns:
            The results, one for each block, in the order of the file.
        """


def engine_of(spark: str | None) -> Engine:
    """The engine that a campaign declares.

    Args:
        spark: URL of a master; DuckDB on this machine without.

    Raises:
        EngineMissing: If there is no Spark here, or the master does not answer.
    """
    return ONE_MACHINE if spark is None else _spark(spark)


def sql_of(expression: Any, dialect: str) -> str:
    """An expression of ibis as the SQL of a dialect."""
    import ibis

    if dialect == Spark.dialect:
        # its options are there once it is loaded
        getattr(ibis, dialect)
    return str(ibis.to_sql(expression, dialect=dialect))


def row_group_blocks(
    file: Path, columns: Sequence[str], row_group: int
) -> Iterator[pyarrow.Table]:
    """The blocks of one row group of a Parquet file, in their order."""
    with pq.ParquetFile(file) as opened:
        batches = opened.iter_batches(
            ROW_GROUP, row_groups=[row_group], columns=list(columns)
        )
        for batch in batches:
            yield pyarrow.Table.from_batches([batch])


# --- one machine ----------------------------------------------------------------------


class OneMachine:
    """This process, and DuckDB in it."""

    dialect = "duckdb"
    rows_together = 1

    def query(self, sql: str, tables: Mapping[str, pyarrow.Table]) -> pyarrow.Table:
        """See `Engine`."""
        import duckdb

        with duckdb.connect() as connection:
            for name, table in tables.items():
                connection.register(name, table)
            return connection.execute(sql).to_arrow_table()

    def map_blocks(
        self, function: BlockFunction, file: Path, columns: Sequence[str]
    ) -> Iterator[pyarrow.Table]:
        """See `Engine`."""
        for row_group in range(pq.read_metadata(file).num_row_groups):
            for rows in row_group_blocks(file, columns, row_group):
                yield function(rows)


ONE_MACHINE: Engine = OneMachine()


# --- Spark ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Spark:
    """A session of Spark.

    Attributes:
        session: Times of it are UTC.
    """

    session: Any
    dialect = "pyspark"
    rows_together = SENT_ROWS

    def query(self, sql: str, tables: Mapping[str, pyarrow.Table]) -> pyarrow.Table:
        """See `Engine`."""
        for name, table in tables.items():
            rows = self.session.createDataFrame(_of_spark_types(table))
            rows.createOrReplaceTempView(name)
        try:
            return self.session.sql(sql).toArrow()
        finally:
            for name in tables:
                self.session.catalog.dropTempView(name)

    def map_blocks(
        self, function: BlockFunction, file: Path, columns: Sequence[str]
    ) -> Iterator[pyarrow.Table]:
        """See `Engine`. Results pass through files beside the file."""
        file = file.resolve()
        n_row_groups = pq.read_metadata(file).num_row_groups
        with TemporaryDirectory(
            prefix=f".{file.name}.blocks-", suffix=ASIDE, dir=file.parent
        ) as results:
            work = partial(
                _work_on_row_groups, function, str(file), list(columns), results
            )
            # a task for each row group
            row_groups = self.session.range(0, n_row_groups, 1, max(n_row_groups, 1))
            finished = row_groups.mapInArrow(work, "row_group long, blocks long")
            n_blocks = {row["row_group"]: row["blocks"] for row in finished.collect()}
            for row_group in range(n_row_groups):
                for number in range(n_blocks[row_group]):
                    path = _result_file(results, row_group, number)
                    yield pq.read_table(path)
                    path.unlink()


def _result_file(folder: str, row_group: int, number: int) -> Path:
    return Path(folder) / f"{row_group}-{number}.parquet"


def _work_on_row_groups(
    function: BlockFunction,
    file: str,
    columns: Sequence[str],
    results: str,
    row_groups: Iterable[pyarrow.RecordBatch],
) -> Iterator[pyarrow.RecordBatch]:
    """Write the results of some row groups; on one of Spark's machines."""
    for batch in row_groups:
        for row_group in batch.column(0).to_pylist():
            number = -1
            for number, rows in enumerate(
                row_group_blocks(Path(file), columns, row_group)
            ):
                path = _result_file(results, row_group, number)
                # a task that is begun twice leaves one whole file
                aside = path.with_name(f"{path.name}.{os.getpid()}")
                pq.write_table(function(rows), aside)
                aside.replace(path)
            yield pyarrow.RecordBatch.from_pydict(
                {"row_group": [row_group], "blocks": [number + 1]}
            )


def _of_spark_types(table: pyarrow.Table) -> pyarrow.Table:
    """A table without types that Spark does not have."""
    for k, column in enumerate(table.schema):
        if column.type == pyarrow.uint64():
            exact = table.column(k).cast(pyarrow.decimal128(20, 0))
            table = table.set_column(k, column.name, exact)
    return table


@cache
def _spark(master: str) -> Spark:
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise _missing(master, "pyspark: pip install 'hustings[spark]'") from None
    _require_java(master)
    from py4j.protocol import Py4JError

    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        # a mapping of thirty columns is one query: to compile it takes longer than rows
        "spark.sql.codegen.wholeStage": "false",
    }
    if master.startswith("local"):
        settings |= {
            "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.memory": "2g", "spark.sql.shuffle.partitions": "8",
        }  # fmt: skip
        # Spark would take the first python3 on the path
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName("hustings").master(master)
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except (PySparkException, Py4JError, OSError) as failure:
        why = str(failure).strip().splitlines()[0]
        raise _missing(master, f"a master that answers: {why}") from None
    _register_functions(session)
    return Spark(session)


def _missing(master: str, what: str) -> EngineMissing:
    return EngineMissing(f'[engine].spark = "{master}" needs {what}')


def _require_java(master: str) -> None:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which(str(Path(home) / "bin" / "java") if home else "java")
    needed = f"Java {OLDEST_JAVA} or later, such as apt-get's default-jre-headless"
    if java is None:
        raise _missing(master, f"{needed}; there is no java here")
    said = subprocess.run(
        [java, "-version"], capture_output=True, text=True, check=False
    ).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        first_line = next(iter(said.splitlines()), "nothing")
        raise _missing(master, f"{needed}; {java} says: {first_line}")


# --- functions that Spark writes in another way ---------------------------------------
#
# Spark's formats of dates are not those of strptime, and a number of it has another
# text (1.0E-5 for 1e-05): what a file means must not hang on the engine. These
# functions of DuckDB work on Spark's machines, and are called as DuckDB's are.


def _register_functions(session: Any) -> None:
    from pyspark.sql.functions import pandas_udf

    for name, function in (
        ("try_strptime", _try_strptime), ("number_text", _number_text)
    ):  # fmt: skip
        session.udf.register(name, pandas_udf(function, "string"))


def _try_strptime(text: pd.Series, written: pd.Series) -> pd.Series:
    constant = "".join(written.head(1)).replace("'", "''")
    time = f"try_strptime(value, '{constant}')"
    # a sign before the year: Spark reads no "(BC)", and no five digits without one
    sign = f"CASE WHEN year({time}) < 0 THEN '-' ELSE '+' END"
    year = f"printf('%04d', abs(year({time})))"
    return _answered(
        f"{sign} || {year} || strftime({time}, '-%m-%d %H:%M:%S.%f')", text
    )


def _number_text(number: pd.Series) -> pd.Series:
    return _answered("CAST(value AS VARCHAR)", number)


def _answered(expression: str, values: pd.Series) -> pd.Series:
    rows = pyarrow.table({"value": pyarrow.array(values, from_pandas=True)})
    answers = ONE_MACHINE.query(f"SELECT {expression} AS answer FROM rows", {
        "rows": rows
    })  # fmt: skip
    texts: pd.Series = answers["answer"].to_pandas()
    return texts
