"""An exact model version with the terms of the current plan: what the endpoint answers.

Everything that `/recommend` says of a voter comes from `serving.offer.offer`, asked for
the moment of the request, and from the campaign's plans, where the bundle lies beside
them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Objects
from hustings.features.ingest.plain import VoterArrays
from hustings.features.partner import WIDTH_PREFIX
from hustings.features.persons.keys import voter_key
from hustings.features.voter import HISTORY_SHARE
from hustings.serving.bodies import (
    InvocationRequest,
    RecommendRequest,
    RequestError,
    RequestFault,
    ScoreRequest,
    SentRequest,
    field_path,
    refuse,
)
from hustings.serving.contact_lists import ContactLists, NeverContacted
from hustings.serving.decided import DecidedRecord, DecidedVoters, campaign_folder
from hustings.serving.decisions import (
    OnlineDecisions,
    RequestChangedError,
    Turn,
    UnknownDecisionsError,
)
from hustings.serving.eligible import PermissionsNow, barred
from hustings.serving.joined_columns import JoinedColumns
from hustings.serving.load import read_bundle
from hustings.serving.monitor.pauses import Pauses
from hustings.serving.offer import (
    Offer,
    OfferedVoters,
    OfferSettings,
    Rules,
    arms_of,
    offered,
)
from hustings.serving.plan import held_out
from hustings.serving.reactions.http import store_of_bundle
from hustings.serving.reactions.store import STORE_WITHIN_S, Events
from hustings.serving.recommend import (
    REPLAY,
    AudiencePrices,
    Block,
    CampaignLimits,
    Unit,
    nothing,
    recommendations,
)
from hustings.serving.rules import rule_set
from hustings.serving.voter_rows import MAX_UNKNOWN, MAX_VALUE_SHOWN, VoterReader
from hustings.training.policy_value.policies import Policy
from hustings.training.registry.campaign_model import (
    FIGURES,
    CampaignModel,
    OnlineScores,
)
from hustings.training.registry.online_features import OnlineFeatures

Json = dict[str, Any]

HERE, UNKNOWN_HERE = "by the campaign's plans", "unknown here"
"""Whether the endpoint knows what plans have decided."""
UNJOINED = (
    "expected a value or null: it is known beside the voter file, and here the "
    "campaign's folder is not; bring it along as the run's tables/voters has it"
)
_BASIS, _PURPOSE = "consent", "political_targeting"
"""What a permission in a request stands for: the one that the rule set asks for."""
_MESSAGES = ("message_id", "text", "sponsor", "disclaimer", "discloses")


@dataclass(frozen=True)
class Endpoint:
    """An exact model version with the current plan's terms.

    Attributes:
        model: The model.
        plan: plan.json of the bundle.
        version: version.json of the bundle.
        reader: Of requests' rows.
        features: Of their voters.
        audiences: Prices by audience.
        limits: Of the campaign.
        lists: Do-not-contact and addresses, by digest.
        never: Voters held out wherever they live now, and the forgotten, of whom
            nothing is kept.
        decisions: What was handed out.
        decided: The campaign's plans; None where they are not known here.
        joined: What the campaign knows of a voter beside the voter file; None where
            that is not known here.
        refused: Channels that voters have withdrawn by a STOP, as of now.
        voted: Which of some voters have voted, as of now.
        paused: Asked at every recommendation: message → why it is paused.
    """

    model: CampaignModel
    plan: Mapping[str, Any]
    version: Mapping[str, str]
    reader: VoterReader
    features: OnlineFeatures
    audiences: Mapping[str, AudiencePrices]
    limits: CampaignLimits
    lists: ContactLists
    never: NeverContacted
    decisions: OnlineDecisions
    decided: DecidedVoters | None
    joined: JoinedColumns | None
    refused: Callable[[Sequence[str]], Mapping[str, Collection[str]]]
    voted: Callable[[Sequence[str]], Collection[str]]
    paused: Callable[[], Mapping[str, str]]

    @classmethod
    def load(cls, bundle: Path) -> "Endpoint":
        """Exactly the version in a bundle, with the campaign's store of reactions.

        Raises:
            FileNotFoundError: If the bundle is not whole.
            ValueError: If its plan offers what its model does not know.
        """
        model, plan, version = read_bundle(bundle)
        audiences = {n: AudiencePrices.of(a) for n, a in plan["audiences"].items()}
        for name, audience in audiences.items():
            offered = audience.settings.experiments
            arms = tuple(a for e in offered for a in model.arms.get(e, ()))
            if arms != audience.arms:
                raise ValueError(
                    f"{bundle / 'plan.json'}: expected audience {name!r} to offer the "
                    "model's own arms in their order; `hustings plan` writes them anew"
                )
        key = voter_key(campaign_folder(bundle))
        events = Events.open(store_of_bundle(bundle), within_s=STORE_WITHIN_S)
        return cls(
            model=model,
            plan=plan,
            version=version,
            reader=VoterReader.of(
                model.reader.mapping,
                model.reader.whole_file_columns,
                model.joined_columns,
                model.reader.encoding.levels,
            ),
            features=model.reader.online(),
            audiences=audiences,
            limits=CampaignLimits.of(plan["limits"]),
            lists=ContactLists.read(bundle, key),
            never=NeverContacted(bundle / "plan.json", key),
            decisions=OnlineDecisions.in_store_of(events),
            decided=DecidedVoters.of_bundle(bundle),
            joined=_joined(bundle, plan, model),
            refused=events.refused,
            voted=events.voted,
            paused=Pauses.in_store_of(events).refusals,
        )

    def describe(self) -> Json:
        """The model version that answers: its facts, messages and columns."""
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
            "audiences": list(self.audiences),
            "voter_columns": list(self.reader.columns),
            "decided": UNKNOWN_HERE if self.decided is None else HERE,
        }

    @cached_property
    def models(self) -> Mapping[str, CampaignModel]:
        """The model with the lifts of each audience's policy."""
        return {n: self.model.under(a.policy.name) for n, a in self.audiences.items()}

    @cached_property
    def rules(self) -> Rules:
        """Rules of the plan, without what is known of voters at a moment."""
        stored = self.plan["rules"]
        rules = Rules(
            rule_set=self.plan["rule_set"],
            messages=pd.DataFrame(stored["messages"], columns=list(_MESSAGES)),
            permissions=None,
            lowers_turnout=frozenset(stored["lowers_turnout"]),
            signed=frozenset(stored["signed"]),
        )
        stopped = barred(
            rules.messages, rule_set=rules.rule_set, signed=rules.signed,
            lowers_turnout=rules.lowers_turnout,
        )  # fmt: skip
        return replace(rules, barred_but_paused=stopped)

    @property
    def _answered_by(self) -> Json:
        return {name: self.version[name] for name in ("name", "version")}

    @property
    def _model_version(self) -> str:
        return f"{self.version['name']}/{self.version['version']}"

    # --- scores ---

    def score(self, request: ScoreRequest) -> Json:
        """Lift, its interval, response and baseline by voter and message.

        Raises:
            RequestError: With the path of every field at fault.
        """
        wanted = self._messages(request.messages)
        voters, about_columns, scores = self._scores(request.voters)
        at = [k for k, m in enumerate(scores.messages) if m in wanted]
        messages = [scores.messages[k] for k in at]
        by_voter: list[Json] = [
            {
                "voter_id": voter,
                "scores": [
                    {
                        "message_id": message,
                        "lift": lift,
                        "lift_low": low,
                        "lift_high": high,
                        "response": response,
                        "baseline": baseline,
                    }
                    for message, (lift, low, high, response, baseline) in zip(
                        messages, of_voter, strict=True
                    )
                ],
            }
            for voter, of_voter in zip(
                voters["voter_id"], scores.figures[:, at].tolist(), strict=True
            )
        ]
        return {"model": self._answered_by, **about_columns, "voters": by_voter}

    def invoke(self, request: InvocationRequest) -> Json:
        """Scores as the registered model gives them, one wide row for each voter.

        Raises:
            RequestError: With the path of every field at fault.
        """
        _, rows = request.rows()
        try:
            voters, about_columns, scores = self._scores(rows)
        except RequestError as bad:
            raise RequestError(
                [
                    fault.model_copy(update={"path": request.place_of(fault.path)})
                    for fault in bad.faults
                ],
                status=bad.status,
            ) from None
        names = [f"{f}__{message}" for f in FIGURES for message in scores.messages]
        # by figure, then by message, as the columns of the registered model
        figures = scores.figures.transpose(0, 2, 1).reshape(voters.n, -1).tolist()
        predictions = [
            {"voter_id": voter, **dict(zip(names, of_voter, strict=True))}
            for voter, of_voter in zip(voters["voter_id"], figures, strict=True)
        ]
        return {
            "predictions": predictions, "model": self._answered_by, **about_columns
        }  # fmt: skip

    def _scores(
        self, rows: Sequence[Mapping[str, Any]]
    ) -> tuple[VoterArrays, Json, OnlineScores]:
        voters, about_columns = self._voters(rows)
        scores = self.model.score_online(voters, self.features.matrix(voters))
        if not np.isfinite(scores.figures).all():
            raise ValueError("expected finite scores")
        return voters, about_columns, scores

    def _voters(self, rows: Sequence[Mapping[str, Any]]) -> tuple[VoterArrays, Json]:
        """VOTERS of a request with what is known of them beside the voter file.

        A row's own value counts, else that of the run. A column that neither has is
        refused and never taken for unknown, or the score would be another than the
        campaign's own.

        Returns:
            The voters, and what an answer says of their columns.
        """
        voters, missing, unknown = self.reader.read(rows)
        lacking = {
            name: rows_without
            for name in self.reader.joined
            for rows_without in [[name not in row for row in rows]]
            if any(rows_without)
        }
        if lacking:
            ids = voters["voter_id"].tolist()
            joined = None if self.joined is None else self.joined.of(ids)
            if joined is None:
                self._refuse_unjoined(lacking)
            else:
                voters = voters.with_columns(
                    {
                        name: np.where(rows_without, joined[name], voters[name])
                        if name in voters
                        else joined[name]
                        for name, rows_without in lacking.items()
                    }
                )
                missing = [name for name in missing if name not in lacking]
        return voters, {
            "missing_columns": missing,
            "unknown_columns": unknown,
            "unknown_values": self._unknown_values(voters),
        }

    def _unknown_values(self, voters: VoterArrays) -> dict[str, list[str]]:
        """By the request's own columns, values that count as missing."""
        theirs = self.reader.theirs
        return {
            theirs.get(name, name): [v[:MAX_VALUE_SHOWN] for v in values[:MAX_UNKNOWN]]
            for name, values in self.features.unknown_values(voters).items()
        }

    @staticmethod
    def must_bring(joined: str) -> bool:
        """Whether a row needs a joined column where the campaign's run is not known."""
        # not every partner delivers intervals
        return not joined.startswith(WIDTH_PREFIX)

    def _refuse_unjoined(self, lacking: Mapping[str, Sequence[bool]]) -> None:
        faults = [
            RequestFault(path=field_path(("voters", int(i), name)), message=UNJOINED)
            for name, rows_without in lacking.items()
            if self.must_bring(name)
            for i in np.flatnonzero(rows_without)
        ]
        if faults:
            raise RequestError(faults)

    def _messages(self, wanted: Sequence[str] | None) -> frozenset[str]:
        messages = self.model.messages
        if wanted is None:
            return frozenset(messages)
        faults = [
            RequestFault(
                path=field_path(("messages", i)),
                message=f"expected one of {', '.join(messages)}, got {message!r}",
            )
            for i, message in enumerate(wanted)
            if message not in messages
        ]
        if faults:
            raise RequestError(faults)
        return frozenset(wanted)

    # --- recommendations ---

    def recommend(self, request: RecommendRequest, *, at: pd.Timestamp) -> Json:
        """Recommend a message to each voter now, or nothing with the reason.

        Args:
            request: Whom, and which permissions they have.
            at: Now, UTC without a zone: the moment that the law asks about.

        Raises:
            RequestError: With the path of every field at fault.
        """
        name, prices = self._audience(request.audience)
        body = request.model_dump_json(exclude={"request_id"})
        with _changed_request_refused():
            given = self._answer_to(request.request_id, body)
        if given is not None:
            return given
        if prices.settings.by_household:
            self._require_households(request.voters)
        voters, about_columns = self._voters(request.voters)
        ids = set(voters["voter_id"].tolist())
        of_others = {*request.permitted_channels, *request.withdrawn_channels} - ids
        head = {
            "model": self._answered_by,
            "audience": name,
            "answered_at": at.tz_localize("UTC").isoformat(),
            "n_channels_of_others": len(of_others),
            **about_columns,
        }
        rules = rule_set(self.plan["rule_set"])
        if not rules.exports:
            text = f"{rules.name.replace('_', ' ')} never exports"
            refusal = nothing(REPLAY, text)
            return {
                **head,
                "voters": [{"voter_id": v, **refusal} for v in voters["voter_id"]],
            }
        decided = None if self.decided is None else self.decided.present(at)
        block = self._block(voters, name, request, decided, at)

        def decide(turn: Turn) -> Json:
            if request.request_id is not None:
                # the same request may have been answered while this one was computed
                given = turn.answer_to(request.request_id, body)
                if given is not None:
                    return given
            voter_answers = recommendations(block, turn, self.limits, decided)
            answer = {**head, "voters": voter_answers}
            if request.request_id is not None:
                turn.keep_answer(request.request_id, body, answer)
            return answer

        # another request of the same name may have been answered meanwhile
        with _changed_request_refused():
            return self.decisions.turn(decide, at)

    def report_sent(self, request: SentRequest, *, at: pd.Timestamp) -> Json:
        """Record recommendations that were carried out, all or none.

        Raises:
            RequestError: If one of them was never handed out.
        """
        try:
            report = self.decisions.report_sent(request.decision_ids, at)
        except UnknownDecisionsError as failure:
            faults = [
                RequestFault(
                    path=field_path(("decision_ids", k)),
                    message="expected a decision that was handed out here",
                )
                for k in failure.positions
            ]
            raise RequestError(faults) from None
        return report._asdict()

    def _answer_to(self, request_id: str | None, body: str) -> Json | None:
        if request_id is None:
            return None
        return self.decisions.answer_to(request_id, body)

    def _audience(self, audience: str | None) -> tuple[str, AudiencePrices]:
        name = audience
        if name is None and len(self.audiences) == 1:
            name = next(iter(self.audiences))
        if name is None or name not in self.audiences:
            got = "none" if name is None else repr(name)
            there = ", ".join(self.audiences)
            refuse("audience", f"expected one of {there}, got {got}")
        return name, self.audiences[name]

    def _require_households(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """The holdout is drawn by household: nobody passes by leaving it out."""
        column = self.reader.theirs.get("household_id")
        faults = [
            RequestFault(
                path=field_path(("voters", i, column)),
                message="expected the household, or null for none: it decides who is "
                "held out",
            )
            for i, row in enumerate(rows)
            if column is not None and column not in row
        ]
        if faults:
            raise RequestError(faults)

    def _block(
        self,
        voters: VoterArrays,
        audience: str,
        request: RecommendRequest,
        decided: DecidedRecord | None,
        at: pd.Timestamp,
    ) -> Block:
        offered = self._offer(voters, audience, request, decided, at)
        ids = voters["voter_id"].tolist()
        past = {} if decided is None else decided.of(ids)
        never, forgotten = self.never.holds(ids)
        held = self._held(offered.unit) | never
        return Block(
            offer=offered,
            prices=self.audiences[audience],
            rules=rule_set(self.plan["rule_set"]),
            held=held,
            shadowed=held & ~forgotten,
            past=[past.get(voter, []) for voter in ids],
            at=at,
            unit=self._unit() if request.explain else None,
        )

    def _unit(self) -> Unit:
        return Unit(float(self.model.facts["outcome"]["unit_per_point"]), "points")

    def _held(self, unit_id: Objects) -> Bools:
        plan = self.plan
        return held_out(unit_id, salt=plan["salt"], share=plan["holdout_share"])

    def _offer(
        self,
        voters: VoterArrays,
        audience: str,
        request: RecommendRequest,
        decided: DecidedRecord | None,
        at: pd.Timestamp,
    ) -> Offer:
        """The campaign's offer to these voters at this moment."""
        prices, model = self.audiences[audience], self.models[audience]
        settings = prices.settings
        ids = voters["voter_id"].tolist()
        closed = {} if decided is None else decided.closed(ids, at)
        age = voters.columns.get("age")
        rules = replace(
            self.rules,
            permissions=_permissions(request, self.refused(ids)),
            people=self.lists.people(ids, age, closed, self.voted(ids), at),
            paused=self.paused(),
        )
        X = self.features.matrix(voters)
        predicted = arms_of(model, model.predict_online(voters, X), settings)
        settings = _with_segments_that_count(settings, prices.policy)
        of_segments = self.features.columns(voters, _segment_names(settings))
        return offered(
            predicted, OfferedVoters.of(of_segments, voters, settings), rules,
            at=at, policy=prices.policy,
            cost=dict(zip(prices.arms, prices.cost.tolist(), strict=True)),
            settings=settings, model_version=self._model_version,
        )  # fmt: skip


@contextmanager
def _changed_request_refused() -> Iterator[None]:
    """Refuse a request under a name under which another one was answered."""
    try:
        yield
    except RequestChangedError:
        refuse(
            "request_id",
            "expected a new name, or the request that was answered under it",
            status=409,
        )


def _with_segments_that_count(settings: OfferSettings, policy: Policy) -> OfferSettings:
    """No segments where nothing depends on them: most of an offer's time is theirs."""
    depends = (
        settings.backlash or settings.closed or policy.sent or policy.parts
        or policy.worth is not None
    )  # fmt: skip
    return settings if depends else replace(settings, segment=())


def _segment_names(settings: OfferSettings) -> list[str]:
    return [HISTORY_SHARE if c == "history" else c for c in settings.segment]


def _joined(
    bundle: Path, plan: Mapping[str, Any], model: CampaignModel
) -> JoinedColumns | None:
    """Voters of the run that planned, where the bundle lies in its campaign."""
    home = campaign_folder(bundle)
    if home is None:
        return None
    return JoinedColumns.of_run(home / plan["run"], model.joined_columns)


def stored_rules(rules: Rules) -> Json:
    """Rules as a bundle stores them, without permissions and ages."""
    columns = [name for name in _MESSAGES if name in rules.messages]
    messages = rules.messages[columns].astype(object)
    return {
        "messages": messages.where(messages.notna(), None).to_dict("records"),
        "lowers_turnout": sorted(rules.lowers_turnout),
        "signed": sorted(rules.signed),
    }


def _permissions(
    request: RecommendRequest, stops: Mapping[str, Collection[str]]
) -> PermissionsNow:
    """What a request permits, less what it or a STOP withdraws."""
    return PermissionsNow(
        granted=_by_channel(request.permitted_channels),
        withdrawn=_by_channel(request.withdrawn_channels, stops),
        basis=_BASIS,
        purpose=_PURPOSE,
    )


def _by_channel(*by_voter: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    voters: dict[str, set[str]] = {}
    for voter, channels in chain.from_iterable(of.items() for of in by_voter):
        for channel in channels:
            voters.setdefault(channel, set()).add(voter)
    return voters
