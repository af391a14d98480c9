"""The Python in the documents runs, on files such as it reads."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.checkout import ROOT

PAGES = (ROOT / "README.md", ROOT / ".github" / "docs" / "9-python.md")
MOST_LINES = 10


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the blocks read: a test, voters of a plan, and what became of them."""
    rng = np.random.default_rng(8)
    n = 3_000
    voters = pd.DataFrame(
        {
            "voter_id": [f"v{i}" for i in range(n)],
            "age": rng.uniform(18, 90, n).round(),
            "party": rng.choice(["D", "R", "N"], n),
            "urban": rng.random(n) < 0.4,
            "household": np.arange(n) // 2,
        }
    )
    message = rng.choice(["control", "jobs", "health"], n // 2, p=[0.4, 0.3, 0.3])
    tested = voters.assign(message=np.repeat(message, 2))
    jobs = 0.5 * (tested["party"] == "D") - 0.2 * (tested["party"] == "R")
    health = 0.5 * (tested["age"] > 60) - 0.2 * (tested["age"] < 40)
    chance = 0.3 + jobs * (tested["message"] == "jobs")
    chance += health * (tested["message"] == "health")
    tested["voted"] = (rng.random(n) < chance).astype(float)
    monkeypatch.chdir(tmp_path)
    tested.drop(columns="voter_id").to_parquet("tested.parquet")
    voters.to_parquet("voters.parquet")
    answered = voters.sample(frac=0.9, random_state=1)
    answered[["voter_id"]].assign(value=rng.random(len(answered)) < 0.5).astype(
        {"value": float}
    ).to_parquet("outcomes.parquet")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_runs(
    page: Path,
    files: None,  # noqa: ARG001 - for its effect
    one_thread: None,  # noqa: ARG001
    capsys: pytest.CaptureFixture[str],
) -> None:
    names: dict[str, Any] = {}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)
    said = capsys.readouterr().out
    assert "Personalise: at equal spend" in said or "One split suffices" in said
    if page.name == "9-python.md":
        assert "Plan autumn: " in said
        assert "voters are decided" in said


def test_readme_goes_from_a_frame_to_a_verdict_in_ten_lines() -> None:
    (block,) = blocks(PAGES[0])
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES
    assert ".evaluate(" in lines[-1]
