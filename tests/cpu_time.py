"""Processor time of every test, for whoever makes the suite faster: `make test-times`.

Wall time says little on a machine that is shared. The time of child processes counts
for the test that waits for them; a server's, for the test after which it ends.
"""

import os
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

FILE = Path(".pytest_cache") / "cpu_times.tsv"
_seconds: dict[str, float] = defaultdict(float)
"""By node id."""


def _used_s() -> float:
    times = os.times()
    return (
        times.user + times.system + times.children_user + times.children_system
    )  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    before = _used_s()
    try:
        return (yield)
    finally:
        _seconds[item.nodeid] += _used_s() - before


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    by_file: dict[str, float] = defaultdict(float)
    for node, seconds in _seconds.items():
        by_file[node.split("::")[0]] += seconds
    slowest = sorted(by_file.items(), key=lambda pair: -pair[1])
    terminalreporter.section("processor seconds by file")
    for name, seconds in [*slowest[:40], ("all", sum(by_file.values()))]:
        terminalreporter.write_line(f"{seconds:8.1f}  {name}")
    FILE.parent.mkdir(exist_ok=True)
    rows = sorted(_seconds.items(), key=lambda pair: -pair[1])
    FILE.write_text("".join(f"{s:.2f}\t{node}\n" for node, s in rows))
    terminalreporter.write_line(f"by test: {FILE}")
