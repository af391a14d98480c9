"""The checkout that is tested, also by the processes that a test starts."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / ".package"
"""Holds the folder `hustings`: first in the path of every process, so that no other
installed version is tested."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment, with this checkout's package before any other."""
    return {**os.environ, "PYTHONPATH": python_path(more.get("PYTHONPATH", ""))} | {
        name: value for name, value in more.items() if name != "PYTHONPATH"
    }


def python_path(*before: str) -> str:
    """A PYTHONPATH that ends in the checkout's package and the checkout."""
    there = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [*before, str(PACKAGE), str(ROOT), *there]
    return os.pathsep.join(dict.fromkeys(p for p in paths if p))


def code(text: str, *arguments: str | Path) -> list[str]:
    """Command line that runs Python code in a process of its own."""
    return [sys.executable, "-c", text, *map(str, arguments)]
