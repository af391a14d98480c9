"""How far organic reactions help to learn lift from few randomised deliveries.

Writes tests/speed/affinity.md. The simulated campaign, whose true lifts are known: the
same learner with and without the fondness of a voter's cell for the message's own
issue, on the same share of its randomised data, from the same scores.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from hustings.experiments.declaration import feature_columns, load_campaign
from hustings.features.affinity import CellAffinities
from hustings.features.arrays import Floats
from hustings.features.simulated.campaign import CHANNEL_MULTIPLIERS, simulate
from hustings.features.training_set import (
    MessageTest,
    build_training_set,
    message_tests,
    with_affinity_columns,
)
from hustings.features.voter import Encoding
from hustings.training.learners.affinity import affinities
from hustings.training.learners.gbm import prepare
from hustings.training.learners.registry import fit_lift

pytestmark = pytest.mark.speed


TABLE = Path(__file__).with_name("affinity.md")
HEADER = """# Organic reactions beside randomised deliveries

The simulated campaign (200,000 voters, eight messages, true lifts known); learner
`linear`, with and without the affinity of the voter's cell for the message's own
issue, on the same random share of its randomised households. Gain: of the half of all
voters with the highest predicted lift, each sent its best message, as a share of what
an oracle gains; error: root mean square of lift less its average, in points of
support. Means over draws, paired differences with their standard error over draws
(each a new electorate).
`python -m pytest tests/speed/test_affinity.py -q -s -m speed` makes this table.

| randomised data | draws | gain without | gain with | difference | error without | error with | difference |
|---|---|---|---|---|---|---|---|
"""  # noqa: E501 - a row of a table is a line
DRAWS = {0.01: 8, 0.1: 3, 1.0: 2}
N_VOTERS, N_JUDGED = 200_000, 50_000


class Drawn(NamedTuple):
    """An electorate with its test and the truth; affinity columns are the last."""

    test: MessageTest
    encoding: Encoding
    issue_of: dict[str, str]
    lift: Floats
    n_plain: int


def drawn(seed: int, n_voters: int = N_VOTERS) -> Drawn:
    sample = simulate(n_voters=n_voters, seed=seed)
    tables, messages = sample.tables, sample.tables["messages"]
    issue_of = dict(zip(messages["message_id"], messages["issue"], strict=True))
    first = tables["deliveries"]["sent_on"].min().normalize()
    known = affinities(
        tables["reaction_counts"], tables["voters"], issue_of, as_of=first
    )
    beside = CellAffinities.of(known)
    voters = beside.joined_to(tables["voters"], as_of=first)
    campaign = load_campaign("sample")
    plain = feature_columns(campaign, list(tables["voters"]))
    made = build_training_set(
        {**tables, "voters": voters}, [*plain, *beside.names],
        outcome="support", absent="missing",
    )  # fmt: skip
    names = [c for c in made.features if c not in beside.names]
    made = replace(made, features=made.features[[*names, *beside.names]])
    encoding = Encoding.fit(made.features)
    (test,) = message_tests(made, encoding).values()
    truth = sample.truth.set_index("voter_id").loc[test.voter_id]
    lift = truth[[f"lift__{m}" for m in test.messages]].to_numpy(dtype=float)
    lift = lift * np.mean(list(CHANNEL_MULTIPLIERS.values()))
    return Drawn(test, encoding, issue_of, lift, len(names))


def shares(given: Drawn, share: float, seed: int) -> Iterator[tuple[float, float]]:
    """Share of the oracle's gain and error of lift, without and with affinities."""
    rng = np.random.default_rng(seed)
    households = np.unique(given.test.household)
    mine = np.isin(
        given.test.household, households[rng.random(len(households)) < share]
    )
    judged = rng.choice(len(mine), min(N_JUDGED, len(mine)), replace=False)
    test = with_affinity_columns(given.test, given.encoding.names, given.issue_of)
    plain = replace(given.test, X=given.test.X[:, : given.n_plain])
    for known in (plain, test):
        categorical = [c for c in given.encoding.categorical if c < given.n_plain]
        ready = prepare(known.take(mine), categorical, given.issue_of, seed=seed)
        model = fit_lift(ready, {"model": "linear"}, seed=seed)
        found = model.predict(known.X[judged], known.unit_id[judged]).lift
        yield gain(found, given.lift[judged]), error(found, given.lift[judged])


def gain(predicted: Floats, true: Floats) -> float:
    """Of the half with the highest predicted lift, over what an oracle gains."""

    def value(by: Floats) -> float:
        best, most = by.argmax(axis=1), by.max(axis=1)
        sent = np.argsort(-most, kind="stable")[: len(by) // 2]
        sent = sent[most[sent] > 0]
        return float(true[sent, best[sent]].sum())

    return value(predicted) / value(true)


def error(predicted: Floats, true: Floats) -> float:
    """Root mean square error of lift less the average of its message."""
    gap = (predicted - predicted.mean(axis=0)) - (true - true.mean(axis=0))
    return float(np.sqrt((gap**2).mean()))


def told(label: str, found: npt.NDArray[np.float64]) -> str:
    """A row of the table from (draws, without or with, gain or error)."""
    n = len(found)
    cells = []
    for k, digits in ((0, 3), (1, 2)):
        without, with_it = found[:, 0, k], found[:, 1, k]
        difference = with_it - without
        se = difference.std(ddof=1) / np.sqrt(n)
        cells += [
            f"{without.mean():.{digits}f}", f"{with_it.mean():.{digits}f}",
            f"{difference.mean():+.3f} ({se:.3f})",
        ]  # fmt: skip
    return f"| {label} | {n} | {' | '.join(cells)} |"


def test_affinities_help_where_data_are_few_and_do_not_hurt_where_they_are_many(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: dict[float, list[list[tuple[float, float]]]] = {s: [] for s in DRAWS}
    for seed in range(max(DRAWS.values())):
        given = drawn(100 + seed)
        for share, n in DRAWS.items():
            if seed < n:
                found[share].append(list(shares(given, share, seed)))
    rows = [told(f"{share:.0%}", np.array(found[share])) for share in DRAWS]
    TABLE.write_text(HEADER + "\n".join(rows) + "\n")
    with capsys.disabled():
        print("\n" + "\n".join(rows))  # noqa: T201 - what a benchmark is for
    all_data = np.array(found[1.0])
    assert (all_data[:, 1, 0] - all_data[:, 0, 0]).mean() > -0.005
    assert (all_data[:, 1, 1] - all_data[:, 0, 1]).mean() < 0.02


def test_ten_thousand_rows_of_counts_are_fitted_in_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sample = simulate(n_voters=N_VOTERS, seed=1, n_messages=16)
    tables = sample.tables
    messages = tables["messages"]
    issue_of = dict(zip(messages["message_id"], messages["issue"], strict=True))
    started = time.process_time()
    found = affinities(
        tables["reaction_counts"], tables["voters"], issue_of,
        as_of=pd.Timestamp("2026-04-06"),
    )  # fmt: skip
    spent = time.process_time() - started
    with capsys.disabled():
        print(  # noqa: T201 - what a benchmark is for
            f"\n{len(tables['reaction_counts']):,} counts, {len(found):,} cells and "
            f"margins: {spent:.1f} s"
        )
    assert spent < 20
