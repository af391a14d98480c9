"""Which table of a campaign a file is, and its columns → a mapping.

Read off the header and the values: an id of a voter beside a message is a delivery,
beside a value a response, beside a channel a permission.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from hustings.features.draft.heads import FileHead, named_like
from hustings.features.draft.looks import MOST, levels
from hustings.features.draft.voters import date_entry, entry, text
from hustings.features.tables import CHANNELS, CONTROL, NO_CHANNEL, RAW_TABLES

VOTES = "votes"
"""A file of past votes, one row for each: no table of a campaign."""
MOST_ARMS = 200
SHORTEST_TEXT = 25

VOTER_NAMES = (
    "voter_id", "voterid", "van_id", "vanid", "voter_file_vanid", "sos_voterid",
    "state_voter_id", "ncid", "lalvoterid", "voterbase_id", "vuid", "sboeid", "voter",
    "registration_number", "voter_registration_number", "person_id",
)  # fmt: skip
_MESSAGE = (
    "message_id", "messageid", "message", "arm", "treatment", "treatment_arm",
    "variant",
    "condition", "letter", "script", "creative", "mailer", "version", "message_name",
    "assignment", "group", "treatment_group",
)  # fmt: skip
_TEXT = (
    "text",
    "message_text",
    "body",
    "copy",
    "wording",
    "content",
    "script",
    "message",
)
_CHANNEL = (
    "channel",
    "medium",
    "mode",
    "contact_type",
    "method",
    "via",
    "contact_method",
)
_SENT = (
    "sent_on", "sent_at", "sent", "sent_date", "date_sent", "send_date", "delivered_on",
    "delivery_date", "mail_date", "in_home_date", "contact_date", "date",
    "contacted_at",
)  # fmt: skip
_OBSERVED = (
    "observed_at", "observed_on", "answered_at", "answered_on", "response_date",
    "responded_at", "survey_date", "interview_date", "date", "completed_at",
    "submitted_at", "timestamp", "end_date",
)  # fmt: skip
_VALUE = (
    "value", "response", "answer", "outcome_value", "result", "score", "support",
    "rating", "voted", "turnout", "outcome", "y",
)  # fmt: skip
_EXPERIMENT = ("experiment_id", "experiment", "test_id", "test", "study", "wave")
_BLOCK = ("block", "stratum", "strata")
_PROBABILITY = (
    "probability",
    "propensity",
    "prob",
    "p",
    "share",
    "assignment_probability",
)
_COST = (
    "cost_usd",
    "cost",
    "price",
    "unit_cost",
    "cost_per_contact",
    "price_usd",
    "usd",
)
_BASIS = (
    "basis",
    "lawful_basis",
    "legal_basis",
    "consent_basis",
    "permission",
    "consent",
)
_GRANTED = ("granted_at", "granted_on", "granted", "consent_date", "opt_in_date",
            "opted_in_at", "since", "date")  # fmt: skip
_WITHDRAWN = ("withdrawn_at", "withdrawn_on", "withdrawn", "opt_out_date", "revoked_at",
              "opted_out_at", "until")  # fmt: skip
_ELECTION = (
    "election_lbl",
    "election_date",
    "election_desc",
    "election",
    "election_type",
)
_NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "messages": {
        "message_id": ("message_id", "messageid", "id", "name", "message_name", "code",
                       "letter", "variant", "message"),
        "title": ("title", "message_title", "headline", "label"),
        "issue": ("issue", "topic", "theme", "subject"),
        "stance": ("stance", "position"),
        "text": _TEXT,
        "sponsor": ("sponsor", "paid_by", "payer", "committee"),
        "disclaimer": ("disclaimer", "paid_for_by", "disclosure"),
        "discloses": ("discloses",),
    },
    "designs": {
        "experiment_id": _EXPERIMENT, "block": _BLOCK, "message_id": _MESSAGE,
        "channel": _CHANNEL, "probability": _PROBABILITY,
    },
    "deliveries": {
        "voter_id": VOTER_NAMES, "experiment_id": _EXPERIMENT, "plan_id": ("plan_id",),
        "block": _BLOCK, "message_id": _MESSAGE, "channel": _CHANNEL, "sent_on": _SENT,
        "propensity": _PROBABILITY, "randomised_by": ("randomised_by", "randomized_by"),
    },
    "responses": {
        "voter_id": VOTER_NAMES, "experiment_id": _EXPERIMENT, "plan_id": ("plan_id",),
        "outcome": ("outcome", "question", "measure", "item"), "value": _VALUE,
        "observed_at": _OBSERVED, "weight": ("weight", "survey_weight"),
    },
    "permissions": {
        "voter_id": VOTER_NAMES, "channel": _CHANNEL, "basis": _BASIS,
        "granted_at": _GRANTED, "withdrawn_at": _WITHDRAWN,
        "purpose": ("purpose",),
    },
    "do_not_contact": {
        "voter_id": VOTER_NAMES, "channel": _CHANNEL,
        "since": ("since", "date", "requested_at", "opt_out_date", "added_on"),
    },
    "addresses": {"voter_id": VOTER_NAMES, "channel": _CHANNEL},
    "costs": {
        "message_id": _MESSAGE, "channel": _CHANNEL, "cost_usd": _COST,
        "capacity_per_day": ("capacity_per_day", "capacity", "daily_capacity"),
    },
    "merges": {
        "voter_id": ("voter_id", "old_id", "former_id", "old_voter_id", "from_id"),
        "merged_into": ("merged_into", "new_id", "new_voter_id", "into", "to_id"),
        "merged_on": ("merged_on", "merged_at", "date"),
    },
}  # fmt: skip
_WORDS_OF_CHANNEL = {
    "mail": "mail letter postcard post direct_mail mailer flyer usps",
    "sms": "sms text text_message texting p2p mms",
    "phone": "phone call telephone phone_call calls ivr live_call",
    "email": "email e_mail mail_electronic",
    "door": "door canvass walk door_knock knock canvassing in_person field",
    "social": "social facebook instagram meta x twitter tiktok youtube",
    "web": "web online website display digital",
    "survey": "survey questionnaire poll",
}
_CHANNEL_OF = {w: c for c, words in _WORDS_OF_CHANNEL.items() for w in words.split()}
_NONE_OF_CHANNEL = frozenset(["", "none", "no", "na", "n_a", "control", "null"])
_CONTROL_OF = frozenset(
    ["control", "ctrl", "none", "no_message", "no_contact", "no_postcard", "holdout",
     "placebo_none", "untreated", "no_treatment", "c", "0", ""]
)  # fmt: skip
_FOR_ALL = {
    ("costs", "message_id"): "one price for all messages",
    ("do_not_contact", "channel"): "no column names a channel: none is to be used",
}
_NOT_TO_CONTACT = re.compile(r"do_?not|dnc|opt_?out|suppress|stop")
_DATES = frozenset(
    ["sent_on", "observed_at", "granted_at", "withdrawn_at", "since", "merged_on"]
)


@dataclass(frozen=True)
class MappedColumn:
    """One of our columns in a file.

    Attributes:
        ours: The column.
        entry: Right-hand side, as TOML.
        reason: Why.
        question: What a person has to say; empty where the guess stands.
    """

    ours: str
    entry: str
    reason: str
    question: str = ""


def kind_of_file(head: FileHead) -> str:
    """The table that a file seems to be; "" where it is none that is known."""
    has = {
        name: bool(named_like(head, *names))
        for name, names in {
            "voter": VOTER_NAMES, "message": _MESSAGE, "channel": _CHANNEL,
            "value": _VALUE, "probability": _PROBABILITY, "cost": _COST,
            "basis": (*_BASIS, *_GRANTED[:6], *_WITHDRAWN),
            "election": _ELECTION, "into": ("merged_into", "new_id", "new_voter_id"),
        }.items()
    }  # fmt: skip
    if head.layout is not None and len(head.columns) > len(head.layout.columns):
        return "voters"
    if has["into"]:
        return "merges"
    if has["election"] and len(head.columns) < 20:
        return VOTES
    if not has["voter"]:
        return _without_voters(head, has)
    if _NOT_TO_CONTACT.search(head.path.name.lower()) and len(head.columns) < 6:
        return "do_not_contact"
    if has["channel"] and not has["message"] and not has["value"]:
        if has["basis"]:
            return "permissions"
        return "addresses" if len(head.columns) <= 3 else ""
    if len(head.columns) > 12 or named_like(head, "age", "party", "sex", "gender"):
        return "voters"
    if has["message"]:
        return "deliveries"
    return "responses" if has["value"] or _only_number(head) else "voters"


def _without_voters(head: FileHead, has: Mapping[str, bool]) -> str:
    if has["cost"] and has["channel"]:
        return "costs"
    if has["probability"] and has["message"]:
        return "designs"
    body = named_like(head, *_TEXT)
    if body and head.filled(body).str.len().median() >= SHORTEST_TEXT:
        return "messages"
    return "voters" if head.layout is not None else ""


def _only_number(head: FileHead) -> str:
    """The one column of numbers beside the voter's id, where there is no other."""
    numbers = [
        c
        for c in head.columns
        if c != named_like(head, *VOTER_NAMES)
        and len(head.filled(c))
        and pd.to_numeric(head.filled(c), errors="coerce").notna().mean() > MOST
    ]
    return numbers[0] if len(numbers) == 1 else ""


def map_table(name: str, head: FileHead) -> Iterator[MappedColumn]:
    """The columns of a file that is no voter file, as our table has them.

    Args:
        name: Of the table.
        head: Of the file.
    """
    used: set[str] = set()
    for ours, names in _NAMES[name].items():
        column = named_like(head, *names)
        if not column and (name, ours) == ("responses", "value"):
            column = _only_number(head)
        if column and column not in used:
            used.add(column)
            yield _mapped(ours, column, head.columns[column])
            continue
        yield from _without_column(name, ours)


def _mapped(ours: str, column: str, values: pd.Series) -> MappedColumn:
    filled = values[values != ""]
    if ours in _DATES:
        dates = date_entry(column, filled, iso_by_default=True) if len(filled) else None
        if dates is None and len(filled):
            return MappedColumn(
                ours, entry(column), "named so", "how are dates written?"
            )
        return MappedColumn(ours, dates[0] if dates else text(column), "named so")
    if ours == "channel":
        return _channel(column, values)
    if ours == "message_id":
        return _message(column, values)
    return MappedColumn(ours, text(column), "named so")


def channel_of(value: str) -> str:
    """Our channel of what a file calls one; "" where it is none that is known.

    >>> channel_of("Direct Mail"), channel_of("carrier pigeon")
    ('mail', '')
    """
    plain = re.sub(r"[^a-z0-9]+", "_", value.lower()).strip("_")
    if plain in _NONE_OF_CHANNEL:
        return NO_CHANNEL
    return plain if plain in CHANNELS else _CHANNEL_OF.get(plain, "")


def _channel(column: str, values: pd.Series) -> MappedColumn:
    mapped = {v: channel_of(v) for v in sorted(values.unique())}
    if all(v == ours for v, ours in mapped.items()):
        return MappedColumn("channel", text(column), f"values {levels(values)}")
    unknown = [v for v, ours in mapped.items() if not ours]
    question = f"which channel is {', '.join(unknown[:3])}?" if unknown else ""
    return MappedColumn(
        "channel", entry(column, map=mapped), "the file's words for channels", question
    )


def _message(column: str, values: pd.Series) -> MappedColumn:
    arms = sorted(values.unique())
    control = [a for a in arms if is_control(a)]
    reason = f"{len(arms)} arms" if len(arms) <= MOST_ARMS else "named so"
    if control and control != [CONTROL]:
        control_entry = entry(column, map=dict.fromkeys(control, CONTROL), keep=True)
        return MappedColumn(
            "message_id", control_entry, f"{reason}; who was sent nothing: control"
        )
    return MappedColumn("message_id", text(column), reason)


def is_control(arm: str) -> bool:
    """Whether an arm's name says that nothing was sent."""
    return re.sub(r"[^a-z0-9]+", "_", arm.lower()).strip("_") in _CONTROL_OF


def _without_column(name: str, ours: str) -> Iterator[MappedColumn]:
    """Our columns that no column of the file is: a constant, or a question."""
    constants = {
        "experiment_id": MappedColumn(
            ours, '{ value = "test" }', "no column names the experiment: one for all"
        ),
        "discloses": MappedColumn(
            ours, '{ value = "none" }', "a guess: the messages reveal nobody's data",
            "none, recipient, household or others?",
        ),
        "outcome": MappedColumn(
            ours, '{ value = "outcome" }', "no column names it: as [outcome].name"
        ),
        "sent_on": MappedColumn(ours, "{ value = 2026-01-01 }", "no such column",
                                "the day on which it went out"),
        "observed_at": MappedColumn(ours, "{ value = 2026-01-15 }", "no such column",
                                    "the day on which it was observed"),
        "randomised_by": MappedColumn(ours, '{ value = "person" }', "no such column",
                                      "person, household or cluster: what was drawn?"),
    }  # fmt: skip
    if (name, ours) in _FOR_ALL:
        yield MappedColumn(ours, '{ value = "*" }', _FOR_ALL[name, ours])
        return
    column = RAW_TABLES[name].columns[ours]
    if (
        ours in {"block", "plan_id", "propensity"}
        or not column.required
        or column.nullable
    ):
        return
    yield constants.get(ours) or MappedColumn(
        ours, '""', "no column looks like it", f"which column is {ours}?"
    )
