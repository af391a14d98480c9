"""Deliveries + responses + features → one row per voter and randomised message test.

`build_training_set` makes the table; `message_tests` hands each experiment to the
models as arrays, with the probability of every arm for every voter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, Self

import numpy as np
import pandas as pd

from hustings.features.affinity import affinity_column
from hustings.features.arrays import Bools, Floats, Floats32, Ints, Objects
from hustings.features.asof import VoterFile, file_before, first_delivery
from hustings.features.prior_evidence import PriorEvidence
from hustings.features.tables import ANY_MESSAGE, CONTROL, TableError
from hustings.features.voter import Encoding, voter_features

_ARM = ["message_id", "channel"]


class Arm(NamedTuple):
    """A message by a channel."""

    message_id: str
    channel: str


class EffectPrior(NamedTuple):
    """Priors of a test's message effects, from other studies.

    Attributes:
        mean: In outcome units, NaN where nothing is known, shape (M,).
        variance: Shape (M,).
    """

    mean: Floats
    variance: Floats


@dataclass(frozen=True)
class TrainingSet:
    """The table, the features of its rows and the design it was drawn by.

    Attributes:
        rows: One row per assignment: voter_id, experiment_id, plan_id, block, unit_id
            (coarsest unit: cluster, else household, else voter), household_id,
            drawn_id (the unit that was randomised), message_id, channel, propensity,
            sent_on, outcome (NaN where missing; higher is better), and weight and
            link_error (relative error of the probability of the link, one SD) where
            responses carry them.
        features: From `voter_features`, one row per row of `rows`.
        designs: DESIGNS table.
    """

    rows: pd.DataFrame
    features: pd.DataFrame
    designs: pd.DataFrame


def build_training_set(
    tables: Mapping[str, pd.DataFrame],
    feature_columns: Sequence[str],
    *,
    outcome: str,
    absent: Literal["zero", "missing"],
    higher_is_better: bool = True,
    files: Sequence[VoterFile] = (),
) -> TrainingSet:
    """One row per voter and decision, with what was known before it.

    Args:
        tables: Checked tables: voters, designs, deliveries, responses.
        feature_columns: Columns of voters that may be features.
        outcome: The outcome, as in responses.
        absent: What a delivery without a response means.
        higher_is_better: Where it is not, the outcome is turned round (times -1), so
            that a lift above zero is an improvement everywhere.
        files: Voter files with the feature columns, where the campaign has several:
            a delivery is met by the last one observed strictly before it, also for
            the household (or cluster) that was drawn. One alone is met by all.

    Raises:
        TableError: If no response carries the outcome, or a delivery comes before
            every file.
    """
    deliveries = tables["deliveries"].reset_index(drop=True)
    answers = last_answers(tables["responses"].query("outcome == @outcome"))
    if answers.empty:
        outcome_names = sorted(tables["responses"]["outcome"].unique())
        raise TableError(
            f"table responses: expected rows with outcome {outcome!r}, got only "
            f"{outcome_names}; mend [outcome].name in campaign.toml"
        )
    as_of = first_delivery(deliveries)
    voter_files = list(files) or [VoterFile(as_of, tables["voters"])]
    file = _file_of(deliveries, voter_files)
    rows = deliveries.join(_units(deliveries["voter_id"], file, voter_files))
    key = ["voter_id", "experiment_id", "plan_id"]
    value = answers.rename(columns={"value": "y"})
    links = ["link_probability", "link_probability_se"]
    given = [c for c in ("weight", *links) if c in answers]
    rows = rows.merge(value[[*key, "y", *given]], on=key, how="left")
    if "link_probability_se" in rows:
        rows["link_error"] = link_error(rows)
    if "link_probability" in rows:
        rows["y"] = linked_outcome(rows, rows.pop("link_probability"))
    if "weight" in rows:
        # who did not answer stands for nobody, unless silence is an answer
        rows["weight"] = rows["weight"].fillna(1.0 if absent == "zero" else 0.0)
    rows["outcome"] = rows.pop("y").fillna(0.0) if absent == "zero" else rows.pop("y")
    if not higher_is_better:
        rows["outcome"] = -rows["outcome"]
    rows["drawn_id"] = _drawn(rows)
    rows = rows.drop(columns="cluster_then")
    rows["file"] = file
    rows = rows.sort_values(
        ["experiment_id", "voter_id", "sent_on", "plan_id"], ignore_index=True
    )
    features = _features(rows, voter_files, feature_columns, as_of)
    return TrainingSet(rows.drop(columns="file"), features, tables["designs"])


def _file_of(deliveries: pd.DataFrame, files: Sequence[VoterFile]) -> Ints:
    """Position of the file by which each delivery is met, shape (n_deliveries,)."""
    if len(files) == 1:
        return np.zeros(len(deliveries), dtype=np.int64)
    file = file_before(deliveries["sent_on"], [f.observed_on for f in files])
    if (file < 0).any():
        day = deliveries["sent_on"].min().date()
        raise TableError(
            f"table deliveries: expected a voter file observed before {day}, got "
            f"files of {', '.join(str(f.observed_on.date()) for f in files)}"
        )
    return file


def _units(voter_id: pd.Series, file: Ints, files: Sequence[VoterFile]) -> pd.DataFrame:
    """Coarsest unit and household of every delivery, by the last file and by its own.

    Folds never split a unit, and a model finds the fold of a voter it scores by the
    unit of the last file: so the unit is of that file, the household of the delivery's.
    """
    last = files[-1].voters.set_index("voter_id")
    unit = coarsest_unit(files[-1].voters).set_axis(last.index)
    units = pd.DataFrame(
        {"unit_id": voter_id.map(unit), "household_id": "", "cluster_then": ""},
        index=voter_id.index, dtype="str",
    )  # fmt: skip
    for k in np.unique(file):
        voters = files[k].voters
        voters_of_file = voter_id[file == k]
        for name, of_voters in (
            ("household_id", household(voters)),
            ("cluster_then", coarsest_unit(voters)),
        ):
            by_voter = of_voters.set_axis(voters["voter_id"])
            unit_of_voter = by_voter.reindex(voters_of_file).set_axis(
                voters_of_file.index
            )
            units.loc[voters_of_file.index, name] = unit_of_voter.fillna(voters_of_file)
    return units


def _features(
    rows: pd.DataFrame,
    files: Sequence[VoterFile],
    columns: Sequence[str],
    as_of: pd.Timestamp,
) -> pd.DataFrame:
    """Features of every row by its own file, one row per row of `rows`."""
    parts = []
    for k, of_file in rows.groupby("file", sort=True):
        features = voter_features(files[int(str(k))].voters, columns, as_of=as_of)
        part = features.reindex(of_file["voter_id"])
        parts.append(part.set_axis(of_file.index))
    features = pd.concat(parts).sort_index() if len(parts) > 1 else parts[0]
    return features.reset_index(drop=True)


def last_answers(responses: pd.DataFrame) -> pd.DataFrame:
    """The last answer to each assignment: RESPONSES of one outcome, one row each."""
    key = ["voter_id", "experiment_id", "plan_id"]
    ordered = responses.sort_values("observed_at", kind="stable")
    return ordered.drop_duplicates(key, keep="last")


def linked_outcome(rows: pd.DataFrame, probability: pd.Series) -> pd.Series:
    """Outcomes that came through uncertain links, without the bias of wrong ones.

    A link is right with probability p; else the answer is somebody else's, of the mean
    Ȳ of the other answers in the block (in the experiment, where the block has no
    other), whatever this voter was sent. So E[Y] = p E[own] + (1 − p) Ȳ, and
    (Y − (1 − p) Ȳ) / p has the mean of the voter's own answer: larger errors, no bias.
    To weight by p would leave the bias, and so would a Ȳ that holds the answer itself.

    Args:
        rows: experiment_id, block and y, NaN where nobody answered.
        probability: p of every answer; NaN where the answer is surely the voter's.
    """
    probability = probability.fillna(1.0)
    pool = _mean_of_others(rows, ["experiment_id", "block"])
    pool = pool.fillna(_mean_of_others(rows, ["experiment_id"])).fillna(rows["y"])
    corrected: pd.Series = (rows["y"] - (1 - probability) * pool) / probability
    return corrected


def _mean_of_others(rows: pd.DataFrame, group: list[str]) -> pd.Series:
    """Mean answer of a group without the row's own; NaN where there is no other."""
    answers = rows.groupby(group)["y"]
    n = answers.transform("count") - rows["y"].notna()
    total = answers.transform("sum") - rows["y"].fillna(0.0)
    mean: pd.Series = total / n.where(n > 0)
    return mean


def link_error(rows: pd.DataFrame) -> pd.Series:
    """How far the probability of each answer's link may be off, as a share of it.

    The correction divides by p, so that a p that is too high by a tenth makes a lift
    too small by a tenth: an error of the scale, common to all links, that no number of
    voters averages away.

    Args:
        rows: link_probability_se, and link_probability where p is not 1.
    """
    p = rows.get("link_probability", pd.Series(1.0, index=rows.index)).fillna(1.0)
    error: pd.Series = rows.pop("link_probability_se").fillna(0.0) / p
    return error


def coarsest_unit(voters: pd.DataFrame) -> pd.Series:
    """The unit that folds never split: cluster, else household, else the voter."""
    unit = household(voters)
    if "cluster_id" in voters:
        unit = voters["cluster_id"].fillna(unit)
    return unit


def household(voters: pd.DataFrame) -> pd.Series:
    """The household, or the voter where none is known."""
    if "household_id" not in voters:
        return voters["voter_id"]
    return voters["household_id"].fillna(voters["voter_id"])


def _drawn(rows: pd.DataFrame) -> pd.Series:
    drawn = rows["voter_id"].mask(
        rows["randomised_by"] == "household", rows["household_id"]
    )
    return drawn.mask(rows["randomised_by"] == "cluster", rows["cluster_then"])


@dataclass(frozen=True)
class MessageTest:
    """One randomised experiment as arrays; axis 0 is the voter.

    Attributes:
        experiment_id: The experiment.
        arms: What could be sent, without control, length n_arms.
        voter_id: Shape (n_voters,).
        unit: Coarsest unit as a code, shape (n_voters,).
        unit_id: The same as text.
        household: Household as a code, shape (n_voters,).
        drawn: Randomised unit as a code, shape (n_voters,).
        block: Block of the design as a code, shape (n_voters,).
        X: Features, shape (n_voters, n_features).
        arm: 0 for control, k for `arms[k - 1]`, shape (n_voters,).
        Y: Outcome, NaN where missing, shape (n_voters,).
        propensities: Of control and every arm, shape (n_voters, 1 + n_arms).
        prior: What is known of the messages' effects from elsewhere, None for nothing.
        evidence: Forecasts of the messages and effects of earlier campaigns; None where
            the campaign has neither.
        weight: How many voters of the population each stands for, mean 1, 0 for who
            did not answer, shape (n_voters,); None where all count the same.
        link_error: Relative error, one SD, of the probability that answers are those of
            their voters, common to all; 0 where they are known to be.
        affinity_columns: Column of X with the affinity of the voter's cell for the
            issue of each message, -1 for none, length n_messages; None where none is
            known.
        wave: 0 for the experiment itself, 1, 2, ... for plans that decided later (a
            day of the campaign), shape (n_voters,); None for one wave.
        block_names: Name of every code of `block`, as in the designs; empty where
            nobody named them.
        outcome_range: Lowest and highest value that Y can have, higher being better;
            None where the campaign does not say.
    """

    experiment_id: str
    arms: tuple[Arm, ...]
    voter_id: Objects
    unit: Ints
    unit_id: Objects
    household: Ints
    drawn: Ints
    block: Ints
    X: Floats32
    arm: Ints
    Y: Floats
    propensities: Floats
    prior: EffectPrior | None = None
    evidence: PriorEvidence | None = None
    weight: Floats | None = None
    link_error: float = 0.0
    affinity_columns: tuple[int, ...] | None = None
    wave: Ints | None = None
    block_names: tuple[str, ...] = ()
    outcome_range: tuple[float, float] | None = None

    @property
    def messages(self) -> tuple[str, ...]:
        """Messages of the test, each once, in the order of `arms`."""
        return tuple(dict.fromkeys(arm.message_id for arm in self.arms))

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of the test, each once, in the order of `arms`."""
        return tuple(dict.fromkeys(arm.channel for arm in self.arms))

    @property
    def message_of_arm(self) -> Ints:
        """1-based message of control (0) and every arm, shape (1 + n_arms,)."""
        position = {m: i + 1 for i, m in enumerate(self.messages)}
        return np.array([0, *(position[a.message_id] for a in self.arms)])

    @property
    def observed(self) -> Bools:
        """Whether each voter's outcome was observed, shape (n_voters,)."""
        return ~np.isnan(self.Y)

    @cached_property
    def cluster(self) -> Ints:
        """The coarser of household and drawn unit, whose voters share noise."""
        coarser = len(np.unique(self.drawn)) < len(np.unique(self.household))
        return self.drawn if coarser else self.household

    @property
    def survey_weight(self) -> Floats | None:
        """`weight` scaled to mean 1; None where all voters count the same."""
        return None if self.weight is None else self.weight / self.weight.mean()

    def by_message(self) -> Self:
        """The same test with the channels of a message merged into one arm."""
        position = self.message_of_arm
        merged = np.zeros((len(self.arm), 1 + len(self.messages)))
        for column, message in enumerate(position):
            merged[:, message] += self.propensities[:, column]
        arms = tuple(Arm(m, "any") for m in self.messages)
        return replace(self, arms=arms, arm=position[self.arm], propensities=merged)

    def take(self, rows: Bools | Ints) -> Self:
        """The test restricted to some voters."""
        per_voter = (
            "voter_id", "unit", "unit_id", "household", "drawn", "block", "X", "arm",
            "Y", "propensities",
        )  # fmt: skip
        taken = {name: getattr(self, name)[rows] for name in per_voter}
        weight = None if self.weight is None else self.weight[rows]
        wave = None if self.wave is None else self.wave[rows]
        return replace(self, **taken, weight=weight, wave=wave)


def message_tests(
    training_set: TrainingSet, encoding: Encoding
) -> dict[str, MessageTest]:
    """Every experiment of a training set as arrays, by experiment_id."""
    tests = {}
    for experiment_id, rows in training_set.rows.groupby("experiment_id", sort=True):
        design = training_set.designs.query("experiment_id == @experiment_id")
        X = encoding.transform(training_set.features.loc[rows.index])
        tests[str(experiment_id)] = _message_test(str(experiment_id), rows, design, X)
    return tests


def with_affinity_columns(
    test: MessageTest, names: Sequence[str], issue_of: Mapping[str, str]
) -> MessageTest:
    """The test with the columns of each voter cell's affinity for the issues.

    Args:
        test: The experiment.
        names: Names of the columns of its X.
        issue_of: Issue of every message.
    """
    position = {name: i for i, name in enumerate(names)}
    columns = [position.get(affinity_column(issue_of[m]), -1) for m in test.messages]
    return replace(test, affinity_columns=tuple(columns)) if max(columns) >= 0 else test


def _message_test(
    experiment_id: str,
    rows: pd.DataFrame,
    design: pd.DataFrame,
    X: Floats32,
) -> MessageTest:
    sent = design.loc[design["message_id"] != CONTROL, _ARM].drop_duplicates()
    arms = tuple(Arm(*pair) for pair in sent.itertuples(index=False))
    position = pd.Series(range(1, len(arms) + 1), index=pd.MultiIndex.from_tuples(arms))
    is_control = (rows["message_id"] == CONTROL).to_numpy()
    arm = np.zeros(len(rows), dtype=np.int64)
    keys = pd.MultiIndex.from_frame(rows.loc[~is_control, _ARM])
    arm[~is_control] = position.reindex(keys).to_numpy()
    block, names = pd.factorize(rows["block"])
    return MessageTest(
        experiment_id=experiment_id,
        arms=arms,
        voter_id=rows["voter_id"].to_numpy(dtype=object),
        unit=pd.factorize(rows["unit_id"])[0],
        unit_id=rows["unit_id"].to_numpy(dtype=object),
        household=pd.factorize(rows["household_id"])[0],
        drawn=pd.factorize(rows["drawn_id"])[0],
        block=block,
        X=X,
        arm=arm,
        Y=rows["outcome"].to_numpy(dtype=np.float64),
        propensities=_arm_probabilities(design, list(names), arms)[block],
        weight=_weights(rows),
        link_error=_link_error(rows),
        wave=_waves(rows),
        block_names=tuple(str(name) for name in names),
    )


def _waves(rows: pd.DataFrame) -> Ints | None:
    """0 for the experiment itself, 1, 2, ... for the plans that decided since."""
    since = rows["plan_id"] != rows["experiment_id"]
    if not since.any():
        return None
    plan = rows["plan_id"].where(since, "")
    # "" sorts before every plan
    return np.unique(np.append(plan.to_numpy(dtype=object), ""), return_inverse=True)[
        1
    ][:-1].astype(np.int64)


def _weights(rows: pd.DataFrame) -> Floats | None:
    if "weight" not in rows:
        return None
    weight = rows["weight"].to_numpy(dtype=np.float64)
    return np.asarray(weight / weight.mean(), dtype=np.float64)


def _link_error(rows: pd.DataFrame) -> float:
    if "link_error" not in rows:
        return 0.0
    answered = rows.loc[rows["outcome"].notna(), "link_error"].fillna(0.0)
    return float(answered.mean()) if len(answered) else 0.0


def _arm_probabilities(
    design: pd.DataFrame, blocks: list[str], arms: Sequence[Arm]
) -> Floats:
    """Probability of control and every arm in each block, 0 where not offered."""
    wide = design.pivot_table(
        index="block", columns=_ARM, values="probability", aggfunc="sum", fill_value=0.0
    )
    control = wide.xs(CONTROL, axis="columns", level=0).to_numpy().sum(axis=1)
    sent = wide.reindex(columns=pd.MultiIndex.from_tuples(arms)).fillna(0.0)
    table = np.column_stack([control, sent.to_numpy()])
    rows: Floats = table[wide.index.get_indexer(pd.Index(blocks))]
    return rows


def arm_costs(costs: pd.DataFrame, arms: Sequence[Arm]) -> Floats:
    """Price of one contact for every arm, in USD, shape (n_arms,).

    Args:
        costs: COSTS table; a row of message "*" prices all messages of the channel.
        arms: What could be sent.

    Raises:
        TableError: If an arm has no price.
    """
    price = costs.set_index(_ARM)["cost_usd"].to_dict()
    arm_usd = []
    for arm in arms:
        cost = price.get(tuple(arm), price.get((ANY_MESSAGE, arm.channel)))
        if cost is None:
            raise TableError(
                f"table costs: expected a row for message {arm.message_id!r} (or "
                f"{ANY_MESSAGE!r}) by {arm.channel!r}, got none"
            )
        arm_usd.append(cost)
    return np.array(arm_usd, dtype=np.float64)
