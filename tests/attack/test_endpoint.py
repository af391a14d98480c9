"""Requests of every shape that the description admits or refuses, at a real server.

`HUSTINGS_ATTACK` says how many (`make attack`: 20,000). Bodies come from schemathesis,
which reads the document, from the document's examples with places replaced, and from a
list of texts that are no JSON. Each answer is held against the document.
"""

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from tests.described import Described, altered
from tests.serving.conftest import KEY, Server
from tests.sockets import peak_bytes, processes_of

N_REQUESTS = int(os.environ.get("HUSTINGS_ATTACK", "200"))
MOST_S = float(os.environ.get("HUSTINGS_ATTACK_S", "inf"))
"""What is left when the time is over is not sent; the figures say how many were."""
ROUNDS = 10 if N_REQUESTS >= 2_000 else 1
HOSTILE_TIMES = 5 if N_REQUESTS >= 20_000 else 1
"""Times that each of `NO_JSON` goes to each route."""
MOST_BYTES = 1.5 * 2**30
HEALTH_WITHIN_S = 20.0
SENDERS = 4
ROW = b'{"voters": [{"voter_id": "a", %s}]}'
NO_JSON = (
    b"", b"{", b"null", b"[]", b"0", b'"', b"\x00", b"\xff\xfe", b"\xef\xbb\xbf{}",
    b"NaN", b'{"voters": [{"voter_id": "\\ud800"}]}', b'{"": Infinity}',
    b"[" * 5_000, b'{"a":' * 5_000, b'{"voters": ' + b"[" * 17 + b"]" * 17 + b"}",
    ROW % b'"age": 1e999', ROW % (b'"age": ' + b"9" * 5_000), ROW % b'"age": -0.0',
    ROW % b'"age": 1e-320', ROW % (b'"sex": "' + b"F" * 100_000 + b'"'),
    ROW % b'"voter_id": "b"', b'{"voters": [{}], "voters": [{"voter_id": "a"}]}',
    b'{"voters": [' + b'{"voter_id": "a"},' * 10_000 + b'{"voter_id": "b"}]}',
    b'{"decision_ids": [' + b'"x",' * 9_999 + b'"x"]}', b'{"by": "\\u0000"}',
)  # fmt: skip
"""What generators of values do not make."""
ODD_PATHS = (
    "/%00", "/%ff", "/..%2f..%2fetc/passwd", "/static_content/..%2fhttp_app.py",
    "/static_content/%00", "//score", "/score/", "/score%0d%0aX-A: b",
    "/" + "a" * 8_000,
    "/score?" + "a=b&" * 1_000, "/docs.json?%ff=%00", "/schema.json/x", "/ready",
)  # fmt: skip


@dataclass
class Attack:
    """Sends bodies, several at a time, and holds the answers against the document.

    Attributes:
        url: Of the server.
        described: Its description.
        statuses: Answers by route and status.
        flaws: What was not as described.
        until: Nothing is sent from this moment of the monotonic clock on.
    """

    url: str
    described: Described
    until: float
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    flaws: list[str] = field(default_factory=list)
    _client: threading.local = field(default_factory=threading.local)

    def send(self, path: str, body: bytes) -> None:
        if time.monotonic() > self.until:
            return
        if not hasattr(self._client, "client"):
            headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
            self._client.client = httpx.Client(
                base_url=self.url, headers=headers, timeout=60.0,
                # one that idles for five seconds is closed, perhaps as it is used again
                limits=httpx.Limits(max_keepalive_connections=0),
            )  # fmt: skip
        answer = self._client.client.post(path, content=body)
        self.statuses[path, answer.status_code] += 1
        flaw = self.described.flaw_of_post(path, body, answer)
        if flaw:
            self.flaws.append(f"{path} {body[:300]!r}: {flaw}")


def test_no_path_method_or_header_makes_the_endpoint_fail(server: Server) -> None:
    odd_headers = [
        {}, {"X-Request-ID": "a" * 5_000}, {"Accept": "\x7f" * 50},
        {"Cookie": "a" * 9_000}, {"Content-Type": "text/csv"}, {"Expect": "later"},
        {"Content-Encoding": "gzip"}, {"traceparent": "00-0-0-x"},
        {"Transfer-Encoding": "gzip"}, {"Range": "bytes=5-1"}, {"Host": ""},
    ]  # fmt: skip
    methods = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X")
    asked = [(m, p, {}) for p in ODD_PATHS for m in methods]
    asked += [
        (m, p, h) for p in ("/score", "/model", "/docs", "/healthz") for m in methods
        for h in odd_headers
    ]  # fmt: skip
    failed, n_answered = [], 0
    with server.client() as client:
        for method, path, headers in asked:
            try:
                answer = client.request(method, path, headers=headers)
            except httpx.ProtocolError:
                # one of the two hangs up on what is no HTTP
                continue
            n_answered += 1
            if answer.status_code >= 500 or "Traceback" in answer.text:
                failed.append((method, path[:80], headers, answer.status_code))
    assert not failed
    assert n_answered > 400
    assert server.get("/readyz").status_code == 200


def bodies_of(case: Any) -> bytes:
    """The body of a case of schemathesis as it would be sent."""
    if isinstance(case.body, bytes):
        return case.body
    if isinstance(case.body, dict | list | str | int | float | bool | None):
        return json.dumps(case.body).encode()
    return b""


def strategies(described: Described, path: str) -> list[st.SearchStrategy[bytes]]:
    schema = schemathesis.openapi.from_dict(described.document)
    examples = list(described.examples(path).values())
    near = st.sampled_from(examples).flatmap(altered)
    return [
        near.map(lambda body: json.dumps(body).encode()),
        *(
            schema[path]["POST"].as_strategy(generation_mode=mode).map(bodies_of)
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        ),
    ]


def drawn(
    strategy: st.SearchStrategy[bytes], n: int, nth: int, use: Callable[[bytes], object]
) -> None:
    """Use n bodies of a strategy, others in each round."""

    @seed(nth)
    @settings(
        max_examples=n, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(body=strategy)
    def of(body: bytes) -> None:
        use(body)

    of()


@contextmanager
def health_watched(url: str) -> Iterator[list[float]]:
    """Seconds that each request for health takes meanwhile."""
    seconds: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60.0) as client:
            while not over.wait(0.05):
                start = time.perf_counter()
                assert client.get("/healthz").status_code == 200
                seconds.append(time.perf_counter() - start)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_no_body_makes_the_endpoint_fail_stall_or_grow(server: Server, capsys) -> None:
    described = Described(server.get("/docs.json").json())
    start = time.perf_counter()
    attack = Attack(server.url, described, time.monotonic() + MOST_S)
    processes = processes_of(server.url)
    paths = described.posts()
    n = max(4, N_REQUESTS // len(paths) - HOSTILE_TIMES * len(NO_JSON))
    # half of them near the examples, which reach furthest
    shares = (n - 2 * (n // 4), n // 4, n // 4)
    with (
        health_watched(server.url) as health,
        ThreadPoolExecutor(SENDERS) as pool,
    ):
        sent = [
            pool.submit(attack.send, path, body)
            for body, path in product(NO_JSON * HOSTILE_TIMES, paths)
        ]
        for nth, path in product(range(1, ROUNDS + 1), paths):
            if time.monotonic() > attack.until:
                break
            for strategy, count in zip(
                strategies(described, path), shares, strict=True
            ):
                drawn(
                    strategy,
                    max(1, count // ROUNDS),
                    nth,
                    lambda body, path=path: sent.append(
                        pool.submit(attack.send, path, body)
                    ),
                )
            for future in sent:
                future.result()
    took, peak = time.perf_counter() - start, peak_bytes(server.url)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{sum(attack.statuses.values()):,} requests of {N_REQUESTS:,} in "
            f"{took:.0f} s; health: median "
            f"{np.median(health) * 1e3:.0f} ms, 99 % within "
            f"{np.quantile(health, 0.99) * 1e3:.0f} ms, worst "
            f"{max(health) * 1e3:.0f} ms of {len(health):,}; "
            f"peak memory {peak / 2**20:,.0f} MiB\n"
        )
        for (path, status), count in sorted(attack.statuses.items()):
            sys.stdout.write(f"| {path} | {status} | {count:,} |\n")
    assert not attack.flaws, "\n".join(attack.flaws[:10])
    assert peak < MOST_BYTES
    # none has died and was started anew
    assert processes_of(server.url) == processes
    # how fast is said above; here it has to be answered at all
    assert max(health) < HEALTH_WITHIN_S
    assert server.get("/readyz").status_code == 200
    statuses = {status for _, status in attack.statuses}
    # the bodies reach the endpoint's inside as well as its doors
    assert {200, 400, 413, 422} <= statuses
