"""The monitor's configuration from a run, and the messages that it has paused."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.plans import contacts_sent, plans
from hustings.experiments.stages.context import Json, Run
from hustings.experiments.stages.reactions import store_of
from hustings.features.tables import CONTROL
from hustings.serving.monitor.disclosure import shown_counts
from hustings.training.registry.campaign_model import CampaignModel

UNKNOWN = "unknown"


def paused_messages(run: Run) -> dict[str, str]:
    """Reason of each paused message, by message; empty without a store."""
    store = store_of(run.campaign, run.home)
    if isinstance(store, Path) and not store.exists():
        return {}
    from hustings.serving.monitor.pauses import Pauses

    pauses = Pauses.open(store)
    try:
        return pauses.refusals()
    finally:
        pauses.close()


def monitor_terms(
    run: Run, model: CampaignModel, segment: pd.Series, contacts: pd.DataFrame
) -> Json:
    """The part of plan.json that the monitor reads.

    Args:
        run: Holds the tables, and the evaluation where it was trained.
        model: Its effects are those of a run that was not.
        segment: Segment of every voter, by voter_id.
        contacts: PLAN table of a draft: planned, and handed over to nobody yet.
    """
    messages, voters = run.table("messages"), run.table("voters")
    declared = run.campaign.monitor
    return {
        "issue_of": dict(zip(messages["message_id"], messages["issue"], strict=True)),
        "sent": voters_by_day(_sent(run), voters, segment),
        "planned": voters_by_day(
            _of_days(contacts, contacts["send_on"]), voters, segment
        ),
        "lifts": _lifts(run.read_json("evaluation"))
        if (run.folder / "evaluation.json").exists()
        else _lifts_of(model, set(run.table("deliveries")["message_id"])),
        "pause_on": declared.pause_on,
        "alerts": declared.alerts.model_dump() if declared.alerts else None,
        "rules": declared.rules(),
    }


def _sent(run: Run) -> pd.DataFrame:
    """What was sent: in tests elsewhere, and by plans that were handed over."""
    deliveries, handed = run.table("deliveries"), contacts_sent(run.home)
    elsewhere = deliveries[~deliveries["plan_id"].isin(list(plans(run.home)))]
    parts = [
        _of_days(elsewhere, elsewhere["sent_on"]),
        _of_days(handed, pd.to_datetime(handed["send_on"])),
    ]
    return pd.concat(parts, ignore_index=True)


def _of_days(rows: pd.DataFrame, day: pd.Series) -> pd.DataFrame:
    return rows[["voter_id", "message_id"]].assign(day=day)


def voters_by_day(
    contacts: pd.DataFrame, voters: pd.DataFrame, segment: pd.Series
) -> dict[str, list[Json]]:
    """Count the voters that each message goes to, by the first day on which it does.

    Args:
        contacts: Columns voter_id, message_id and day.
        voters: VOTERS, for their counties.
        segment: Segment of every voter, by voter_id.

    Returns:
        By message, in the order of days: `from`, `n`, `by_segment` and `by_county`,
        numbers of voters as far as they may be shown; `n` is the sum of segments.
    """
    sent = contacts[contacts["message_id"] != CONTROL]
    sent = sent.assign(day=sent["day"].dt.strftime("%Y-%m-%d"))
    by_voter = sent.sort_values("day", kind="stable")
    first = by_voter.drop_duplicates(["message_id", "voter_id"]).copy()
    county = voters.set_index("voter_id").get("county_fips")
    first["segment"] = _labels(first["voter_id"], segment)
    first["county"] = _labels(first["voter_id"], county)
    return {
        str(message): list(_days(of_message))
        for message, of_message in first.groupby("message_id")
    }


def _labels(voter_id: pd.Series, label: pd.Series | None) -> pd.Series:
    if label is None:
        return pd.Series(UNKNOWN, index=voter_id.index)
    labels: pd.Series = voter_id.map(label).astype(object).fillna(UNKNOWN).astype(str)
    return labels


def _days(sent: pd.DataFrame) -> Iterator[Json]:
    for day in sorted(sent["day"].unique()):
        past = sent[sent["day"] <= day]
        by_segment = shown_counts(_counted(past["segment"]))
        yield {
            "from": day,
            "n": sum(by_segment.values()),
            "by_segment": by_segment,
            "by_county": shown_counts(_counted(past["county"])),
        }


def _counted(label: pd.Series) -> dict[str, int]:
    return {str(name): int(n) for name, n in label.value_counts().items()}


def _lifts(evaluation: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Randomised effect of every message, in outcome units, higher being better."""
    return {
        row["message_id"]: {
            "lift": row["effect"]["value"],
            "low": row["effect"]["low"],
            "high": row["effect"]["high"],
        }
        for experiment in evaluation["experiments"].values()
        for row in experiment["messages"]
    }


def _lifts_of(model: CampaignModel, sent: Collection[str]) -> dict[str, Json]:
    """Lifts, as `_lifts`, of messages that a model learnt from and that were sent."""
    return {
        message: {"lift": effect.value, "low": effect.low, "high": effect.high}
        for lift in model.lifts.values()
        for message, effect in zip(
            lift.nuisances.messages,
            lift.nuisances.effects.intervals(shrunken=False),
            strict=True,
        )
        if message in sent
    }
