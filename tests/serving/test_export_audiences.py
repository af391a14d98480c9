"""Audiences find those who may be found, and place lists tell of nobody."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from hustings.serving.export import (
    CHANNELS,
    ExportChannel,
    ExportError,
    Planned,
    audiences,
    settings,
)
from tests.serving.exports import (
    SECRETS,
    details_of,
    export,
    manifest,
    names,
    plan_of,
    read,
    refusing,
    terms_of,
    voter,
)

AUDIENCE = {"channels": ["social"]}


@pytest.fixture(scope="module")
def planned() -> Planned:
    """A plan whose voters' addresses are declared."""
    bare = plan_of()
    return replace(bare, details=details_of(bare))


def hash_of(text: str) -> str:
    """SHA-256, as anybody computes it."""
    return hashlib.sha256(text.encode()).hexdigest()


def rows_of(folder: Path | None, start: str) -> pd.DataFrame:
    """All rows of the files whose name begins so."""
    assert folder is not None
    return pd.concat([read(folder / name) for name in names(folder, start)])


# --- audiences ------------------------------------------------------------------------


def test_an_audience_holds_hashes_of_those_planned_and_of_nobody_else(
    planned: Planned, tmp_path: Path
) -> None:
    found = export(planned, tmp_path, **AUDIENCE)
    told = rows_of(found.folder, "audience")
    social = planned.plan.loc[planned.plan["channel"] == "social", "voter_id"]
    assert list(told) == ["email_sha256", "phone_sha256"]
    assert set(told["email_sha256"]) == {hash_of(f"{v}@mail.example") for v in social}
    held = {hash_of(f"{v}@mail.example") for v in planned.held}
    assert not held & set(told["email_sha256"])


def test_there_is_an_audience_for_each_day_and_message(
    planned: Planned, tmp_path: Path
) -> None:
    found = export(planned, tmp_path, **AUDIENCE)
    assert found.folder is not None
    files = [row for row in manifest(found)["files"] if "audience" in row["file"]]  # type: ignore[attr-defined]
    assert [(row["file"], row["messages"]) for row in files] == [
        ("audience-social-2026-09-08-01-0001.csv", ["jobs"]),
        ("audience-social-2026-09-08-02-0001.csv", ["trade, fair"]),
        ("audience-social-2026-09-09-03-0001.csv", ["jobs"]),
        ("audience-social-2026-09-09-04-0001.csv", ["trade, fair"]),
    ]


def test_batches_hold_as_many_rows_as_a_platform_takes(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.BATCH == 10_000
    monkeypatch.setattr(audiences, "BATCH", 30)
    found = export(planned, tmp_path, **AUDIENCE)
    assert found.folder is not None
    files = names(found.folder, "audience-social-2026-09-08-01")
    assert [len(read(found.folder / name)) for name in files] == [30, 20]


def test_a_small_audience_is_refused_whole(planned: Planned, tmp_path: Path) -> None:
    few = planned.plan.query("channel == 'social' and message_id == 'jobs'")
    gone = few["voter_id"].iloc[:31].tolist()  # 50 on the first day, 19 stay
    found = export(planned, tmp_path, recheck=refusing("x", voter_id=gone), **AUDIENCE)
    assert manifest(found)["refused"] == {"small_audience": 19, "x": 31}
    whole = export(
        planned, tmp_path / "b", recheck=refusing("x", voter_id=gone[1:]), **AUDIENCE
    )
    assert manifest(whole)["refused"] == {"x": 30}


def test_people_who_share_an_address_count_as_one(
    planned: Planned, tmp_path: Path
) -> None:
    assert planned.details is not None
    one = planned.details.assign(email="all@mail.example", phone="+16505550000")
    held = planned.details["voter_id"].isin(planned.held)
    one[held] = planned.details[held]
    found = export(replace(planned, details=one), tmp_path, **AUDIENCE)
    assert manifest(found)["exported"] == 0


def test_no_audience_is_smaller_than_twenty() -> None:
    with pytest.raises(ExportError, match="min_audience of 20 or more, got 19"):
        terms_of(channels={"social": ExportChannel(hashed_lists=True, min_audience=19)})
    assert all(channel.min_audience >= 20 for channel in CHANNELS.values())


def test_an_address_that_is_also_of_somebody_held_out_finds_neither(
    planned: Planned, tmp_path: Path
) -> None:
    assert planned.details is not None
    shared = planned.details.copy()
    shared.loc[2, "email"] = f" {planned.held.iloc[0].upper()}@Mail.Example"
    found = export(replace(planned, details=shared), tmp_path, **AUDIENCE)
    assert manifest(found)["refused"] == {"held_out_address": 1}
    told = rows_of(found.folder, "audience")
    assert hash_of(f"{planned.held.iloc[0]}@mail.example") not in set(
        told["email_sha256"]
    )
    assert hash_of("+16505550002") not in set(told["phone_sha256"])


def test_who_cannot_be_found_is_refused(planned: Planned, tmp_path: Path) -> None:
    assert planned.details is not None
    gap = planned.details.copy()
    gap.loc[[2, 6], "email"] = "none"
    gap.loc[2, "phone"] = "555"
    found = export(replace(planned, details=gap), tmp_path, **AUDIENCE)
    assert manifest(found)["refused"] == {"no_address": 1}


def test_without_addresses_there_is_no_audience(
    planned: Planned, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"expected \[export.contacts\]"):
        export(replace(planned, details=None), tmp_path, **AUDIENCE)


def test_the_holdout_is_handed_over_for_exclusion_only_where_declared(
    planned: Planned, tmp_path: Path
) -> None:
    found = export(planned, tmp_path, **AUDIENCE)
    assert found.folder is not None
    assert names(found.folder, "exclude") == []
    declared = terms_of(exclude_holdout=True)
    other = export(planned, tmp_path / "b", terms=declared, **AUDIENCE)
    told = rows_of(other.folder, "exclude-social")
    held = {hash_of(f"{v}@mail.example") for v in planned.held}
    assert set(told["email_sha256"]) == held
    assert manifest(other)["exported"] == manifest(found)["exported"]


def test_columns_and_telephones_are_written_as_a_platform_takes_them(
    planned: Planned, tmp_path: Path
) -> None:
    named = terms_of(
        audience_fields=("phone",), audience_columns={"phone": "PH"}, phone_plus=False
    )
    found = export(planned, tmp_path, terms=named, **AUDIENCE)
    told = rows_of(found.folder, "audience")
    assert list(told) == ["PH"]
    assert hash_of("16505550002") in set(told["PH"])


def test_who_withdraws_is_told_to_the_platform_by_hash(
    planned: Planned, tmp_path: Path
) -> None:
    export(planned, tmp_path, **AUDIENCE)
    gone = refusing("withdrawn", voter_id=voter(2))
    again = export(planned, tmp_path, "2", recheck=gone, **AUDIENCE)
    told = rows_of(again.folder, "removed")
    assert told["email_sha256"].tolist() == [hash_of("v0002@mail.example")]


# --- places ---------------------------------------------------------------------------


def test_a_place_list_has_cells_and_no_person(planned: Planned, tmp_path: Path) -> None:
    found = export(planned, tmp_path, channels=["web"])
    told = rows_of(found.folder, "places")
    assert list(told) == [
        "channel", "send_on", "message_id", "place", "age_band", "sex", "n_planned",
        "planned_usd", "n_voters", "n_held_out",
    ]  # fmt: skip
    assert set(told["n_planned"]) == {"25"}  # 200 on two days, two messages, two ages
    assert set(told["planned_usd"]) == {"12.5"}
    assert set(told["age_band"]) == {"25-34", "65+"}
    assert told["n_voters"].astype(int).iloc[:2].sum() == len(planned.voters)
    assert told["n_held_out"].astype(int).iloc[:2].sum() == len(planned.held)
    text = told.to_csv()
    assert not any(secret in text for secret in (*SECRETS, "v0"))


def test_a_small_cell_is_refused(planned: Planned, tmp_path: Path) -> None:
    young = planned.voters["age"] == 30.0
    web = planned.plan.query("channel == 'web' and message_id == 'jobs'")
    gone = web.loc[web["voter_id"].isin(planned.voters.loc[young, "voter_id"])]
    six = gone["voter_id"].iloc[:6].tolist()
    found = export(
        planned, tmp_path, channels=["web"], recheck=refusing("x", voter_id=six)
    )
    assert manifest(found)["refused"] == {"small_cell": 19, "x": 6}
    assert rows_of(found.folder, "places")["n_planned"].astype(int).min() >= 20


def test_who_has_no_age_is_in_no_cell(planned: Planned, tmp_path: Path) -> None:
    voters = planned.voters.copy()
    voters.loc[3, "age"] = None
    found = export(replace(planned, voters=voters), tmp_path, channels=["web"])
    assert manifest(found)["refused"] == {"small_cell": 1}


def test_a_cell_that_somebody_left_is_told_as_it_is_now(
    planned: Planned, tmp_path: Path
) -> None:
    export(planned, tmp_path, channels=["web"])
    one = export(
        planned, tmp_path, "2", channels=["web"],
        recheck=refusing("withdrawn", voter_id=voter(3)),
    )  # fmt: skip
    told = rows_of(one.folder, "changed-places")
    assert told["n_planned"].tolist() == ["24"]
    assert told["planned_usd"].tolist() == ["12"]
    assert one.n_removed == 1


def test_a_cell_that_became_too_small_is_emptied(
    planned: Planned, tmp_path: Path
) -> None:
    export(planned, tmp_path, channels=["web"])
    web = planned.plan.query("channel == 'web' and message_id == 'jobs'")
    young = planned.voters.loc[planned.voters["age"] == 30.0, "voter_id"]
    six = web.loc[web["voter_id"].isin(young), "voter_id"].iloc[:6].tolist()
    found = export(
        planned, tmp_path, "2", channels=["web"],
        recheck=refusing("withdrawn", voter_id=six),
    )  # fmt: skip
    told = rows_of(found.folder, "changed-places")
    assert told[["n_planned", "planned_usd"]].to_numpy().tolist() == [["0", "0"]]
    assert found.n_removed == 25
    assert manifest(found)["refused"] == {"small_cell": 19, "withdrawn": 6}
