"""Columns of data providers, joined to the voters and described."""

import os
from datetime import date
from pathlib import Path

import pandas as pd

from hustings.experiments.declaration import ProviderSection, data_dir
from hustings.experiments.stages.context import Json, Run
from hustings.features.ingest import (
    Folders,
    Identities,
    account_of,
    read_provider_rows,
)
from hustings.features.persons.provider import (
    Joined,
    ProviderLicence,
    describe,
    join_provider,
    removed_providers,
)
from hustings.features.persons.secret import link_key
from hustings.features.tables import TableError


def with_providers(
    run: Run,
    voters: pd.DataFrame,
    voter_identities: Identities | None,
    raw_dir: Path | None,
    *,
    first_delivery: date,
) -> pd.DataFrame:
    """Join every provider's columns to the voters; describe them in `providers.json`.

    A provider that was removed stays out, whatever the campaign declares.

    Raises:
        TableError: If columns were observed at or after the first delivery.
    """
    out = removed_providers(run.home)
    declared = {n: p for n, p in run.campaign.providers.items() if n not in out}
    folders = Folders(campaign=run.campaign.folder, data=data_dir(), raw=raw_dir)
    joined_by_name: dict[str, Joined] = {}
    for name, provider in declared.items():
        _check_date(name, provider, first_delivery)
        run.tell(f"joining {name}", 0, 0)
        joined_by_name[name] = _joined(
            run, name, provider, voters, voter_identities, folders
        )
    with_columns = pd.concat(
        [voters, *(j.columns for j in joined_by_name.values())], axis=1
    )
    column_facts: list[Json] = []
    for name, joined in joined_by_name.items():
        provider = declared[name]
        column_facts += describe(
            joined, _terms(name, provider), with_columns, provider.join
        )["columns"]
    if joined_by_name:
        run.write_json("providers", {"columns": column_facts})
    return with_columns if joined_by_name else voters


def _check_date(name: str, provider: ProviderSection, first: date) -> None:
    observed = provider.table.observed_on
    if observed is None or observed >= first:
        raise TableError(
            f"provider {name}: expected observed_on before the first delivery, {first},"
            f" got {observed}; mend [providers.{name}.table] observed_on"
        )


def _joined(
    run: Run,
    name: str,
    provider: ProviderSection,
    voters: pd.DataFrame,
    voter_identities: Identities | None,
    folders: Folders,
) -> Joined:
    link = run.campaign.link
    delivered = read_provider_rows(provider.table, folders)
    run.say("\n".join(account_of(f"[providers.{name}.table]", delivered.report)))
    return join_provider(
        voters,
        delivered.frame,
        name,
        join=provider.join,
        identities=None if voter_identities is None else voter_identities.frame,
        field=provider.key,
        key=link_key(os.environ) if provider.join == "hashed" else b"",
        threshold=0.5 if link is None else link.threshold,
        seed=run.campaign.campaign.seed,
    )


def _terms(name: str, provider: ProviderSection) -> ProviderLicence:
    table = provider.table
    assert table.observed_on is not None  # the section refuses to be without
    return ProviderLicence(
        name, table.source, table.licence, table.permitted_use, table.observed_on
    )
