"""Providers' columns: joined three ways, described, and nothing left of them."""

import hashlib
import hmac
import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.features.persons.provider import (
    ProviderLicence,
    describe,
    hashed,
    join_provider,
    permitted_columns,
    remove_provider,
    removed_providers,
)
from hustings.features.persons.secret import link_key
from hustings.features.simulated.campaign import simulate
from hustings.features.tables import PROVIDER_ROWS, TableError, check

KEY = b"a secret of the campaign"
TERMS = ProviderLicence(
    "acme", "Acme Data", "one campaign", "features", date(2026, 1, 5)
)


def rows_of(**columns: object) -> pd.DataFrame:
    return check(PROVIDER_ROWS, pd.DataFrame(columns))


def voters(n: int = 4) -> pd.DataFrame:
    return pd.DataFrame({"voter_id": [f"v{i}" for i in range(n)], "age": 40.0})


def test_a_join_by_id_keeps_the_order_and_gives_nobody_two_values() -> None:
    rows = rows_of(voter_id=["v2", "v0", "v1", "v1", "v9"], income=[2.0, 0, 5, 6, 9])
    found = join_provider(voters().set_axis([3, 1, 4, 5]), rows, "acme")
    assert found.columns.index.tolist() == [3, 1, 4, 5]
    values = found.columns["provider__acme__income"]
    assert values.fillna(-1).tolist() == [0.0, -1.0, 2.0, -1.0]
    assert (found.n_rows, found.n_joined) == (5, 2)


def test_hashed_identifiers_meet_however_the_address_is_written() -> None:
    """The provider hashes by RFC 2104 itself: Ann@X.org is ann@x.org on both sides."""
    theirs = hmac.new(KEY, b"ann@x.org", hashlib.sha256).hexdigest()
    rows = rows_of(hmac=[theirs.upper(), "f" * 64], income=[7.0, 8.0])
    people = pd.DataFrame(
        {"voter_id": ["v1", "v2", "v3"], "email": [" Ann@X.org", "bo@x.org", None]}
    )
    found = join_provider(
        voters(), rows, "acme", join="hashed", identities=people, key=KEY
    )
    assert found.columns["provider__acme__income"].fillna(0).tolist() == [0, 7, 0, 0]
    other = join_provider(
        voters(), rows, "acme", join="hashed", identities=people, key=KEY[::-1]
    )
    assert other.n_joined == 0


def test_a_secret_is_needed_and_comes_from_the_environment_or_a_file(
    tmp_path: Path,
) -> None:
    with pytest.raises(TableError, match="HUSTINGS_LINK_KEY"):
        link_key({})
    with pytest.raises(TableError, match="at least 16 bytes"):
        link_key({"HUSTINGS_LINK_KEY": "short"})
    file = tmp_path / "key"
    file.write_bytes(KEY + b"\n")
    assert link_key({"HUSTINGS_LINK_KEY_FILE": str(file)}) == KEY
    assert link_key({"HUSTINGS_LINK_KEY": KEY.decode()}) == KEY


def test_hashes_say_nothing_without_the_key() -> None:
    values = pd.Series(["ann@x.org", None], dtype="str")
    plain = hashlib.sha256(b"ann@x.org").hexdigest()
    found = hashed(values, "email", KEY)
    assert found.iloc[0] not in (plain, hashed(values, "email", KEY[::-1]).iloc[0])
    assert found.isna().tolist() == [False, True]


def test_a_join_by_linkage_brings_the_right_people_their_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hustings.features.persons.link.score.MIN_U_PAIRS", 100_000)
    sample = simulate(n_voters=4_000, seed=2)
    people = sample.identities
    some = people.sample(800, random_state=1)
    rows = rows_of(
        first_name=some["first_name"].str.upper().to_numpy(),
        last_name=some["last_name"].to_numpy(),
        birth_year=some["birth_year"].to_numpy(),
        postcode=some["postcode"].to_numpy(),
        number=some["voter_id"].str[1:].astype(float).to_numpy(),
    )
    file = sample.tables["voters"]
    found = join_provider(file, rows, "acme", join="linked", identities=people, seed=1)
    values = found.columns["provider__acme__number"]
    known = values.notna()
    right = values[known] == file.loc[known, "voter_id"].str[1:].astype(float)
    assert known.sum() > 600
    assert right.mean() > 0.95
    assert right.mean() == pytest.approx(found.mean_probability, abs=0.03)


def test_a_join_that_lacks_what_it_needs_says_so() -> None:
    with pytest.raises(TableError, match="expected a column 'voter_id' to join by"):
        join_provider(voters(), rows_of(hmac=["a"], income=[1.0]), "acme")
    with pytest.raises(TableError, match="expected columns to join, got none"):
        join_provider(voters(), rows_of(voter_id=["v1"]), "acme")


def test_coverage_and_agreement_are_told_and_nothing_of_few_people() -> None:
    """Half known; equal to the file in 3 of 4; correlated −1 with another provider."""
    n = 80
    file = voters(n).assign(
        owner=[str(i % 2) for i in range(n)],
        income=np.where(np.arange(n) < 10, np.arange(n), np.nan),
    )
    ids = [f"v{i}" for i in range(40)]
    owner = [str(i % 2) if i % 4 else "x" for i in range(40)]
    acme = join_provider(
        file, rows_of(voter_id=ids, owner=owner, income=range(40)), "acme"
    )
    rival = join_provider(
        file, rows_of(voter_id=ids, income=[-float(i) for i in range(40)]), "rival"
    )
    beside = pd.concat([file, acme.columns, rival.columns], axis=1)
    told = describe(acme, TERMS, beside, "voter_id")["columns"]
    by_name = {entry["column"]: entry for entry in told}
    (against_file,) = by_name["provider__acme__owner"]["agreement"]
    assert against_file == {
        "with": "owner", "measure": "share equal", "value": 0.75, "n": 40,
    }  # fmt: skip
    (against_rival,) = by_name["provider__acme__income"]["agreement"]
    assert against_rival["with"] == "provider__rival__income"
    assert against_rival["value"] == pytest.approx(-1.0)
    entry = by_name["provider__acme__income"]
    assert entry["coverage"] == 0.5
    assert (entry["licence"], entry["observed_on"]) == ("one campaign", "2026-01-05")


def test_columns_are_features_only_where_their_use_is_permitted() -> None:
    columns = ["age", "provider__acme__income", "provider__rival__income"]
    uses = {"acme": "Features of lift models", "rival": "postal targeting"}
    assert permitted_columns(columns, uses, "features") == {"provider__acme__income"}
    assert permitted_columns(columns, {}, "features") == set()


def test_nothing_is_left_of_a_provider_that_is_taken_out(tmp_path: Path) -> None:
    """A byte search of every file; what is another provider's stays."""
    run = tmp_path / "first"
    (run / "tables").mkdir(parents=True)
    frame = voters(30).assign(provider__acme__x=1.0, provider__rival__x=2.0)
    frame.to_parquet(run / "tables" / "voters.parquet")
    frame.drop(columns="voter_id").to_parquet(run / "features.parquet")
    scores = pd.DataFrame({"provider": ["acme", "rival"], "lift": [1.0, 2.0]})
    scores.to_parquet(run / "tables" / "partner_scores.parquet")
    told = [
        {"provider": name, "column": f"provider__{name}__x"}
        for name in ("acme", "rival")
    ]
    (run / "providers.json").write_text(json.dumps({"columns": told}))
    (run / "reader.json").write_text('{"feature_columns": ["provider__acme__x"]}')
    (run / "report.html").write_text("<td>provider__acme__x</td>")
    (run / "model.txt").write_text("feature_names=provider__acme__x")
    found = remove_provider(tmp_path, "acme")
    assert found.trained_on == ("first",)
    assert [path.name for path in found.mentions] == ["model.txt"]
    assert {path.name for path in found.deleted} == {"reader.json", "report.html"}
    left = [p for p in tmp_path.rglob("*") if p.is_file() and b"acme" in p.read_bytes()]
    assert {path.name for path in left} == {"model.txt", "removed_providers.json"}
    assert removed_providers(tmp_path) == ["acme"]
    kept = pd.read_parquet(run / "tables" / "voters.parquet")
    assert "provider__rival__x" in kept
    assert len(kept) == 30
    assert json.loads((run / "providers.json").read_text())["columns"] == [told[1]]
