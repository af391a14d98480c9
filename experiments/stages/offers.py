"""The campaign's offer: from its run, its record and its declaration."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.declaration.planning import PlaceChannel
from hustings.experiments.plans.signing import signed_texts
from hustings.experiments.stages.audience import lowers_turnout, people_of
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.electorate import require_like_the_tested
from hustings.experiments.stages.guardrails import closed_groups, edges_of_segments
from hustings.experiments.stages.monitor_config import paused_messages
from hustings.experiments.stages.persons import held_voters, known_persons
from hustings.experiments.stages.reactions import permissions_now
from hustings.features.arrays import Bools
from hustings.features.asof import naive_utc
from hustings.features.membership import positions
from hustings.features.spilled import let_go, row_blocks
from hustings.features.training_set import arm_costs, household
from hustings.features.voter import segments
from hustings.serving.contact_lists import ContactLists
from hustings.serving.eligible import People, counted_in_places
from hustings.serving.offer import (
    SUPPORT,
    TURNOUT,
    Z95,
    Among,
    Offer,
    OfferedVoters,
    OfferSettings,
    PredictedArms,
    Rules,
    joined,
    offered,
    predict_arms,
)
from hustings.serving.plan import PlaceOffers, PlaceOption, require_holdout
from hustings.serving.rules import rule_set
from hustings.training.policy_value.policies import Policy
from hustings.training.registry.campaign_model import CampaignModel


def rules_at(run: Run, at: pd.Timestamp) -> Rules:
    """Rules of the law, the campaign and its voters, as known at a moment."""
    return Rules(
        rule_set=run.campaign.campaign.rule_set,
        messages=run.table("messages"),
        permissions=permissions_now(run, run.optional_table("permissions"), at),
        people=people_of(run),
        lowers_turnout=lowers_turnout(run),
        paused=paused_messages(run),
        signed=signed_texts(run.home),
    )


def decides_by_household(run: Run) -> bool:
    """Whether households decide, and are held out, as one: as the test was drawn."""
    drawn = run.optional_table("deliveries")
    return drawn is not None and bool((drawn["randomised_by"] != "person").any())


def holdout_salt(run: Run) -> str:
    """Salt that fixes the holdout for the duration of the campaign."""
    return f"{run.campaign.campaign.name}-{run.campaign.campaign.seed}"


def holdout_of(run: Run, voters: pd.DataFrame) -> Bools:
    """Whether each voter is held out, whatever plan is asked about, shape (n_voters,).

    Args:
        run: Says by which unit, salt and share.
        voters: VOTERS rows.
    """
    by_household = decides_by_household(run)
    unit = household(voters) if by_household else voters["voter_id"]
    return held_voters(
        run.home, voters, unit.to_numpy(dtype=object), by_household=by_household,
        salt=holdout_salt(run), share=run.campaign.plan.holdout_share,
    )  # fmt: skip


def require_some_held_out(run: Run, voters: pd.DataFrame) -> None:
    """Refuse a plan of whose voters `holdout_of` holds out nobody.

    Raises:
        ValueError: If the draw holds out nobody of them.
    """
    held = holdout_of(run, voters)
    unit = household(voters) if decides_by_household(run) else voters["voter_id"]
    share = run.campaign.plan.holdout_share
    require_holdout(held, unit.to_numpy(dtype=object), share)


def contact_lists(run: Run) -> ContactLists:
    """Digests of voters who asked not to be contacted, and of those with addresses."""
    key = known_persons(run.home).keys.campaign_key
    return ContactLists.of(key, people_of(run))


def moment_of(day: pd.Timestamp, now: pd.Timestamp) -> pd.Timestamp:
    """The moment that the law asks about: the day of sending, or now where it is past.

    Args:
        day: First day on which the plan sends.
        now: The clock.
    """
    return max(pd.Timestamp(day), naive_utc(now))


def settings_of(
    run: Run, experiments: Sequence[str], *, by_household: bool
) -> OfferSettings:
    """Settings of `[plan]` and `[features]`, without those computed from voters.

    Raises:
        CampaignError: If `[plan.only]` names a column or value that no voter has.
    """
    campaign = run.campaign
    only = campaign.plan.only
    if only is not None:
        _require_values(run.table("voters"), only.column, only.values)
    return OfferSettings(
        experiments=tuple(experiments),
        worth={n: s.value for n, s in campaign.experiments.items()},
        confidence=campaign.plan.confidence,
        only=None if only is None else Among(only.column, tuple(only.values)),
        segment=tuple(campaign.features.segment),
        by_household=by_household,
        edges=edges_of_segments(run),
        closed=closed_groups(run),
    )


def _require_values(voters: pd.DataFrame, column: str, values: Sequence[str]) -> None:
    if column not in voters:
        raise CampaignError(
            f"[plan.only]: expected a column of the voters, got {column!r}; map it in "
            "[tables.voters.columns]"
        )
    absent = sorted(set(values) - set(voters[column].astype(str)))
    if absent:
        raise CampaignError(
            f"[plan.only]: no voter has {column} = {absent[0]!r}; mend values"
        )


def backlash_by_segment(
    predicted: Offer | PredictedArms, segment: pd.Series
) -> dict[str, frozenset[str]]:
    """Messages that lower the outcome in a segment, as far as their intervals tell.

    Args:
        predicted: Lifts of the whole electorate.
        segment: Segment of every voter, shape (n,).
    """
    lift, se, arms = predicted.lift, predicted.standard_error, predicted.arms
    code, names = pd.factorize(segment)
    n_voters = np.bincount(code, minlength=len(names))
    upper = np.zeros((len(names), len(arms)))
    for rows in row_blocks(len(code)):
        high = lift[rows] + Z95 * se[rows].astype(np.float64)
        for a, of_arm in enumerate(high.T):
            upper[:, a] += np.bincount(code[rows], of_arm, minlength=len(names))
    closed = upper / n_voters[:, None] < 0
    return {
        str(name): frozenset(
            arm.message_id
            for arm, is_closed in zip(arms, of_segment, strict=True)
            if is_closed
        )
        for name, of_segment in zip(names, closed, strict=True)
        if of_segment.any()
    }


def campaign_offer(
    run: Run,
    model: CampaignModel,
    voters: pd.DataFrame,
    experiments: Sequence[str],
    *,
    at: pd.Timestamp,
    by_household: bool,
    model_version: str,
    channels: Sequence[str] | None = None,
) -> tuple[Offer, OfferSettings, Policy]:
    """What the campaign's voters may be offered at a moment, and what it is worth.

    Args:
        run: The run whose tables say who the voters are.
        model: The model.
        voters: VOTERS rows of an audience.
        experiments: Whose messages are offered.
        at: The moment that the law asks about.
        by_household: Whether households decide as one.
        model_version: As name/version.
        channels: Only these; all without.

    Raises:
        UnlikeTestedError: If the policy goes by voters' features, and the voters are
            not like those tested.

    Returns:
        The offer; the settings and the policy that it was made under.
    """
    settings = settings_of(run, experiments, by_household=by_household)
    policy = delivered_policy(run, model, experiments)
    require_like_the_tested(run, model.reader, policy)
    if policy_asks_for_support(policy):
        voters = with_predictions(run, voters, experiments)
    under = model.under(run.campaign.plan.policy)
    rules_of, costs = rules_by_block(rules_at(run, at), voters), run.table("costs")
    segment: list[pd.Series] = []

    def of_block(rows: slice) -> Offer:
        block = voters.iloc[rows]
        predicted = predict_arms(under, block, settings)
        if channels is not None:
            predicted = _by_channels(predicted, channels)
        features = model.reader.features(block)
        if run.campaign.plan.block_backlash:
            segment.append(segments(features, settings.segment, settings.edges))
        arms = predicted.arms
        return offered(
            predicted, OfferedVoters.of(features, block, settings), rules_of(rows),
            at=at, policy=policy,
            cost=dict(zip(arms, arm_costs(costs, arms), strict=True)),
            settings=settings, model_version=model_version,
        )  # fmt: skip

    blocks = list(row_blocks(len(voters))) or [slice(0, 0)]
    offer = joined(map(of_block, blocks), len(voters))
    if segment:
        offer, settings = _without_backlash(offer, pd.concat(segment), settings)
    return offer, settings, policy


def _without_backlash(
    offer: Offer, segment: pd.Series, settings: OfferSettings
) -> tuple[Offer, OfferSettings]:
    """The offer without what lowers the outcome of a voter's segment.

    A segment's voters lie in many blocks: it is known once all were predicted.
    """
    pairs = backlash_by_segment(offer, segment)
    settings = replace(settings, backlash=pairs)
    if not pairs:
        return offer, settings
    code, names = pd.factorize(segment)
    closed = np.array(
        [[arm.message_id in pairs.get(str(s), ()) for arm in offer.arms] for s in names]
    )
    for rows in row_blocks(len(offer)):
        offer.backlash[rows] = closed[code[rows]]
        offer.allowed[rows] &= ~offer.backlash[rows]
    let_go(offer.backlash, offer.allowed)
    return offer, settings


def rules_by_block(rules: Rules, voters: pd.DataFrame) -> Callable[[slice], Rules]:
    """Rules with what is on record of the voters of a block alone.

    Args:
        rules: Of the whole electorate.
        voters: VOTERS rows; a block is a slice of them.
    """
    ids, people = voters["voter_id"], rules.people
    permissions, listed, addresses, voted = (
        _by_block(_table(records), ids)
        for records in (
            rules.permissions, people.do_not_contact, people.addresses, people.voted,
        )
    )  # fmt: skip
    age = None if people.age is None else pd.Series(people.age)
    at = None if age is None else positions(ids, age.index.to_series())

    def of_block(rows: slice) -> Rules:
        ages = None if age is None or at is None else age.iloc[at[rows][at[rows] >= 0]]
        return replace(
            rules, permissions=permissions(rows),
            people=People(ages, listed(rows), addresses(rows), voted(rows)),
        )  # fmt: skip

    return of_block


def _table(records: object) -> pd.DataFrame | None:
    """What is on record of a whole electorate, which is a table."""
    if records is None or isinstance(records, pd.DataFrame):
        return records
    raise TypeError(f"expected a table of the electorate, got {type(records).__name__}")


def _by_block(
    table: pd.DataFrame | None, voter_id: pd.Series
) -> Callable[[slice], pd.DataFrame | None]:
    """Rows of a table about the voters of a block, in their order."""
    if table is None:
        return lambda _rows: None
    place = positions(table["voter_id"], voter_id)
    order = np.argsort(place, kind="stable")
    sorted_place = place[order]

    def rows_of(rows: slice) -> pd.DataFrame:
        first, last = np.searchsorted(sorted_place, [rows.start, rows.stop])
        return table.iloc[order[first:last]]

    return rows_of


def place_offers(
    run: Run, of_voters: Offer, voters: pd.DataFrame, rules: Rules, at: pd.Timestamp
) -> PlaceOffers | None:
    """What whole places may be offered; None where `[plan.places]` is not declared.

    A place gets what the policy sends to somebody and no rule bars. `[plan.only]` keeps
    a place out unless all of it lies inside. Segments that show backlash are in their
    places all the same: what they lose counts against the place. What a guardrail
    closes to anybody goes to no place.

    Args:
        run: Declares it.
        of_voters: The offer to the voters themselves, row by row.
        voters: VOTERS rows.
        rules: What the law, the campaign and its voters say.
        at: The moment that the law asks about.

    Raises:
        CampaignError: If a column, channel or message is none that the plan knows.
    """
    declared = run.campaign.plan.places
    if declared is None:
        return None
    if declared.column not in voters:
        raise CampaignError(
            f"[plan.places].column: expected a column of the voters, got "
            f"{declared.column!r}; map it in [tables.voters.columns]"
        )
    options = [
        option
        for name, channel in declared.channels.items()
        for option in _place_options(name, channel, of_voters)
    ]
    permissions, ids = rules.permissions, voters["voter_id"]
    counted = {
        name: counted_in_places(
            ids, name, permissions, rule_set(rules.rule_set), at,
            _table(rules.people.voted),
        )
        for name in declared.channels
    }  # fmt: skip
    place = voters[declared.column].astype("str").where(voters[declared.column].notna())
    outside = place[of_voters.excluded].dropna().unique()
    return PlaceOffers(
        place.mask(place.isin(outside)).fillna("").to_numpy(dtype=object),
        tuple(options),
        np.array([counted[o.channel] for o in options], dtype=bool)
        .reshape(-1, len(voters)).T,
    )  # fmt: skip


def _place_options(
    name: str, channel: PlaceChannel, of_voters: Offer
) -> list[PlaceOption]:
    """Messages that a channel of places may carry."""
    where = f"[plan.places.channels.{name}]"
    arm_of = {
        arm.message_id: a
        for a, arm in enumerate(of_voters.arms)
        if arm.channel == channel.lift_of
    }
    if not arm_of:
        tested = ", ".join(sorted({arm.channel for arm in of_voters.arms}))
        raise CampaignError(
            f"{where}.lift_of: expected a channel that was tested, one of {tested}, "
            f"got {channel.lift_of!r}"
        )
    unknown = sorted(set(channel.messages or ()) - set(arm_of))
    if unknown:
        raise CampaignError(
            f"{where}.messages: expected messages that go by {channel.lift_of}, "
            f"{', '.join(sorted(arm_of))}, got {unknown[0]!r}"
        )
    return [
        PlaceOption(
            name, message, arm_of[message], channel.lift_share,
            channel.usd_per_place, channel.usd_per_voter,
        )
        for message in channel.messages or arm_of
        if message not in of_voters.eligibility.barred_messages
        and of_voters.in_policy[:, arm_of[message]].any()
        # a place is everybody in it, the voters whom it would harm too
        and not of_voters.guarded[:, arm_of[message]].any()
    ]  # fmt: skip


def policy_asks_for_support(policy: Policy) -> bool:
    """Whether a policy goes by voters' predicted support or turnout."""
    return policy.band is not None or any(
        policy_asks_for_support(part) for part in policy.parts.values()
    )


def with_predictions(
    run: Run, voters: pd.DataFrame, experiments: Sequence[str]
) -> pd.DataFrame:
    """VOTERS with predicted turnout and support without a message.

    Args:
        run: Whose `train` predicted them.
        voters: VOTERS rows.
        experiments: Whose controls they were learnt from; the first that knows one.
    """
    chances = run.read("chances")
    columns = {}
    for name, outcome in ((TURNOUT, "turnout"), (SUPPORT, "support")):
        prediction = pd.Series(np.nan, index=pd.Index(voters["voter_id"]))
        for experiment in experiments:
            rows = chances[chances["experiment_id"] == experiment]
            predicted = rows.set_index("voter_id")[outcome].reindex(prediction.index)
            prediction = prediction.fillna(predicted)
        columns[name] = prediction.to_numpy(dtype=np.float64)
    # a voter who was not predicted counts as the mean of all, not of a block
    likely = columns[TURNOUT]
    if not np.isnan(likely).all():
        columns[TURNOUT] = np.where(np.isnan(likely), np.nanmean(likely), likely)
    return voters.assign(**columns)


def _by_channels(predicted: PredictedArms, channels: Sequence[str]) -> PredictedArms:
    of_channels = np.array([arm.channel in channels for arm in predicted.arms])
    columns = np.flatnonzero(of_channels)
    return PredictedArms(
        predicted.lift[:, columns],
        predicted.standard_error[:, columns],
        predicted.value[:, columns],
        tuple(predicted.arms[c] for c in columns),
        tuple(predicted.experiment_of_arm[c] for c in columns),
    )


def delivered_policy(
    run: Run, model: CampaignModel, experiments: Sequence[str]
) -> Policy:
    """The policy that `[plan] policy` names, as it was chosen on all data.

    Args:
        run: Declares it.
        model: The model, which holds each experiment's policies.
        experiments: Whose messages are offered.

    Raises:
        CampaignError: If the model holds no such policy.
    """
    name = run.campaign.plan.policy
    try:
        parts = {e: model.policy(e, name) for e in experiments}
        model.under(name)
    except KeyError as why:
        raise CampaignError(f"[plan].policy: {why.args[0]}") from why
    if len(parts) == 1:
        return next(iter(parts.values()))
    return Policy(name, parts=parts)
