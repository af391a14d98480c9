"""How often the gate promotes what is worth nothing: 200 draws of each null world.

Writes tests/speed/gate.md. The learner is small and fixed; the gate is the real one.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.speed.nulls import (
    ISSUES,
    NEW_HAVEN,
    World,
    issues,
    new_haven,
    null_twin,
    simulated,
    verdict_of,
)

pytestmark = pytest.mark.speed

TABLE = Path(__file__).with_name("gate.md")
HEADER = """# False promotions of the gate

Worlds in which personalising is worth nothing; a small fixed learner; the real gate at
its first attempt. "Labels dealt again" leaves no effect at all; "averages put back"
gives every arm its measured average effect, alike for all. At a nominal 2.5 % at most
10 of 200 may be promoted (to "personalise" or "one split suffices").
`python -m pytest tests/speed/test_gate.py -q -s -m speed` makes this table.

| world | draws | personalise | one split suffices | not worth personalising |
|---|---|---|---|---|
"""
N_DRAWS, AT_MOST = 200, 10


def write_row(name: str, cells: str) -> None:
    """Put or replace the row of one world."""
    text = TABLE.read_text() if TABLE.exists() else HEADER
    rows = [
        line for line in text.removeprefix(HEADER).splitlines()
        if not line.startswith(f"| {name} |")
    ]  # fmt: skip
    rows.append(f"| {name} | {cells} |")
    TABLE.write_text(HEADER + "\n".join(sorted(rows)) + "\n")


def promoted(
    name: str,
    draw: Callable[[int, np.random.Generator], World],
    capsys: pytest.CaptureFixture[str],
) -> int:
    verdicts = Counter(
        verdict_of(draw(seed, np.random.default_rng(seed)), seed=seed)
        for seed in range(N_DRAWS)
    )
    kinds = ("personalise", "one_split_suffices", "not_worth_personalising")
    cells = " | ".join(str(verdicts[kind]) for kind in kinds)
    write_row(name, f"{N_DRAWS} | {cells}")
    with capsys.disabled():
        print(f"\n  {name}: {cells}")  # noqa: T201 - this is what a benchmark is for
    return N_DRAWS - verdicts["not_worth_personalising"]


KINDS = {"averages put back": True, "labels dealt again": False}


@pytest.mark.parametrize("kind", KINDS)
def test_new_haven_is_promoted_no_more_often_than_chance(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not NEW_HAVEN.exists():
        pytest.skip(f"the public data is not there: {NEW_HAVEN}; set HUSTINGS_DATA")
    world = new_haven()
    n = promoted(
        f"New Haven 1998, three appeals by three channels, {kind}",
        lambda _, rng: null_twin(world, rng, keep_averages=KINDS[kind]),
        capsys,
    )
    assert n <= AT_MOST


@pytest.mark.parametrize("kind", KINDS)
def test_an_issue_is_promoted_no_more_often_than_chance(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if not ISSUES.exists():
        pytest.skip(f"the public data is not there: {ISSUES}; set HUSTINGS_DATA")
    worlds = issues()
    n = promoted(
        f"Issue messages, 49 on one of ten issues in turn, {kind}",
        lambda seed, rng: null_twin(
            worlds[seed % len(worlds)], rng, keep_averages=KINDS[kind]
        ),
        capsys,
    )
    assert n <= AT_MOST


def test_a_simulated_null_is_promoted_no_more_often_than_chance(
    capsys: pytest.CaptureFixture[str],
) -> None:
    n = promoted(
        "Simulated, two messages that move all alike, couples",
        lambda _, rng: simulated(rng),
        capsys,
    )
    assert n <= AT_MOST
