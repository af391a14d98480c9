"""What a task of the bench is, and the five large ones, each as one `MessageTest`.

A `DataSet` holds the arrays, what the messages cost and the spends at which a gain is
reported. A set whose truth is known carries it. Real tables lie in HUSTINGS_DATA.
`tasks` names all tasks and says which are for building and which for the verdict.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hustings.experiments.declaration import data_dir, feature_columns, load_campaign
from hustings.features.arrays import Floats, Ints
from hustings.features.simulated import campaign
from hustings.features.training_set import (
    Arm,
    MessageTest,
    arm_costs,
    build_training_set,
    message_tests,
)
from hustings.features.voter import Encoding
from tests.taken import ingest_all

SAMPLE_VOTERS, SAMPLE_MESSAGES, SAMPLE_SEED = 200_000, 12, 20261103


@dataclass(frozen=True)
class Truth:
    """What is known of a simulated set.

    Attributes:
        lift: By the design's mix of channels, points, shape (n, M).
        groups: What lifts are sums of, shape (n, K).
        weights: Points that each group adds to each message, by the same mix, (K, M).
    """

    lift: Floats
    groups: Floats
    weights: Floats


@dataclass(frozen=True)
class DataSet:
    """One message test with prices: a task of the bench; n voters, M messages.

    Attributes:
        name: As on the command line.
        test: Arms merged by message.
        features: Names of the columns of `test.X`.
        categorical: Columns of `test.X` that hold category codes.
        issue_of: Issue of every message.
        cost: Of every message per voter, shape (M,).
        spends: Money per voter at which a gain is reported.
        points: What one unit of the outcome is in points.
        null: Whether nobody is known to be worth targeting: left out of the ranks.
        truth: None on real data.
        left_out: Arms that too few people were drawn to.
    """

    name: str
    test: MessageTest
    features: tuple[str, ...]
    categorical: tuple[int, ...]
    issue_of: Mapping[str, str]
    cost: Floats
    spends: tuple[float, ...]
    points: float
    null: bool = False
    truth: Truth | None = None
    left_out: tuple[str, ...] = ()

    @property
    def flat(self) -> tuple[str, ...]:
        """Messages known to move everyone alike; none on real data."""
        if self.truth is None:
            return ()
        spread = self.truth.lift.std(axis=0)
        return tuple(
            m for m, sd in zip(self.test.messages, spread, strict=True) if sd < 1e-9
        )

    @property
    def fingerprint(self) -> str:
        """Hash of everything that a tool learns from or is judged by."""
        found = hashlib.sha256()
        test = self.test
        for array in (test.X, test.arm, test.Y, test.propensities, test.cluster):
            found.update(np.ascontiguousarray(array).tobytes())
        found.update("\n".join(test.unit_id).encode())
        if self.truth is not None:
            found.update(self.truth.lift.tobytes())
        found.update(repr((self.categorical, test.messages)).encode())
        return found.hexdigest()


class TooFewAnswersError(ValueError):
    """A test of which too few answers are left to learn anything."""


def table(path: str) -> pd.DataFrame:
    """A public table.

    Args:
        path: Within HUSTINGS_DATA.

    Raises:
        FileNotFoundError: If it is not there.
    """
    file = data_dir() / path
    if not file.exists():
        raise FileNotFoundError(
            f"expected the public table {file}, found none; set HUSTINGS_DATA"
        )
    return pd.read_parquet(file)


def _mailers() -> DataSet:
    campaign = load_campaign("2006_mailers")
    table("ggl2008_mailers/ggl2008.parquet")
    found = ingest_all(
        campaign.tables,
        outcome=campaign.outcome.name,
        outcome_kind=campaign.outcome.kind,
        campaign_dir=campaign.folder,
        data_dir=data_dir(),
    )
    columns = feature_columns(campaign, list(found.tables["voters"]))
    made = build_training_set(
        found.tables, columns, outcome=campaign.outcome.name, absent="zero"
    )
    encoding = Encoding.fit(made.features)
    (test,) = message_tests(made, encoding).values()
    messages = found.tables["messages"]
    return DataSet(
        name="2006_mailers",
        test=test.by_message(),
        features=encoding.names,
        categorical=tuple(encoding.categorical),
        issue_of=dict(zip(messages["message_id"], messages["issue"], strict=True)),
        cost=arm_costs(found.tables["costs"], test.arms),
        spends=(campaign.plan.spend_per_voter_usd or 5.0,),
        points=100.0,
    )


def _hillstrom() -> DataSet:
    frame = table("hillstrom_email/hillstrom.parquet")
    columns = [
        "recency", "history_segment", "history", "mens", "womens", "zip_code",
        "newbie", "channel",
    ]  # fmt: skip
    arms = {"No E-Mail": 0, "Mens E-Mail": 1, "Womens E-Mail": 2}
    return from_frame(
        "hillstrom",
        frame[columns],
        arm=frame["segment"].astype(str).map(arms).to_numpy(),
        Y=frame["visit"].to_numpy(dtype=float),
        propensity=np.full(3, 1 / 3),
        messages=("mens", "womens"),
        unit=np.arange(len(frame)),
        spends=(0.5,),
    )


def _tax_plans() -> DataSet:
    """The top rate of a tax plan as a message; the lowest rate stands for nobody."""
    frame = table("conjoints/br2017.parquet")
    rates = sorted(frame["rate_375P"].unique())
    return from_frame(
        "br2017",
        frame.filter(like="resp_"),
        arm=np.searchsorted(rates, frame["rate_375P"]),
        Y=frame["choice"].to_numpy(dtype=float),
        propensity=np.full(len(rates), 1 / len(rates)),
        messages=tuple(f"top_rate_{rate:g}" for rate in rates[1:]),
        unit=pd.factorize(frame["respondent"])[0],
        spends=(0.5,),
    )


def _new_haven() -> DataSet:
    """Three appeals against no contact: no heterogeneity that anybody has found."""
    frame = table("newhaven1998/gerbergreen_findit.parquet").astype(int)
    reached = frame[["persngrp", "phnscrpt", "mailings"]].sum(axis=1) > 0
    arm = frame["appeal"].where(reached, 0).to_numpy()
    return from_frame(
        "newhaven",
        frame[["age", "majorpty", "vote96.1", "vote96.0"]],
        arm=arm,
        Y=frame["voted98"].to_numpy(dtype=float),
        # drawn household by household in fixed numbers: the shares are the design's
        propensity=np.bincount(arm) / len(arm),
        messages=("civic_duty", "neighbourhood", "close_election"),
        unit=np.arange(len(frame)),
        spends=(0.5, 1.0),
        null=True,
    )


def from_frame(
    name: str,
    features: pd.DataFrame,
    *,
    arm: Ints,
    Y: Floats,
    propensity: Floats,
    messages: tuple[str, ...],
    unit: Ints,
    spends: tuple[float, ...],
    block: Ints | None = None,
    points: float = 100.0,
    null: bool = False,
    left_out: tuple[str, ...] = (),
) -> DataSet:
    """A set in which every message costs 1 and each row is drawn by itself.

    Args:
        name: Of the set.
        features: Pre-treatment columns, n rows.
        arm: 0 for control, shape (n,).
        Y: The outcome, NaN where missing, shape (n,).
        propensity: Of control and every message, shape (1 + M,), or (n, 1 + M).
        messages: Length M.
        unit: Who shares noise, shape (n,).
        spends: Per row.
        block: Of the design as a code, shape (n,); None for one.
        points: What one unit of the outcome is in points.
        null: Whether there is no heterogeneity to find.
        left_out: Arms whose rows are not among these.
    """
    n, encoding = len(features), Encoding.fit(features)
    row = np.arange(n)
    test = MessageTest(
        experiment_id=name,
        arms=tuple(Arm(m, "any") for m in messages),
        voter_id=np.array([f"V{i}" for i in row], dtype=object),
        unit=unit,
        unit_id=np.array([f"U{u}" for u in unit], dtype=object),
        household=unit,
        drawn=row,
        block=np.zeros(n, dtype=np.int64) if block is None else block,
        X=encoding.transform(features),
        arm=np.asarray(arm, dtype=np.int64),
        Y=Y,
        propensities=np.array(np.broadcast_to(propensity, (n, 1 + len(messages)))),
    )
    return DataSet(
        name, test, encoding.names, tuple(encoding.categorical),
        dict.fromkeys(messages, name), np.ones(len(messages)), spends, points, null,
        left_out=left_out,
    )  # fmt: skip


def _sample(
    n_voters: int = SAMPLE_VOTERS,
    n_messages: int = SAMPLE_MESSAGES,
    seed: int = SAMPLE_SEED,
) -> DataSet:
    """The simulated campaign, its features as its campaign declares them."""
    drawn = campaign.simulate(n_voters=n_voters, n_messages=n_messages, seed=seed)
    columns = feature_columns(load_campaign("sample"), list(drawn.tables["voters"]))
    made = build_training_set(
        drawn.tables, columns, outcome=campaign.SUPPORT, absent="missing"
    )
    encoding = Encoding.fit(made.features)
    (as_sent,) = message_tests(made, encoding).values()
    test, messages = as_sent.by_message(), drawn.tables["messages"]
    return DataSet(
        name="sample12",
        test=test,
        features=encoding.names,
        categorical=tuple(encoding.categorical),
        issue_of=dict(zip(messages["message_id"], messages["issue"], strict=True)),
        cost=np.ones(len(test.messages)),
        spends=(0.1, 0.3, 0.6),
        points=1.0,
        truth=_truth(drawn, test, seed),
    )


def _truth(drawn: campaign.Sample, test: MessageTest, seed: int) -> Truth:
    """True lift, and the groups that it is a sum of, in the order of the test."""
    # every channel is drawn equally often
    mix = float(drawn.channels["multiplier"].mean())
    voters = drawn.tables["voters"]["voter_id"]
    row = pd.Index(voters).get_indexer(pd.Index(test.voter_id))
    lift = drawn.truth[[f"lift__{m}" for m in test.messages]].to_numpy(float)[row]
    # the electorate is the first of the generator's six streams
    people_rng = np.random.default_rng(seed).spawn(6)[0]
    groups = campaign._groups(campaign._people(len(voters), people_rng))
    weights = [
        [campaign._EFFECTS[m].get(g, 0.0) * mix for m in test.messages] for g in groups
    ]
    return Truth(
        mix * lift, np.column_stack(list(groups.values()))[row], np.array(weights)
    )


LARGE: Mapping[str, Callable[[], DataSet]] = {
    "2006_mailers": _mailers,
    "hillstrom": _hillstrom,
    "br2017": _tax_plans,
    "sample12": _sample,
    "newhaven": _new_haven,
}
