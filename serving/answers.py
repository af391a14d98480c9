"""Answers of the endpoint, as its OpenAPI document describes them.

The answers themselves are plain values, for checking each of ten thousand voters costs
more than scoring them; a test holds them against these declarations.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hustings.serving.bodies import Channel, RequestFault


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Refusal(BaseModel):
    """Whatever is refused, by any route; of reactions, with the receipt.

    Attributes:
        request_id: Of the header `X-Request-ID`, or a new one.
        faults: At most 100 of them.
        n_faults: How many there are.
    """

    request_id: str
    faults: list[RequestFault]
    n_faults: int


class ModelVersion(_Answer):
    """The version that answers.

    Attributes:
        name: Registered model.
        version: Its number.
    """

    name: str
    version: str


class _AboutRows(_Answer):
    """What an answer says of the rows that were sent.

    Attributes:
        model: The version that answers.
        missing_columns: Columns of the voter file that no row has; they count as
            unknown.
        unknown_columns: Columns that nothing reads.
        unknown_values: By column, values that nobody had whom the model learned from;
            they count as unknown.
    """

    model: ModelVersion
    missing_columns: list[str]
    unknown_columns: list[str]
    unknown_values: dict[str, list[str]]


class MessageScore(_Answer):
    """What one message does to one voter, in units of the outcome.

    Attributes:
        message_id: The message.
        lift: Above zero is an improvement, also where a lower outcome is better.
        lift_low: Lower end of its 95 % interval.
        lift_high: Upper end.
        response: Expected outcome with the message.
        baseline: Expected outcome without.
    """

    message_id: str
    lift: float
    lift_low: float
    lift_high: float
    response: float
    baseline: float


class VoterScores(_Answer):
    """Scores of one voter."""

    voter_id: str
    scores: list[MessageScore]


class ScoreAnswer(_AboutRows):
    """Answer of `POST /score`, voters in the order of the request."""

    voters: list[VoterScores]


class InvocationAnswer(_AboutRows):
    """Answer of `POST /invocations`: voter_id and `<figure>__<message>` of each."""

    predictions: list[dict[str, str | float]]


class SendingHours(_Answer):
    """Full hours, where the voter lives, between which a channel may be used."""

    from_: Annotated[str, Field(alias="from")]
    until: str


class Recommendation(_Answer):
    """A message that a voter may be sent until it expires.

    Attributes:
        message_id: The message.
        channel: By which channel.
        lift: Predicted, in units of the outcome.
        value: Lift times what the campaign declares it to be worth.
        price: Value that a contact has to bring.
        at_margin: Whether it just breaks even.
        cost_usd: What it costs.
        plan_id: The plan that decided; null where none has.
        role: plan or explore.
        hours: When; null for any hour.
        decision_id: To report it as sent by.
        propensity: Probability with which it was chosen.
        expires_at: From then on its money is free again.
    """

    message_id: str
    channel: Channel
    lift: float
    value: float
    price: float
    at_margin: bool
    cost_usd: float
    plan_id: str | None
    role: str
    hours: SendingHours | None
    decision_id: str
    propensity: float
    expires_at: str


class Reason(BaseModel):
    """Why nothing is recommended; further fields name the plan or the decision."""

    code: str
    text: str


class VoterRecommendation(_Answer):
    """Recommendation to one voter.

    Attributes:
        voter_id: The voter.
        recommendation: Null for nothing.
        reason: Null where something is recommended.
        why: In words, where `explain` asks for it.
    """

    voter_id: str
    recommendation: Recommendation | None
    reason: Reason | None
    why: list[str] = []


class RecommendAnswer(_AboutRows):
    """Answer of `POST /recommend`, voters in the order of the request.

    Attributes:
        audience: Whose plan.
        answered_at: The moment that the law asks about.
        n_channels_of_others: Voters whose channels were sent and who were not asked
            about.
        voters: What each may be offered.
    """

    audience: str
    answered_at: str
    n_channels_of_others: int = 0
    voters: list[VoterRecommendation]


class SentAnswer(_Answer):
    """Answer of `POST /sent`.

    Attributes:
        recorded: Decisions recorded now.
        recorded_before: Decisions reported before.
        expired: Of the recorded, those whose reservation had ended.
    """

    recorded: int
    recorded_before: int
    expired: int


class ReactionReceipt(_Answer):
    """Answer of `POST /reactions`; 422 with the same fields where nothing was taken."""

    accepted: int
    duplicate: int
    quarantined: int
    faults: list[RequestFault]
    n_faults: int
    withdrawn: int
    to_review: int
    unknown_kinds: dict[str, int]


class OpenWish(_Answer):
    """A reply that may ask to be left alone."""

    event_id: str
    voter_id: str
    platform: str
    kind: str
    text: str | None
    at: str
    received_at: str
    channels: list[str]


class Wishes(_Answer):
    """Answer of `GET /reactions/review`."""

    wishes: list[OpenWish]


class WishAnswered(_Answer):
    """Answer of `POST /reactions/review`."""

    event_id: str
    answer: Literal["withdraw", "not"]


class Paused(_Answer):
    """Answer of `POST /pause`: false where the message was paused already."""

    message_id: str
    paused: bool


class Resumed(_Answer):
    """Answer of `POST /resume`: false where the message was not paused."""

    message_id: str
    resumed: bool


class ServedModel(BaseModel):
    """Answer of `GET /model`: facts of the version that answers."""

    name: str
    version: str
    campaign: str
    messages: list[str]
    audiences: list[str]
    voter_columns: list[str]
    verdict: str | None
    data_hash: str | None
    trained_at: str | None


class MonitorView(BaseModel):
    """Answer of `GET /monitor`: counts that may be shown, alarms and pauses."""

    campaign: str
    alarms: list[dict[str, Any]]
    messages: list[dict[str, Any]]
    issues: list[dict[str, Any]]
