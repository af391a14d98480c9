"""Columns bought from a data provider: join, description, comparison and removal.

A provider delivers rows with the campaign's own voter id, with identifiers hashed under
the campaign's key, or with names that have to be linked. Its columns join the voters as
`provider__<name>__<column>`, so that each column names its provider; their permitted
use says whether they may be features.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from hustings.features.atomic import write_json, write_parquet
from hustings.features.persons.link.fields import tidy
from hustings.features.tables import (
    MAPPED_TABLES,
    PROVIDER_PREFIX,
    PROVIDER_ROWS,
    SMALLEST_CELL,
    TableError,
)

REMOVED_FILE = "removed_providers.json"
Join = Literal["voter_id", "hashed", "linked"]
Json = dict[str, Any]


def provider_column(provider: str, column: str) -> str:
    """Name of a provider's column in the voter table.

    >>> provider_column("acme", "income")
    'provider__acme__income'
    """
    return f"{PROVIDER_PREFIX}{provider}__{column}"


@dataclass(frozen=True)
class ProviderLicence:
    """Licence of a provider, as the data dictionary states it.

    Attributes:
        provider: Its name.
        source: Who made the data.
        licence: Under which licence they are used.
        permitted_use: What they may be used for.
        observed_on: When they were observed.
    """

    provider: str
    source: str
    licence: str
    permitted_use: str
    observed_on: date


@dataclass(frozen=True)
class Joined:
    """A provider's columns joined to the voters.

    Attributes:
        columns: One row a voter, in the order of the voters, named by
            `provider_column`.
        n_rows: Rows delivered.
        n_joined: Voters that one of them is about.
        mean_probability: Of the links, 1 where rows were joined by a key.
    """

    columns: pd.DataFrame
    n_rows: int
    n_joined: int
    mean_probability: float


# --- keys -----------------------------------------------------------------------------


def hashed(values: pd.Series, field: str, key: bytes) -> pd.Series:
    """HMAC-SHA256 of a normalised field, so that both sides get the same hash.

    Args:
        values: As written.
        field: Which field of identities they are, as `link.fields` knows it.
        key: The campaign's secret.

    Source: RFC 2104.
    """
    plain = tidy(values.to_frame(field)).frame[field]
    return plain.map(
        lambda text: hmac.new(key, text.encode(), hashlib.sha256).hexdigest(),
        na_action="ignore",
    ).astype("str")


# --- joining --------------------------------------------------------------------------


def join_provider(
    voters: pd.DataFrame,
    rows: pd.DataFrame,
    provider: str,
    *,
    join: Join = "voter_id",
    identities: pd.DataFrame | None = None,
    field: str = "email",
    key: bytes = b"",
    threshold: float = 0.5,
    seed: int = 0,
) -> Joined:
    """Join a provider's rows to the voters they are about.

    A voter whom two rows are about gets neither where rows are joined by a key, and the
    likelier where they are linked.

    Args:
        voters: VOTERS table.
        rows: PROVIDER_ROWS table: voter_id, or hmac, or identity columns, and the
            columns delivered.
        provider: Its name.
        join: How rows find their voter.
        identities: IDENTITIES table; not needed for a join by voter_id.
        field: Of a hashed join: the field that is hashed.
        key: Of a hashed join: the campaign's secret.
        threshold: Of a linked join: least probability of a link.
        seed: Of a linked join.

    Raises:
        TableError: If the rows lack what the join needs, or deliver no column.
    """
    delivered = [c for c in rows if c not in MAPPED_TABLES[PROVIDER_ROWS.name].columns]
    if not delivered:
        raise TableError(
            f"provider {provider}: expected columns to join, got none; name them in "
            f"[providers.{provider}.table.extra]"
        )
    voter_id, probability = _voter_of_row(
        rows, provider, join, identities, field, key, threshold, seed
    )
    matched_rows = rows[delivered].assign(voter_id=voter_id, probability=probability)
    matched_rows = matched_rows.dropna(subset=["voter_id"])
    matched_rows = matched_rows[matched_rows["voter_id"].isin(voters["voter_id"])]
    if join == "linked":
        matched_rows = matched_rows.sort_values("probability").drop_duplicates(
            "voter_id", keep="last"
        )
    else:
        matched_rows = matched_rows.drop_duplicates("voter_id", keep=False)
    beside = matched_rows.set_index("voter_id").reindex(voters["voter_id"])
    columns = beside[delivered].set_axis(voters.index)
    column_names = {c: provider_column(provider, str(c)) for c in delivered}
    sure = (
        float(matched_rows["probability"].mean()) if len(matched_rows) else float("nan")
    )
    return Joined(
        columns.rename(columns=column_names), len(rows), len(matched_rows), sure
    )


def _voter_of_row(
    rows: pd.DataFrame,
    provider: str,
    join: Join,
    identities: pd.DataFrame | None,
    field: str,
    key: bytes,
    threshold: float,
    seed: int,
) -> tuple[pd.Series, pd.Series]:
    """Which voter each row is about, missing for none, and how surely."""
    sure = pd.Series(1.0, index=rows.index)
    needed = {"voter_id": "voter_id", "hashed": "hmac"}.get(join)
    if needed is not None and needed not in rows:
        raise TableError(
            f"provider {provider}: expected a column {needed!r} to join by, got none; "
            f"mend [providers.{provider}.table.columns]"
        )
    if join == "voter_id":
        return rows["voter_id"], sure
    if identities is None:
        raise TableError(f"provider {provider}: expected identities of the voters")
    if join == "hashed":
        ours = hashed(identities[field], field, key).set_axis(identities["voter_id"])
        once = ours.dropna().drop_duplicates(keep=False)
        voter_of = pd.Series(once.index, index=once.to_numpy())
        return rows["hmac"].str.lower().map(voter_of), sure
    return _linked_rows(rows, identities, threshold, seed)


def _linked_rows(
    rows: pd.DataFrame, identities: pd.DataFrame, threshold: float, seed: int
) -> tuple[pd.Series, pd.Series]:
    # Splink is slow to import, and most joins are by a key
    from hustings.features.persons.link import link_reactors

    ours = PROVIDER_ROWS.columns
    about = rows[[c for c in rows if c in ours and c not in ("voter_id", "hmac")]]
    people = about.assign(reaction_person=np.arange(len(rows)).astype(str))
    links = link_reactors(people, identities, threshold=threshold, seed=seed).links
    at = links.set_index(links["reaction_person"].astype("int64"))
    link_of_row = at.reindex(np.arange(len(rows))).set_axis(rows.index)
    return link_of_row["voter_id"], link_of_row["probability"]


# --- description ----------------------------------------------------------------------


def describe(
    joined: Joined, terms: ProviderLicence, beside: pd.DataFrame, join: Join
) -> Json:
    """Entries of the data dictionary for a provider's columns.

    Args:
        joined: From `join_provider`.
        terms: What is agreed with the provider.
        beside: Voters with the columns of all providers, to compare with.
        join: How it was joined.

    Returns:
        `columns`: for each column, provider, source, date, licence, permitted use,
        coverage (share of the voters it is known of) and agreement with the columns of
        the same name in the file and of other providers.
    """
    descriptions = []
    for name in joined.columns:
        coverage = float(joined.columns[name].notna().mean())
        descriptions.append(
            {
                "column": str(name),
                "provider": terms.provider,
                "source": terms.source,
                "observed_on": terms.observed_on.isoformat(),
                "licence": terms.licence,
                "permitted_use": terms.permitted_use,
                "join": join,
                "rows": joined.n_rows,
                "joined": joined.n_joined,
                "mean_probability": joined.mean_probability,
                "coverage": coverage,
                "agreement": _agreements(str(name), joined.columns[name], beside),
            }
        )
    return {"columns": descriptions}


def _agreements(name: str, ours: pd.Series, beside: pd.DataFrame) -> list[Json]:
    bare = name.split("__", 2)[2]
    comparable = [
        str(c) for c in beside
        if c != name and (c == bare or bare_column(str(c)) == bare)
    ]  # fmt: skip
    agreements = [_agreement(other, ours, beside[other]) for other in comparable]
    return [agreement for agreement in agreements if agreement is not None]


def bare_column(column: str) -> str | None:
    """The provider's own name of one of its columns, None for other columns."""
    return column.split("__", 2)[2] if column.startswith(PROVIDER_PREFIX) else None


def _agreement(other: str, ours: pd.Series, theirs: pd.Series) -> Json | None:
    """Correlation of numbers, share of equal texts; None below the privacy floor."""
    both_known = ours.notna() & theirs.notna()
    n = int(both_known.sum())
    if n < SMALLEST_CELL:
        return None
    a, b = ours[both_known], theirs[both_known]
    numbers = all(pd.api.types.is_numeric_dtype(x) for x in (a, b))
    if numbers and a.nunique() > 2 and b.nunique() > 2:
        return {"with": other, "measure": "correlation", "value": _corr(a, b), "n": n}
    same = float((a.astype("str") == b.astype("str")).mean())
    return {"with": other, "measure": "share equal", "value": same, "n": n}


def _corr(a: pd.Series, b: pd.Series) -> float:
    return float(np.corrcoef(a.to_numpy(float), b.to_numpy(float))[0, 1])


# --- removal --------------------------------------------------------------------------


@dataclass(frozen=True)
class Removal:
    """Result of removing a provider.

    Attributes:
        cleaned: Files that its columns, rows or entries were taken out of.
        deleted: Files that are of no use without them: they are made anew.
        mentions: Files that still name it and could not be cleaned.
        trained_on: Runs whose models learnt from its columns: to be trained again.
    """

    cleaned: tuple[Path, ...]
    deleted: tuple[Path, ...]
    mentions: tuple[Path, ...]
    trained_on: tuple[str, ...]


def removed_providers(home: Path) -> list[str]:
    """Providers that were taken out of a campaign, and never come back by a run."""
    path = home / REMOVED_FILE
    return list(json.loads(path.read_text())) if path.exists() else []


def remove_provider(home: Path, provider: str) -> Removal:
    """Take a provider out of every run of a campaign, and keep it out of later ones.

    Args:
        home: Folder of the campaign's runs.
        provider: Its name.
    """
    removed = sorted({*removed_providers(home), provider})
    write_json(home / REMOVED_FILE, removed)
    prefix = provider_column(provider, "")
    cleaned, deleted, mentions, trained = [], [], [], []
    for path in sorted(p for p in home.rglob("*") if p.is_file()):
        if path.suffix == ".parquet" and _clean_table(path, prefix, provider):
            cleaned.append(path)
        elif path.suffix != ".parquet" and prefix.encode() in path.read_bytes():
            if path.name == "reader.json":
                trained.append(path.parent.name)
            if path.name == "reader.json" or path.suffix == ".html":
                path.unlink()
                deleted.append(path)
            elif path.suffix == ".json":
                _clean_json(path, prefix, provider)
                cleaned.append(path)
            else:
                mentions.append(path)
    return Removal(tuple(cleaned), tuple(deleted), tuple(mentions), tuple(trained))


def _clean_table(path: Path, prefix: str, provider: str) -> bool:
    """Remove a provider's columns and rows from a table; whether there were any."""
    frame = pd.read_parquet(path)
    ours = [c for c in frame if str(c).startswith(prefix)]
    theirs = frame["provider"] == provider if "provider" in frame else pd.Series()
    if not ours and not theirs.any():
        return False
    remaining = frame.drop(columns=ours)
    remaining = remaining[~theirs] if len(theirs) else remaining
    write_parquet(path, remaining)
    return True


def _clean_json(path: Path, prefix: str, provider: str) -> None:
    write_json(path, _without(json.loads(path.read_text()), prefix, provider))


def _without(value: Any, prefix: str, provider: str) -> Any:
    """JSON values without keys, texts and entries that speak of a provider."""
    if isinstance(value, dict):
        return {
            k: _without(v, prefix, provider)
            for k, v in value.items()
            if prefix not in k and not _speaks(v, prefix, provider)
        }
    if isinstance(value, list):
        remaining = [v for v in value if not _speaks(v, prefix, provider)]
        return [_without(v, prefix, provider) for v in remaining]
    return value


def _speaks(value: Any, prefix: str, provider: str) -> bool:
    if isinstance(value, dict):
        return value.get("provider") == provider
    return isinstance(value, str) and prefix in value


def permitted_columns(
    columns: Sequence[str], permitted_use: Mapping[str, str], word: str
) -> set[str]:
    """Columns of providers whose permitted use names what they are wanted for.

    Args:
        columns: Columns of the voter table.
        permitted_use: By provider.
        word: The use, such as "features".
    """
    allowed = [name for name, use in permitted_use.items() if word in use.lower()]
    prefixes = tuple(provider_column(name, "") for name in allowed)
    return {c for c in columns if prefixes and c.startswith(prefixes)}
