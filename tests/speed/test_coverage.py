"""How often 95 % intervals hold their truth, over 2,000 draws each.

Writes tests/speed/coverage.md. The generators are those of the quick tests: couples who
share noise and assignment, unequal propensities, predictions that are wrong.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hustings.training.estimators.metrics import Interval
from hustings.training.policy_value.heterogeneity import best_linear_predictor
from hustings.training.policy_value.rate import rate_of
from tests.training.test_heterogeneity import drawn as drawn_slope
from tests.training.test_qini import coverage, gains_and_areas, true_gains_and_areas
from tests.training.test_rate import drawn as drawn_ranking

pytestmark = pytest.mark.speed

TABLE = Path(__file__).with_name("coverage.md")
HEADER = """# Coverage of 95 % intervals

Over 2,000 draws each; 93.5 to 96.5 % is what is asked. Couples share noise and
assignment; propensities are unequal; predictions are wrong on purpose.
`python -m pytest tests/speed/test_coverage.py -q -s -m speed` makes this table.

| interval | draws | coverage |
|---|---|---|
"""
N_DRAWS, OFF_BY_AT_MOST = 2_000, 0.015
RARE = np.array([0.9, 0.05, 0.05])
"""Arms that one in twenty gets: weights of 20."""


def told(
    names: list[str],
    draw: Callable[[np.random.Generator], list[Interval]],
    truth: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = coverage(draw, truth, N_DRAWS)
    text = TABLE.read_text() if TABLE.exists() else HEADER
    rows = [
        row for row in text.removeprefix(HEADER).splitlines()
        if not any(row.startswith(f"| {name} |") for name in names)
    ]  # fmt: skip
    rows += [
        f"| {n} | {N_DRAWS:,} | {100 * c:.1f} % |"
        for n, c in zip(names, found, strict=True)
    ]
    TABLE.write_text(HEADER + "\n".join(sorted(rows)) + "\n")
    with capsys.disabled():
        print("\n  " + "\n  ".join(rows))  # noqa: T201 - what a benchmark is for
    assert (np.abs(found - 0.95) <= OFF_BY_AT_MOST).all(), dict(
        zip(names, found, strict=True)
    )


def test_gains_and_areas_of_policies(capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        "policy value: gain at the spend", "Qini area",
        "paired gain over the untargeted mix", "paired area over the untargeted mix",
    ]  # fmt: skip
    told(names, gains_and_areas, true_gains_and_areas(), capsys)


def test_gains_and_areas_of_policies_with_rare_arms(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [
        "policy value, arms of 5 %", "Qini area, arms of 5 %",
        "paired gain, arms of 5 %", "paired area, arms of 5 %",
    ]  # fmt: skip
    told(
        names, lambda rng: gains_and_areas(rng, 6_000, RARE), true_gains_and_areas(),
        capsys,
    )  # fmt: skip


def test_the_best_linear_predictor(capsys: pytest.CaptureFixture[str]) -> None:
    def draw(rng: np.random.Generator) -> list[Interval]:
        found = best_linear_predictor(*drawn_slope(rng, 0.4))
        return [found.average, found.slope]

    told(["BLP average lift", "BLP slope"], draw, [1.0, 0.4], capsys)


def test_rate(capsys: pytest.CaptureFixture[str]) -> None:
    def draw(rng: np.random.Generator, n: int = 800) -> list[Interval]:
        found = rate_of(*drawn_ranking(rng, n))
        return [found.autoc, found.qini]

    truth = [i.value for i in draw(np.random.default_rng(9), 4_000_000)]
    told(["RATE: AUTOC", "RATE: Qini-weighted"], draw, truth, capsys)
