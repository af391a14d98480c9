"""The endpoint under load, beside a bare BentoML service with the same trees.

Server and load have a core each where there are two. Times are those of the client; the
processor time of the server by request, which no neighbour on the machine changes, is
what is held. `endpoint.md` keeps the table.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from hustings.training.learners.gbm import Prepared
from hustings.training.learners.stack import StackLift, fit_stack
from tests.bundles import OF_VOTERS, Served, believed_gbm, sample_bundle
from tests.checkout import environment
from tests.servers import free_port, serving

pytestmark = pytest.mark.speed

KEY = "a-key-of-the-benchmark-0123456789"
N_VOTERS, N_MESSAGES = 12_000, 8
RATE, SECONDS, CONNECTIONS = 200, 5, 4
BARE = """
import bentoml, lightgbm, numpy
trees = lightgbm.Booster(model_file={model!r})

@bentoml.service(name="bare", workers=1, http={{"host": "127.0.0.1"}})
class Bare:
    @bentoml.api
    def predict(self, rows: list[list[float]]) -> list[float]:
        matrix = numpy.array(rows, dtype=numpy.float32)
        return trees.predict(matrix, num_threads=1).tolist()
"""


class Measured(NamedTuple):
    """Times of one kind of request, milliseconds."""

    p50: float
    p99: float
    cpu: float


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def post(self, request: bytes) -> bytes:
        self.socket.sendall(request)
        status = self.file.readline()
        length = 0
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = self.file.read(length)
        assert status.split()[1] == b"200", (status, body[:300])
        return body


def request_of(path: str, body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def cpu_seconds(port: int) -> float:
    """Processor time of all processes of a server, found by its port."""
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes()
            fields = (status.parent / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # its processes carry the port, or are children of one that does
        if str(port).encode() in words or f"fd://{port}".encode() in words:
            ticks += int(fields[11]) + int(fields[12])
            ticks += _of_children(status.parent.name)
    return ticks / os.sysconf("SC_CLK_TCK")


def _of_children(pid: str) -> int:
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            words = (stat.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if fields[1] == pid and b"--port" not in words:
            ticks += int(fields[11]) + int(fields[12])
    return ticks


def measured(port: int, requests: Sequence[bytes], *, rate: float = 0.0) -> Measured:
    """Send requests at a rate over several connections, or one after the other."""
    first = Client(port)
    for request in requests[:5]:
        first.post(request)
    times = np.zeros(len(requests))
    before, start = cpu_seconds(port), time.perf_counter() + 0.1

    def send(k: int, client: Client) -> None:
        for i in range(k, len(requests), n_clients):
            due = start + i / rate if rate else time.perf_counter()
            time.sleep(max(0.0, due - time.perf_counter()))
            client.post(requests[i])
            times[i] = time.perf_counter() - due

    n_clients = CONNECTIONS if rate else 1
    clients = [Client(port) for _ in range(n_clients)]
    threads = [
        threading.Thread(target=send, args=(k, client))
        for k, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in (first, *clients):
        client.close()
    cpu = (cpu_seconds(port) - before) / len(requests)
    p50, p99 = np.percentile(times, [50, 99])
    return Measured(p50 * 1e3, p99 * 1e3, cpu * 1e3)


@contextmanager
def running(command: Sequence[str], home: Path, **env: str) -> Iterator[int]:
    port = free_port()
    cores = sorted(os.sched_getaffinity(0))
    pinned = ["taskset", "-c", str(cores[0])] if len(cores) > 1 else []
    there = {
        **environment(), "HUSTINGS_API_KEY": KEY, "BENTOML_HOME": str(home / "bentoml"),
        "OMP_NUM_THREADS": "1", "HUSTINGS_VOTER_KEY": OF_VOTERS.key.hex(), **env,
    }  # fmt: skip

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as there:
                there.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                return b" 200 " in there.recv(64)
        except OSError:
            return False

    line = [*pinned, *command, "--port", str(port)]
    with serving(line, ready=ready, home=home, env=there, end_by="SIGINT"):
        yield port


def stack(prepared: Prepared) -> StackLift:
    return fit_stack(prepared, {}, seed=5)


def large_gbm(prepared: Prepared) -> Any:
    return believed_gbm(prepared, n_trees=200, num_leaves=31, min_child_samples=20)


def requests_of(served: Served, path: str, n: int, count: int) -> list[bytes]:
    requests = []
    for k in range(count):
        at = [(k * n + i) % len(served.rows) for i in range(n)]
        body: dict[str, Any] = {"voters": [served.rows[i] for i in at]}
        if path == "/recommend":
            permitted = {row["voter_id"]: ["sms"] for row in body["voters"]}
            body["permitted_channels"] = permitted
        requests.append(request_of(path, body))
    return requests


def paced(rate: float) -> str:
    return f"at {rate:g}" if rate else "one by one"


def test_the_endpoint_beside_a_bare_service(tmp_path, capsys):
    rows: list[tuple[str, Measured]] = []
    bundles = {}
    for name, fit in (("stack", stack), ("LightGBM 200 × 31", large_gbm)):
        home = tmp_path / name.split()[0]
        bundles[name] = sample_bundle(
            home, n_voters=N_VOTERS, n_messages=N_MESSAGES, fit=fit
        )
    model = next(bundles["LightGBM 200 × 31"].folder.glob("model/lift_0/common.0.*"))
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "bare.py").write_text(BARE.format(model=str(model)))
    n_features = len(bundles["stack"].model.reader.encoding.names)
    command = [sys.executable, "-m", "bentoml", "serve"]
    matrix = np.random.default_rng(0).normal(size=(1_000, n_features)).tolist()
    with running([*command, "bare:Bare", "--working-dir", str(bare)], bare) as port:
        for n, count, rate in ((1, 400, 0), (1, RATE * SECONDS, RATE), (1_000, 10, 0)):
            body = request_of("/predict", {"rows": matrix[:n]})
            rows.append((f"bare BentoML, {n:,} {paced(rate)}",
                         measured(port, [body] * count, rate=rate)))  # fmt: skip
    for name, served in bundles.items():
        home = served.folder.parent
        served_by = "hustings.serving.service:Hustings"
        line = [*command, served_by, "--working-dir", str(Path(__file__).parents[2])]
        with running(line, home, HUSTINGS_BUNDLE=str(served.folder)) as port:
            for path in ("/score", "/recommend"):
                for n, count, rate in (
                    (1, 400, 0), (1, RATE * SECONDS, RATE), (1_000, 10, 0),
                    (10_000, 3, 0),
                ):  # fmt: skip
                    requests = requests_of(served, path, n, count)
                    what = f"{name}, {path}, {n:,} {paced(rate)}"
                    rows.append((what, measured(port, requests, rate=rate)))
    base = {1: rows[0][1], 1_000: rows[2][1]}
    lines = [
        "| what, voters a request, requests a second | p50 ms | p99 ms | "
        "server's processor ms | to the bare service |",
        "|---|---|---|---|---|",
    ]
    for what, m in rows:
        n = 1_000 if ",000 " in what else 1
        ratio = m.cpu / base[n].cpu if "10,000" not in what else float("nan")
        lines.append(
            f"| {what} | {m.p50:.2f} | {m.p99:.2f} | {m.cpu:.2f} | {ratio:.1f} |"
        )
    text = "\n".join(lines)
    with capsys.disabled():
        sys.stdout.write(text + "\n")
    by_name = dict(rows)
    # before a request went without tables it was ten times the bare service's
    assert by_name["stack, /score, 1 one by one"].cpu < 3 * base[1].cpu
    assert by_name["stack, /recommend, 1 one by one"].cpu < 6 * base[1].cpu
