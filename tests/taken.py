"""Every table of a campaign in memory, as `ingest` checks it."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.features.ingest import Ingested, TableSource, ingest


def ingest_all(sources: Mapping[str, TableSource], **declared: Any) -> Ingested:
    """Ingest a campaign, its voters among the tables.

    Args:
        sources: By table name.
        declared: As `ingest` takes it.
    """
    with tempfile.TemporaryDirectory() as folder:
        ingested = ingest(
            sources, voters_path=Path(folder) / "voters.parquet", **declared
        )
        voters = pd.read_parquet(ingested.voters)
    return replace(ingested, tables={**ingested.tables, "voters": voters})
