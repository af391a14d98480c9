"""A campaign's folder holds: runs that are killed, and files that a disk alters.

A killed run shows all of itself or nothing: one moment, and the next command mends.

One run is made up to its promotion; each kill hits a process that takes it up there.
`make attack` kills at every point and at many more random moments.
"""

import json
import os
import random
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hustings.experiments import plans
from hustings.experiments.declaration import EXPERIMENTS
from hustings.experiments.plans.recorded_files import checked
from hustings.features.checksums import CHECKSUMS, require_unaltered
from hustings.serving.load import read_bundle
from tests.experiments.commands import KILLED, Commands
from tests.experiments.test_kill import WAVE

N_VOTERS = 1500
KILLS = os.environ.get("HUSTINGS_KILLS")
RUN, PLANS = "hustings.experiments.run", "hustings.experiments.stages.contacts"
PUBLICATION = "hustings.experiments.stages.publication"
REGISTER = "hustings.training.registry.register"
STAGES = "hustings.experiments.stages.models"
BEFORE = [f"{PLANS}:write_bundle:after"]
"""Points before the rename that commits a run: the old version stays."""
AFTER = [f"{PUBLICATION}:remove_at_once:before"]
"""Points after it: the new version comes."""
if KILLS:
    BEFORE += [
        f"{STAGES}:log_and_register:after", f"{PLANS}:draft:after",
        f"{RUN}:rename_to_disk:before",
    ]  # fmt: skip
    AFTER += [
        f"{RUN}:rename_to_disk:after", f"{REGISTER}:promote:after",
        f"{PUBLICATION}:remove_at_once:after", f"{PUBLICATION}:point_to:before",
        f"{PUBLICATION}:point_to:after",
    ]  # fmt: skip
N_RANDOM = max(1, int(KILLS or 1) // 50)


@dataclass(frozen=True)
class Campaign:
    """A campaign whose first run is finished and whose second waits to be promoted.

    Attributes:
        folder: Of runs, store and declaration.
        commands: Starts its commands.
        first: The first run.
        second: The second run.
    """

    folder: Path
    commands: Commands
    first: str
    second: str = "20300101T000000Z-second"

    @property
    def home(self) -> Path:
        return self.folder / "at" / "runs" / "sample"

    def words(self, *command: str) -> list[str]:
        at = self.folder / "at"
        where = ["--campaign", str(at / "declared"), "--data", str(at / "runs")]
        return [*command, *where]

    def run(self, *more: str) -> list[str]:
        store = str(self.folder / "at" / "mlflow")
        return self.words(
            "run", "--trials", "1", "--model", "linear", "--store", store, *more
        )

    def said(self) -> str:
        return " ".join(Path(self.commands.log).read_text().split())

    def again(self) -> None:
        """As it was before the second run's promotion."""
        shutil.rmtree(self.folder / "at")
        shutil.copytree(self.folder / "saved", self.folder / "at")

    def champion(self) -> str:
        """Number of the version that MLflow calls the champion."""
        store = self.folder / "at" / "mlflow" / "mlflow.db"
        with closing(sqlite3.connect(store)) as db:
            rows = db.execute("select version from registered_model_aliases").fetchall()
        ((version,),) = rows
        return str(version)

    def agreed(self) -> str:
        """The run of which champion, bundle, latest and plans all speak."""
        latest = (self.home / "latest").read_text()
        served = json.loads((self.home / "serving" / "plan.json").read_text())
        version = json.loads((self.home / "serving" / "version.json").read_text())
        promoted = json.loads((self.home / latest / "promoted.json").read_text())
        assert served["run"] == latest
        assert version["version"] == promoted["version"] == self.champion()
        drafts = {record.draft_body["run_id"] for record in plans.offered(
            self.home).values() if record.state == plans.DRAFT}  # fmt: skip
        assert drafts == {self.first, latest}
        return latest

    def left(self) -> list[Path]:
        return [p for p in self.home.rglob("*") if p.name.endswith(".partial")]

    def mended(self) -> str:
        """The run that is seen after one more command, of which nothing is half there.

        Every command mends first, also one that only reads.
        """
        assert self.commands.done(*self.words("plans", "list")) == 0, self.said()
        seen = self.agreed()
        for name, record in plans.plans(self.home).items():
            if record.draft_body["run_id"] not in (self.first, seen):
                code = self.commands.done(*self.words("plans", "lock", name))
                assert code == 2, self.said()
                assert plans.state(self.home, name) in (plans.DRAFT, plans.REJECTED)
        (draft,) = (
            name for name, record in plans.plans(self.home).items()
            if record.draft_body["run_id"] == seen
        )  # fmt: skip
        words = self.words("plans", "approve", draft, "--yes", "--by", "A. Pell")
        assert self.commands.done(*words) == 0, self.said()
        assert self.commands.done(*self.words("verify")) == 0, self.said()
        return seen


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    folder = tmp_path_factory.mktemp("killed")
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    declared = folder / "at" / "declared" / "campaign.toml"
    declared.parent.mkdir(parents=True)
    few = re.sub(r"n_voters = [0-9_]+", f"n_voters = {N_VOTERS}", shipped)
    start, end = few.index("# Day by day"), few.index("[features]")
    declared.write_text(few[:start] + WAVE + few[end:])
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("HUSTINGS_API_KEY", "k" * 40)  # without one `serve` reads nothing
        # MLflow notes there which store it was given last
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        commands = stack.enter_context(Commands(str(folder / "said.txt")))
        made = Campaign(folder, commands, "")
        code = commands.done(*made.run(), kill_at=f"{STAGES}:log_and_register:before")
        assert code == KILLED, made.said()
        (aside,) = made.home.glob(".*.partial")
        stopped = aside.with_suffix(".stopped")
        second = made.home / f".{made.second}.stopped"
        shutil.copytree(aside, second)
        aside.rename(stopped)
        first = stopped.name.removeprefix(".").removesuffix(".stopped")
        code = commands.done(*made.run("--run", first))
        assert code == 0, made.said()
        shutil.copytree(folder / "at", folder / "saved")
        yield Campaign(folder, commands, first)


@pytest.mark.parametrize("point", BEFORE)
def test_a_run_killed_before_its_rename_leaves_everything_as_it_was(
    campaign: Campaign, point: str
) -> None:
    campaign.again()
    code = campaign.commands.done(
        *campaign.run("--run", campaign.second), kill_at=point
    )
    assert code == KILLED, campaign.said()
    assert campaign.agreed() == campaign.first
    # as a run leaves it that was never stopped before
    stopped = campaign.home / f".{campaign.second}.stopped"
    stopped.rename(stopped.with_suffix(".partial"))
    assert campaign.mended() == campaign.first
    assert not campaign.left()


@pytest.mark.slow
def test_a_stopped_run_that_is_killed_when_taken_up_can_be_taken_up_again(
    campaign: Campaign,
) -> None:
    campaign.again()
    taken_up = campaign.run("--run", campaign.second)
    assert campaign.commands.done(*taken_up, kill_at=BEFORE[0]) == KILLED
    assert campaign.commands.done(*campaign.words("plans", "list")) == 0
    assert campaign.agreed() == campaign.first
    assert campaign.commands.done(*taken_up) == 0, campaign.said()
    assert "evaluate, promote, score stay as they were computed" in campaign.said()
    assert campaign.mended() == campaign.second


def test_a_killed_stage_of_a_finished_run_locks_nobody_out(campaign: Campaign) -> None:
    campaign.again()
    score = campaign.words("score", "--store", str(campaign.folder / "at" / "mlflow"))
    killed_at = "hustings.experiments.stages.context:write_json:after"
    assert campaign.commands.done(*score, kill_at=killed_at) == KILLED, campaign.said()
    assert campaign.commands.done(*score) == 0, campaign.said()
    assert campaign.commands.done(*campaign.words("verify")) == 0, campaign.said()


@pytest.mark.parametrize("point", AFTER)
def test_a_run_killed_after_its_rename_is_seen_whole_by_the_next_command(
    campaign: Campaign, point: str
) -> None:
    campaign.again()
    code = campaign.commands.done(
        *campaign.run("--run", campaign.second), kill_at=point
    )
    assert code == KILLED, campaign.said()
    assert campaign.mended() == campaign.second
    assert not campaign.left()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(N_RANDOM))
def test_a_run_killed_at_random_is_seen_old_or_new_and_the_next_one_works(
    campaign: Campaign, seed: int
) -> None:
    campaign.again()
    process = campaign.commands.begin(*campaign.run("--run", campaign.second))
    time.sleep(random.Random(seed).uniform(0.2, 5.0))
    killed = campaign.commands.kill(process)
    # a kill after the rename shows the new one
    seen = campaign.mended()
    assert seen in ((campaign.first, campaign.second) if killed else (campaign.second,))
    if seed == 0:
        again = campaign.home / f".{campaign.second}-3.stopped"
        saved = campaign.folder / "saved" / "runs" / "sample"
        shutil.copytree(saved / f".{campaign.second}.stopped", again)
        third = f"{campaign.second}-3"
        assert campaign.commands.done(*campaign.run("--run", third)) == 0
        assert (campaign.home / "latest").read_text() == third


# --- files that a disk alters ---------------------------------------------------------

N_FLIPS = 400 if KILLS else 20
"""Of each kind of file."""
KINDS = ("serving", "first", "plans", "exports")


@pytest.fixture(scope="module")
def with_day(campaign: Campaign) -> Campaign:
    """The campaign with a day whose lists were exported."""
    campaign.again()
    words = ("day", "--date", "2026-09-08", "--approve-by", "Ada Pell", "--export")
    assert campaign.commands.done(*campaign.words(*words)) == 0, campaign.said()
    return campaign


def files(campaign: Campaign, kind: str) -> list[Path]:
    folder = campaign.home / (campaign.first if kind == "first" else kind)
    if kind == "plans":
        folder /= "day-2026-09-08"
    return sorted(
        path for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size and not path.name.startswith(".")
    )  # fmt: skip


def names(path: Path) -> str:
    """What an error must name; of checksums, themselves or the file they are of."""
    return "." if path.name == CHECKSUMS else re.escape(path.name)


@contextmanager
def flipped(path: Path, rng: random.Random) -> Iterator[None]:
    """One bit of a file is another."""
    whole = path.read_bytes()
    broken, bit = bytearray(whole), rng.randrange(8 * len(whole))
    broken[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(bytes(broken))
    try:
        yield
    finally:
        path.write_bytes(whole)


def read(campaign: Campaign, kind: str) -> None:
    """Read what the commands read, by the door that they take."""
    home = campaign.home
    if kind == "serving":
        read_bundle(home / "serving")
    elif kind == "first":
        require_unaltered(home / campaign.first)
    elif kind == "plans":
        plans.unaltered_plans(home)
    else:
        faults = checked(home).faults
        if faults:
            raise ValueError(faults[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_of_any_file_is_named(with_day: Campaign, kind: str) -> None:
    rng, there = random.Random(kind), files(with_day, kind)
    assert len(there) >= 3
    read(with_day, kind)
    for nth in range(N_FLIPS):
        path = there[nth % len(there)]
        with (
            flipped(path, rng),
            pytest.raises(ValueError, match=names(path)) as refusal,
        ):
            read(with_day, kind)
        assert "\n" not in str(refusal.value)
    read(with_day, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_verify_and_the_command_that_reads_name_an_altered_file_in_a_line(
    with_day: Campaign, kind: str
) -> None:
    path = random.Random(kind).choice(files(with_day, kind))
    with flipped(path, random.Random(kind)):
        uses = {
            "serving": ("serve",), "first": ("score",), "exports": ("plans", "sent"),
            "plans": ("day", "--date", "2026-09-09"),
        }  # fmt: skip
        for command in (("verify",), uses[kind]):
            code = with_day.commands.done(*with_day.words(*command))
            said = with_day.said()
            assert code in (1, 2), said
            assert re.search(names(path), said.replace(" ", ""))
            assert "Traceback" not in said
    assert with_day.commands.done(*with_day.words("verify")) == 0, with_day.said()


def test_a_model_cut_short_in_the_registry_names_itself(with_day: Campaign) -> None:
    store = with_day.folder / "at" / "mlflow"
    (model,) = store.rglob("model.json")
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    words = ("score", "--store", str(store))
    assert with_day.commands.done(*with_day.words(*words)) == 2
    assert "model.json: it is not what was written" in with_day.said()
    model.write_bytes(whole)
