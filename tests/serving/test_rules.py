"""Every rule of every rule set: with it nobody is sent, without it somebody is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.features.tables import (
    ADDRESSES,
    DO_NOT_CONTACT,
    MESSAGES,
    PERMISSIONS,
    check,
)
from hustings.features.training_set import Arm
from hustings.serving import eligible
from hustings.serving.eligible import (
    CurrentFacts,
    People,
    barred_codes,
    eligibility,
    recheck,
    refusals,
    send_window,
)
from hustings.serving.rules import (
    NAMES,
    WORDS,
    RuleError,
    RuleSet,
    parse_rules,
    platforms,
    rule_set,
)
from hustings.serving.voting_text import text_digest

NOW = pd.Timestamp("2026-09-10 12:00")
VOTERS = pd.Series(["ann"], dtype="str")
GRANTED = pd.Timestamp("2026-01-01")


def messages(**said: Any) -> pd.DataFrame:
    sound = {
        "message_id": "bridge", "issue": "roads", "text": "Mend the bridge.",
        "sponsor": "Friends of Roads", "disclaimer": "Paid for by Friends of Roads",
        "discloses": "none",
    }  # fmt: skip
    return check(MESSAGES, pd.DataFrame([sound | said]))


def permitted(**said: Any) -> pd.DataFrame:
    row = {
        "voter_id": "ann", "channel": "sms", "basis": "consent", "granted_at": GRANTED,
        "withdrawn_at": pd.NaT, "purpose": "political_targeting",
    }  # fmt: skip
    return check(PERMISSIONS, pd.DataFrame([row | said]))


REACHED = check(ADDRESSES, pd.DataFrame({"voter_id": ["ann"], "channel": "sms"}))
SOUND = CurrentFacts(
    messages=messages(),
    permissions=permitted(),
    rules=rule_set("us_default"),
    people=People(
        age=pd.Series({"ann": 40.0}),
        addresses=check(
            ADDRESSES, pd.DataFrame({"voter_id": ["ann"], "channel": "sms"})
        ),
    ),
)
LISTED = check(DO_NOT_CONTACT, pd.DataFrame({"voter_id": ["ann"], "channel": ["*"]}))

BREACHES: dict[str, dict[str, Any]] = {
    "no_permission": {"permissions": None},
    "no_separate_consent": {"permissions": permitted(purpose="newsletter")},
    "withdrawn": {"permissions": permitted(withdrawn_at=NOW)},
    "do_not_contact": {"people": replace(SOUND.people, do_not_contact=LISTED)},
    "already_voted": {
        "people": replace(SOUND.people, voted=pd.DataFrame({"voter_id": ["ann"]}))
    },
    "under_age": {"people": replace(SOUND.people, age=pd.Series({"ann": 16.0}))},
    "no_address": {
        "people": replace(SOUND.people, addresses=SOUND.people.addresses.iloc[:0])
    },
    "no_sponsor": {"messages": messages(disclaimer=None)},
    "discloses": {"messages": messages(discloses="others")},
    "lowers_turnout": {"lowers_turnout": frozenset({"bridge"})},
    "unsigned": {"messages": messages(text="Vote by text on Wednesday.")},
    "paused": {"paused": {"bridge": "by a person"}},
}
CASES = [
    (name, code)
    for name in NAMES
    for code in dict.fromkeys(rule.code for rule in rule_set(name).rules)
    if code in BREACHES
]


def sent(facts: CurrentFacts) -> str:
    contacts = pd.DataFrame(
        {"voter_id": ["ann"], "message_id": "bridge", "channel": "sms"}
    )
    return str(recheck(contacts, facts, NOW).iloc[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_contact_may_go_under_every_rule_set(name: str) -> None:
    assert sent(replace(SOUND, rules=rule_set(name))) == ""


@pytest.mark.parametrize(("name", "code"), CASES)
def test_each_rule_stops_a_contact_and_only_that_rule_does(
    name: str, code: str
) -> None:
    broken = replace(SOUND, rules=rule_set(name), **BREACHES[code])
    assert sent(broken) == code
    assert sent(replace(broken, rules=rule_set(name).without(code))) == ""


@pytest.mark.parametrize(("name", "code"), CASES)
def test_what_may_not_go_is_not_planned_either(
    name: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = replace(SOUND, **BREACHES[code])

    def allowed(rules: RuleSet) -> bool:
        monkeypatch.setattr(eligible, "_known_rule_set", lambda _: rules)
        found = eligibility(
            VOTERS, [Arm("bridge", "sms")], broken.messages, broken.permissions,
            rule_set="us_default", as_of=NOW, lowers_turnout=broken.lowers_turnout,
            paused=broken.paused, people=broken.people, signed=broken.signed,
        )  # fmt: skip
        return bool(found.allowed[0, 0])

    assert not allowed(rule_set(name))
    assert allowed(rule_set(name).without(code))


def test_a_message_is_told_every_reason_that_bars_it() -> None:
    both = messages(disclaimer=None, discloses="household")
    assert set(barred_codes(both, rule_set("us_default"))["bridge"]) == {
        "no_sponsor", "discloses"
    }  # fmt: skip


# --- when -----------------------------------------------------------------------------


def test_a_list_says_between_which_hours_it_may_go() -> None:
    assert send_window(rule_set("us_default"), "phone") == (8, 21)
    assert send_window(rule_set("us_default"), "mail") == (0, 24)
    hushed = rule_set("us_default").without("quiet_hours")
    assert send_window(hushed, "phone") == (0, 24)


def test_a_stop_of_the_same_day_counts_and_a_grant_of_tomorrow_does_not() -> None:
    late = NOW.normalize() + pd.Timedelta(hours=23)
    assert sent(replace(SOUND, permissions=permitted(withdrawn_at=late))) == "withdrawn"
    tomorrow = permitted(granted_at=NOW + pd.Timedelta(days=1))
    assert sent(replace(SOUND, permissions=tomorrow)) == "no_permission"


def test_who_is_no_voter_any_more_is_not_contacted() -> None:
    assert sent(replace(SOUND, known_voters=frozenset({"bob"}))) == "unknown_person"


def test_an_age_that_nobody_knows_is_refused_where_the_law_asks_for_certainty() -> None:
    unknown = replace(SOUND.people, age=pd.Series({"ann": np.nan}))
    assert sent(replace(SOUND, people=unknown)) == ""
    strict = replace(SOUND, people=unknown, rules=rule_set("eu_2024_900"))
    assert sent(strict) == "under_age"


def test_what_is_not_known_of_addresses_is_not_inferred() -> None:
    found = refusals(VOTERS, "sms", permitted(), People(), rule_set("us_default"), NOW)
    assert not found["no_address"].any()


# --- texts about voting ---------------------------------------------------------------


def test_a_signature_is_of_the_words_that_were_signed() -> None:
    text = "Bring a photo ID to vote."
    held = replace(SOUND, messages=messages(text=text))
    assert sent(held) == "unsigned"
    signed = replace(held, signed=frozenset({text_digest(text)}))
    assert sent(signed) == ""
    changed = messages(text="Bring a passport or a photo ID to vote.")
    assert sent(replace(signed, messages=changed)) == "unsigned"


@pytest.mark.parametrize(
    "text",
    [
        "Election Day has been moved to Wednesday.",
        "Your polling place is the Lincoln school.",
        "Vote by text: send DANA to 12345.",
        "Mail ballots must be postmarked by October 30.",
        "Polls close at 7 pm.",
        "You need a photo ID to vote.",
        "Felons cannot vote in this state.",
        "Vote on November 3rd.",
    ],
)
def test_texts_about_when_where_and_how_to_vote_are_held(text: str) -> None:
    assert sent(replace(SOUND, messages=messages(text=text))) == "unsigned"


@pytest.mark.parametrize(
    "text",
    [
        "Dana Whitlock will cap insulin at thirty-five dollars.",
        "Vote for smaller classes and more teachers.",
        "He voted against the bridge in May.",
        "She knows how long a short week is.",
    ],
)
def test_plain_campaign_texts_are_not_held(text: str) -> None:
    assert sent(replace(SOUND, messages=messages(text=text))) == ""


# --- the files ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_has_its_source_its_digest_and_words(name: str) -> None:
    for rule in rule_set(name).rules:
        assert rule.source
        assert rule.digest
        assert rule.code in WORDS


def test_only_a_replay_never_exports() -> None:
    assert [n for n in NAMES if not rule_set(n).exports] == ["research_replay"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name = 'x'", "about"),
        ("name = ", "not valid TOML"),
        (
            "name='x'\nabout='x'\nexports=true\n[[rules]]\ncode='odd'\n"
            "requires='age'\nsource='s'\ndigest='d'\nread_on=2026-01-01",
            "a code that has words",
        ),
        (
            "name='x'\nabout='x'\nexports=true\n[[rules]]\ncode='under_age'\n"
            "requires='age'\nsource=''\ndigest='d'\nread_on=2026-01-01",
            "rules.0.source",
        ),
    ],
)
def test_a_wrong_rule_set_is_told_with_its_file(text: str, told: str) -> None:
    with pytest.raises(RuleError, match=rf"mine.toml: .*{told}"):
        parse_rules(text, file="mine.toml")


def test_a_rule_set_that_there_is_not_is_told() -> None:
    with pytest.raises(RuleError, match="expected one of us_default"):
        rule_set("mine")


def test_channels_without_lists_of_people_say_what_they_take() -> None:
    assert platforms()["web"].keys == ("place", "age_band", "sex")
    assert platforms()["web"].min_audience >= 20
