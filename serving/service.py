"""BentoML endpoint: HTTP over a model, its plan's terms and nothing else.

`POST /score` and `POST /recommend` take voters in the campaign's own columns; `GET
/model` says which version answers. A key is required on everything but health. Rows
are never logged, and an error never repeats an identifying value.
"""

import gc
import hmac
import json
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
# threads that spin while they wait starve each other where cores are few
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import bentoml
import numpy as np
import pandas as pd
from bentoml.exceptions import BentoMLException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import hustings
from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.derived import TOLD_BY_THE_FILE
from hustings.features.ingest.mapping import (
    FAULT_COLUMNS,
    MASK,
    ColumnSource,
    TableSource,
    history_column,
    map_with_faults,
    wanted_columns,
)
from hustings.features.persons.keys import NOBODY, Never
from hustings.features.tables import TIMESTAMP, VOTERS, problems
from hustings.features.training_set import Arm, household
from hustings.serving.eligible import NONE_PAUSED, People, eligibility
from hustings.serving.load import read_bundle
from hustings.serving.monitor import http as monitor_http
from hustings.serving.plan import Limits, held_out, priced
from hustings.serving.reactions import http as reactions_http
from hustings.training.registry.campaign_model import CampaignModel

Json = dict[str, Any]

KEY_VARIABLE = "HUSTINGS_API_KEY"
BUNDLE_VARIABLE = "HUSTINGS_BUNDLE"
ROOT = Path(hustings.__file__).parents[1]
HEALTH = frozenset({"/healthz", "/livez", "/readyz"})
OPEN = HEALTH | {monitor_http.PAGE}
"""What answers without a key: the page carries no data and asks for it."""
MAX_VOTERS = 10_000
MAX_BYTES = 64 * 2**20
MAX_FAULTS_TOLD = 100
MAX_VALUE_SHOWN = 40
IDS = frozenset({"voter_id", "household_id", "cluster_id"})
"""They identify, so no error repeats them either."""
BREAK_EVEN = 1e-6
"""Prices are found to about this share: an option nearer than that just breaks even."""
MAX_EXACT = 2**53
"""Whole numbers below are kept exactly by a double."""


# --- what a request may hold ----------------------------------------------------------

Channel = Literal["mail", "sms", "phone", "email", "door", "social", "web", "survey"]
_Rows = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_VOTERS)]
_Channels = dict[str, list[Channel]]
_Body = TypeVar("_Body", bound=BaseModel)


class ScoreRequest(BaseModel):
    """Body of `POST /score`.

    Attributes:
        voters: Rows in the columns of the campaign's voter file. A column that a row
            lacks counts as unknown; one that no mapping names is ignored.
        messages: Which messages; all of them without.
    """

    model_config = ConfigDict(extra="forbid")

    voters: _Rows
    messages: Annotated[list[str], Field(min_length=1)] | None = None


class RecommendRequest(BaseModel):
    """Body of `POST /recommend`.

    Attributes:
        voters: As in `ScoreRequest`. Where the plan decides by household, the voters
            of a household that come together decide together.
        permitted_channels: By voter_id, channels with a permission on record now, of
            the kind that the rule set asks for. SMS,
            phone and email are offered to nobody without one.
        withdrawn_channels: By voter_id, channels that the voter has refused: offered
            in no case.
        audience: Which plan, where the campaign has several.
    """

    model_config = ConfigDict(extra="forbid")

    voters: _Rows
    permitted_channels: _Channels = {}
    withdrawn_channels: _Channels = {}
    audience: str | None = None


class Fault(BaseModel):
    """What is wrong with one field of a request.

    Attributes:
        path: The field, such as `voters[3].AGE`.
        message: What was expected and what came.
    """

    path: str
    message: str


class RequestError(ValueError):
    """A request that cannot be answered.

    Attributes:
        faults: One for each field at fault.
        status: HTTP status.
    """

    def __init__(self, faults: Sequence[Fault], *, status: int = 422) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = list(faults)
        self.status = status


def _refuse(path: str, message: str, *, status: int = 422) -> NoReturn:
    raise RequestError([Fault(path=path, message=message)], status=status)


def _path(place: Sequence[str | int]) -> str:
    """A place in a JSON document.

    >>> _path(("voters", 3, "AGE"))
    'voters[3].AGE'
    """
    parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in place]
    return "".join(parts).removeprefix(".")


def parsed(kind: type[_Body], body: bytes) -> _Body:
    """A request's body.

    Raises:
        RequestError: 400 where it is no JSON, else 422 with the fields' paths.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as failure:
        told = failure.errors(include_url=False, include_input=False)
    if any(fault["type"] == "json_invalid" for fault in told):
        _refuse("", told[0]["msg"], status=400)
    # the keys under these are voters' ids
    by_voter = ("permitted_channels", "withdrawn_channels")
    raise RequestError(
        [
            Fault(
                path=_path(
                    (*f["loc"][:1], MASK, *f["loc"][2:])
                    if f["loc"][:1] and f["loc"][0] in by_voter and len(f["loc"]) > 1
                    else f["loc"]
                ),
                message=f["msg"],
            )
            for f in told
        ]
    )


# --- rows of a request → VOTERS -------------------------------------------------------


@dataclass(frozen=True)
class VoterReader:
    """Reads a request's rows as `ingest` reads the campaign's voter file.

    Attributes:
        mapping: The campaign's own, except that a request always names its voters.
        theirs: Our column → the request's.
        beside: Columns that only the whole voter file can tell, which every row has
            to bring along.
    """

    mapping: TableSource
    theirs: Mapping[str, str]
    beside: tuple[str, ...] = ()

    @classmethod
    def of(cls, mapping: TableSource, beside: Sequence[str] = ()) -> "VoterReader":
        """From the campaign's [tables.voters], every column written out."""
        voter_id = mapping.columns["voter_id"]
        if voter_id.column is None:
            # a row's number in the file says nothing of a row in a request
            voter_id = ColumnSource(column="voter_id")
        columns = {**mapping.columns, "voter_id": voter_id}
        # whoever is asked about belongs to the table: no filter
        mapping = mapping.model_copy(update={"columns": columns, "where": None})
        history = {history_column(key): c for key, c in mapping.history.items()}
        ours = {**columns, **history, **mapping.extra}
        theirs = {name: origin.column or name for name, origin in ours.items()}
        return cls(mapping, theirs, tuple(beside))

    @property
    def columns(self) -> list[str]:
        """Columns that a request's row may have, each once."""
        mapped = (column for _, column in wanted_columns(self.mapping))
        return list(dict.fromkeys([*mapped, *self.beside]))

    def read(self, rows: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, list[str]]:
        """VOTERS of a request and the columns that none of its rows has.

        Raises:
            RequestError: With the path of every value that cannot be read.
        """
        columns = self.columns
        _check_scalars(rows, columns)
        _check_beside(rows, self.beside)
        raw = pd.DataFrame({c: _values(rows, c) for c in columns})
        mapped = map_with_faults(raw, self.mapping, "voters", file="the request")
        if len(mapped.faults) or not _keeps_declaration(mapped.frame):
            faults = pd.concat([mapped.faults, problems(VOTERS, mapped.frame)])
            raise RequestError(self._told(faults.drop_duplicates(["row", "column"])))
        missing = [c for c in columns if not any(c in row for row in rows)]
        brought = {name: raw[name].astype("float64") for name in self.beside}
        return mapped.frame.assign(**brought), missing

    def _told(self, faults: pd.DataFrame) -> list[Fault]:
        told = faults.sort_values("row", kind="stable").astype(object)
        return [
            Fault(
                path=_path(("voters", int(row), self.theirs.get(column, column))),
                message=_message(column, reason, value),
            )
            for row, column, value, reason in told[FAULT_COLUMNS].to_numpy().tolist()
        ]


def _keeps_declaration(frame: pd.DataFrame) -> bool:
    """Whether rows keep VOTERS: its own checks, without the time to word a fault."""
    for name, column in VOTERS.columns.items():
        if name not in frame:
            continue
        some = frame[name].dropna()
        if len(some) < len(frame) and not column.nullable:
            return False
        if not all(bool(check(some).check_passed) for check in column.checks):
            return False
    return not frame.duplicated(VOTERS.unique).any()


def _check_scalars(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    faults = [
        Fault(
            path=_path(("voters", i, column)),
            message="expected a text, a number, true, false or null",
        )
        for i, row in enumerate(rows)
        for column in columns
        if isinstance(row.get(column), list | dict)
    ]
    if faults:
        raise RequestError(faults)


def _check_beside(rows: Sequence[Mapping[str, Any]], beside: Sequence[str]) -> None:
    """A column of the whole file is never taken for unknown: it would change scores."""
    faults = [
        Fault(path=_path(("voters", i, name)), message=f"expected {told}")
        for i, row in enumerate(rows)
        for name in beside
        for told in [_unfit(row, name)]
        if told
    ]
    if faults:
        raise RequestError(faults)


def _unfit(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return f"a number or null: {TOLD_BY_THE_FILE}"
    value = row[name]
    return "" if value is None or _is_plain_number(value) else "a number or null"


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> pd.Series:
    """A column of a request, so typed that a row reads the same in any company."""
    values = [row.get(column) for row in rows]
    if all(value is None or _is_plain_number(value) for value in values):
        return pd.Series(values, dtype="float64")
    if all(value is None or type(value) is str for value in values):
        return pd.Series(values, dtype="str")
    return pd.Series(values, dtype=object)


def _is_plain_number(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < MAX_EXACT)


def _message(column: str, reason: str, value: object) -> str:
    masked = column in IDS or pd.isna(value) or value == MASK  # type: ignore[call-overload]
    if masked or "got" in reason:
        return reason
    text = str(value)
    shown = text if len(text) <= MAX_VALUE_SHOWN else text[:MAX_VALUE_SHOWN] + "..."
    return f"{reason}, got {shown!r}"


# --- what the endpoint answers --------------------------------------------------------


@dataclass(frozen=True)
class Terms:
    """Terms of one audience's plan.

    Attributes:
        experiments: Whose arms are offered.
        worth: Value of one outcome unit by experiment; 1 where none is given.
        arms: What can be sent, length A.
        cost: USD of every arm, shape (A,).
        price: Value that a contact by every arm has to bring, shape (A,).
        barred: Why nobody is sent an arm; None for one that may be sent.
        by_household: Whether households decide (and are held out) as one.
    """

    experiments: tuple[str, ...]
    worth: Mapping[str, float]
    arms: tuple[Arm, ...]
    cost: Floats
    price: Floats
    barred: tuple[str | None, ...]
    by_household: bool

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Terms":
        """From an audience of plan.json."""
        arms = told["arms"]
        return cls(
            tuple(told["settings"]["experiments"]),
            told["settings"]["worth"],
            tuple(Arm(a["message_id"], a["channel"]) for a in arms),
            np.array([a["cost_usd"] for a in arms], dtype=np.float64),
            np.array([a["price"] for a in arms], dtype=np.float64),
            tuple(a["barred"] for a in arms),
            told["settings"]["by_household"],
        )

    @property
    def open(self) -> Bools:
        """Arms that are not barred, shape (A,)."""
        return np.array([why is None for why in self.barred], dtype=bool)

    def without(self, paused: Mapping[str, str]) -> "Terms":
        """The same, but that nobody is sent what is paused, and why."""
        barred = (
            paused.get(arm.message_id, why)
            for arm, why in zip(self.arms, self.barred, strict=True)
        )
        return replace(self, barred=tuple(barred))


@dataclass(frozen=True)
class Offers:
    """What voters could be sent under a plan's terms.

    Attributes:
        lift: In outcome units, shape (n_voters, A).
        value: What that is worth, shape (n_voters, A).
        permitted: By the channel's permission, shape (n_voters, A).
        refused: Channel → reason → voters it holds for, shape (n_voters,).
    """

    lift: Floats
    value: Floats
    permitted: Bools
    refused: Mapping[str, Mapping[str, Bools]]


def _nobody(_voter_ids: Sequence[str]) -> Mapping[str, Collection[str]]:
    """Nobody has withdrawn anything."""
    return {}


@dataclass(frozen=True)
class Endpoint:
    """An exact model version with the current plan's terms.

    Attributes:
        model: The model.
        plan: plan.json of the bundle.
        version: version.json of the bundle.
        reader: Of requests' rows.
        terms: By audience.
        refused: Channels that voters have withdrawn by a STOP, as of now.
        paused: Asked at every recommendation: message → why it is paused.
        never: Who is held out wherever they live now, and who is forgotten.
    """

    model: CampaignModel
    plan: Mapping[str, Any]
    version: Mapping[str, str]
    reader: VoterReader
    terms: Mapping[str, Terms]
    refused: Callable[[Sequence[str]], Mapping[str, Collection[str]]] = _nobody
    paused: Callable[[], Mapping[str, str]] = lambda: NONE_PAUSED
    never: Never = NOBODY

    @classmethod
    def load(cls, bundle: Path) -> "Endpoint":
        """Exactly the version in a bundle.

        Raises:
            FileNotFoundError: If the bundle is not whole.
            ValueError: If its plan offers what its model does not know.
        """
        model, plan, version = read_bundle(bundle)
        terms = {name: Terms.of(told) for name, told in plan["audiences"].items()}
        for name, mine in terms.items():
            known = tuple(a for e in mine.experiments for a in model.arms.get(e, ()))
            if known != mine.arms:
                raise ValueError(
                    f"{bundle / 'plan.json'}: expected audience {name!r} to offer the "
                    "model's own arms in their order; `hustings plan` writes them anew"
                )
        reader = VoterReader.of(model.reader.mapping, model.reader.beside)
        never = Never.from_json(plan.get("never"))
        return cls(model, plan, version, reader, terms, never=never)

    def describe(self) -> Json:
        """Which version answers, and what it knows."""
        tags = {
            name.removeprefix("tag_"): value
            for name, value in self.version.items()
            if name.startswith("tag_")
        }
        facts = self.model.facts
        return {
            "name": self.version["name"],
            "version": self.version["version"],
            "alias": self.version["alias"],
            "run_id": self.version["run_id"],
            "data_hash": tags.get("data_hash", facts.get("data_hash")),
            "trained_at": tags.get("trained_at", facts.get("trained_at")),
            "verdict": tags.get("verdict", facts.get("verdict")),
            "sentence": facts.get("sentence"),
            "judged_by": tags.get("judged_by"),
            "git_commit": tags.get("git_commit"),
            "campaign": self.model.campaign,
            "outcome": facts.get("outcome"),
            "messages": self.model.messages,
            "champions": dict(self.model.champions),
            "rule_set": self.plan["rule_set"],
            "audiences": list(self.terms),
            "voter_columns": self.reader.columns,
        }

    @property
    def _answered_by(self) -> Json:
        return {name: self.version[name] for name in ("name", "version")}

    def score(self, request: ScoreRequest) -> Json:
        """Lift, its interval, response and baseline by voter and message.

        Raises:
            RequestError: With the path of every field at fault.
        """
        wanted = self._messages(request.messages)
        voters, missing = self.reader.read(request.voters)
        scores = self.model.score(voters)
        found: list[Json] = [{"voter_id": v, "scores": []} for v in voters["voter_id"]]
        values = scores.drop(columns=["voter_id", "message_id"])
        rows = zip(
            scores["voter_id"].cat.codes.tolist(),
            scores["message_id"].tolist(),
            *(values[name].tolist() for name in values),
            strict=True,
        )
        for voter, message, *figures in rows:
            if message in wanted:
                named = dict(zip(values, figures, strict=True))
                found[voter]["scores"].append({"message_id": message, **named})
        return {
            "model": self._answered_by,
            "missing_columns": missing,
            "voters": found,
        }

    def _messages(self, asked: Sequence[str] | None) -> frozenset[str]:
        known = self.model.messages
        if asked is None:
            return frozenset(known)
        faults = [
            Fault(
                path=_path(("messages", i)),
                message=f"expected one of {', '.join(known)}, got {message!r}",
            )
            for i, message in enumerate(asked)
            if message not in known
        ]
        if faults:
            raise RequestError(faults)
        return frozenset(asked)

    def recommend(self, request: RecommendRequest) -> Json:
        """The best eligible message at the plan's shadow price, or none and why.

        Raises:
            RequestError: With the path of every field at fault.
        """
        name, terms = self._terms(request.audience)
        if terms.by_household:
            self._require_households(request.voters)
        voters, missing = self.reader.read(request.voters)
        if self.plan["rule_set"] == "research_replay":
            advice = [_none(REPLAY, "research replay never exports")] * len(voters)
        else:
            asked = self._with_stops(voters, request)
            advice = self._advice(voters, terms.without(self.paused()), asked)
        told = zip(voters["voter_id"], advice, strict=True)
        return {
            "model": self._answered_by,
            "audience": name,
            "missing_columns": missing,
            "voters": [{"voter_id": voter, **found} for voter, found in told],
        }

    def _terms(self, audience: str | None) -> tuple[str, Terms]:
        name = audience
        if name is None and len(self.terms) == 1:
            name = next(iter(self.terms))
        if name is None or name not in self.terms:
            got = "none" if name is None else repr(name)
            _refuse("audience", f"expected one of {', '.join(self.terms)}, got {got}")
        return name, self.terms[name]

    def _require_households(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The holdout is drawn by household: nobody passes by leaving it out."""
        column = self.reader.theirs.get("household_id")
        faults = [
            Fault(
                path=_path(("voters", i, column)),
                message="expected the household, or null for none: it decides who is "
                "held out",
            )
            for i, row in enumerate(rows)
            if column is not None and column not in row
        ]
        if faults:
            raise RequestError(faults)

    def _advice(
        self, voters: pd.DataFrame, terms: Terms, request: RecommendRequest
    ) -> list[Json]:
        unit = household(voters) if terms.by_household else voters["voter_id"]
        unit_id = unit.to_numpy(dtype=object)
        held = self._held_out(unit_id) | self.never.holds(voters["voter_id"])
        offers = self._offers(voters, terms, request)
        choice = _choices(offers, terms, pd.factorize(unit_id)[0])
        return [
            _none(HOLDOUT, "in the holdout, which is never contacted")
            if held[i]
            else _told(terms, offers, i, int(choice[i]))
            for i in range(len(voters))
        ]

    def _with_stops(
        self, voters: pd.DataFrame, request: RecommendRequest
    ) -> RecommendRequest:
        """The request, with what its voters have withdrawn by a STOP since."""
        stops = self.refused(voters["voter_id"].tolist())
        told = request.withdrawn_channels
        both = {v: [*told.get(v, []), *found] for v, found in stops.items()}
        return request.model_copy(update={"withdrawn_channels": {**told, **both}})

    def _held_out(self, unit_id: Objects) -> Bools:
        plan = self.plan
        return held_out(unit_id, salt=plan["salt"], share=plan["holdout_share"])

    def _offers(
        self, voters: pd.DataFrame, terms: Terms, request: RecommendRequest
    ) -> Offers:
        predicted = self.model.predict(voters)
        lifts = {
            name: self.model.lifts[name].ground.option_values(
                predicted[name].lift, self.model.arms[name]
            )
            for name in terms.experiments
        }
        value = [lift * terms.worth.get(name, 1.0) for name, lift in lifts.items()]
        permission = eligibility(
            voters["voter_id"],
            terms.arms,
            _NO_MESSAGES,
            _permissions(request),
            rule_set=self.plan["rule_set"],
            as_of=_NOW,
            people=People(age=voters.set_index("voter_id").get("age")),
        )
        return Offers(
            np.hstack(list(lifts.values())),
            np.hstack(value),
            permission.allowed,
            permission.no_channel,
        )


_NOW = pd.Timestamp(0)
"""A request's permissions hold now; any one instant says so."""
_NO_MESSAGES = pd.DataFrame({"message_id": [], "discloses": []})
"""What is barred for everyone stands in the plan's terms."""

HOLDOUT, REPLAY, NO_LIFT, BARRED = "holdout", "research_replay", "no_lift", "barred"
TOO_DEAR, NO_PERMISSION, HOUSEHOLD = "not_worth_cost", "no_permission", "household"


_BASIS, _PURPOSE = "consent", "political_targeting"
"""What a permission in a request stands for: the one that the rule set asks for."""


def _permissions(request: RecommendRequest) -> pd.DataFrame:
    """A request's permissions as PERMISSIONS."""
    rows = [
        (voter, channel, _NOW, withdrawn_at)
        for told, withdrawn_at in (
            (request.permitted_channels, pd.NaT),
            (request.withdrawn_channels, _NOW),
        )
        for voter, channels in told.items()
        for channel in channels
    ]
    frame = pd.DataFrame(
        rows, columns=["voter_id", "channel", "granted_at", "withdrawn_at"]
    ).assign(basis=_BASIS, purpose=_PURPOSE)
    times = dict.fromkeys(("granted_at", "withdrawn_at"), TIMESTAMP)
    return frame.astype({"voter_id": "str", "channel": "str", **times})


def _choices(offers: Offers, terms: Terms, row: Ints) -> Ints:
    """Arm of every voter, -1 for none; rows decide as one, as in the plan.

    Args:
        offers: What n voters could be sent.
        terms: Of the plan.
        row: Row of every voter, from 0, shape (n,).
    """
    allowed = offers.permitted & terms.open
    value = _sums(np.where(allowed, offers.value, 0.0), row)
    reach = _sums(allowed, row)
    prices = Limits(terms.price[None, :], np.array([np.inf]))
    left = priced(value, reach, prices, np.ones(1)) + BREAK_EVEN * reach * terms.price
    best = left.argmax(axis=1)
    taken = left[np.arange(len(left)), best] >= 0
    option = np.where(taken, best, -1)[row]
    may = allowed[np.arange(len(row)), option]
    return np.where((option >= 0) & may, option, -1)


def _sums(table: Floats | Bools, row: Ints) -> Floats:
    columns = [np.bincount(row, weights=column) for column in table.T]
    return np.column_stack(columns).astype(np.float64)


def _told(terms: Terms, offers: Offers, i: int, choice: int) -> Json:
    if choice < 0:
        return _why_not(terms, offers, i)
    arm = terms.arms[choice]
    return {
        "recommendation": {
            "message_id": arm.message_id,
            "channel": arm.channel,
            "lift": float(offers.lift[i, choice]),
            "value": float(offers.value[i, choice]),
            "price": float(terms.price[choice]),
            "at_margin": _at_margin(offers.value[i, choice], terms.price[choice]),
            "cost_usd": float(terms.cost[choice]),
        },
        "reason": None,
    }


def _at_margin(value: float, price: float) -> bool:
    """Worth just its price: of those alike the plan sends to some, drawn at random."""
    return bool(abs(value - price) <= BREAK_EVEN * price)


def _none(code: str, text: str) -> Json:
    return {"recommendation": None, "reason": {"code": code, "text": text}}


def _why_not(terms: Terms, offers: Offers, i: int) -> Json:
    """The first hurdle at which no arm is left: lift, rules, price, permission."""
    lifting = offers.value[i] > 0
    if not lifting.any():
        return _none(NO_LIFT, "no message is predicted to lift")
    offered = lifting & terms.open
    if not offered.any():
        reasons = dict.fromkeys(
            f"message {terms.arms[a].message_id} {terms.barred[a]}"
            for a in np.flatnonzero(lifting)
        )
        return _none(BARRED, "; ".join(reasons))
    paying = offered & (offers.value[i] >= terms.price * (1 - BREAK_EVEN))
    if not paying.any():
        return _none(TOO_DEAR, "not worth its cost at the current price")
    if not (paying & offers.permitted[i]).any():
        channels = dict.fromkeys(terms.arms[a].channel for a in np.flatnonzero(paying))
        told = ", ".join(f"{c} ({_refusal(offers, c, i)})" for c in channels)
        return _none(NO_PERMISSION, f"no permission for any channel that pays: {told}")
    return _none(HOUSEHOLD, "what the household decides on together does not reach it")


def _refusal(offers: Offers, channel: str, i: int) -> str:
    return next(why for why, who in offers.refused[channel].items() if who[i])


# --- HTTP -----------------------------------------------------------------------------


class ApiKey:
    """Middleware: without the key nothing but health answers.

    Args:
        app: What is kept behind the key.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.key = api_key().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        is_open = scope["type"] == "lifespan" or (
            scope["type"] == "http" and scope["path"] in OPEN
        )
        if is_open or self._carries_key(scope):
            await self.app(scope, receive, send)
            return
        refused = _error_response(
            401,
            [
                Fault(
                    path="",
                    message="expected the API key as 'Authorization: Bearer <key>' or "
                    "'X-API-Key: <key>'",
                )
            ],
        )
        refused.headers["WWW-Authenticate"] = "Bearer"
        await refused(scope, receive, send)

    def _carries_key(self, scope: Scope) -> bool:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = bearer.strip() if scheme.lower() == b"bearer" else b""
        given = given or headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self.key)


def api_key() -> str:
    """The key that requests must carry.

    Raises:
        ValueError: If there is none: nothing is served without one.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise ValueError(
            f"expected an API key in the environment's {KEY_VARIABLE}, got none; "
            'make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return key


def _error_response(status: int, faults: Sequence[Fault]) -> Response:
    told = [fault.model_dump() for fault in faults[:MAX_FAULTS_TOLD]]
    return JSONResponse({"faults": told, "n_faults": len(faults)}, status)


async def _body(request: Request) -> bytes:
    """The body, as long as it is not too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            _refuse("", f"expected at most {MAX_BYTES:,} bytes", status=413)
    return bytes(body)


_Answer = Callable[[Endpoint, bytes], Json]


def _handler(answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
    """An answer that is computed beside the event loop, so that health is not kept."""

    def respond(endpoint: Endpoint, body: bytes) -> Response:
        try:
            text = json.dumps(answer(endpoint, body), allow_nan=False)
        except RequestError as bad:
            return _error_response(bad.status, bad.faults)
        return Response(text, media_type="application/json")

    async def handle(request: Request) -> Response:
        try:
            body = await _body(request)
        except RequestError as bad:
            return _error_response(bad.status, bad.faults)
        return await run_in_threadpool(respond, request.app.state.endpoint, body)

    return handle


def _score(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.score(parsed(ScoreRequest, body))


def _recommend(endpoint: Endpoint, body: bytes) -> Json:
    return endpoint.recommend(parsed(RecommendRequest, body))


async def _describe(request: Request) -> Response:
    endpoint: Endpoint = request.app.state.endpoint
    return JSONResponse(endpoint.describe())


routes = Starlette(
    routes=[
        Route("/score", _handler(_score), methods=["POST"]),
        Route("/recommend", _handler(_recommend), methods=["POST"]),
        Route("/model", _describe, methods=["GET"]),
        *reactions_http.routes,
        *monitor_http.routes,
    ]
)


def bundle_folder() -> Path:
    """The bundle to serve: the one named in the environment, else the Bento's own."""
    return Path(os.environ.get(BUNDLE_VARIABLE) or ROOT / "bundle")


class _Hustings:
    """Lift of every message, and the best one at the current plan's price."""

    @staticmethod
    def check() -> None:
        """Refuse to start without a key or a bundle, before any worker does."""
        try:
            api_key()
            Endpoint.load(bundle_folder())
        except (FileNotFoundError, ValueError) as failure:
            # BentoML tells its own errors without a traceback
            raise BentoMLException(str(failure)) from None

    def __init__(self) -> None:
        endpoint = Endpoint.load(bundle_folder())
        taken_in = reactions_http.Intake.of_bundle(bundle_folder())
        watched = monitor_http.started(taken_in.events, bundle_folder(), endpoint.plan)
        routes.state.intake, routes.state.watch = taken_in, watched
        routes.state.endpoint = replace(
            endpoint, refused=taken_in.events.refused, paused=watched.pauses.refusals
        )
        # the model stays for good: the collector need not walk it in every pass
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)


bentoml.on_deployment(_Hustings.check)
Hustings: bentoml.Service[_Hustings] = bentoml.service(
    name="hustings",
    workers=1,
    traffic={"timeout": 120},
    envs=[{"name": KEY_VARIABLE}],
)(_Hustings)
Hustings.mount_asgi_app(routes)
Hustings.add_asgi_middleware(ApiKey)


def serve_bundle(
    bundle: Path, *, host: str = "127.0.0.1", port: int = 3000
) -> NoReturn:
    """Become the server of a bundle, until it is stopped.

    Args:
        bundle: Folder that `hustings plan` writes.
        host: Address to bind to; other machines reach anything but loopback.
        port: Port.

    Raises:
        ValueError: If there is no API key in the environment.
        FileNotFoundError: If there is no bundle.
    """
    api_key()
    if not (bundle / "version.json").exists():
        raise FileNotFoundError(
            f"{bundle}: expected a serving bundle, found none; `hustings run` makes one"
        )
    address = "127.0.0.1" if host == "localhost" else host
    command = [
        sys.executable, "-m", "bentoml", "serve", f"{__name__}:Hustings",
        "--working-dir", str(ROOT), "--host", address, "--port", str(port),
        # whoever watches the monitor does not keep it from stopping
        "--timeout-graceful-shutdown", "5",
    ]  # fmt: skip
    there = {**os.environ, BUNDLE_VARIABLE: str(bundle.resolve())}
    os.execve(sys.executable, command, there)
