"""The scoring service behind its own front door, beside the pages.

The bundle that is served is the one on disk: where `hustings plan`, `day` or `forget`
has written another, it is read before the next request is answered.
"""

import json
import logging
import threading
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from hustings.features.checksums import CHECKSUMS
from hustings.serving import service
from hustings.serving.bodies import RequestFault
from hustings.serving.decided import SERVING
from hustings.serving.gate import FrontDoor
from hustings.serving.keys import Keys
from hustings.serving.monitor.http import MonitorFollower
from hustings.serving.responses import not_now, refused

_log = logging.getLogger("hustings.web")
NO_BUNDLE = "expected a serving bundle, found none yet; `hustings run` makes one"

AGAIN_S = 5.0
"""How long a bundle that could not be read is left before it is tried again."""


class Scoring:
    """The routes of `hustings serve`, in this process.

    Args:
        home: The campaign's folder.
        keys: Shared with the pages, so that wrong keys are counted together.

    Attributes:
        watch: The monitor of the bundle that is served; None without one.
        fault: Why the bundle on disk is not the one that is served; empty where it is.
    """

    def __init__(self, home: Path, keys: Keys) -> None:
        self.bundle = home / SERVING
        self.watch: MonitorFollower | None = None
        self.fault = NO_BUNDLE
        self._door = FrontDoor(service.routes, service.COUNTS, service.OPEN)
        self._door.keys = keys
        self._signature: tuple[int, ...] = ()
        self._not_before = 0.0
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Serve the bundle on disk; one that cannot be read leaves the last one."""
        with self._lock:
            signature = self._on_disk()
            if not signature or signature == self._signature:
                return
            if time.monotonic() < self._not_before:
                return
            try:
                watch = service.open_bundle(self.bundle)
            except Exception as failure:  # noqa: BLE001 - the last one is served, and said
                # the store may come back: it is tried again
                self._not_before = time.monotonic() + AGAIN_S
                is_ours = isinstance(failure, FileNotFoundError | ValueError)
                self.fault = str(failure) if is_ours else type(failure).__name__
                _log.error("the bundle on disk is not served: %s", self.fault)
                return
            if self.watch is not None:
                self.watch.stop()
            self.watch, self.fault, self._signature = watch, "", signature

    def texts(self) -> dict[str, str]:
        """Text of every message that the bundle's rules know, by message."""
        if self.watch is None:
            return {}
        plan = json.loads((self.bundle / "plan.json").read_text(encoding="utf-8"))
        return {row["message_id"]: row["text"] for row in plan["rules"]["messages"]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the scoring service does; 503 before there is a bundle."""
        if scope["type"] != "http":
            return
        if scope["path"] in ("/healthz", "/livez"):
            await JSONResponse({})(scope, receive, send)
            return
        await run_in_threadpool(self.refresh)
        if scope["path"] == "/docs":
            # its page loads scripts that only `hustings serve` has
            text = "expected a page, got /docs, which `hustings serve` shows"
            await refused(404, [RequestFault(path="", message=text)])(
                scope, receive, send
            )
        elif self.watch is None:
            await not_now(NO_BUNDLE)(scope, receive, send)
        else:
            await self._door(scope, receive, send)

    def _on_disk(self) -> tuple[int, ...]:
        """What tells the bundle on disk from another."""
        path = self.bundle / CHECKSUMS
        if not path.exists():
            return ()
        stated = path.stat()
        return stated.st_ino, stated.st_mtime_ns
