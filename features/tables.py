"""Every table that crosses a stage: key, columns, units and checks, in one place.

A table is a pandera schema. `ingest` uses `problems` to quarantine the rows that break
it; every later stage calls `check` once, on the table it hands on.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd
import pandera.pandas as pa

CONTROL = "control"
"""The `message_id` of people who were sent nothing."""
NO_CHANNEL = "none"
"""The `channel` of people who were sent nothing."""
ANY_MESSAGE = "*"
"""In `costs`: a price that holds for every message of the channel."""
HISTORY_PREFIX = "voted_"
"""Vote history is wide: `voted_<yyyymmdd>_<kind>`; 1 voted, 0 did not."""
PROVIDER_PREFIX = "provider__"
"""Of a provider's columns."""
HISTORY_DERIVED, HOUSEHOLD = "history__", "household__"
PRECINCT, COUNTY = "precinct__", "county__"
FROM_THE_FILE = (HOUSEHOLD, PRECINCT, COUNTY)
"""Derived columns that begin so depend on the whole file, never on one row."""
DERIVED_PREFIXES = (HISTORY_DERIVED, *FROM_THE_FILE)

UNDECIDED = "undecided"
"""The `block` of a voter whom a plan neither sent, kept back nor drew to explore."""
NO_MODEL = "none"
"""The `model_version` of assignments that were made before any model."""

CHANNELS = ("mail", "sms", "phone", "email", "door", "social", "web", "survey")
DISCLOSES = ("none", "recipient", "household", "others")
SEXES = ("F", "M", "U")
BASES = ("consent", "contract", "legitimate_interest", "public_register", "reply")
ROLES = ("plan", "explore")
CONTACT_ENDS = ("delivered", "canvassed", "left_message", "not_home", "refused",
                "wrong_number", "bounced", "failed", "moved", "deceased",
                "do_not_contact", "other_language")  # fmt: skip
PRIOR_KINDS = ("topline", "panel")
BALLOT_STATUSES = ("requested", "sent", "cancelled", "challenged", "cured", "rejected",
                   "returned", "voted", "accepted")  # fmt: skip
"""Statuses of a ballot. Of several on one day of one file the later in this order
stands: a spoilt ballot beside the one that replaced it takes no vote away."""
VOTED_STATUSES = frozenset({"returned", "voted", "accepted"})
"""Statuses that are a vote: a ballot that is back, or one cast early in person. One
that is challenged, was cured or is rejected is none until it is accepted."""

SMALLEST_CELL = 20
"""No figure speaks of fewer people than this."""

TIMESTAMP = "datetime64[us]"


class TableError(ValueError):
    """A table breaks its declaration; the message names table, column and row."""


def _column(
    dtype: Any,
    about: str,
    *checks: pa.Check,
    unit: str = "",
    nullable: bool = False,
    required: bool = True,
    identifying: bool = False,
) -> pa.Column:
    return pa.Column(
        dtype,
        list(checks),
        nullable=nullable,
        required=required,
        description=about,
        metadata={"unit": unit, "identifying": identifying},
    )


def _one_of(values: Iterable[str]) -> pa.Check:
    allowed = list(values)
    return pa.Check.isin(allowed, error=f"expected one of {', '.join(allowed)}")


def _between(low: float, high: float) -> pa.Check:
    return pa.Check.in_range(low, high, error=f"expected a value in [{low}, {high}]")


_PROBABILITY = pa.Check.in_range(
    0, 1, include_min=False, error="expected a probability in (0, 1]"
)
_NOT_NEGATIVE = pa.Check.ge(0, error="expected a value of at least 0")
_ABOVE_ZERO = pa.Check.gt(0, error="expected a value above 0")
_NOT_EMPTY = pa.Check.str_length(min_value=1, error="expected a text, got an empty one")
_FIPS = pa.Check.str_matches(r"^\d{5}$", error="expected five digits, zeros kept")
_AGE_BAND = pa.Check.str_matches(
    r"^\d{1,3}(-\d{1,3}|\+)$", error="expected a band such as 18-24 or 65+"
)


def _table(
    name: str, key: list[str], columns: dict[str, pa.Column], *, extra: bool = False
) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(
        columns, name=name, unique=key, strict=not extra, coerce=True, ordered=False
    )


def _voter_id() -> pa.Column:
    return _column(str, "The campaign's own id of the voter.", _NOT_EMPTY)


def _message_id() -> pa.Column:
    return _column(str, f"Message sent, or {CONTROL!r}.", _NOT_EMPTY)


def _channel() -> pa.Column:
    return _column(
        str, f"Channel, or {NO_CHANNEL!r}.", _one_of([*CHANNELS, NO_CHANNEL])
    )


def _experiment_id() -> pa.Column:
    return _column(str, "The experiment; its controls are its own.", _NOT_EMPTY)


def _plan_id() -> pa.Column:
    return _column(
        str,
        "The plan that decided it; the experiment, where a test ran elsewhere.",
        _NOT_EMPTY,
    )


VOTERS = _table(
    "voters",
    ["voter_id"],
    {
        "voter_id": _voter_id(),
        "household_id": _column(str, "Household.", nullable=True, required=False),
        "cluster_id": _column(str, "Cluster.", nullable=True, required=False),
        "birth_year": _column(
            float, "Year of birth.", _between(1890, 2012), unit="year",
            nullable=True, required=False, identifying=True,
        ),
        "age": _column(
            float, "Age when the file was drawn.", _between(16, 120), unit="years",
            nullable=True, required=False,
        ),
        "sex": _column(str, "Sex.", _one_of(SEXES), nullable=True, required=False),
        "state": _column(str, "State.", nullable=True, required=False),
        "county_fips": _column(
            str, "County, five digits.", _FIPS, nullable=True, required=False
        ),
        "precinct": _column(str, "Precinct.", nullable=True, required=False),
        "postcode": _column(
            str, "Postcode.", nullable=True, required=False, identifying=True
        ),
        "registered_on": _column(
            TIMESTAMP, "Day of registration.", nullable=True, required=False
        ),
        "party": _column(
            str, "Party of registration.", nullable=True, required=False
        ),
    },
    extra=True,
)  # fmt: skip
"""People who may be sent something. Also `voted_<yyyymmdd>_<kind>` and any provider
column the campaign declares. Names and contact details are never mapped in."""

MERGES = _table(
    "merges",
    ["voter_id"],
    {
        "voter_id": _column(str, "An id that the voter had.", _NOT_EMPTY),
        "merged_into": _column(str, "The id that stands for it now.", _NOT_EMPTY),
        "merged_on": _column(TIMESTAMP, "Since when.", nullable=True, required=False),
    },
)
"""Ids that the voter file has merged or renamed: whatever hangs on the former id
(deliveries, permissions, history, holdout) is read as of the present one."""

MESSAGES = _table(
    "messages",
    ["message_id"],
    {
        "message_id": _column(str, "The message.", _NOT_EMPTY),
        "title": _column(str, "What staff call it.", nullable=True, required=False),
        "issue": _column(str, "Issue it speaks of.", _NOT_EMPTY),
        "stance": _column(str, "Position it takes.", nullable=True, required=False),
        "text": _column(str, "What it says.", _NOT_EMPTY),
        "sponsor": _column(str, "Who pays.", nullable=True, required=False),
        "disclaimer": _column(
            str, "'Paid for by' line.", nullable=True, required=False
        ),
        "discloses": _column(
            str, "Whose data the message reveals.", _one_of(DISCLOSES)
        ),
    },
)

DESIGNS = _table(
    "designs",
    ["experiment_id", "block", "message_id", "channel"],
    {
        "experiment_id": _experiment_id(),
        "block": _column(str, "Stratum with its own probabilities."),
        "message_id": _message_id(),
        "channel": _channel(),
        "probability": _column(
            float, "Probability of this arm in this block.", _PROBABILITY, unit="1"
        ),
    },
)
"""Every arm of every experiment and block, control included; sums to 1 in a block."""

DELIVERIES = _table(
    "deliveries",
    ["voter_id", "experiment_id", "plan_id"],
    {
        "voter_id": _voter_id(),
        "experiment_id": _experiment_id(),
        "plan_id": _plan_id(),
        "block": _column(str, "Stratum of the design."),
        "message_id": _message_id(),
        "channel": _channel(),
        "sent_on": _column(TIMESTAMP, "When it was sent (or not, for a control)."),
        "propensity": _column(
            float, "Total probability of what happened.", _PROBABILITY, unit="1"
        ),
        "randomised_by": _column(
            str, "Unit that was drawn.", _one_of(["person", "household", "cluster"])
        ),
    },
)

RESPONSES = _table(
    "responses",
    ["voter_id", "experiment_id", "plan_id", "outcome", "observed_at"],
    {
        "voter_id": _voter_id(),
        "experiment_id": _experiment_id(),
        "plan_id": _plan_id(),
        "outcome": _column(str, "What was observed.", _NOT_EMPTY),
        "value": _column(float, "Its value.", unit="outcome unit"),
        "observed_at": _column(TIMESTAMP, "When it was observed."),
        "weight": _column(
            float, "Survey weight: how many voters the answer stands for.",
            _ABOVE_ZERO, required=False,
        ),
        "link_probability": _column(
            float, "Probability that the answer is this voter's; missing where it came "
            "under the voter's own id.", _PROBABILITY, unit="1", nullable=True,
            required=False,
        ),
        "link_probability_se": _column(
            float, "Its standard error, common to all links.", _NOT_NEGATIVE,
            unit="1", nullable=True, required=False,
        ),
    },
)  # fmt: skip

REACTIONS = _table(
    "reactions",
    ["reaction_id"],
    {
        "reaction_id": _column(str, "The event.", _NOT_EMPTY),
        "message_id": _column(str, "Message or post reacted to.", _NOT_EMPTY),
        "platform": _column(str, "Where.", _NOT_EMPTY),
        "kind": _column(str, "like, love, angry, share, click ...", _NOT_EMPTY),
        "reacted_at": _column(TIMESTAMP, "When."),
        "person": _column(
            str, "The platform's pseudonym.", nullable=True, required=False,
            identifying=True,
        ),
        "name": _column(
            str, "Name given.", nullable=True, required=False, identifying=True
        ),
        "birth_year": _column(
            float, "Year of birth given.", unit="year", nullable=True,
            required=False, identifying=True,
        ),
        "sex": _column(str, "Sex given.", nullable=True, required=False),
        "postcode": _column(
            str, "Postcode given.", nullable=True, required=False, identifying=True
        ),
        "email_sha256": _column(
            str, "SHA-256 of the e-mail given, in small letters.", nullable=True,
            required=False, identifying=True,
        ),
        "basis": _column(
            str, "Basis on record for knowing who reacted; none, and nobody asks.",
            _one_of(BASES), nullable=True, required=False,
        ),
    },
)  # fmt: skip
"""Organic reactions. Self-selected: hints for features and priors, never a lift."""


def _of_identity(name: str, about: str) -> pa.Column:
    dtype = {"birth_date": TIMESTAMP, "birth_year": float}.get(name, str)
    return _column(dtype, about, nullable=True, required=False, identifying=True)


IDENTITIES = _table(
    "identities",
    ["voter_id"],
    {
        "voter_id": _voter_id(),
        **{
            name: _of_identity(name, about)
            for name, about in {
                "name": "Whole name.",
                "first_name": "First name.",
                "last_name": "Last name.",
                "birth_date": "Date of birth.",
                "birth_year": "Year of birth.",
                "sex": "Sex.",
                "postcode": "Postcode.",
                "street_number": "House number.",
                "street": "Street.",
                "address": "Whole address.",
                "city": "City.",
                "state": "State.",
                "country": "Country.",
                "phone": "Telephone.",
                "email": "E-mail.",
                "email_sha256": "SHA-256 of the e-mail, in small letters.",
                "declared_id": "An id that both sides know, such as a registration's.",
            }.items()
        },
    },
)
"""Who the voters are: read for matching and for contact lists, kept in memory, never a
feature, and written into the lists that a channel is given alone."""

PROVIDER_ROWS = _table(
    "provider_rows",
    [],
    {
        "voter_id": _column(
            str, "The campaign's own id.", nullable=True, required=False
        ),
        "hmac": _column(
            str, "HMAC-SHA256 of an identifier under the campaign's key.",
            nullable=True, required=False, identifying=True,
        ),
        **{n: c for n, c in IDENTITIES.columns.items() if n != "voter_id"},
    },
    extra=True,
)  # fmt: skip
"""What a provider delivers: how its rows find their voter, and its columns."""

LINKS = _table(
    "links",
    ["reaction_person", "voter_id"],
    {
        "reaction_person": _column(
            str, "The platform's pseudonym.", _NOT_EMPTY, identifying=True
        ),
        "voter_id": _voter_id(),
        "probability": _column(
            float, "That they are one person.", _PROBABILITY, unit="1"
        ),
        "linked_by": _column(
            str, "An exact key, or other fields.", _one_of(["key", "fields"]),
            required=False,
        ),
    },
)  # fmt: skip
"""Reactors with a basis and the voters they are. Carried on by its probability."""

REACTION_GROUPS = _table(
    "reaction_groups",
    ["message_id", "place", "age_band"],
    {
        "message_id": _column(str, "Message or post reacted to.", _NOT_EMPTY),
        "place": _column(str, "First digits of the postcode, or other.", _NOT_EMPTY),
        "age_band": _column(str, "Age band, or other.", _NOT_EMPTY),
        "n_people": _column(
            int, "Different people.", pa.Check.ge(20, error="expected 20 or more"),
            unit="people",
        ),
        "n_reactions": _column(int, "What they did.", unit="reactions"),
        "n_good": _column(int, "Of those, good news.", unit="reactions"),
        "n_bad": _column(int, "Of those, bad news.", unit="reactions"),
    },
)  # fmt: skip
"""Reactors without a basis: all that is kept of them."""
REACTION_COUNTS = _table(
    "reaction_counts",
    ["message_id", "platform", "counted_until", "age_band", "sex", "state",
     "county_fips", "kind"],
    {
        "message_id": _column(str, "Message or post reacted to.", _NOT_EMPTY),
        "platform": _column(str, "Where.", _NOT_EMPTY),
        "kind": _column(str, "like, love, angry, share, click ...", _NOT_EMPTY),
        "age_band": _column(
            str, "Age as the platform bands it.", _AGE_BAND, nullable=True,
            required=False,
        ),
        "sex": _column(str, "Sex.", _one_of(SEXES), nullable=True, required=False),
        "state": _column(str, "State.", nullable=True, required=False),
        "county_fips": _column(
            str, "County, five digits.", _FIPS, nullable=True, required=False
        ),
        "n": _column(float, "Reactions of the kind.", _NOT_NEGATIVE, unit="1"),
        "reach": _column(
            float, "People of the cell who were shown the message.",
            pa.Check.ge(
                SMALLEST_CELL,
                error=f"expected a cell of {SMALLEST_CELL} people or more: fewer are "
                "a person's own business",
            ),
            unit="people", identifying=True,
        ),
        "counted_until": _column(TIMESTAMP, "Nothing later was counted."),
    },
)  # fmt: skip
"""Reactions by cell, as platforms and page exports tell them: no person. A cell that
is missing a value speaks of everybody whatever theirs, or of the rest."""

PERMISSIONS = _table(
    "permissions",
    ["voter_id", "channel"],
    {
        "voter_id": _voter_id(),
        "channel": _column(str, "Channel.", _one_of(CHANNELS)),
        "basis": _column(str, "Lawful basis.", _one_of(BASES)),
        "granted_at": _column(TIMESTAMP, "Since when.", nullable=True),
        "withdrawn_at": _column(TIMESTAMP, "Until when.", nullable=True),
        "purpose": _column(
            str,
            "What it was given for, such as political_targeting.",
            nullable=True,
            required=False,
        ),
    },
)

CONTACT_RESULTS = _table(
    "contact_results",
    ["voter_id", "channel", "contacted_at", "result", "question"],
    {
        "voter_id": _voter_id(),
        "channel": _column(str, "Channel.", _one_of(CHANNELS)),
        "contacted_at": _column(TIMESTAMP, "When."),
        "result": _column(
            str, "What came of it; empty where a row has an answer alone.",
            _one_of(CONTACT_ENDS), nullable=True, required=False,
        ),
        "question": _column(
            str, "Question that was asked.", nullable=True, required=False
        ),
        "answer": _column(
            str, "Answer, as it was written.", nullable=True, required=False,
            identifying=True,
        ),
    },
)  # fmt: skip
"""What a channel says of its contacts: a row per attempt, or per answer."""

ANSWERS = _table(
    "answers",
    ["voter_id", "outcome", "observed_at", "plan_id"],
    {
        "voter_id": _voter_id(),
        "outcome": _column(str, "What was observed.", _NOT_EMPTY),
        "value": _column(float, "Its value.", unit="outcome unit"),
        "observed_at": _column(TIMESTAMP, "When it was observed."),
        "plan_id": _column(
            str, "Plan whose assignment is answered; empty for every plan that had "
            "decided the voter before.", nullable=True, required=False,
        ),
    },
)  # fmt: skip
"""Outcomes that did not come through a channel: turnout after an election, a survey."""

BALLOTS = _table(
    "ballots",
    [],
    {
        "voter_id": _voter_id(),
        "status": _column(str, "Where the ballot stands.", _one_of(BALLOT_STATUSES)),
        "dated": _column(TIMESTAMP, "Day since when it stands there."),
        "method": _column(
            str, "How it is cast: mail, drop box, early in person.", nullable=True,
            required=False,
        ),
    },
)  # fmt: skip
"""Ballots as counties and secretaries of state report them, voter by voter."""

LINKED_ANSWERS = _table(
    "linked_answers",
    [],
    {
        "basis": _column(str, "Why its person may be looked for.", _NOT_EMPTY),
        **{n: c for n, c in ANSWERS.columns.items() if n != "voter_id"},
        **{n: c for n, c in IDENTITIES.columns.items() if n != "voter_id"},
    },
)
"""Outcomes of people without an id of the campaign: who they are is read for linking
alone, and no stage writes it."""

_ANY_CHANNEL = _column(
    str, "Channel, or '*' for all.", _one_of([*CHANNELS, ANY_MESSAGE])
)
DO_NOT_CONTACT = _table(
    "do_not_contact",
    ["voter_id", "channel"],
    {
        "voter_id": _voter_id(),
        "channel": _ANY_CHANNEL,
        "since": _column(TIMESTAMP, "Since when.", nullable=True, required=False),
    },
)
"""Who asked not to be contacted, whatever was permitted."""

ADDRESSES = _table(
    "addresses",
    ["voter_id", "channel"],
    {
        "voter_id": _voter_id(),
        "channel": _column(str, "Channel.", _one_of(CHANNELS)),
    },
)
"""That somebody can be reached by a channel; never the address itself."""

COSTS = _table(
    "costs",
    ["message_id", "channel"],
    {
        "message_id": _column(str, f"Message, or {ANY_MESSAGE!r} for all."),
        "channel": _column(str, "Channel.", _one_of(CHANNELS)),
        "cost_usd": _column(
            float, "Price of one contact.", _NOT_NEGATIVE, unit="USD"
        ),
        "capacity_per_day": _column(
            float, "Contacts the channel can make a day.", _NOT_NEGATIVE,
            unit="contacts / day", nullable=True,
        ),
    },
)  # fmt: skip

PRIORS = _table(
    "priors",
    ["message_id", "source"],
    {
        "message_id": _column(str, "The message.", _NOT_EMPTY),
        "source": _column(str, "Who measured it, and where.", _NOT_EMPTY),
        "kind": _column(
            str, "A vendor's figure, or a panel reweighted to the voter file.",
            _one_of(PRIOR_KINDS),
        ),
        "effect": _column(float, "Effect found there.", unit="outcome unit"),
        "se": _column(float, "Its standard error.", _ABOVE_ZERO, unit="outcome unit"),
        "transport": _column(
            float, "Share of it that is expected in the field.", _NOT_NEGATIVE,
            unit="1",
        ),
        "transport_sd": _column(
            float, "How uncertain that share is.", _NOT_NEGATIVE, unit="1"
        ),
        "n": _column(
            float, "People it was measured on.", _NOT_NEGATIVE, nullable=True,
            required=False,
        ),
    },
)  # fmt: skip
"""Estimates from elsewhere. Never the field effect: they enter as priors."""

FORECASTS = _table(
    "forecasts",
    ["forecaster", "message_id"],
    {
        "forecaster": _column(
            str, "Who forecasts: staff, a vendor, a language model.", _NOT_EMPTY
        ),
        "message_id": _column(
            str, "A message of the campaign, or one of past_effects.", _NOT_EMPTY
        ),
        "points": _column(
            float, "The forecast, on the forecaster's own scale: more is better."
        ),
        "se": _column(
            float, "Its standard error, such as that of a mean of several ratings.",
            _NOT_NEGATIVE, nullable=True, required=False,
        ),
    },
)  # fmt: skip
"""What others expect of messages. How far each is believed is learnt from tests."""

PAST_EFFECTS = _table(
    "past_effects",
    ["campaign", "message_id", "channel", "audience"],
    {
        "campaign": _column(str, "The earlier campaign, or its test.", _NOT_EMPTY),
        "message_id": _column(
            str, "The message; one of this campaign where it is the same.", _NOT_EMPTY
        ),
        "issue": _column(str, "Issue it speaks of.", _NOT_EMPTY),
        "text": _column(str, "What it says.", nullable=True, required=False),
        "channel": _column(str, "By which channel.", _one_of(CHANNELS)),
        "audience": _column(
            str, "Kind of people it was tested on, such as field or panel.", _NOT_EMPTY
        ),
        "effect": _column(
            float, "Its effect, in units of this campaign's outcome.",
            unit="outcome unit",
        ),
        "se": _column(float, "Its standard error.", _ABOVE_ZERO, unit="outcome unit"),
    },
)  # fmt: skip
"""Effects in tests of earlier campaigns. The means of two tests (campaign, channel and
audience) may differ; what forecasts and texts tell of the differences is shared."""

PANEL = _table(
    "panel",
    ["source", "respondent_id"],
    {
        "source": _column(str, "Name of the panel.", _NOT_EMPTY),
        "respondent_id": _column(
            str, "Its own id of the respondent.", _NOT_EMPTY, identifying=True
        ),
        "message_id": _message_id(),
        "value": _column(float, "Answer.", unit="outcome unit"),
        "weight": _column(float, "Survey weight.", _ABOVE_ZERO, required=False),
        "transport": _column(
            float, "Share of its effects that is expected in the field.",
            _NOT_NEGATIVE, unit="1",
        ),
        "transport_sd": _column(
            float, "How uncertain that share is.", _NOT_NEGATIVE, unit="1"
        ),
    },
    extra=True,
)  # fmt: skip
"""A randomised pretest. Columns of the voters' own names bring it in line with the
voter file; its effects enter as priors."""

PARTNER_SCORES = _table(
    "partner_scores",
    ["provider", "voter_id", "message_id"],
    {
        "provider": _column(
            str, "Who delivers.",
            pa.Check.str_matches(
                r"^[A-Za-z0-9.-]+$", error="expected letters, digits, '.' and '-'"
            ),
        ),
        "voter_id": _voter_id(),
        "message_id": _column(str, "The message.", _NOT_EMPTY),
        "lift": _column(float, "Predicted lift.", unit="outcome unit"),
        "lift_low": _column(
            float, "95 % interval.", unit="outcome unit", nullable=True, required=False
        ),
        "lift_high": _column(
            float, "95 % interval.", unit="outcome unit", nullable=True, required=False
        ),
        "observed_on": _column(TIMESTAMP, "When the partner delivered it."),
    },
)  # fmt: skip
"""Lifts that a partner predicts, before the first delivery: a challenger, judged by
the same gate; features only where its `permitted_use` names features."""

QUARANTINE = _table(
    "quarantine",
    ["table", "row", "column", "reason"],
    {
        "table": _column(str, "Table the row came from."),
        "row": _column(int, "Row in the source, from 1, header not counted."),
        "column": _column(str, "Column at fault."),
        "value": _column(str, "What came; '***' where it identifies.", nullable=True),
        "reason": _column(str, "What was expected."),
    },
)

SCORES = _table(
    "scores",
    ["voter_id", "message_id"],
    {
        "voter_id": _voter_id(),
        "message_id": _column(str, "The message."),
        "lift": _column(float, "Predicted lift.", unit="outcome unit"),
        "lift_low": _column(float, "95 % interval.", unit="outcome unit"),
        "lift_high": _column(float, "95 % interval.", unit="outcome unit"),
        "response": _column(float, "Predicted outcome if sent.", unit="outcome unit"),
        "baseline": _column(float, "Predicted outcome if not.", unit="outcome unit"),
    },
)

PLAN = _table(
    "plan",
    ["voter_id"],
    {
        "voter_id": _voter_id(),
        "message_id": _column(str, "Message to send.", _NOT_EMPTY),
        "channel": _column(str, "By which channel.", _one_of(CHANNELS)),
        "send_on": _column(TIMESTAMP, "On which day."),
        "cost_usd": _column(float, "Its cost.", _NOT_NEGATIVE, unit="USD"),
        "lift": _column(float, "Predicted lift.", unit="outcome unit"),
        "propensity": _column(
            float, "Total probability of this contact.", _PROBABILITY, unit="1"
        ),
        "role": _column(str, "Planned, or drawn to explore.", _one_of(ROLES)),
    },
)

PLACES = _table(
    "places",
    ["place"],
    {
        "place": _column(str, "County, postcode or other area, whole.", _NOT_EMPTY),
        "role": _column(
            str, "Planned, or held out of every such channel.",
            _one_of(["plan", "holdout"]),
        ),
        "message_id": _message_id(),
        "channel": _column(
            str, f"Channel that addresses nobody, or {NO_CHANNEL!r}.", _NOT_EMPTY
        ),
        "propensity": _column(float, "Probability of the role.", _PROBABILITY),
        "intended_message_id": _column(str, "What the place would get, held out too."),
        "intended_channel": _column(str, "And by which channel."),
        "send_on": _column(TIMESTAMP, "From which day on."),
        "n_voters": _column(int, "Voters of the file who live there."),
        "cost_usd": _column(float, "Cost; 0 of nothing.", _NOT_NEGATIVE, unit="USD"),
        "lift": _column(
            float, "Predicted lift of all its voters together; 0 of nothing.",
            unit="outcome unit",
        ),
    },
)  # fmt: skip
"""What whole places get: a row a place, nobody's name."""

ASSIGNMENTS = _table(
    "assignments",
    ["voter_id"],
    {
        "voter_id": _voter_id(),
        "experiment_id": _experiment_id(),
        "block": _column(
            str, f"Block of the plan's designs, or {UNDECIDED!r}.", _NOT_EMPTY
        ),
        "role": _column(str, "plan, explore or holdout.", _one_of([*ROLES, "holdout"])),
        "message_id": _message_id(),
        "channel": _channel(),
        "propensity": _column(
            float, "Probability of that role and message.", _PROBABILITY, unit="1"
        ),
        "arm_propensity": _column(
            float, "Probability of that message, whatever the role.", _PROBABILITY,
            unit="1",
        ),
        "pool_probability": _column(
            float, "Probability that a voter who is not held out was still undecided.",
            _PROBABILITY, unit="1",
        ),
        "intended_message_id": _column(str, "What the plan alone would have sent."),
        "intended_channel": _column(str, "And by which channel."),
        "predicted_lift": _column(
            float, "Predicted lift of what the plan alone would have sent, else of "
            "what was drawn; 0 of nothing; the declared prior's mean where there was "
            "no model.",
            unit="outcome unit",
        ),
        "model_version": _column(
            str, f"Model that predicted it, as name/version, or {NO_MODEL!r}.",
            _NOT_EMPTY,
        ),
    },
)  # fmt: skip
"""What was decided about a voter, with every probability and belief as they were at
the time of the decision: written by the planner, never reconstructed by a reader."""

CHANCES = _table(
    "chances",
    ["experiment_id", "voter_id"],
    {
        "experiment_id": _experiment_id(),
        "voter_id": _voter_id(),
        "turnout": _column(
            float, "Chance to vote, without a message.", _between(0, 1), unit="1",
            nullable=True,
        ),
        "support": _column(
            float, "Chance (or share of the scale) of support, without a message.",
            _between(0, 1), unit="1", nullable=True,
        ),
    },
)  # fmt: skip
"""Predicted of every voter by models that did not see the voter's unit."""

AREAS = _table(
    "areas",
    ["experiment_id", "outcome", "level", "area"],
    {
        "experiment_id": _experiment_id(),
        "outcome": _column(str, "What is predicted.", _one_of(["turnout", "support"])),
        "level": _column(str, "Kind of area.", _one_of(["precinct", "county_fips"])),
        "area": _column(str, "The area.", _NOT_EMPTY),
        "n": _column(int, "Its voters.", pa.Check.ge(20, error="expected 20 or more")),
        "mean": _column(float, "Mean chance.", _between(0, 1), unit="1"),
        "low": _column(float, "95 % interval of its outcome.", unit="1"),
        "high": _column(float, "95 % interval of its outcome.", unit="1"),
    },
)

AFFINITIES = _table(
    "affinities",
    ["issue", "age_band", "sex", "place"],
    {
        "issue": _column(str, "The issue.", _NOT_EMPTY),
        "age_band": _column(str, "Age; empty for all."),
        "sex": _column(str, "Sex; empty for all."),
        "place": _column(str, "Place; empty for all."),
        "place_kind": _column(str, "The voters' column of the place; empty for none."),
        "affinity": _column(
            float, "Share of those reached by a message of the issue who react well.",
            _between(0, 1), unit="1",
        ),
        "low": _column(float, "95 % interval.", _between(0, 1), unit="1"),
        "high": _column(float, "95 % interval.", _between(0, 1), unit="1"),
        "n_reached": _column(
            float, "People of the cell who were shown a message, each as often.",
            _NOT_NEGATIVE, unit="people",
        ),
        "n_voters": _column(
            int, "Its voters in the file.",
            pa.Check.ge(SMALLEST_CELL, error=f"expected {SMALLEST_CELL} or more"),
        ),
    },
)  # fmt: skip
"""Who reacts well to which issue, by cell and by margin. Self-selected: a hint for
features and priors, never a lift."""

RAW_TABLES: dict[str, pa.DataFrameSchema] = {
    schema.name: schema
    for schema in (
        MERGES, VOTERS, MESSAGES, DESIGNS, DELIVERIES, RESPONSES, REACTIONS,
        REACTION_COUNTS,
        PERMISSIONS, DO_NOT_CONTACT, ADDRESSES, COSTS, PRIORS, PANEL, PARTNER_SCORES,
        PAST_EFFECTS, FORECASTS,
    )
}  # fmt: skip
"""What a campaign can bring, in the order in which `ingest` reads it."""
MAPPED_TABLES = RAW_TABLES | {
    t.name: t
    for t in (
        IDENTITIES, PROVIDER_ROWS, CONTACT_RESULTS, ANSWERS, LINKED_ANSWERS, BALLOTS,
    )
}  # fmt: skip
"""What a mapping can fill: also what is read for matching and never written."""
FROM_ELSEWHERE = (
    "merges", "priors", "panel", "partner_scores", "past_effects", "forecasts",
)  # fmt: skip
"""Tables that others make: ids that were merged, estimates that were bought."""
TEST_TABLES = ("designs", "deliveries", "responses")
"""Tables of a test that ran elsewhere; a campaign that begins with a wave has none."""
REQUIRED_TABLES = ("voters", "messages", "designs", "deliveries", "responses", "costs")


def off_scale(scale: tuple[float, float]) -> str:
    """Why a value of an outcome is set aside that its scale does not have."""
    low, high = scale
    return f"expected a value of the outcome's scale, {low:g} to {high:g}"


def no_places() -> pd.DataFrame:
    """PLACES of a plan that offers nothing to whole places."""
    return check(PLACES, pd.DataFrame({name: [] for name in PLACES.columns}))


def identifying_columns(table: pa.DataFrameSchema) -> frozenset[str]:
    """Columns whose values never reach a log, an error or the quarantine."""
    return frozenset(
        name
        for name, column in table.columns.items()
        if (column.metadata or {}).get("identifying")
    )


def is_derived(name: str) -> bool:
    """Whether a column of the voters is one that `features.derived` makes.

    >>> is_derived("county__turnout"), is_derived("county_fips")
    (True, False)
    """
    return name.startswith(DERIVED_PREFIXES)


def problems(table: pa.DataFrameSchema, frame: pd.DataFrame) -> pd.DataFrame:
    """Faults of a frame, row by row.

    Args:
        table: The declaration.
        frame: Rows to examine; its index is reported as the row.

    Returns:
        Columns `row` (index label, -1 for the table as a whole), `column`, `value`,
        `reason`; empty where the frame keeps the declaration.
    """
    try:
        table.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as failure:
        return _problem_rows(table, failure.failure_cases)
    return pd.DataFrame({"row": [], "column": [], "value": [], "reason": []})


def _problem_rows(table: pa.DataFrameSchema, cases: pd.DataFrame) -> pd.DataFrame:
    key = ", ".join(table.unique or [])
    duplicate = cases["check"] == "multiple_fields_uniqueness"
    missing = cases["check"] == "column_in_dataframe"
    unknown = cases["check"] == "column_in_schema"
    reason = cases["check"].astype(str)
    reason = reason.mask(duplicate, f"duplicate key: {key} must be unique")
    reason = reason.mask(missing, "missing column")
    reason = reason.mask(unknown, "column not declared")
    reason = reason.mask(cases["check"] == "not_nullable", "expected a value, got none")
    of_column = missing | unknown
    column_names = cases["column"].where(~of_column, cases["failure_case"]).astype(str)
    value_texts = cases["failure_case"].astype(str)
    value_texts = value_texts.mask(column_names.isin(identifying_columns(table)), "***")
    problem_rows = pd.DataFrame(
        {
            "row": cases["index"].where(~of_column, -1).fillna(-1).astype(int),
            "column": column_names,
            "value": value_texts,
            "reason": reason,
        }
    )
    return problem_rows.drop_duplicates(["row", "column", "reason"], ignore_index=True)


def check(table: pa.DataFrameSchema, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its declared types, or an error that names the first faults.

    Raises:
        TableError: Naming table, column, row, what was expected and what came.
    """
    try:
        return table.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as failure:
        faults = _problem_rows(table, failure.failure_cases)
        first = "; ".join(
            f"row {f.row}, column {f.column!r}: {f.reason}, got {f.value}"
            for f in faults.head(3).itertuples()
        )
        raise TableError(f"table {table.name}: {len(faults)} faults: {first}") from None


def in_twenties(n: int) -> int:
    """A count of people, rounded down to whole groups of `SMALLEST_CELL`.

    Published counts are of whole groups, 0 among them: neither one, nor a difference of
    two, nor what is left of a total tells how many people a small group holds.

    >>> in_twenties(19), in_twenties(20), in_twenties(59)
    (0, 20, 40)
    """
    return n - n % SMALLEST_CELL
