"""Runs a server until standard input is closed; then nothing of it is left.

Usage: python -S -E supervise.py SIGNAL USER command ...

Whoever started it holds the other end of the pipe. The kernel closes that end when its
holder dies, by whatever signal, so that a killed test leaves no server. SIGNAL is what
the server understands as a request to end; what still runs after `GRACE_S` is killed,
with whatever it started.
"""

import ctypes
import os
import pwd
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

GRACE_S = 20.0
PR_SET_CHILD_SUBREAPER = 36


def main(asked: str, user: str, *command: str) -> int:
    _adopt_orphans()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **_as(user))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone ends it
    while process.poll() is None:
        if select.select([sys.stdin], [], [], 0.1)[0]:
            process.send_signal(signal.Signals[asked])
            _wait(process)
    _kill_the_rest()
    return process.returncode


def _as(user: str) -> dict[str, Any]:
    if user == "-":
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _adopt_orphans() -> None:
    """What loses its parent becomes a child of this process, on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _kill_the_rest() -> None:
    """Kill what the server started and left behind."""
    until = time.monotonic() + GRACE_S
    while (left := _children(os.getpid())) and time.monotonic() < until:
        for child in left:
            os.kill(child, signal.SIGKILL)
        for child in left:
            os.waitpid(child, 0)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
