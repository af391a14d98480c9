"""Score and plan: champion → lifts → contacts and assignments."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import pandas as pd

from hustings.experiments.declaration import RepeatRule
from hustings.experiments.plans import PlanFacts, content_digest, draft
from hustings.experiments.plans.designs import Belief
from hustings.experiments.plans.diff import counties_of
from hustings.experiments.plans.folder import FolderTable
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.online import Online, online_so_far
from hustings.experiments.plans.planner_inputs import (
    PlanInputs,
    cheapest,
    designed_again,
    inputs_of,
    planned_again,
    tables_of,
    without_bounds,
)
from hustings.experiments.plans.whole_places import taken_places
from hustings.experiments.record import present_id_of
from hustings.experiments.results import (
    Agreement,
    BoundedGroup,
    ContactsOfDay,
    ExpectedOfChannel,
    NotEligible,
    OnlineUse,
    PlannedArm,
    PlannedPlaces,
    PlannedSegment,
    PlanSummary,
    PriceOfGroups,
    TakenPlace,
)
from hustings.experiments.stages.agreement import agreements
from hustings.experiments.stages.audience import spend_per_voter
from hustings.experiments.stages.champion import promoted as promoted
from hustings.experiments.stages.context import Json, Run, slug
from hustings.experiments.stages.declared import (
    entered_channels,
    group_bounds,
    message_bounds,
)
from hustings.experiments.stages.monitor_config import monitor_terms
from hustings.experiments.stages.offers import (
    campaign_offer,
    contact_lists,
    decides_by_household,
    holdout_of,
    holdout_salt,
    moment_of,
    place_offers,
    require_some_held_out,
    rules_at,
)
from hustings.experiments.stages.persons import (
    forgotten_voters,
    never_contacted,
    voter_keys,
)
from hustings.experiments.stages.publication import to_publish
from hustings.experiments.stages.reactions import reactions_config
from hustings.experiments.stages.sendable import require_sendable
from hustings.experiments.stages.tables import require_readable
from hustings.features.arrays import Bools, Objects
from hustings.features.membership import among
from hustings.features.persons.identity import with_present_ids
from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import Arm, arm_costs
from hustings.features.voter import segments
from hustings.serving.decided import SERVING
from hustings.serving.eligible import Eligibility
from hustings.serving.endpoint import stored_rules
from hustings.serving.load import write_bundle
from hustings.serving.offer import Rules
from hustings.serving.plan import GroupBound, Plan, PlanSettings
from hustings.serving.plan.explain import (
    MessageReasons,
    explained_messages,
    limits_used,
)
from hustings.serving.score import score_block
from hustings.training.registry.campaign_model import CampaignModel
from hustings.training.registry.register import Version


def stage_score(run: Run) -> None:
    """Registered model → lift of every message for every voter of the run's file."""
    model, _ = promoted(run)
    require_readable(run, model.reader)
    n_voters, n_messages = run.n_voters(), len(model.messages)
    with run.written_in_blocks("scores") as scores:
        for block in run.engine.map_blocks(
            partial(score_block, model),
            run.path("tables/voters.parquet"),
            run.columns("tables/voters"),
        ):
            scores.write(block.to_pandas())
            run.tell("scoring", scores.n_rows * n_messages, n_voters * n_messages)
    run.note(n_scores=n_voters * n_messages)


def stage_plan(run: Run) -> None:
    """Scores + costs + budget + eligibility → plan, assignments, serving bundle."""
    (model, version), voters = promoted(run), run.table("voters")
    require_sendable(run, voters, _arms(model))
    audiences = _audiences(run, model, voters)
    _require_holdout(run, [who.voters for who in audiences.values()])
    belief, at = f"{version.name}/{version.version}", _moment(run)
    rules = rules_at(run, at)
    online = online_so_far(run.home, run.at)
    n_all = sum(len(who.voters) for who in audiences.values())
    audience_plans = {
        name: _plan_one(
            run, model, _not_contacted(run, who, online), belief, at, rules,
            taken_usd=online.taken_usd * len(who.voters) / n_all,
        )
        for name, who in audiences.items()
    }  # fmt: skip
    budget_usd = sum(m.budget_usd for m in audience_plans.values()) + online.taken_usd
    tables = tables_of(
        [
            (m.plan.contacts, designed_again(m.inputs, m.plan))
            for m in audience_plans.values()
        ]
    )
    if run.campaign.plan.places is not None:
        tables["places"] = audience_plans["all"].plan.places
    contacts, assigned = tables["plan"], tables["assignments"]
    run.write("plan", contacts)
    run.write("assignments", assigned)
    summary = replace(
        _plan_summary(
            run, model, voters, contacts, assigned, [*audience_plans.values()]
        ),
        budget_usd=budget_usd,
        online=_online_use(online),
    )
    if run.has("evaluation.json"):  # a run of a later voter file was never judged
        judged = _judged(
            run,
            model,
            contacts,
            audiences,
            [m.plan.places for m in audience_plans.values()],
        )
        summary = replace(summary, judged=tuple(judged))
    if "places" in tables:
        summary = replace(
            summary, places=_planned_places(run, audience_plans["all"].plan)
        )
    plan_json = {
        "run": run.run_id,
        "salt": holdout_salt(run),
        "holdout_share": run.campaign.plan.holdout_share,
        "rule_set": run.campaign.campaign.rule_set,
        "audiences": {name: m.terms for name, m in audience_plans.items()},
        "rules": stored_rules(rules),
        "limits": _limits(run, budget_usd),
        "reactions": reactions_config(run),
        "monitor": monitor_terms(run, model, _segments(run, model, voters), contacts),
        "never": never_contacted(run.home, assigned).to_json(),
        "forgotten": forgotten_voters(run.home).to_json(),
    }
    run.write_json("plan", plan_json)
    head = _recorded(
        run, version, tables, audience_plans, plan_json, budget_usd=budget_usd
    )
    run.note(plan=summary, ledger=head)
    write_bundle(version, model, plan_json, contact_lists(run), run.folder / SERVING)
    to_publish(run, bundle=True)


def _require_holdout(run: Run, voters_of_audience: Sequence[pd.DataFrame]) -> None:
    """Somebody of all audiences together has to be held out."""
    voters = voters_of_audience[0]
    if len(voters_of_audience) > 1:
        voters = pd.concat(voters_of_audience).drop_duplicates("voter_id")
    require_some_held_out(run, voters)


def _arms(model: CampaignModel) -> tuple[Arm, ...]:
    """Everything that the model knows, each once."""
    return tuple(dict.fromkeys(arm for arms in model.arms.values() for arm in arms))


def _limits(run: Run, budget_usd: float) -> Json:
    """What the whole campaign may use, in the form that the bundle carries."""
    return {
        "budget_usd": budget_usd,
        "capacity_by_channel": _capacity(run),
        "capacity_per_day": run.campaign.plan.capacity_per_day,
        **RepeatRule.of(run.campaign.loop)._asdict(),
    }


def _capacity(run: Run) -> dict[str, float]:
    """Contacts a day of each channel that has a limit."""
    costs = run.table("costs").dropna(subset="capacity_per_day")
    most = costs.groupby("channel", observed=True)["capacity_per_day"].max()
    return {str(channel): float(n) for channel, n in most.items()}


def _moment(run: Run) -> pd.Timestamp:
    """The moment that the law asks about, for a plan that is made now."""
    return moment_of(pd.Timestamp(run.campaign.plan.start_on), run.at)


def _judged(
    run: Run,
    model: CampaignModel,
    contacts: pd.DataFrame,
    audiences: Mapping[str, "_Audience"],
    of_places: Sequence[pd.DataFrame],
) -> list[Agreement]:
    """Agreement of the judged with the planned policy of every experiment."""
    n_audience = {
        e: len(who.voters) for who in audiences.values() for e in who.experiments
    }
    arms = [arm for name in n_audience for arm in model.arms[name]]
    cost = dict(zip(arms, arm_costs(run.table("costs"), arms), strict=True))
    compared = agreements(
        run.read_json("evaluation"), contacts, policy=run.campaign.plan.policy,
        n_audience=n_audience,
        cost={(a.message_id, a.channel): float(c) for a, c in cost.items()},
    )  # fmt: skip
    n_placed = sum(int(taken_places(places)["n_voters"].sum()) for places in of_places)
    if not n_placed:
        return compared
    reason = f"; {n_placed:,} voters live in places taken whole, which was not judged"
    return [
        one if one.agrees else replace(one, why=one.why + reason) for one in compared
    ]


def _recorded(
    run: Run,
    version: Version,
    tables: Mapping[str, pd.DataFrame],
    audience_plans: Mapping[str, "_AudiencePlan"],
    plan_json: Json,
    *,
    budget_usd: float,
) -> Json:
    """The plan as a draft, every assignment in the ledger; the ledger's new end.

    A plan of other content is another plan, so that a stage that is repeated drafts
    again only what is new.
    """
    contacts, assigned = tables["plan"], tables["assignments"]
    stored_settings = {
        k: v for k, v in plan_json.items() if k in {"salt", "holdout_share"}
    }
    facts = PlanFacts(
        model=f"{version.name}/{version.version}",
        rule_set=run.campaign.campaign.rule_set,
        terms={
            **stored_settings,
            "audiences": {slug(n): m.inputs.terms for n, m in audience_plans.items()},
        },
        prices={
            k: v
            for name, m in audience_plans.items()
            for k, v in _prices(name, m).items()
        },
        run_id=run.run_id,
        budget_usd=budget_usd,
        setup_usd=sum(m.plan.setup_usd for m in audience_plans.values()),
    )
    voters = run.table("voters")
    further_tables: dict[str, FolderTable] = {
        f"inputs-{slug(name)}": m.inputs.frames() for name, m in audience_plans.items()
    }
    further_tables |= counties_of(voters, contacts)
    keys = voter_keys(run.home, assigned["voter_id"])
    plan_id = f"{run.run_id}-{content_digest(facts.to_json(), contacts, assigned)}"
    draft(
        run.home, plan_id, tables, facts, keys=keys, at=run.at,
        further_tables=further_tables,
    )  # fmt: skip
    run.note(plan_id=plan_id)
    return open_ledger(run.home).head._asdict()


def _prices(audience: str, audience_plan: "_AudiencePlan") -> dict[str, float]:
    """What one more of every limit of an audience would bring."""
    limits, price = audience_plan.plan.limits, audience_plan.plan.chosen.price
    return {f"{audience}: {limits.name_of(k)}": float(p) for k, p in enumerate(price)}


@dataclass(frozen=True)
class _Audience:
    """Voters who share a budget, and what they may be offered.

    `n_voters` counts those too who were reached online, whom the plan leaves out.
    """

    voters: pd.DataFrame
    n_voters: int
    experiments: tuple[str, ...]


@dataclass(frozen=True)
class _AudiencePlan:
    """A plan of one audience, its reasons, and terms for the endpoint.

    `budget_usd` is without what was sent and is offered online.
    """

    plan: Plan
    eligible: Eligibility
    terms: Json
    budget_usd: float
    inputs: PlanInputs
    reasons: list[MessageReasons]
    groups: "_GroupsBefore | None"


@dataclass(frozen=True)
class _GroupsBefore:
    """The plan of an audience beside the one that it would be without limits on groups.

    Attributes:
        value: Predicted value without them.
        n: Contacts of the plan, and without limits.
        of_group: Contacts of every declared group, the same two.
    """

    value: float
    n: tuple[int, int]
    of_group: Mapping[str, tuple[int, int]]


def _audiences(
    run: Run, model: CampaignModel, voters: pd.DataFrame
) -> dict[str, _Audience]:
    if run.campaign.plan.audience == "all":
        return {"all": _Audience(voters, len(voters), tuple(model.lifts))}
    drawn = run.table("deliveries")
    audiences = {}
    for name in model.lifts:
        experiment_voters = drawn.loc[drawn["experiment_id"] == name, "voter_id"]
        audience_voters = voters[
            among(voters["voter_id"], experiment_voters)
        ].reset_index(drop=True)
        audiences[name] = _Audience(audience_voters, len(audience_voters), (name,))
    return audiences


def _plan_one(
    run: Run,
    model: CampaignModel,
    who: _Audience,
    model_version: str,
    at: pd.Timestamp,
    rules: Rules,
    *,
    taken_usd: float,
) -> _AudiencePlan:
    campaign, voters, n_all = run.campaign, who.voters, len(run.table("voters"))
    offer, settings, policy = campaign_offer(
        run, model, voters, who.experiments, at=at,
        by_household=decides_by_household(run), model_version=model_version,
    )  # fmt: skip
    arms = offer.arms
    bounds = group_bounds(run, voters, who.n_voters / n_all)
    places = place_offers(run, offer, voters, rules, at)
    share = who.n_voters / n_all
    budget = max(spend_per_voter(run, n_all) * who.n_voters - taken_usd, 0.0)
    inputs = inputs_of(
        offer.voter_id,
        offer.unit,
        offer.value,
        offer.allowed,
        arms,
        offer.cost,
        _terms(run, budget, share, arms),
        [campaign.campaign.seed, who.n_voters],
        Belief(offer.experiment_of_arm, model_version),
        predicted=offer.lift,
        held_voters=holdout_of(run, voters),
        bounds=bounds,
        places=places,
    )  # fmt: skip
    if campaign.plan.needed_lift is not None:
        inputs, budget = cheapest(inputs, wanted=campaign.plan.needed_lift)
    plan = planned_again(inputs)
    price = plan.limits.charged(plan.chosen.price).max(axis=0)
    audience_json = {
        "settings": settings.to_json(),
        "policy": policy.to_json(),
        "arms": [
            {
                "message_id": arm.message_id,
                "channel": arm.channel,
                "cost_usd": float(offer.cost[a]),
                "price": float(price[a]),
            }
            for a, arm in enumerate(arms)
        ],
        "shadow_price": float(plan.chosen.price[0]),
    }
    reasons = explained_messages(
        plan, offer.voter_id, inputs.arrays["lift"], offer.allowed, arms, offer.cost,
        unit=campaign.outcome.as_valued().unit_per_point,
    )  # fmt: skip
    groups = _without_limits_on_groups(inputs, plan, bounds, offer.voter_id)
    return _AudiencePlan(
        plan, offer.eligibility, audience_json, budget, inputs, reasons, groups
    )


def _without_limits_on_groups(
    inputs: PlanInputs, plan: Plan, bounds: Sequence[GroupBound], voter_id: Objects
) -> _GroupsBefore | None:
    """The plan again without limits on groups; None where none are declared."""
    if not bounds:
        return None
    free = planned_again(without_bounds(inputs))
    sent = plan.contacts["voter_id"], free.contacts["voter_id"]

    def counted(members: Bools) -> tuple[int, int]:
        of_group = pd.Series(voter_id[members])
        n, n_free = (int(among(ids, of_group).sum()) for ids in sent)
        return n, n_free

    return _GroupsBefore(
        free.over_everybody.value,
        (len(sent[0]), len(sent[1])),
        {bound.name: counted(bound.members) for bound in bounds},
    )


def _price_of_groups(
    run: Run, audience_plans: Sequence["_AudiencePlan"]
) -> PriceOfGroups | None:
    """What the limits on groups cost all audiences together."""
    compared = [m.groups for m in audience_plans if m.groups is not None]
    if not compared:
        return None
    n, n_free = (max(sum(g.n[k] for g in compared), 1) for k in (0, 1))
    of_group = {
        name: (
            sum(g.of_group[name][0] for g in compared),
            sum(g.of_group[name][1] for g in compared),
        )
        for name in run.campaign.plan.groups
    }
    return PriceOfGroups(
        sum(m.plan.over_everybody.value for m in audience_plans),
        sum(g.value for g in compared),
        tuple(
            BoundedGroup(
                name, group.low, group.high, group.most, *of_group[name],
                of_group[name][0] / n, of_group[name][1] / n_free,
            )
            for name, group in run.campaign.plan.groups.items()
        ),
    )  # fmt: skip


def _not_contacted(run: Run, who: _Audience, online: Online) -> _Audience:
    """The audience without voters whom the endpoint has sent or offers something.

    A plan decides its voters once for the whole campaign.
    """
    ids = pd.concat([online.contacts["voter_id"], online.open["voter_id"]])
    reached = with_present_ids(ids, present_id_of(run.home))
    left = who.voters[~among(who.voters["voter_id"], reached)]
    return replace(who, voters=left.reset_index(drop=True))


def _online_use(online: Online) -> OnlineUse:
    """What was sent and is offered online; counts and money."""
    return OnlineUse(
        len(online.paid), online.sent_usd, len(online.open), online.reserved_usd
    )


def _planned_places(run: Run, plan: Plan) -> PlannedPlaces:
    """What the report says of whole places."""
    declared = run.campaign.plan.places
    assert declared is not None
    columns = [field.name for field in fields(TakenPlace)]
    taken = taken_places(plan.places)[columns]
    return PlannedPlaces(
        column=declared.column,
        n_places=int((plan.places["n_voters"] >= SMALLEST_CELL).sum()),
        n_held_out=int((plan.places["role"] == "holdout").sum()),
        gap=plan.places_gap,
        expected={
            name: ExpectedOfChannel(c.lift_of, c.lift_share)
            for name, c in declared.channels.items()
        },
        taken=tuple(TakenPlace(*row) for row in taken.itertuples(index=False)),
    )


def _terms(
    run: Run, budget_usd: float, share: float, arms: Sequence[Arm]
) -> PlanSettings:
    """Terms of an audience that has a share of the campaign's capacities."""
    caps, floors = message_bounds(run, arms, share)
    plan = run.campaign.plan
    capacity = {channel: most * share for channel, most in _capacity(run).items()}
    in_all = plan.capacity_per_day
    return PlanSettings(
        salt=holdout_salt(run),
        holdout_share=plan.holdout_share,
        explore_share=plan.explore_share,
        budget_usd=budget_usd,
        start_on=pd.Timestamp(plan.start_on),
        days=plan.days,
        capacity=capacity,
        capacity_per_day=None if in_all is None else in_all * share,
        caps=caps,
        floors=floors,
        entered=entered_channels(run, arms),
        minimum_audience=plan.minimum_audience * share,
    )


def _segments(run: Run, model: CampaignModel, voters: pd.DataFrame) -> pd.Series:
    """Segment of every voter, by voter_id."""
    return segments(model.reader.features(voters), run.campaign.features.segment)


def _plan_summary(
    run: Run,
    model: CampaignModel,
    voters: pd.DataFrame,
    contacts: pd.DataFrame,
    assigned: pd.DataFrame,
    audience_plans: list[_AudiencePlan],
) -> PlanSummary:
    """What the report says of the plan; counts only."""
    spent = float(
        contacts["cost_usd"].sum()
        + sum(
            m.plan.setup_usd + m.plan.places["cost_usd"].sum() for m in audience_plans
        )
    )
    bound = sum(m.plan.over_everybody.bound for m in audience_plans)
    worth = sum(m.plan.over_everybody.value for m in audience_plans)
    by_day = contacts.groupby(["send_on", "channel"], as_index=False).size()
    planned = contacts.groupby(
        ["message_id", "channel", "role"], observed=True, as_index=False
    ).agg(n=("lift", "size"), cost_usd=("cost_usd", "sum"), lift_mean=("lift", "mean"))
    refused = Counter[str]()
    for m in audience_plans:
        for row in m.eligible.reason_counts():
            refused[str(row["reason"])] += int(row["n_voters"])
    segment = _segments(run, model, voters)
    contacted = pd.Series(among(segment.index.to_series(), contacts["voter_id"]))
    counted = contacted.groupby(segment.to_numpy()).agg(["sum", "size"])
    return PlanSummary(
        budget_usd=sum(m.budget_usd for m in audience_plans),
        spent_usd=spent,
        shadow_price=audience_plans[0].terms["shadow_price"]
        if len(audience_plans) == 1
        else None,
        optimality_gap=(bound - worth) / bound if bound > 0 else 0.0,
        bound=sum(m.plan.chosen.bound for m in audience_plans),
        value=sum(m.plan.chosen.value for m in audience_plans),
        limits=tuple(
            limit
            for m in audience_plans
            for limit in limits_used(m.plan.limits, m.plan.chosen, m.plan.left())
        ),
        setup_usd=sum(m.plan.setup_usd for m in audience_plans),
        closed=tuple(sorted({name for m in audience_plans for name in m.plan.closed})),
        n_contacts=len(contacts),
        explore_share=float(np.mean([m.plan.explored for m in audience_plans])),
        roles=Counter(assigned["role"].astype(str)),
        contacts_by_day=tuple(
            ContactsOfDay(f"{day:%Y-%m-%d}", str(channel), n)
            for day, channel, n in by_day.itertuples(index=False)
        ),
        planned=tuple(PlannedArm(*row) for row in planned.itertuples(index=False)),
        not_eligible=tuple(NotEligible(*row) for row in refused.items()),
        segments=tuple(PlannedSegment(*row) for row in counted.itertuples()),
        reasons=tuple(row for m in audience_plans for row in m.reasons),
        groups=_price_of_groups(run, audience_plans),
    )
