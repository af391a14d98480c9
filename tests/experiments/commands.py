"""Real processes that run commands and may be killed, begun without their imports.

    with Commands() as commands:
        process = commands.begin("day", "--date", "2026-09-08", ...)
        process.kill()
    commands.begin("run", ..., kill_at="hustings.experiments.run:rename_to_disk:after")

A process that has imported everything and has done nothing forks one for each command.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.checkout import environment

_FORKS = """
import importlib, json, os, signal, sys
import mlflow.sklearn, typer
from hustings.experiments import run
from hustings.experiments.cli import app
from hustings.experiments.handover import answers, lists
from hustings.experiments.loop import run_day
def say(**facts):
    print(json.dumps(facts), flush=True)
def killed(real, when):
    def spoilt(*args, **named):
        result = real(*args, **named) if when == "after" else None
        os.kill(os.getpid(), signal.SIGKILL)
        return result
    return spoilt
say(ready=True)
for line in sys.stdin:
    words, log, kill_at = json.loads(line)
    child = os.fork()
    if child == 0:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        code = 1
        if kill_at:
            module, name, when = kill_at.split(":")
            where = importlib.import_module(module)
            setattr(where, name, killed(getattr(where, name), when))
        try:
            app(words, prog_name="hustings")
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            sys.stdout.flush()
            os._exit(code)
    say(pid=child)
    say(code=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
KILLED = -signal.SIGKILL


@dataclass
class Commands:
    """Starts one command after the other.

    Attributes:
        log: What the last command said.
    """

    log: str
    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKS], text=True, env=environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._said()["ready"]
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _fault: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=120)
        self._process.stdout.close()

    def begin(self, *words: str, kill_at: str = "") -> int:
        """Begin a command; its process.

        Args:
            words: Of the command line.
            kill_at: Where it kills itself, as `module:function:before` or `:after`.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([words, self.log, kill_at]) + "\n")
        self._process.stdin.flush()
        return self._said()["pid"]

    def ended(self) -> int:
        """Exit code of the command, once it has ended; `KILLED` where it was killed."""
        return self._said()["code"]

    def done(self, *words: str, kill_at: str = "") -> int:
        """Exit code of a command, at its end."""
        self.begin(*words, kill_at=kill_at)
        return self.ended()

    def kill(self, process: int) -> bool:
        """Kill a command; whether that ended it, and not its own end before."""
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(process, signal.SIGKILL)
        return self.ended() == KILLED

    def _said(self) -> dict[str, int]:
        assert self._process.stdout is not None
        facts: dict[str, int] = json.loads(self._process.stdout.readline())
        return facts
