"""The data dictionary of a run: columns of its tables, of providers and reactions."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import pyarrow.parquet as pq

from hustings.experiments.declaration import special_columns
from hustings.experiments.stages.context import Run
from hustings.features.derived import Derivation
from hustings.features.dictionary import (
    BY_NAME,
    DECLARED,
    NO,
    VOTERS,
    ColumnEntry,
    Described,
    entries,
)
from hustings.features.draft import looks_special
from hustings.features.ingest import TableSource
from hustings.features.persons.linked_reactions import reacted_column
from hustings.features.persons.provider import bare_column
from hustings.features.tables import RAW_TABLES


def write_dictionary(run: Run, derivation: Derivation, features: Sequence[str]) -> None:
    """Write meaning, source, date and permitted use of every column.

    Args:
        run: Holds the tables; `dictionary.json` is written to it.
        derivation: Groups of columns that are derived from the voter file.
        features: Names of the columns that the models read.
    """
    columns = {
        path.stem: pq.read_schema(path).names
        for name in RAW_TABLES
        if (path := run.path(f"tables/{name}.parquet")).exists()
    }
    special = special_columns(run.campaign, columns[VOTERS])
    described = Described(
        columns,
        run.read_json("ingest"),
        TableSource.model_validate(run.read_json("voters_mapping")),
        derivation,
        special,
        features,
    )
    beside_the_file = [
        ColumnEntry(**row, is_feature=row["name"] in features)
        for row in (*_of_providers(run, special), *_of_reactions(run, described))
    ]
    rows = [asdict(entry) for entry in entries(described, beside_the_file)]
    run.write_json("dictionary", {"entries": rows})


def _of_providers(run: Run, special: frozenset[str]) -> Iterator[dict[str, str]]:
    if not run.has("providers.json"):
        return
    for column in run.read_json("providers")["columns"]:
        name = column["column"]
        bare = bare_column(name) or name
        by_name = BY_NAME if looks_special(bare) else NO
        yield {
            "table": VOTERS,
            "name": name,
            "meaning": f"{bare}, of {column['provider']}, joined by {column['join']}.",
            "unit": "",
            "made_of": bare,
            "source": column["source"],
            "as_of": f"as observed on {column['observed_on']}, before the first "
            "delivery",
            "special_category": DECLARED if {name, bare} & special else by_name,
            "licence": column["licence"],
            "permitted_use": column["permitted_use"],
        }


def _of_reactions(run: Run, described: Described) -> Iterator[dict[str, str]]:
    source = described.sources.get("reactions", {})
    terms = {k: str(source.get(k, "")) for k in ("source", "licence", "permitted_use")}
    for issue in run.table("messages")["issue"].unique():
        name = reacted_column(str(issue))
        if name in described.columns[VOTERS]:
            yield {
                "table": VOTERS,
                "name": name,
                "meaning": f"Good reactions to {issue}, each counted by the chance "
                "that it is the voter's.",
                "unit": "reactions",
                "made_of": "reactions, links",
                "as_of": f"strictly before the first delivery, "
                f"{described.derivation.as_of.date()}",
                "special_category": NO,
                **terms,
            }
