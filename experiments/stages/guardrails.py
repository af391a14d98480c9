"""Guardrails of a run: what they say of every message, and what they close to whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hustings.experiments.declaration import Campaign, CampaignError
from hustings.experiments.stages.context import Json, Run
from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.training_set import Arm, MessageTest, last_answers
from hustings.features.voter import (
    SegmentEdges,
    segment_bins,
    segment_edges,
    segment_parts,
)
from hustings.serving.rules import rule_set
from hustings.training.policy_value.guardrails import (
    HARMS,
    LEVEL,
    ClosedGroup,
    GroupEffect,
    GuardedMessage,
    Guardrail,
    closed_arms,
    closed_by,
    group_effects,
    judge_guardrail,
)

TURNOUT = "turnout"
"""Name of the guardrail that every campaign has which says who voted."""
TURNOUT_MARGIN = 0.01
"""A point: a fall in turnout of that size is as much as persuasion usually gains."""
_KEY = ["voter_id", "experiment_id", "plan_id"]


@dataclass(frozen=True)
class _Guarded:
    """A guardrail with the outcome that it guards.

    Attributes:
        guardrail: As it is judged.
        outcome: As responses name it.
        absent: What a delivery without a response means.
        by_law: Whether the rules guard it, and not the campaign's own word.
    """

    guardrail: Guardrail
    outcome: str
    absent: str
    by_law: bool


def turnout_outcome(campaign: Campaign) -> str | None:
    """The outcome that says who voted; None where the campaign has none."""
    if campaign.outcome.measures == "turnout":
        return campaign.outcome.name
    return campaign.outcome.turnout


def _guarded(campaign: Campaign) -> list[_Guarded]:
    """Guardrails as declared, and turnout wherever it is known."""
    declared, voted = campaign.guardrails, turnout_outcome(campaign)
    needs_turnout = voted is not None and all(
        section.outcome != voted for section in declared.values()
    )
    share = LEVEL / max(len(declared) + needs_turnout, 1)
    guarded = [
        _Guarded(
            Guardrail(
                name, section.direction, section.margin, section.alpha or share,
                section.bars_unproven,
            ),
            section.outcome, section.absent, by_law=False,
        )
        for name, section in declared.items()
    ]  # fmt: skip
    if needs_turnout and voted is not None:
        turnout = Guardrail(TURNOUT, "fall", TURNOUT_MARGIN, share, bars_unproven=False)
        guarded.append(_Guarded(turnout, voted, "missing", by_law=True))
    return guarded


def write_guardrails(
    run: Run,
    rows: pd.DataFrame,
    features: pd.DataFrame,
    tests: Mapping[str, MessageTest],
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
) -> list[str]:
    """Judge every guardrail on the tests; write `guardrails.json` and `turnout.json`.

    Args:
        run: Declares them.
        rows: The training set.
        features: Of the same rows.
        tests: The experiments, of the same rows.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.

    Returns:
        What a person has to know, a sentence each.
    """
    columns = run.campaign.features.segment
    edges = segment_edges(features, columns)
    has_rule = bool(rule_set(run.campaign.campaign.rule_set).of("turnout"))
    summaries, closed, notes = [], [], []
    turnout: Json = {"lowers": [], "effects": {}}
    for guarded in _guarded(run.campaign):
        effects: list[GroupEffect] = []
        with_days: list[GroupEffect] = []
        for name, test in tests.items():
            inside = (rows["experiment_id"] == name).to_numpy(dtype=bool)
            of_test = _values(run, guarded, test, rows[inside])
            parts = segment_parts(features[inside], columns, edges)
            for found, at in (
                (effects, _by_itself(test)), (with_days, _with_days(test))
            ):  # fmt: skip
                if len(at):
                    found += group_effects(
                        test.take(at), of_test[at], parts.iloc[at], categorical,
                        issue_of, seed=run.campaign.campaign.seed,
                    )  # fmt: skip
        judged = judge_guardrail(guarded.guardrail, effects, with_days)
        summaries.append(_summary(guarded, judged))
        closings = closed_by(guarded.guardrail, judged)
        if guarded.outcome == turnout_outcome(run.campaign):
            turnout = _turnout(judged)
            if has_rule:
                # the rule bars them already
                lowers = turnout["lowers"]
                closings = [c for c in closings if c.message_id not in lowers]
        if guarded.by_law and not has_rule:
            closings = []
        closed += closings
        notes += [
            f"Message {c.message_id} {c.reason}: sent to "
            f"{'none of them' if c.where else 'nobody'}."
            for c in closings
        ]
        if not (effects or with_days):
            notes.append(
                f"Guardrail {guarded.guardrail.name}: no answers on "
                f"{guarded.outcome!r} yet that compare a message with none; nothing is "
                "judged by it."
            )
    stored = {
        "edges": {name: list(cuts) for name, cuts in edges.items()},
        "guardrails": summaries,
        "closed": [group.to_json() for group in closed],
    }
    run.write_json("guardrails", stored)
    run.write_json("turnout", turnout)
    return notes


def _by_itself(test: MessageTest) -> Ints:
    """Rows of the experiment as it was designed, without the campaign's own days."""
    if test.wave is None:
        return np.arange(len(test.Y))
    return np.flatnonzero(test.wave == 0)


def _with_days(test: MessageTest) -> Ints:
    """All rows; none where no day of the campaign has added any."""
    is_there = test.wave is not None and bool((test.wave > 0).any())
    return np.arange(len(test.Y) if is_there else 0)


def _values(
    run: Run, guarded: _Guarded, test: MessageTest, rows: pd.DataFrame
) -> Floats:
    """The guarded outcome of a test's rows, NaN where unknown, shape (n,)."""
    outcome = run.campaign.outcome
    if guarded.outcome == outcome.name:
        return np.multiply(test.Y, outcome.direction)
    answers = run.table("responses").query("outcome == @guarded.outcome")
    value = last_answers(answers).set_index(_KEY)["value"]
    answered = value.reindex(pd.MultiIndex.from_frame(rows[_KEY])).astype(np.float64)
    if guarded.absent == "zero" and answered.notna().any():
        answered = answered.fillna(0.0)
    return np.asarray(answered, dtype=np.float64)


def _turnout(judged: Sequence[GuardedMessage]) -> Json:
    """What lowers turnout, and every message's effect on it."""
    averages = [row for row in judged if not row.where]
    return {
        "lowers": sorted({r.message_id for r in averages if r.status == HARMS}),
        "effects": {row.message_id: row.effect.as_dict() for row in averages},
    }


def _summary(guarded: _Guarded, judged: Sequence[GuardedMessage]) -> Json:
    """A guardrail and what it found: everybody, and the groups that are harmed."""
    return {
        **vars(guarded.guardrail),
        "outcome": guarded.outcome,
        "n_groups": sum(bool(row.where) for row in judged),
        "messages": [row.to_json() for row in judged if not row.where],
        "harmed_groups": [
            row.to_json() for row in judged if row.where and row.status == HARMS
        ],
    }


# --- read ---


NOTHING_GUARDED: Json = {"edges": {}, "closed": [], "guardrails": []}
"""What is known before a run was trained, and of models of earlier releases."""


def _stored(run: Run) -> Json:
    if not run.has("guardrails.json"):
        return NOTHING_GUARDED
    return run.read_json("guardrails")


def guardrail_rows(run: Run, experiment_id: str) -> list[Json]:
    """Every guardrail with its rows of an experiment, for `evaluation.json`."""
    return [
        guardrail
        | {
            kind: [
                row for row in guardrail[kind] if row["experiment_id"] == experiment_id
            ]
            for kind in ("messages", "harmed_groups")
        }
        for guardrail in _stored(run)["guardrails"]
    ]


def closed_groups(run: Run) -> tuple[ClosedGroup, ...]:
    """Messages that guardrails close to everybody or to a group, from `train`.

    Raises:
        CampaignError: If a group is by a column that segments are no longer made of:
            nobody would be known to belong to it.
    """
    closed = tuple(map(ClosedGroup.from_json, _stored(run)["closed"]))
    columns = set(run.campaign.features.segment)
    for group in closed:
        lost = sorted(set(group.where) - columns)
        if lost:
            raise CampaignError(
                f"[features] segment: expected {lost[0]!r} among the columns, got "
                f"{', '.join(sorted(columns)) or 'none'}; message {group.message_id} "
                f"{group.reason}, and nobody would be known to be of them: keep the "
                "column, or train again (`hustings run`)"
            )
    return closed


def edges_of_segments(run: Run) -> SegmentEdges:
    """Bins of the numbers that make segments, as of the test; none before `train`."""
    return {name: tuple(cuts) for name, cuts in _stored(run)["edges"].items()}


def closed_to(run: Run, features: pd.DataFrame, arms: Sequence[Arm]) -> Bools:
    """Arms that guardrails close to each voter, shape (n, A).

    Args:
        run: Its `train` judged the guardrails.
        features: From `features.voter.voter_features`, n rows.
        arms: What could be sent.
    """
    columns = run.campaign.features.segment
    bins = segment_bins(features, columns, edges_of_segments(run), n=len(features))
    return closed_arms(closed_groups(run), bins, arms)


def stored_guardrails(run: Run) -> Json:
    """What a registered model takes along, so that later runs close the same."""
    return _stored(run) | {"guardrails": []}
