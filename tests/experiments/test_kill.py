"""Killed anywhere, days resume: nobody twice, no money twice, no propensity lost."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hustings.experiments import plans
from hustings.experiments.declaration import EXPERIMENTS
from hustings.experiments.plans import folder, steps
from hustings.experiments.plans.checks import decided as decided_by
from hustings.experiments.plans.ledger import Ledger, open_ledger
from hustings.experiments.record import received
from hustings.features.tables import CONTROL, NO_CHANNEL
from tests.checkout import environment
from tests.experiments.commands import Commands
from tests.experiments.drafts import whole

AT = pd.Timestamp("2026-09-01T06:00:00Z")
DAYS, A_DAY, EACH_USD = 3, 20, 0.5
KEYS = {f"v{i:04}": i.to_bytes(32, "big") for i in range(1, 1 + DAYS * A_DAY)}


def drawn(day: int, pool: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A day decides the next of the pool: a pure function of what was decided."""
    ids = pool[:A_DAY]
    role = (["plan"] * 8 + ["explore", "holdout"]) * (len(ids) // 10)
    sent = pd.Series(role) != "holdout"
    assigned = pd.DataFrame(
        {
            "voter_id": ids, "role": role,
            "message_id": sent.map({True: "trade", False: CONTROL}),
            "channel": sent.map({True: "mail", False: NO_CHANNEL}),
            "propensity": [0.1 + 0.001 * int(v[1:]) for v in ids],
            "intended_message_id": "trade", "intended_channel": "mail",
        }
    )  # fmt: skip
    plan = assigned.loc[
        sent, ["voter_id", "message_id", "channel", "propensity", "role"]
    ].assign(
        send_on=(pd.Timestamp("2026-09-01") + pd.Timedelta(days=day)).as_unit("us"),
        cost_usd=EACH_USD, lift=0.01,
    )  # fmt: skip
    return plan.reset_index(drop=True), assigned


def work(home: Path, days: int = DAYS) -> None:
    """Days from draft to what came back, from wherever they stand."""
    for day in range(days):
        name = f"day{day}"
        # read before the plans: another process may draft this day in between
        decided = set(decided_by(home, plans.plans(home), plans.LIVE)["voter_id"])
        if name not in plans.plans(home):
            plan, assigned = drawn(day, [v for v in KEYS if v not in decided])
            facts = plans.PlanFacts("m/1", "us_default", budget_usd=DAYS * A_DAY * 0.45)
            plans.draft(home, name, whole(plan, assigned), facts, keys=KEYS, at=AT)
        plans.approve(home, name, by="R. Approver", at=AT)
        plans.lock(home, name, at=AT)
        for batch, voters in plans.batches_of(home, name).items():
            plans.send(home, name, batch, voters, at=AT)
        first = voters.iloc[:1].to_frame().assign(reason="moved")
        bill = pd.DataFrame(
            {"invoice": [f"i{day}"], "channel": ["mail"],
             "send_on": [pd.Timestamp("2026-09-01")], "amount_usd": [20.0]}
        )  # fmt: skip
        plans.returned(home, name, failed=first, invoices=bill, at=AT)


def holds(home: Path, days: int = DAYS) -> None:
    """What must be true after all days, however often they were cut off."""
    ledger = open_ledger(home)
    found = ledger.verify()
    assert found.fault == ""
    assert plans.plan_faults(home) == []
    assert not list((home / "plans").rglob(f".*{folder.ASIDE}"))
    voters = list(KEYS)[: days * A_DAY]
    for voter in voters:
        (entry,) = ledger.of_person([KEYS[voter]])
        told = dict(zip(plans.COLUMNS, json.loads(entry.body), strict=True))
        assert told["propensity"] == 0.1 + 0.001 * int(voter[1:])
    assert not plans.decided_so_far(home)["voter_id"].duplicated().any()
    rows = plans.spent(home)
    assert rows["n_spent"].sum() == days * A_DAY * 0.9
    assert rows["usd_spent"].sum() == pytest.approx(days * A_DAY * 0.9 * EACH_USD)
    assert rows["usd_committed"].sum() == rows["usd_spent"].sum()
    assert (rows["n_failed"].sum(), rows["usd_actual"].sum()) == (days, 20.0 * days)
    assert {r.state for r in plans.plans(home).values()} == {plans.RETURNED}
    # one draft, approval, lock, batch and result a day; an entry for each assignment
    assert found.n_entries == days * 5 + days * A_DAY


# --- every point between two writes ---------------------------------------------------


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


POINTS = {
    "before anything is written": (steps, "write_aside", "before"),
    "the folder is whole aside, the ledger knows nothing": (
        steps, "write_aside", "after",
    ),
    "within the ledger's transaction": (Ledger, "append_persons", "within"),
    "the ledger knows, the folder is aside": (Ledger, "append_persons", "after"),
    "the folder was renamed": (folder, "settle", "after"),
    "before an entry": (Ledger, "append", "before"),
    "after an entry": (Ledger, "append", "after"),
    "a batch is aside, the ledger knows nothing": (
        steps, "write_file_aside", "after",
    ),
}  # fmt: skip


def killing(real: Callable[..., Any], when: str, countdown: list[int]) -> Any:
    def spoilt(*args: Any, **named: Any) -> Any:
        countdown[0] -= 1
        due = countdown[0] == 0
        if due and when == "before":
            raise Killed
        if due and when == "within":
            opening, rows = list(args[:3]), list(args[3])

            def cut() -> Any:
                yield from rows[: len(rows) // 2]
                raise Killed

            return real(*opening, cut(), **named)
        result = real(*args, **named)
        if due:
            raise Killed
        return result

    return spoilt


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_a_day_goes_on_where_it_stood(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, when = POINTS[point]
    real = getattr(where, name)
    for nth in (1, 3):
        home = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            patch.setattr(where, name, killing(real, when, [nth]))
            try:
                work(home, days=2)
            except Killed:
                pass
            else:
                assert nth > 2, "expected to be killed, the point was never reached"
        work(home, days=2)
        holds(home, days=2)


def test_half_a_folder_aside_is_discarded(tmp_path: Path) -> None:
    half = tmp_path / "plans" / f".day0{folder.ASIDE}"
    half.mkdir(parents=True)
    (half / "plan.parquet").write_bytes(b"PAR1")
    work(tmp_path, days=1)
    holds(tmp_path, days=1)


# --- a real process, really killed ----------------------------------------------------


def started(home: Path) -> subprocess.Popen[bytes]:
    """A process of its own that does the days, ready to be killed."""
    code = (
        "import importlib.util, pathlib, sys\n"
        f"spec = importlib.util.spec_from_file_location('kill', {__file__!r})\n"
        "made = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(made)\n"
        "print('ready', flush=True)\n"
        f"made.work(pathlib.Path({str(home)!r}))\n"
    )
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=root,
        env=environment(),
    )  # fmt: skip


def killed_often(home: Path, rng: random.Random, kills: int, longest_s: float) -> int:
    """Kill the work so often at random moments; how many kills hit it at work."""
    hit = 0
    for _ in range(kills):
        with started(home) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, longest_s))
            hit += process.poll() is None
            process.send_signal(signal.SIGKILL)
    return hit


def test_a_process_killed_at_random_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    assert killed_often(tmp_path, rng, kills=3, longest_s=0.4) >= 1
    work(tmp_path)
    holds(tmp_path)


def test_two_processes_at_once_do_a_day_once(tmp_path: Path) -> None:
    both = [started(tmp_path), started(tmp_path)]
    codes = [process.wait(timeout=120) for process in both]
    for process in both:
        assert process.stdout is not None
        process.stdout.close()
    assert codes == [0, 0]
    work(tmp_path)
    holds(tmp_path)


# --- commands, really killed ----------------------------------------------------------

N_VOTERS = 600
WAVE = """
[loop]
channels = ["mail", "sms"]
wave_voters = 60
wave_days = 2
"""


def declared(folder: Path) -> Path:
    """The sample with few voters, of whom a randomised wave goes out on two days."""
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    few = re.sub(r"n_voters = [0-9_]+", f"n_voters = {N_VOTERS}", shipped)
    start, end = few.index("# Day by day"), few.index("[features]")
    folder.mkdir()
    (folder / "campaign.toml").write_text(few[:start] + WAVE + few[end:])
    return folder


@dataclass(frozen=True)
class Campaign:
    """A campaign that is carried out by its commands alone.

    Attributes:
        folder: Of its declaration.
        data: Folder of runs.
        commands: Starts them.
    """

    folder: Path
    data: Path
    commands: Commands

    @property
    def home(self) -> Path:
        return self.data / "sample"

    def words(self, *command: str) -> list[str]:
        where = ["--campaign", str(self.folder), "--data", str(self.data)]
        return [*command, *where]

    def steps(self) -> Iterator[list[str]]:
        """Its commands, in their order."""
        yield self.words("ingest")
        for day in ("2026-09-08", "2026-09-09"):
            plan_id = f"day-{day}"
            yield self.words("day", "--date", day, "--approve-by", "Ada Pell",
                             "--export")  # fmt: skip
            yield self.words("plans", "sent", plan_id)
            yield self.words("results", str(self.answers(plan_id)), "--plan", plan_id)

    def answers(self, plan_id: str) -> Path:
        """What the channels say of a plan: all delivered."""
        path = self.data / f"{plan_id}.csv"
        plan = pd.read_parquet(self.home / "plans" / plan_id / "plan.parquet")
        rows = plan.rename(columns={"send_on": "contacted_at"})
        rows["result"] = "delivered"
        rows[["voter_id", "contacted_at", "channel", "result"]].to_csv(
            path, index=False
        )
        return path

    def said(self) -> str:
        return " ".join(Path(self.commands.log).read_text().split())

    def play(self, kills: int, rng: random.Random, longest_s: float) -> int:
        """Every step, the first of them killed at random; how many kills hit one."""
        hit = 0
        for step in self.steps():
            for _ in range(kills):
                process = self.commands.begin(*step)
                time.sleep(rng.uniform(0, longest_s))
                hit += self.commands.kill(process)
            code = self.commands.done(*step)
            # what was killed after its last write is done, and said to be
            done_before = code == 2 and "read before" in self.said()
            assert code == 0 or done_before, (step, self.said())
        return hit

    def holds(self) -> None:
        """What must be true after every step, however often it was killed."""
        assert self.commands.done(*self.words("verify")) == 0, self.said()
        assert "no digests" not in self.said()
        assert open_ledger(self.home).verify().fault == ""
        records = plans.plans(self.home)
        assert {r.state for r in records.values()} == {plans.SENT}
        decided = plans.decided_so_far(self.home)
        assert not decided["voter_id"].duplicated().any()
        rows = plans.spent(self.home)
        assert rows["n_spent"].sum() == rows["n_planned"].sum() > 0
        assert len(received(self.home)) == len(records) == 2
        left = [str(p) for p in self.home.rglob(f"*{folder.ASIDE}")]
        assert left == []
        runs = [p.name for p in self.home.glob("*/run.json")]
        assert len(runs) == 1
        assert (self.home / "latest").read_text() in {
            p.parent.name for p in self.home.glob("*/run.json")
        }
        for parent in ("exports", "results"):
            assert len(list((self.home / parent).glob("*/*/"))) == 2


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[Campaign]:
    with Commands(str(tmp_path / "said.txt")) as commands:
        data = tmp_path / "runs"
        data.mkdir()
        yield Campaign(declared(tmp_path / "declared"), data, commands)


@pytest.mark.slow
def test_commands_killed_at_random_lose_and_double_nothing(campaign: Campaign) -> None:
    hit = campaign.play(kills=2, rng=random.Random(3), longest_s=1.5)
    campaign.holds()
    assert hit >= 3


@pytest.mark.slow
def test_commands_killed_thirty_times_lose_and_double_nothing(
    campaign: Campaign,
) -> None:
    hit = campaign.play(kills=6, rng=random.Random(4), longest_s=2.5)
    campaign.holds()
    assert hit >= 20
