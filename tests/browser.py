"""A real Chromium that a test drives: it opens pages, clicks, types, takes pictures.

    with Browser(profile) as browser:
        browser.open(url)
        browser.type("#key", "...")
        browser.click("button.main")

It speaks the DevTools protocol over two pipes, so that no port is open and nothing
needs to be installed beside Chromium itself.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

CHROMIUM = shutil.which("chromium")
ANSWERS_WITHIN_S = 60.0
SAID = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
"""Events of what a console shows."""
# the browser reads commands on descriptor 3 and answers on 4
_BEGIN = """
import fcntl, os, sys
pair = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for fd, place in zip(pair, (3, 4)):
    os.dup2(fd, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass
class Browser:
    """One browser with one page.

    Attributes:
        profile: Empty folder of its own.
        console: What the page's console said: errors and warnings.
    """

    profile: Path
    console: list[str] = field(default_factory=list)
    _n_sent: int = 0
    _n_loaded: int = 0
    _session: str = ""
    _read: bytes = b""

    def __enter__(self) -> Self:
        assert CHROMIUM is not None
        commands_out, commands_in = os.pipe()
        answers_out, answers_in = os.pipe()
        line = [
            sys.executable, "-S", "-E", "-c", _BEGIN, str(commands_out),
            str(answers_in), CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
            "--no-first-run", "--disable-background-networking", "--disable-sync",
            "--disable-component-update", "--disable-quic", "--hide-scrollbars",
            f"--user-data-dir={self.profile}", "--remote-debugging-pipe",
            # nothing but this machine answers
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            line, pass_fds=(commands_out, answers_in), stderr=subprocess.DEVNULL
        )
        os.close(commands_out)
        os.close(answers_in)
        self._commands, self._answers = commands_in, answers_out
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._send(f"{domain}.enable")
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _fault: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        os.close(self._commands)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)

    # --- what a person does ---

    def size(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Look at a window of a size in CSS pixels, in the light or in the dark."""
        self._send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is there."""
        before = self._n_loaded
        self._send("Page.navigate", url=url)
        self._wait_for_load(before)

    def click(self, selector: str) -> None:
        """Press a link or button that leads to another page, and wait for that."""
        before = self._n_loaded
        self.press(selector)
        self._wait_for_load(before)

    def press(self, selector: str) -> None:
        """Press the middle of an element with the mouse."""
        x, y = self.look(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            "one.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = one.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._send(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left",
                clickCount=1,
            )  # fmt: skip

    def type(self, selector: str, text: str) -> None:
        """Write into a field."""
        self.press(selector)
        self._send("Input.insertText", text=text)

    def key(self, name: str, code: int) -> None:
        """Press a key of the keyboard."""
        for kind in ("rawKeyDown", "keyUp"):
            self._send(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name,
                windowsVirtualKeyCode=code,
            )  # fmt: skip

    # --- what a person sees ---

    def look(self, expression: str) -> Any:
        """Value of an expression in the page, as JSON."""
        answer = self._send(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """Visible text of an element."""
        text: str = self.look(
            f"document.querySelector({json.dumps(selector)}).innerText"
        )
        return text

    def picture(self, path: Path, *, most_px: int) -> None:
        """The page from its top to its end, or so far down, as PNG."""
        answer = self._send(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True,
            clip={**self.look(
                "({x: 0, y: 0, width: innerWidth, height: "
                f"Math.min({most_px}, document.documentElement.scrollHeight)}})"
            ), "scale": 1},
        )  # fmt: skip
        path.write_bytes(base64.b64decode(answer["data"]))

    # --- the protocol ---

    def _send(self, method: str, **parameters: Any) -> Json:
        self._n_sent += 1
        message: Json = {"id": self._n_sent, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._n_sent:
                assert "error" not in answer, (method, answer["error"])
                result: Json = answer["result"]
                return result

    def _wait_for_load(self, n_before: int) -> None:
        while self._n_loaded == n_before:
            self._next()

    def _next(self) -> Json:
        until = time.monotonic() + ANSWERS_WITHIN_S
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], 1.0)
            assert ready or time.monotonic() < until, "the browser does not answer"
            part = os.read(self._answers, 1 << 16) if ready else b""
            assert part or not ready, "the browser has ended"
            self._read += part
        text, _, self._read = self._read.partition(b"\0")
        answer: Json = json.loads(text)
        self._n_loaded += answer.get("method") == "Page.loadEventFired"
        if answer.get("method") in SAID:
            self.console.append(json.dumps(answer["params"]))
        return answer
