"""The monitor: how late its page is, what it holds in memory, when it cries wolf.

Writes tests/speed/monitor.md. Alarms are simulated with the windows and the levels that
a campaign has by default; the page is a server of its own that a thousand reactions a
second reach through the store.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from hustings.serving.monitor.e_values import rise_evidence
from hustings.serving.monitor.snapshot import snapshot
from hustings.serving.monitor.stream import Monitor, MonitorRules
from tests.checkout import environment

pytestmark = pytest.mark.speed

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("monitor.md")
HEADER = """# The monitor in figures

`python -m pytest tests/speed/test_monitor.py -q -s -m speed` makes this table, on two
cores that other jobs use as well. A stream is one message's reactions, judged by the
default rules (24 hours against the 24 before, rises of the odds by up to a quarter
tolerated). "rho" is the correlation of reactions within an hour: with 0.02 a share of
20 % swings by 6 points from hour to hour, with 0.1 by 13. Delays are medians over the
streams that alarmed within 12 hours.

| what | | |
|---|---|---|
"""
KEY = "a-key-of-the-benchmark-0123456789"
RULES = MonitorRules()
LEVELS = (0.05, 0.01, 0.001)


def write_row(what: str, cells: str) -> None:
    """Put or replace a row."""
    text = TABLE.read_text() if TABLE.exists() else HEADER
    rows = [
        line for line in text.removeprefix(HEADER).splitlines()
        if not line.startswith(f"| {what} |")
    ]  # fmt: skip
    rows.append(f"| {what} | {cells} |")
    TABLE.write_text(HEADER + "\n".join(sorted(rows)) + "\n")
    sys.stdout.write(f"\n{what}: {cells}")


# --- alarms ---------------------------------------------------------------------------


def looks(
    rng: np.random.Generator, n_streams: int, rate: float, looks_an_hour: int,
    n_hours: int, share: Any, rho: float,
) -> Iterator[tuple[float, np.ndarray]]:  # fmt: skip
    """Time of each look in hours, and the evidence of every stream by then."""
    k = np.zeros((n_streams, RULES.hours_kept))
    n = np.zeros_like(k)
    for hour in range(n_hours):
        k, n = np.roll(k, -1, axis=1), np.roll(n, -1, axis=1)
        k[:, -1] = n[:, -1] = 0
        p = np.full(n_streams, share(hour))
        if rho:
            p = rng.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1))
        for look in range(looks_an_hour):
            more = rng.poisson(rate / looks_an_hour, n_streams)
            k[:, -1] += rng.binomial(more, p)
            n[:, -1] += more
            if hour < RULES.hours:
                continue
            yield hour + (look + 1) / looks_an_hour, rise_evidence(
                k, n, n_live=RULES.hours, tolerated=RULES.tolerated,
                least_clustering=RULES.clustering,
            )[0]  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "looks_an_hour", "rho"),
    [(10, 10, 0.0), (100, 12, 0.0), (100, 6, 0.02), (1_000, 6, 0.02), (100, 6, 0.1)],
)
def test_false_alarms_in_a_day_of_nothing(rate, looks_an_hour, rho):
    n_streams = 1_000
    rng = np.random.default_rng(1)
    most = np.full(n_streams, -np.inf)
    for _, log_e in looks(
        rng, n_streams, rate, looks_an_hour, 2 * RULES.hours, lambda _: 0.2, rho
    ):
        most = np.maximum(most, log_e)
    false = [float((most >= -np.log(level)).mean()) for level in LEVELS]
    told = ", ".join(
        f"{100 * f:.1f} % at alpha {a}" for f, a in zip(false, LEVELS, strict=True)
    )
    write_row(
        f"false alarms a day, {rate:,} reactions an hour, rho {rho}",
        f"{told} | {n_streams:,} streams, {looks_an_hour} looks an hour",
    )
    assert false[0] <= LEVELS[0]


@pytest.mark.parametrize(
    ("rate", "after", "rho"),
    [(20, 0.4, 0.0), (100, 0.2, 0.0), (100, 0.3, 0.0), (100, 0.3, 0.02),
     (1_000, 0.3, 0.02), (1_000, 0.2, 0.02)],
)  # fmt: skip
def test_delay_of_a_planted_backlash(rate, after, rho):
    n_streams, changed = 200, RULES.hours + 6
    rng = np.random.default_rng(2)
    first = np.full(n_streams, np.inf)
    for at, log_e in looks(
        rng, n_streams, rate, 4, changed + 12,
        lambda hour: 0.1 if hour < changed else after, rho,
    ):  # fmt: skip
        loud = (log_e >= -np.log(RULES.alpha)) & np.isinf(first)
        first[loud] = at
    delay = first - changed
    found = (delay > 0) & np.isfinite(delay)
    median = f"{np.median(delay[found]):.1f} h" if found.any() else "–"
    write_row(
        f"backlash 10 % to {after:.0%}, {rate:,} an hour, rho {rho}",
        f"{found.mean():.0%} found, after {median} | {n_streams} streams, alpha "
        f"{RULES.alpha}",
    )
    assert (delay <= 0).mean() <= 0.01


# --- memory and speed -----------------------------------------------------------------


def reactions(n: int, first_hour: int, n_posts: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    at = pd.Timestamp("2026-09-01") + pd.to_timedelta(
        first_hour + np.sort(rng.uniform(0, 24, n)), unit="h"
    )
    return pd.DataFrame(
        {
            "message_id": np.char.add("post", rng.integers(0, n_posts, n).astype(str)),
            "post_id": None,
            "kind": rng.choice(["like", "love", "angry", "haha"], n),
            "occurred_at": at, "received_at": at, "count": 1,
            "person": rng.integers(0, 10**12, n).astype(str),
            "segment": rng.integers(0, 18, n).astype(str),
            "age_band": None, "sex": None, "in_area": True,
            "account_age_days": rng.choice([2.0, 900.0], n, p=[0.02, 0.98]),
            "issue": None,
        }
    )  # fmt: skip


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_memory_and_speed_do_not_depend_on_what_came_before():
    """Ten days, 200,000 reactions each, to 2,000 posts a day of 18 segments."""
    monitor, spent, memory = Monitor(RULES), [], []
    for day in range(10):
        frame = reactions(200_000, 24 * day, 2_000, day)
        began = time.perf_counter()
        for at in range(0, len(frame), 5_000):
            monitor.add(frame.iloc[at : at + 5_000])
        spent.append(time.perf_counter() - began)
        began = time.perf_counter()
        monitor.judge()
        snapshot(monitor, paused={}, sent={}, planned={}, lifts={})
        looked = time.perf_counter() - began
        memory.append(resident_mb())
    write_row(
        "counting, reactions a second",
        f"{200_000 / np.mean(spent[:3]):,.0f} in the first three days, "
        f"{200_000 / np.mean(spent[-3:]):,.0f} in the last | 2 million in all",
    )
    write_row(
        "memory of the process",
        f"{memory[2]:,.0f} MB after three days, {memory[-1]:,.0f} MB after ten | "
        f"{len(monitor.messages):,} posts followed",
    )
    write_row("a look at everything", f"{looked:.2f} s | after an hour's turn")
    assert memory[-1] < 1.25 * memory[2]
    assert np.mean(spent[-3:]) < 2 * np.mean(spent[:3])


# --- how late the page is -------------------------------------------------------------

SERVER = """
import sys
import uvicorn
from starlette.applications import Starlette
from hustings.serving.monitor import http as watch
from hustings.serving.reactions import http as intake
from hustings.serving.reactions.store import Events
from hustings.serving.gate import Counts, FrontDoor
from hustings.serving.service import OPEN

taken_in = intake.Intake(Events.open(sys.argv[1]), key=b"key")
found = watch.MonitorFollower(
    taken_in.events, watch.MonitoredCampaign("speed"), now=watch.utc_now
)
found.start()
app = Starlette(routes=[*watch.routes, *intake.routes])
app.state.intake, app.state.watch = taken_in, found
behind = FrontDoor(app, Counts(), is_open=OPEN)
uvicorn.run(behind, port=int(sys.argv[2]), log_level="warning")
"""


@contextmanager
def served(store: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    there = environment(HUSTINGS_API_KEY=KEY)
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(store), str(port)], env=there
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(url + "/", timeout=2)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


def batch(name: str, n: int, message: str) -> dict[str, Any]:
    now = datetime.now(tz=UTC)  # noqa: TID251 - the load comes now
    rng = np.random.default_rng(len(name))
    return {
        "events": [
            {
                "event_id": f"{name}-{i}",
                "message_id": message or f"post-{rng.integers(100)}",
                "platform": "facebook",
                "kind": ["like", "angry"][i % 7 == 0],
                "occurred_at": now.isoformat(),
                "person": f"{name}-{i}",
                "segment": f"s{i % 12}" if not message else None,
            }
            for i in range(n)
        ]
    }


def test_the_page_is_current_within_two_seconds_at_a_thousand_reactions_a_second(
    tmp_path,
):
    """Each second a marker of 20 people goes in with the load; when is it shown?"""
    seconds, rate = 30, 1_000
    asked: dict[str, float] = {}
    shown: dict[str, float] = {}
    headers = {"X-API-Key": KEY}
    with (
        served(tmp_path / "events.db") as url,
        httpx.Client(base_url=url, headers=headers, timeout=60) as client,
    ):
        done = threading.Event()

        def listen() -> None:
            with httpx.stream(
                "GET", url + "/monitor/stream", headers=headers, timeout=60
            ) as answer:
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        now = time.monotonic()
                        for row in json.loads(line[6:])["messages"]:
                            shown.setdefault(row["message_id"], now)
                    if done.is_set():
                        return

        def send(name: str, n: int, message: str) -> None:
            answer = client.post("/reactions", json=batch(name, n, message))
            assert answer.status_code < 300, answer.text

        def listen_to_the_end() -> None:
            # the server ends before its stream does
            with suppress(httpx.TransportError):
                listen()

        listener = threading.Thread(target=listen_to_the_end, daemon=True)
        listener.start()
        began, sent = time.monotonic(), 0
        for tick in range(10 * seconds):
            wait = began + tick / 10 - time.monotonic()
            time.sleep(max(wait, 0))
            send(f"load-{tick}", rate // 10, "")
            sent += rate // 10
            if tick % 10 == 5:
                name = f"post-marker-{tick}"
                asked[name] = time.monotonic()
                # seven likes for each angry one: a chunk of 20 of the former
                send(name, 24, name)
        took = time.monotonic() - began
        time.sleep(3)
        done.set()
    lag = np.array([shown.get(name, np.inf) - at for name, at in asked.items()])
    write_row(
        "page's lag at a thousand reactions a second",
        f"median {np.median(lag):.2f} s, worst {lag.max():.2f} s | {len(lag)} markers "
        f"at {sent / took:,.0f} a second, from before `POST /reactions` to the stream",
    )
    assert lag.max() < 2.0
