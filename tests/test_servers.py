"""Servers of tests end with the test, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.checkout import ROOT, environment
from tests.servers import serving

SERVER = """
import subprocess, sys, time
from pathlib import Path
home = Path(sys.argv[1])
helper = [sys.executable, "-c", "import time; time.sleep(600)"]
helpers = [subprocess.Popen(helper), subprocess.Popen(helper, start_new_session=True)]
(home / "aside").write_text(" ".join(str(p.pid) for p in helpers))
(home / "aside").rename(home / "ready")
time.sleep(600)
"""
"""A server with two helpers, one of them in a session of its own."""
KILLED_PYTEST = """
import sys
from pathlib import Path
import pytest
import tests.test_servers as here

class Killed:
    @pytest.fixture(scope="session")
    def server(self):
        home = Path(sys.argv[1])
        with here.started(home):
            yield

test = Path(sys.argv[1]) / "test_it.py"
test.write_text('''
import os, signal
def test_killed(server):
    os.kill(os.getpid(), signal.SIGKILL)
''')
pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", sys.argv[1], str(test)],
            plugins=[Killed()])
"""


def started(home: Path):
    command = [sys.executable, "-c", SERVER, str(home)]
    return serving(command, ready=(home / "ready").exists, home=home)


def helpers_of(home: Path) -> list[int]:
    return [int(pid) for pid in (home / "ready").read_text().split()]


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def nothing_runs(pids: list[int], within_s: float = 30.0) -> bool:
    end = time.monotonic() + within_s
    while any(runs(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_server_and_its_helpers_end_with_the_block(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        pids = [process.pid, *helpers_of(tmp_path)]
        assert all(runs(pid) for pid in pids)
    assert nothing_runs(pids, within_s=1.0)


def test_a_killed_pytest_leaves_no_server(tmp_path: Path) -> None:
    line = [sys.executable, "-c", KILLED_PYTEST, str(tmp_path)]
    killed = subprocess.run(line, cwd=ROOT, env=environment(), check=False)
    assert killed.returncode == -signal.SIGKILL
    pids = helpers_of(tmp_path)
    assert len(pids) == 2
    assert nothing_runs(pids)
