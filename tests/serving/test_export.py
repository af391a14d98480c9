"""A locked plan leaves whole or not at all, and every contact is accounted for."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pandas as pd
import pytest

from hustings.features.lock import LockedError
from hustings.serving.export import CHANNELS, ExportError, Planned
from hustings.serving.export.folder import (
    altered,
    earlier_status,
    exports_of,
    write_csv,
)
from tests.serving.exports import (
    AT,
    DAY,
    SECRETS,
    all_may,
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


@pytest.fixture(scope="module")
def planned() -> Planned:
    """A plan whose voters' addresses are declared."""
    bare = plan_of()
    return replace(bare, details=details_of(bare))


@pytest.fixture(scope="module", params=sorted(CHANNELS))
def by_channel(request: pytest.FixtureRequest) -> Planned:
    """A plan by one channel, any that there is."""
    bare = plan_of(channels=[request.param])
    return replace(bare, details=details_of(bare))


def everything_in(folder: Path) -> str:
    """Every text in every file, Parquet read."""
    texts = [path.name for path in folder.rglob("*")]
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            texts.append(pd.read_parquet(path).to_csv())
        elif path.is_file():
            texts.append(path.read_text(encoding="utf-8"))
    return "\n".join(texts)


# --- what keeps a plan from leaving ---------------------------------------------------


def test_of_nothing_and_something_joined_only_what_is_there_is_written() -> None:
    """A column of an empty table and of one without it has an empty chunk first."""
    nothing = pd.DataFrame({"channel": [], "code": [], "n": []}).astype(
        {"channel": "str", "code": "str", "n": "int64"}
    )
    some = pd.DataFrame([{"code": "refused", "n": 360}])
    joined = pd.concat([nothing, some], ignore_index=True)
    for _ in range(3):
        file = BytesIO()
        write_csv(joined, file)
        assert file.getvalue() == b"channel,code,n\n,refused,360\n"


def test_a_replay_campaign_never_exports(planned: Planned, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="evaluates and never exports"):
        export(planned, tmp_path, terms=terms_of(rule_set="research_replay"))
    assert not names(tmp_path, "")


@pytest.mark.parametrize("state", ["draft", "approved", "returned", "cancelled"])
def test_only_a_locked_plan_leaves(
    planned: Planned, tmp_path: Path, state: str
) -> None:
    with pytest.raises(ExportError, match=f"locked plan, got one that is {state}"):
        export(replace(planned, state=state), tmp_path)
    assert not list(tmp_path.glob("*/*"))


def test_a_plan_with_somebody_held_out_does_not_leave(
    planned: Planned, tmp_path: Path
) -> None:
    assignments = planned.assignments.copy()
    assignments.loc[3, "role"] = "holdout"
    with pytest.raises(
        ExportError, match="no contact of a voter who is held out, got 1"
    ):
        export(replace(planned, assignments=assignments), tmp_path)


def test_a_contact_without_its_propensity_does_not_leave(
    planned: Planned, tmp_path: Path
) -> None:
    assignments = planned.assignments.copy()
    assignments.loc[3, "message_id"] = "jobs, no"
    with pytest.raises(
        ExportError, match="an assignment of every contact, got none of 1"
    ):
        export(replace(planned, assignments=assignments), tmp_path)


def test_no_voter_held_out_is_in_any_file(by_channel: Planned, tmp_path: Path) -> None:
    found = export(by_channel, tmp_path, terms=terms_of(exclude_holdout=False))
    assert found.folder is not None
    text = everything_in(found.folder)
    assert not any(who in text for who in by_channel.held)
    assert "jobs" in text


# --- lists ----------------------------------------------------------------------------


def test_a_list_has_ids_alone_unless_addresses_are_declared(
    planned: Planned, tmp_path: Path
) -> None:
    found = export(replace(planned, details=None), tmp_path, channels=["mail"])
    assert found.folder is not None
    rows = read(found.folder / "mail-2026-09-08.csv")
    assert list(rows) == [
        "voter_id", "message_id", "channel", "send_on", "send_from", "send_until",
        "title", "disclaimer",
    ]  # fmt: skip
    assert not any(secret in everything_in(found.folder) for secret in SECRETS)


def test_lists_hold_what_was_planned_by_channel_and_day(
    planned: Planned, tmp_path: Path
) -> None:
    found = export(planned, tmp_path, channels=["mail", "phone"])
    assert found.folder is not None
    told = planned.plan[planned.plan["channel"].isin(["mail", "phone"])]
    listed = []
    for (channel, day), mine in told.groupby(["channel", "send_on"]):
        rows = read(found.folder / f"{channel}-{day:%Y-%m-%d}.csv")
        assert rows["voter_id"].tolist() == mine["voter_id"].tolist()
        assert rows["message_id"].tolist() == mine["message_id"].tolist()
        listed.append(rows)
    calls = listed[-1]
    assert set(calls["send_from"]) == {"08:00"}
    assert set(calls["send_until"]) == {"21:00"}
    fair = calls.loc[calls["message_id"] == "trade, fair", "disclaimer"]
    assert set(fair) == {'Paid for by "Fair, Inc."'}
    assert calls["phone"].str.startswith("+1650555").all()
    assert "address" not in calls
    assert "address" in listed[0]


def test_parquet_lists_are_the_csv_ones(planned: Planned, tmp_path: Path) -> None:
    as_csv = export(planned, tmp_path / "a", channels=["mail"]).folder
    terms = terms_of(file_format="parquet")
    as_parquet = export(planned, tmp_path / "b", channels=["mail"], terms=terms).folder
    assert as_csv is not None
    assert as_parquet is not None
    one = read(as_csv / "mail-2026-09-08.csv")
    other = pd.read_parquet(as_parquet / "mail-2026-09-08.parquet")
    pd.testing.assert_frame_equal(one, other, check_dtype=False)


def test_who_has_no_address_of_the_channel_is_refused(
    planned: Planned, tmp_path: Path
) -> None:
    assert planned.details is not None
    gap = planned.details.copy()
    gap.loc[[0, 4], "address"] = None
    found = export(replace(planned, details=gap), tmp_path, channels=["mail"])
    assert manifest(found)["refused"] == {"no_address": 2}
    assert found.folder is not None
    assert voter(0) not in (found.folder / "mail-2026-09-08.csv").read_text()


# --- the account ----------------------------------------------------------------------


def test_planned_is_exported_plus_refused_by_channel_day_and_message(
    by_channel: Planned, tmp_path: Path
) -> None:
    recheck = refusing("paused", message_id="jobs")
    found = export(by_channel, tmp_path, recheck=recheck)
    counted = found.reconciliation
    key = ["channel", "send_on", "message_id"]
    sums = counted.groupby(key)["n"].sum()
    assert sums.to_dict() == by_channel.plan.groupby(key).size().to_dict()
    assert set(counted.loc[counted["message_id"] == "jobs", "code"]) == {"paused"}
    told = manifest(found)
    assert told["planned"] == told["exported"] + sum(told["refused"].values())  # type: ignore[attr-defined,operator]
    assert told["planned"] == len(by_channel.plan)


def test_the_files_hold_as_many_contacts_as_the_account_says(
    by_channel: Planned, tmp_path: Path
) -> None:
    recheck = refusing("withdrawn", voter_id=voter(1))
    found = export(by_channel, tmp_path, recheck=recheck)
    assert found.folder is not None
    (channel,) = by_channel.plan["channel"].unique()
    lists = [
        read(found.folder / name)
        for start in (channel, "audience", "places")
        for name in names(found.folder, start)
    ]
    n = sum(
        int(rows["n_planned"].astype(int).sum()) if "n_planned" in rows else len(rows)
        for rows in lists
    )
    assert n == manifest(found)["exported"] == len(by_channel.plan) - 1
    ids = pd.concat(lists).get("voter_id", pd.Series(dtype=object))
    assert voter(1) not in set(ids)


def test_files_that_do_not_agree_with_the_account_leave_nothing(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hustings.serving.export import lists

    whole: Callable[[pd.DataFrame], pd.DataFrame] = lists.counts_of
    monkeypatch.setattr(lists, "counts_of", lambda c: whole(c.iloc[1:]))
    with pytest.raises(
        ExportError, match=r"mail, 2026-09-08.*jobs: expected 50 contacts"
    ):
        export(planned, tmp_path)
    assert not list(tmp_path.glob("1*"))


def test_every_file_stands_in_the_manifest_with_its_digest(
    by_channel: Planned, tmp_path: Path
) -> None:
    found = export(by_channel, tmp_path)
    assert found.folder is not None
    told = {row["file"] for row in manifest(found)["files"]}  # type: ignore[attr-defined]
    assert told == {path.name for path in found.folder.iterdir()} - {"manifest.json"}
    assert altered(found.folder) == []
    first = next(path for path in sorted(found.folder.glob("*.csv")))
    first.write_bytes(first.read_bytes() + b"x")
    assert altered(found.folder) == [first.name]


def test_what_is_no_address_is_refused_and_counted(
    planned: Planned, tmp_path: Path
) -> None:
    """Ten telephones, two streets and an e-mail that are none, as files have them."""
    assert planned.details is not None
    details = planned.details.set_index("voter_id")
    calls = planned.plan.query("channel == 'phone'")["voter_id"].tolist()[:11]
    numbers = ["6505551212", "(650) 555-1213", "6505551214.0", "N/A", "none",
               "0000000000", "555-1212", "unknown", "6.505551215E9", "6.5E9",
               None]  # fmt: skip
    details.loc[calls, "phone"] = numbers
    letters = planned.plan.query("channel == 'mail'")["voter_id"].tolist()[:3]
    details.loc[letters, "address"] = ["N/A", "0", "  "]
    found = export(
        replace(planned, details=details.reset_index()), tmp_path,
        channels=["mail", "phone"],
    )  # fmt: skip
    assert manifest(found)["planned"] == manifest(found)["exported"] + 10
    assert manifest(found)["refused"] == {"no_address": 10}
    assert manifest(found)["values_that_are_no_address"] == {"mail": 3, "phone": 6}
    assert found.folder is not None
    lists = [read(found.folder / name) for name in names(found.folder, "phone")]
    on_list = pd.concat(lists).set_index("voter_id")["phone"]
    assert [on_list.get(v) for v in calls] == [
        "+16505551212", "+16505551213", "+16505551214", None, None, None, None, None,
        "+16505551215", None, None,
    ]  # fmt: skip
    assert on_list.str.fullmatch(r"\+1\d{10}").all()


def test_no_cell_of_a_list_is_a_formula(planned: Planned, tmp_path: Path) -> None:
    """A name that a spreadsheet would run; telephones and numbers stay as they are."""
    assert planned.details is not None
    formulas = ['=HYPERLINK("http://x.example","y")', "@SUM(1)", "+A1", "-2+3+cmd|' /C"]
    on_list = planned.plan.query("channel == 'phone'")["voter_id"].tolist()[:4]
    details = planned.details.set_index("voter_id")
    details.loc[on_list, "name"] = formulas
    found = export(
        replace(planned, details=details.reset_index()), tmp_path, channels=["phone"]
    )
    assert found.folder is not None
    rows = pd.concat([read(found.folder / n) for n in names(found.folder, "phone")])
    named = rows.set_index("voter_id")
    assert named.loc[on_list, "name"].tolist() == [f"'{text}" for text in formulas]
    assert named["phone"].str.fullmatch(r"\+1\d{10}").all()


def test_addresses_stand_in_lists_alone(planned: Planned, tmp_path: Path) -> None:
    found = export(planned, tmp_path)
    assert found.folder is not None
    for path in found.folder.iterdir():
        text = (
            everything_in(path) if path.is_dir() else path.read_bytes().decode("latin1")
        )
        is_list = path.name.startswith(("mail", "phone"))
        assert any(secret in text for secret in SECRETS) == is_list, path.name


def test_an_error_tells_no_address(planned: Planned, tmp_path: Path) -> None:
    def broken(contacts: pd.DataFrame, _at: pd.Timestamp) -> pd.Series:
        return all_may(contacts, _at).iloc[1:]

    with pytest.raises(ExportError, match="a reason code") as failure:
        export(planned, tmp_path, recheck=broken)
    assert not any(secret in str(failure.value) for secret in SECRETS)


# --- nothing by halves ----------------------------------------------------------------


def test_what_is_cut_off_leaves_nothing_and_the_next_clears_up(
    planned: Planned, tmp_path: Path
) -> None:
    (tmp_path / "0.partial").mkdir()
    (tmp_path / "0.partial" / "mail.csv").write_text("v0001")

    def cut_off(_contacts: pd.DataFrame, _at: pd.Timestamp) -> pd.Series:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(planned, tmp_path, recheck=cut_off)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]
    assert earlier_status(tmp_path).empty


def test_two_exports_of_a_plan_at_once_are_refused(
    planned: Planned, tmp_path: Path
) -> None:
    def meanwhile(contacts: pd.DataFrame, at: pd.Timestamp) -> pd.Series:
        with ThreadPoolExecutor(1) as other:
            second = other.submit(export, planned, tmp_path, "2")
            with pytest.raises(LockedError, match="another export of this plan"):
                second.result()
        return all_may(contacts, at)

    assert export(planned, tmp_path, recheck=meanwhile).folder == tmp_path / "1"


def test_the_sums_that_are_passed_on_tell_no_reason_of_few(
    by_channel: Planned, tmp_path: Path
) -> None:
    """What was handed out is exact; 0 to 19 contacts that were not leave no trace."""
    ids = by_channel.plan["voter_id"].tolist()
    tables = {}
    for name, (code, n) in {
        "one": ("withdrawn", 1), "some": ("dead", 19), "many": ("withdrawn", 39),
        "other": ("dead", 39),
    }.items():  # fmt: skip
        recheck = refusing(code, voter_id=ids[:n])
        folder = export(by_channel, tmp_path / name, recheck=recheck).folder
        assert folder is not None
        table = tables[name] = read(folder / "reconciliation.csv").fillna("")
        exported = table.loc[table["code"] == "", "n"].astype(int)
        assert exported.sum() == len(ids) - n
    for name in ("one", "some"):
        assert set(tables[name]["code"]) == {""}
    pd.testing.assert_frame_equal(tables["many"], tables["other"])
    (row,) = tables["many"].query("code != ''").to_dict("records")
    assert (row["code"], int(row["n"])) == ("refused", 20)


# --- after it has left ----------------------------------------------------------------


def test_who_withdraws_between_plan_and_export_is_refused(
    planned: Planned, tmp_path: Path
) -> None:
    asked = []

    def recheck(contacts: pd.DataFrame, at: pd.Timestamp) -> pd.Series:
        asked.append(at)
        return refusing("withdrawn", voter_id=[voter(0), voter(2)])(contacts, at)

    found = export(planned, tmp_path, recheck=recheck)
    assert found.folder is not None
    assert asked == [AT]
    assert manifest(found)["refused"] == {"withdrawn": 2}
    assert voter(0) not in (found.folder / "mail-2026-09-08.csv").read_text()


def test_a_second_export_removes_and_never_adds(
    planned: Planned, tmp_path: Path
) -> None:
    first = export(planned, tmp_path, recheck=refusing("withdrawn", voter_id=voter(0)))
    # the first is allowed again, two others are not: neither is added, one list follows
    recheck = refusing("withdrawn", voter_id=[voter(4), voter(404)])
    again = export(replace(planned, state="sent"), tmp_path, "2", recheck=recheck)
    assert again.folder is not None
    assert again.n_removed == 2
    assert names(again.folder, "mail") == []
    rows = [read(again.folder / n) for n in names(again.folder, "removed")]
    told = pd.concat(rows)
    assert dict(zip(told["voter_id"], told["reason"], strict=True)) == {
        voter(4): "withdrawn", voter(404): "withdrawn",
    }  # fmt: skip
    assert manifest(again)["kind"] == "delta"
    assert manifest(again)["exported"] == manifest(first)["exported"] - 2  # type: ignore[operator]
    status = earlier_status(tmp_path).set_index("voter_id")["code"]
    assert set(status[status != ""].index) == {voter(0), voter(4), voter(404)}


def test_when_nothing_changed_nothing_is_written(
    planned: Planned, tmp_path: Path
) -> None:
    export(planned, tmp_path)
    assert export(planned, tmp_path, "2").folder is None
    assert not (tmp_path / "2").exists()


def test_a_second_export_in_the_same_second_replaces_nothing(
    planned: Planned, tmp_path: Path
) -> None:
    first = export(planned, tmp_path, "1")
    assert export(planned, tmp_path, "1").folder is None
    recheck = refusing("withdrawn", voter_id=voter(4))
    second = export(replace(planned, state="sent"), tmp_path, "1", recheck=recheck)
    assert first.folder is not None
    assert altered(first.folder) == []
    assert manifest(first)["kind"] == "full"
    assert manifest(second)["kind"] == "delta"
    # in the order in which they were made
    assert exports_of(tmp_path) == [first.folder, second.folder]
    assert second.folder == tmp_path / "1-002"
    status = earlier_status(tmp_path)
    assert (status["code"] != "").sum() == 1


def test_channels_leave_one_by_one(planned: Planned, tmp_path: Path) -> None:
    export(planned, tmp_path, channels=["mail"])
    rest = export(planned, tmp_path, "2")
    assert rest.folder is not None
    assert names(rest.folder, "mail") == []
    assert len(names(rest.folder, "phone")) == 2
    assert set(earlier_status(tmp_path)["voter_id"]) == set(planned.plan["voter_id"])


def test_a_cancelled_plan_is_taken_out_whole(
    by_channel: Planned, tmp_path: Path
) -> None:
    export(by_channel, tmp_path)
    found = export(replace(by_channel, state="cancelled"), tmp_path, "2")
    assert found.n_removed == len(by_channel.plan)
    assert set(found.reconciliation["code"]) == {"cancelled"}


def test_a_plan_that_changed_after_it_left_is_refused(
    planned: Planned, tmp_path: Path
) -> None:
    export(planned, tmp_path)
    other = plan_of(796)
    with pytest.raises(
        ExportError, match="4 contacts have left that are not in the plan"
    ):
        export(replace(other, details=planned.details), tmp_path, "2")


def test_a_channel_that_nobody_described_is_refused(
    planned: Planned, tmp_path: Path
) -> None:
    terms = terms_of(channels={})
    with pytest.raises(ExportError, match=r"expected \[export.channels.mail\]"):
        export(planned, tmp_path, terms=terms)
    with pytest.raises(ExportError, match="a channel of the plan, one of mail, phone"):
        export(planned, tmp_path, channels=["door"])


def test_days_stand_as_days(planned: Planned, tmp_path: Path) -> None:
    found = export(planned, tmp_path, channels=["mail"])
    assert found.folder is not None
    rows = read(found.folder / "mail-2026-09-08.csv")
    assert set(rows["send_on"]) == {f"{DAY:%Y-%m-%d}"}
