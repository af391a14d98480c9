"""The log of every look at the verdict tasks: `tests/speed/verdict_looks.md`.

A look is written when it begins and again when it ends, so that one that was broken
off or whose result was thrown away stands there too. Rows are only ever added.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.speed.peers.tasks import ROOT, git

LOG = ROOT / "tests/speed/verdict_looks.md"
HEAD = """# Looks at the verdict tasks

Learners are chosen on the build tasks; claims come from the verdict tasks. The command
`python -m tests.speed.peers --tasks verdict --decided "WHO DECIDED WHAT"` adds a row
when a look begins and another when it ends: one without an end was broken off, and
counts. Rows are never changed or removed.

| when (UTC) | commit | tasks | tools | decided | result |
| --- | --- | --- | --- | --- | --- |
"""
BEGUN = "begun"


class Look(NamedTuple):
    """What is looked at, and by whose decision.

    Attributes:
        commit: That is looked at; says so where the tree holds more than it.
        tasks: Names.
        tools: Names of the public ones and of ours.
        decided: Who decided what.
    """

    commit: str
    tasks: Sequence[str]
    tools: Sequence[str]
    decided: str


def commit_of(root: Path = ROOT) -> str:
    """The present commit, marked where the tree holds changes.

    Args:
        root: Of the repository.
    """
    changed = git(root, "status", "--porcelain", "--untracked-files=no")
    return git(root, "rev-parse", "HEAD")[:12] + (" with changes" if changed else "")


def append(log: Path, look: Look, result: str) -> None:
    """Add a row to the log.

    Args:
        log: The file, made where it is not there.
        look: What is looked at.
        result: `BEGUN`, or what came of it.
    """
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    cells = [
        now, look.commit, f"{len(look.tasks)}: {', '.join(look.tasks)}",
        ", ".join(look.tools), look.decided, result,
    ]  # fmt: skip
    row = " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells)
    if not log.exists():
        log.write_text(HEAD)
    with log.open("a") as file:
        file.write(f"| {row} |\n")
