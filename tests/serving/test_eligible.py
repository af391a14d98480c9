"""Who may be sent what: permissions at a date, and messages nobody is sent."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.features.tables import CHANNELS, MESSAGES, PERMISSIONS, check
from hustings.features.training_set import Arm
from hustings.serving.eligible import CONSENT_CHANNELS, Eligibility, barred, eligibility

AS_OF = pd.Timestamp("2026-09-01")
DAY = pd.Timedelta(days=1)
VOTERS = pd.Series(["ann", "bob", "cyd"], dtype="str")
NEVER = pd.NaT


def messages(*rows: dict[str, Any]) -> pd.DataFrame:
    """Messages that may be sent, but for what is said otherwise."""
    sound = {
        "issue": "roads", "text": "Mend the bridge.", "sponsor": "Friends of Roads",
        "disclaimer": "Paid for by Friends of Roads", "discloses": "none",
    }  # fmt: skip
    return check(MESSAGES, pd.DataFrame([sound | row for row in rows]))


def permissions(*rows: tuple[str, str, Any, Any]) -> pd.DataFrame:
    """Rows of voter, channel, granted_at, withdrawn_at."""
    names = ["voter_id", "channel", "granted_at", "withdrawn_at"]
    frame = pd.DataFrame(rows, columns=names).assign(basis="consent")
    return check(PERMISSIONS, frame)


def who(
    channel: str, held: pd.DataFrame | None, rule_set: Any = "us_default"
) -> Eligibility:
    plain = messages({"message_id": "bridge"})
    return eligibility(
        VOTERS, [Arm("bridge", channel)], plain, held, rule_set=rule_set, as_of=AS_OF
    )


def may(channel: str, granted_at: Any, withdrawn_at: Any = NEVER) -> bool:
    """Whether ann may be sent a message, given her one permission."""
    held = permissions(("ann", channel, granted_at, withdrawn_at))
    return bool(who(channel, held).allowed[0, 0])


# --- permissions ----------------------------------------------------------------------


@pytest.mark.parametrize("channel", sorted(CONSENT_CHANNELS))
def test_texts_calls_and_emails_need_a_permission_on_record(channel: str) -> None:
    assert not who(channel, None).allowed.any()
    held = permissions(("bob", channel, AS_OF - DAY, NEVER))
    assert who(channel, held).allowed[:, 0].tolist() == [False, True, False]


def test_consent_is_asked_for_texts_calls_and_emails() -> None:
    assert {"sms", "phone", "email"} <= CONSENT_CHANNELS < set(CHANNELS)


@pytest.mark.parametrize("channel", ["mail", "door"])
def test_a_letter_or_a_visit_needs_none_but_stops_when_withdrawn(channel: str) -> None:
    assert who(channel, None).allowed.all()
    assert may(channel, NEVER)
    held = permissions(("ann", channel, NEVER, AS_OF - DAY))
    assert who(channel, held).allowed[:, 0].tolist() == [False, True, True]


def test_a_permission_for_one_channel_is_none_for_another() -> None:
    held = permissions(("ann", "email", AS_OF - DAY, NEVER))
    assert not who("sms", held).allowed.any()
    stopped = permissions(("ann", "sms", AS_OF - 2 * DAY, AS_OF - DAY))
    assert who("mail", stopped).allowed.all()


def test_a_permission_counts_from_the_as_of_date_on_which_it_is_given() -> None:
    assert may("sms", AS_OF - DAY)
    assert may("sms", AS_OF)
    assert not may("sms", AS_OF + DAY)
    assert not may("sms", NEVER)


def test_a_withdrawal_counts_from_the_as_of_date_itself() -> None:
    granted = AS_OF - 9 * DAY
    assert not may("sms", granted, AS_OF - DAY)
    assert not may("sms", granted, AS_OF)
    assert may("sms", granted, AS_OF + DAY)
    assert not may("mail", NEVER, AS_OF)
    assert may("mail", NEVER, AS_OF + DAY)


def test_a_withdrawal_during_the_as_of_date_counts() -> None:
    noon = AS_OF + pd.Timedelta(hours=12)
    assert not may("sms", AS_OF - DAY, noon)
    assert not may("mail", NEVER, noon)


def test_a_stranger_to_the_file_is_nobody_s_permission() -> None:
    held = permissions(("zoe", "sms", AS_OF - DAY, NEVER))
    assert not who("sms", held).allowed.any()


def test_voters_are_judged_in_their_own_order() -> None:
    held = permissions(("cyd", "sms", AS_OF, NEVER), ("ann", "sms", AS_OF, NEVER))
    assert who("sms", held).allowed[:, 0].tolist() == [True, False, True]


# --- messages -------------------------------------------------------------------------


@pytest.mark.parametrize("discloses", ["household", "others"])
def test_a_message_that_shows_another_s_record_goes_to_nobody(discloses: str) -> None:
    shown = messages({"message_id": "shame", "discloses": discloses})
    found = eligibility(
        VOTERS, [Arm("shame", "mail")], shown, None, rule_set="us_default", as_of=AS_OF
    )
    assert not found.allowed.any()
    assert discloses in found.barred_messages["shame"]


@pytest.mark.parametrize("discloses", ["none", "recipient"])
def test_a_message_that_shows_at_most_one_s_own_record_may_go(discloses: str) -> None:
    shown = messages({"message_id": "own", "discloses": discloses})
    assert barred(shown, rule_set="us_default") == {}


@pytest.mark.parametrize("column", ["sponsor", "disclaimer"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_message_without_sponsor_or_disclaimer_goes_to_nobody(
    column: str, value: str | None
) -> None:
    assert set(
        barred(
            messages({"message_id": "a", column: value}, {"message_id": "b"}),
            rule_set="us_default",
        )
    ) == {"a"}


def test_a_table_without_sponsors_bars_every_message() -> None:
    bare = messages({"message_id": "a"}).drop(columns="sponsor")
    assert set(barred(bare, rule_set="us_default")) == {"a"}


def test_a_message_measured_to_lower_turnout_goes_to_nobody() -> None:
    both = messages({"message_id": "bad"}, {"message_id": "good"})
    found = eligibility(
        VOTERS, [Arm("bad", "mail"), Arm("good", "mail")], both, None,
        rule_set="us_default", as_of=AS_OF, lowers_turnout=frozenset({"bad"}),
    )  # fmt: skip
    assert not found.allowed[:, 0].any()
    assert found.allowed[:, 1].all()
    assert "turnout" in found.barred_messages["bad"]


def test_a_barred_message_does_not_bar_its_neighbour_in_the_table() -> None:
    arms = [Arm("shame", "mail"), Arm("bridge", "mail"), Arm("bridge", "sms")]
    rows = messages({"message_id": "shame", "discloses": "others"},
                    {"message_id": "bridge"})  # fmt: skip
    held = permissions(("bob", "sms", AS_OF, NEVER))
    found = eligibility(VOTERS, arms, rows, held, rule_set="us_default", as_of=AS_OF)
    expected = [[False, True, False], [False, True, True], [False, True, False]]
    assert found.allowed.tolist() == expected


# --- research, and what is told -------------------------------------------------------


def test_research_replay_allows_everything() -> None:
    rows = messages({"message_id": "shame", "discloses": "others", "sponsor": None})
    arms = [Arm("shame", channel) for channel in ("mail", "sms", "phone")]
    found = eligibility(
        VOTERS, arms, rows, permissions(("ann", "sms", NEVER, AS_OF - DAY)),
        rule_set="research_replay", as_of=AS_OF, lowers_turnout=frozenset({"shame"}),
    )  # fmt: skip
    assert found.allowed.all()
    assert found.reason_counts() == []


def test_every_refusal_is_counted_by_its_reason() -> None:
    rows = messages({"message_id": "shame", "discloses": "others"},
                    {"message_id": "bridge"})  # fmt: skip
    arms = [Arm(m, c) for m in ("shame", "bridge") for c in ("sms", "mail")]
    held = permissions(
        ("ann", "sms", AS_OF - 9 * DAY, AS_OF - DAY), ("bob", "sms", AS_OF, NEVER),
        ("cyd", "mail", NEVER, AS_OF),
    )  # fmt: skip
    found = eligibility(VOTERS, arms, rows, held, rule_set="us_default", as_of=AS_OF)
    assert {row["reason"]: row["n_voters"] for row in found.reason_counts()} == {
        "message shame: discloses the record of others": 3,
        "mail: permission withdrawn": 1,
        "sms: permission withdrawn": 1,
        "sms: no permission on record": 1,
    }
    assert np.count_nonzero(found.allowed) == 1 + 2


def test_a_barred_message_that_no_arm_sends_is_not_told() -> None:
    rows = messages({"message_id": "shame", "discloses": "others"},
                    {"message_id": "bridge"})  # fmt: skip
    found = eligibility(
        VOTERS, [Arm("bridge", "mail")], rows, None, rule_set="us_default", as_of=AS_OF
    )
    assert found.reason_counts() == []
