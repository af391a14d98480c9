"""The model that a run scores and plans by: the registered champion, or any version.

A run that was only ingested has no model of its own: it takes the registered one. So a
new voter file is scored and planned without training anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.results import ExpectedMessage, Unseen
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.external_priors import evidence_of
from hustings.experiments.stages.guardrails import NOTHING_GUARDED
from hustings.experiments.stages.tables import require_readable
from hustings.features.arrays import Floats
from hustings.features.message import MessageFeatures, message_features
from hustings.features.prior_evidence import PriorEvidence
from hustings.features.tables import ANY_MESSAGE
from hustings.features.training_set import Arm
from hustings.serving.load import load_version
from hustings.training.estimators.metrics import Interval
from hustings.training.learners.average_effects import estimates_of
from hustings.training.learners.forecasts import (
    Expected,
    MessageEstimates,
    expected_effects,
)
from hustings.training.learners.lift_model import FittedLift
from hustings.training.policy_value.partner import PartnerLift
from hustings.training.policy_value.results import NOT_LEARNT
from hustings.training.registry.campaign_model import CampaignModel
from hustings.training.registry.register import (
    Version,
    champion_version,
    open_store,
    registered_versions,
)

if TYPE_CHECKING:
    from hustings.training.learners.net import NetLift

NO_TEXTS = "the champion does not read what messages say; train with `--model net`"
READS_TEXTS = "NetLift"
NO_PRICE = "no channel of the experiment has a price for it"
OUTSIDE = "unlike all messages that were tested (outside); test it first"
MOST_SAID = 10
"""What more messages are expected to do stands in the report alone."""
OF_PARTNER = "the champion is a partner, who scores what was sent alone"


def adopt(run: Run, *, version: str = "") -> Version:
    """Make a registered version the one that a run scores and plans by.

    Args:
        run: Its voters were ingested.
        version: Number of a version; the champion without.

    Raises:
        CampaignError: If nothing is registered, since nothing may be sent or nothing
            can be said, as the run found before training.
        FileNotFoundError: If nothing is registered, or not that version.
    """
    open_store(run.mlflow_uri or None, run.store)
    if champion_version(run.campaign.campaign.name) is None:
        _require_verdict(run)
    chosen = registered(run.campaign.campaign.name, version)
    model = load_version(chosen)
    require_readable(run, model.reader)
    if not run.has("turnout.json"):
        lowers = model.facts["lowers_turnout"]
        run.write_json("turnout", {"lowers": lowers, "effects": {}})
        run.write_json("guardrails", model.facts.get("guardrails", NOTHING_GUARDED))
    run.write_json("promoted", vars(chosen) | {"kept": True})
    return chosen


def _require_verdict(run: Run) -> None:
    if run.has("evaluation.json"):
        headline = run.read_json("evaluation")["headline"]
        if headline["verdict"] in NOT_LEARNT:
            raise CampaignError(headline["sentence"])


def registered(campaign: str, version: str) -> Version:
    """A registered version of a campaign's model.

    Args:
        campaign: Its name.
        version: Number of the version; empty for the champion.

    Raises:
        FileNotFoundError: If nothing is registered, or not that version.
    """
    if not version:
        champion = champion_version(campaign)
        if champion is None:
            raise FileNotFoundError(
                f"campaign {campaign}: expected a registered champion, found none; "
                "`hustings run` trains and registers one"
            )
        return champion
    versions = {v.version: v for v in registered_versions(campaign)}
    if version not in versions:
        raise FileNotFoundError(
            f"campaign {campaign}: expected a registered version, "
            f"{', '.join(versions) or 'none yet'}, got {version!r}"
        )
    return versions[version]


def promoted(run: Run) -> tuple[CampaignModel, Version]:
    """The version that this run promoted, kept or adopted; the champion without any.

    Messages that were never sent stand in it where the model reads what they say.
    """
    open_store(run.mlflow_uri or None, run.store)
    if run.has("promoted.json"):
        stored = run.read_json("promoted")
        version = Version(
            stored["name"], stored["version"], stored["run_id"], stored["tags"]
        )
    else:
        version = adopt(run)
    return with_unseen(run, load_version(version)), version


def with_unseen(run: Run, model: CampaignModel) -> CampaignModel:
    """The model with the campaign's messages that were never sent, as far as it can.

    Which were scored, and why others were not, is noted in run.json.

    Args:
        run: Its messages and costs say what could be sent.
        model: As registered.
    """
    messages = run.table("messages")
    unseen = messages[~messages["message_id"].isin({*model.messages, *_tested(run)})]
    evidence = evidence_of(run)
    if evidence is None or unseen.empty:
        extended, not_scored = _by_text(run, model, unseen)
        expected: Mapping[str, ExpectedMessage] = {}
    else:
        extended, not_scored, expected = _by_all_that_is_known(
            run, model, unseen, evidence
        )
    scored = tuple(sorted(set(unseen["message_id"]) - set(not_scored)))
    run.note(unseen=Unseen(scored, not_scored, expected))
    return extended


def _by_text(
    run: Run, model: CampaignModel, unseen: pd.DataFrame
) -> tuple[CampaignModel, dict[str, str]]:
    """The model with new messages by what they say; those left out, with the reason."""
    not_scored = dict.fromkeys(unseen["message_id"].tolist(), NO_TEXTS)
    extended, costs = model, run.table("costs")
    if len(unseen) and any(_reads_texts(lift) for lift in model.lifts.values()):
        features = message_features(unseen)
        for name, lift in model.lifts.items():
            left = [m for m in features.ids if m in not_scored]
            if left and _reads_texts(lift):
                extended, reasons = _extended(
                    extended, name, lift, features.of(left), costs
                )
                not_scored = reasons
    return extended, not_scored


def _by_all_that_is_known(
    run: Run, model: CampaignModel, unseen: pd.DataFrame, evidence: PriorEvidence
) -> tuple[CampaignModel, dict[str, str], dict[str, ExpectedMessage]]:
    """The model with new messages by forecasts, past tests, texts and its own tests.

    A message goes to the experiment that tested its issue, else to the first.

    Returns:
        The model, the reasons of the messages that are not scored, and what all are
        expected to do.
    """
    text = _text_blocks(run, evidence) if run.campaign.forecasts.texts else []
    estimates = {
        name: estimates_of(evidence, lift.nuisances)
        for name, lift in model.lifts.items()
    }
    extended, costs = model, run.table("costs")
    not_scored: dict[str, str] = {}
    expected: dict[str, ExpectedMessage] = {}
    for name, ids in _homes(unseen, evidence, estimates).items():
        rest = [e for other, e in estimates.items() if other != name]
        usual_effect = float(model.lifts[name].nuisances.effects.usual_effect)
        effects = expected_effects(
            evidence, [estimates[name], *rest], evidence.rows(ids),
            usual_effect=usual_effect, text=text,
        )  # fmt: skip
        intervals = (
            Interval.of(value, se=se)
            for value, se in zip(effects.mean, effects.se, strict=True)
        )
        expected |= {
            m: ExpectedMessage(interval, bool(outside))
            for m, interval, outside in zip(
                ids, intervals, effects.outside, strict=True
            )
        }
        extended, reasons = _with_expected(extended, name, ids, effects, costs)
        not_scored |= reasons
    return extended, not_scored, expected


def _homes(
    unseen: pd.DataFrame,
    evidence: PriorEvidence,
    estimates: Mapping[str, MessageEstimates],
) -> dict[str, tuple[str, ...]]:
    """Messages by the experiment that they join: of their issue, else the first."""
    issues = {
        name: {evidence.issue[row] for row in of_test.message}
        for name, of_test in estimates.items()
    }
    homes: dict[str, list[str]] = {}
    for message, issue in zip(unseen["message_id"], unseen["issue"], strict=True):
        of_issue = [name for name in issues if issue in issues[name]]
        homes.setdefault([*of_issue, *issues][0], []).append(message)
    return {name: tuple(ids) for name, ids in homes.items()}


def _text_blocks(run: Run, evidence: PriorEvidence) -> list[Floats]:
    """Features of the texts of all messages that are known, NaN without a text."""
    n_past = len(evidence.ids) - len(run.table("messages"))
    past = pd.DataFrame(
        {
            "message_id": evidence.ids[-n_past:] if n_past else (),
            "issue": evidence.issue[-n_past:] if n_past else (),
            "text": evidence.text[-n_past:] if n_past else (),
        }
    )
    every = [run.table("messages"), past[past["text"] != ""]]
    return message_features(pd.concat(every)).blocks_of(evidence.ids)


def _with_expected(
    model: CampaignModel,
    experiment: str,
    ids: Sequence[str],
    effects: Expected,
    costs: pd.DataFrame,
) -> tuple[CampaignModel, dict[str, str]]:
    """The model with messages of which an effect is expected; reasons of the others."""
    lift = model.lifts[experiment]
    if isinstance(lift, PartnerLift):
        return model, dict.fromkeys(ids, OF_PARTNER)
    inside = [m for m, out in zip(ids, effects.outside, strict=True) if not out]
    reasons = dict.fromkeys(set(ids) - set(inside), OUTSIDE)
    channels = list(dict.fromkeys(arm.channel for arm in model.arms[experiment]))
    arms = _priced_arms(inside, channels, costs)
    priced = {arm.message_id for arm in arms}
    reasons |= dict.fromkeys([m for m in inside if m not in priced], NO_PRICE)
    at = [k for k, m in enumerate(ids) if m in priced]
    if not at:
        return model, reasons

    from hustings.training.learners.unseen import ExpectedLift

    def with_new(lift: FittedLift) -> FittedLift:
        new = tuple(ids[k] for k in at)
        return ExpectedLift(lift, new, effects.mean[at], effects.se[at])

    return (
        replace(
            model,
            lifts={**model.lifts, experiment: with_new(lift)},
            other_lifts={
                name: {
                    e: with_new(other) if e == experiment else other
                    for e, other in lifts.items()
                }
                for name, lifts in model.other_lifts.items()
            },
            arms={**model.arms, experiment: (*model.arms[experiment], *arms)},
        ),
        reasons,
    )


def _tested(run: Run) -> frozenset[str]:
    """Messages that were tested on too few people: measured, and no unseen ones."""
    if not run.has("not_learnt.json"):
        return frozenset()
    return frozenset(run.read_json("not_learnt")["few_answers"])


def _reads_texts(lift: FittedLift) -> bool:
    # the network's library is slow to import
    return type(lift).__name__ == READS_TEXTS


def _extended(
    model: CampaignModel,
    experiment: str,
    lift: FittedLift,
    messages: MessageFeatures,
    costs: pd.DataFrame,
) -> tuple[CampaignModel, dict[str, str]]:
    """The model with new messages in an experiment; those left out, with the reason."""
    from hustings.training.learners.unseen import (
        UnseenLift,
        why_not_answered,
    )

    reader = cast("NetLift", lift)
    reasons = why_not_answered(reader, messages)
    channels = list(dict.fromkeys(arm.channel for arm in model.arms[experiment]))
    arms = _priced_arms([m for m in messages.ids if m not in reasons], channels, costs)
    answered = [m for m in messages.ids if any(arm.message_id == m for arm in arms)]
    for message in messages.ids:
        if message not in answered and message not in reasons:
            reasons[message] = NO_PRICE
    if not answered:
        return model, reasons
    with_new = UnseenLift(reader, messages.of(answered))
    return (
        replace(
            model,
            lifts={**model.lifts, experiment: with_new},
            arms={**model.arms, experiment: (*model.arms[experiment], *arms)},
        ),
        reasons,
    )


def _priced_arms(
    messages: Sequence[str], channels: Sequence[str], costs: pd.DataFrame
) -> list[Arm]:
    """Messages by the channels that the experiment tried and that have a price."""
    priced = set(zip(costs["message_id"], costs["channel"], strict=True))
    return [
        Arm(message, channel)
        for message in messages
        for channel in channels
        if {(message, channel), (ANY_MESSAGE, channel)} & priced
    ]


def unseen_in_words(unseen: Unseen | None) -> list[str]:
    """Fate of messages that were never sent, a sentence a line; counts first.

    Args:
        unseen: As run.json notes them; None before they were scored.
    """
    if unseen is None or not (unseen.scored or unseen.not_scored):
        return []
    scored, not_scored = unseen.scored, unseen.not_scored
    n = len(scored) + len(not_scored)
    were = "message has" if n == 1 else "messages have"
    by = "what they say"
    if unseen.expected:
        by = "what others know of them"
    sentences = [
        f"{n} {were} never been sent: {len(scored)} scored by {by}, with "
        f"their wider interval, {len(not_scored)} not scored."
    ]
    sentences += [
        f"Expected of {name}: {row.effect.value:.3g} ({row.effect.low:.3g} to "
        f"{row.effect.high:.3g}){', outside' if row.outside else ''}."
        for name, row in list(unseen.expected.items())[:MOST_SAID]
    ]
    if len(unseen.expected) > MOST_SAID:
        sentences.append("The report shows what the others are expected to do.")
    for reason in dict.fromkeys(not_scored.values()):
        names = [m for m, why in not_scored.items() if why == reason]
        sentences.append(f"Not scored: {', '.join(names)}: {reason}.")
    return sentences
