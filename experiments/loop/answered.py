"""Decisions of the campaign and what was answered, as rows with known propensities."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.plans.folder import read_table
from hustings.experiments.record import (
    designs_so_far,
    drawn_so_far,
    responses_so_far,
)
from hustings.experiments.stages.context import Run
from hustings.features.arrays import Bools, Floats, Ints, Objects
from hustings.features.asof import naive_utc
from hustings.features.tables import CONTROL, NO_CHANNEL
from hustings.features.training_set import Arm, last_answers, linked_outcome
from hustings.training.measured_lift import adaptive


@dataclass(frozen=True)
class Answered:
    """Decisions with their probabilities and outcomes; axis 0 is the decision.

    Attributes:
        voter: Position in the voter file, shape (k,).
        on: Day of the decision, shape (k,).
        arm: What was assigned: 0 for nothing, a for the a-th arm, shape (k,).
        intended: What the plan alone would have sent, coded likewise; 0 in a test.
        propensities: Of nothing and every arm, given that the voter was decided,
            shape (k, 1 + A).
        Y: Outcome, higher is better; NaN while (or for ever) unknown, shape (k,).
        answered_at: When the outcome was observed, NaT without, shape (k,).
        is_loop: Whether a plan of the campaign decided, and no test elsewhere, (k,).
        nth: Decisions of the voter by the campaign's plans before this one, (k,).
        n_left: Decisions of voters who have left the voter file since.
    """

    voter: Ints
    on: Objects
    arm: Ints
    intended: Ints
    propensities: Floats
    Y: Floats
    answered_at: Objects
    is_loop: Bools
    nth: Ints
    n_left: int

    def __len__(self) -> int:
        return len(self.voter)

    def take(self, rows: Bools | Ints) -> Self:
        """Some of the decisions."""
        columns = {k: v[rows] for k, v in vars(self).items() if k != "n_left"}
        return type(self)(**columns, n_left=self.n_left)

    def teaching(self, repeats: Literal["first", "each"]) -> Bools:
        """Whether each decision may be learned from by the declared rule, shape (k,).

        `first`: a voter's first decision, all that follows included in its effect;
        `each`: every decision, given what came before it.
        """
        counts = np.ones(len(self), dtype=bool) if repeats == "each" else self.nth == 0
        return np.asarray(counts & np.isfinite(self.Y), dtype=bool)

    def measured(self, household: Ints) -> adaptive.Decisions:
        """The decisions as the estimators of measured lift read them.

        Args:
            household: Code of every voter's household, shape (n_voters,).
        """
        return adaptive.Decisions(
            day=pd.factorize(self.on, sort=True)[0].astype(np.int64),
            arm=self.arm, propensities=self.propensities, Y=self.Y,
            cluster=household[self.voter], intended=self.intended,
        )  # fmt: skip


def answered_so_far(
    run: Run,
    voter_id: Objects,
    arms: tuple[Arm, ...],
    experiment_id: str,
    *,
    at: pd.Timestamp,
) -> Answered:
    """Decisions of the campaign and of its test elsewhere, with the answers by then.

    A voter of the test who got an arm that the campaign does not send takes no part;
    the chances of the others are those given that it was none of these arms.

    Args:
        run: The tables of the test lie in its folder, the record in its home.
        voter_id: Present voters, shape (n,).
        arms: What the campaign sends, length A.
        experiment_id: The experiment whose outcome is learned.
        at: Nothing that was observed later counts.
    """
    designs, decided, responses = _tables(run, experiment_id, at)
    ids = decided["voter_id"].to_numpy(dtype=object)
    at_row = pd.Index(voter_id).get_indexer(pd.Index(ids))
    arm = _arm_codes(decided["message_id"], decided["channel"], arms)
    intended = _arm_codes(
        decided["intended_message_id"], decided["intended_channel"], arms
    )
    chances = _propensities(designs, decided["block"], arms)
    Y, when = _outcomes(run, decided, responses, at)
    is_loop = decided["is_loop"].to_numpy(dtype=bool)
    ordered = decided.sort_values("sent_on", kind="stable")
    nth = (
        ordered.groupby(["voter_id", "is_loop"], sort=False).cumcount()
        .reindex(decided.index).to_numpy(dtype=np.int64)
    )  # fmt: skip
    present = at_row >= 0
    compared = present & (arm >= 0)
    return Answered(
        voter=at_row[compared].astype(np.int64),
        on=decided["sent_on"].dt.normalize().to_numpy()[compared],
        arm=arm[compared],
        intended=np.maximum(intended, 0)[compared],
        propensities=chances[compared],
        Y=Y[compared],
        answered_at=when[compared],
        is_loop=is_loop[compared],
        nth=np.where(is_loop, nth, 0)[compared],
        n_left=int((~present).sum()),
    )


_COLUMNS = [
    "voter_id", "experiment_id", "plan_id", "block", "message_id", "channel", "sent_on",
    "intended_message_id", "intended_channel", "is_loop",
]  # fmt: skip


def _tables(
    run: Run, experiment_id: str, at: pd.Timestamp
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Designs, decisions and responses of the test and of the record."""
    moment = naive_utc(at)
    designs_of_plans = designs_so_far(run.home)
    decided = _decided_by_plans(run, moment)
    # a run's tables hold the record of the day when they were read: it is read anew
    from_record = set(designs_of_plans["block"])
    tested = _table(run, "deliveries")
    tested = tested[~tested["block"].isin(from_record)]
    designs, answers = _table(run, "designs"), _table(run, "responses")
    answers = answers[answers["plan_id"].isin(set(tested["plan_id"]))]
    tested = tested.assign(
        intended_message_id=CONTROL, intended_channel=NO_CHANNEL, is_loop=False
    )
    parts = (
        _joined(designs[~designs["block"].isin(from_record)], designs_of_plans),
        _joined(tested[_COLUMNS], decided[_COLUMNS]),
        _joined(answers, responses_so_far(run.home, at)),
    )
    designs, rows, responses = (
        part[part["experiment_id"] == experiment_id].reset_index(drop=True)
        for part in parts
    )
    return designs, rows, responses


def _decided_by_plans(run: Run, moment: pd.Timestamp) -> pd.DataFrame:
    """Voters whom binding plans have decided by a moment."""
    decided = drawn_so_far(run.home)
    decided = decided[decided["decided_on"] <= moment] if len(decided) else decided
    return decided.assign(sent_on=decided["decided_on"], is_loop=True)


def _table(run: Run, name: str) -> pd.DataFrame:
    return read_table(run.folder / "tables" / f"{name}.parquet")


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Rows of both, without a warning for what is empty."""
    filled = [frame for frame in (first, second) if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else first


def _arm_codes(message: pd.Series, channel: pd.Series, arms: tuple[Arm, ...]) -> Ints:
    """0 for nothing, a for the a-th arm, -1 for one that is not sent, shape (k,)."""
    codes = {(CONTROL, NO_CHANNEL): 0} | {tuple(a): k + 1 for k, a in enumerate(arms)}
    pairs = zip(message.tolist(), channel.tolist(), strict=True)
    return np.array([codes.get(pair, -1) for pair in pairs], dtype=np.int64)


def _propensities(
    designs: pd.DataFrame, block: pd.Series, arms: tuple[Arm, ...]
) -> Floats:
    """Probabilities of nothing and every arm given one of these, shape (k, 1 + A)."""
    code, blocks = pd.factorize(designs["block"])
    arm = _arm_codes(designs["message_id"], designs["channel"], arms)
    table = np.zeros((len(blocks), 1 + len(arms)))
    sent = arm >= 0
    table[code[sent], arm[sent]] = designs["probability"].to_numpy()[sent]
    total = table.sum(axis=1, keepdims=True)
    table = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
    return np.asarray(table[pd.Index(blocks).get_indexer(pd.Index(block))])


def _outcomes(
    run: Run, decided: pd.DataFrame, responses: pd.DataFrame, at: pd.Timestamp
) -> tuple[Floats, Objects]:
    """Outcome of every decision, higher being better, and when it was observed."""
    declared, moment = run.campaign.outcome, naive_utc(at)
    of_outcome = responses[responses["outcome"] == declared.name]
    latest = last_answers(of_outcome[of_outcome["observed_at"] <= moment])
    key = ["voter_id", "experiment_id", "plan_id"]
    link = [name for name in ("link_probability",) if name in latest]
    joined = decided[[*key, "block", "sent_on"]].merge(
        latest[[*key, "value", "observed_at", *link]], on=key, how="left",
        validate="one_to_one",
    )  # fmt: skip
    value = joined["value"].astype(np.float64)
    if link:
        rows = joined[["experiment_id", "block"]].assign(y=value)
        value = linked_outcome(rows, joined["link_probability"])
    Y: Floats = np.asarray(value, dtype=np.float64)
    when = joined["observed_at"].to_numpy(dtype="datetime64[us]")
    if declared.absent == "zero":
        due = joined["sent_on"] + pd.Timedelta(days=run.campaign.lift.lag_days)
        silent = np.isnan(Y) & (due <= moment).to_numpy()
        Y = np.where(silent, 0.0, Y)
        when = np.where(silent, due.to_numpy(dtype="datetime64[us]"), when)
    return declared.direction * Y, when


def loop_experiment(run: Run, name: str) -> str:
    """The experiment whose outcome the loop learns: the test's, else the campaign's.

    Args:
        run: Its tables say which tests ran elsewhere.
        name: Of the campaign.
    """
    designs = _table(run, "designs")
    if designs.empty:
        return name
    blocks = set(designs_so_far(run.home)["block"])
    tested = sorted(set(designs.loc[~designs["block"].isin(blocks), "experiment_id"]))
    if len(tested) > 1:
        raise CampaignError(
            f"{run.campaign.file}: expected one experiment for a loop, got "
            f"{', '.join(tested)}; lifts of several are in units of their own"
        )
    return tested[0] if tested else name
