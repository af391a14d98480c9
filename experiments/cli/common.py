"""Shared parts of the subcommands: options, errors and exit codes, progress."""

import os
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

    from hustings.experiments.stages.context import Run
    from hustings.experiments.status import CampaignAddress


os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
# before anything loads OpenMP, see hustings.training.learners.boosting
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

OK, FAILED, BAD_INPUT, MISSING = 0, 1, 2, 3
"""Exit codes: done; a fault of ours; the campaign or its data; a file not there."""
SHOW_AFTER_S = 2.0
SETTLES_WITHIN = 100
"""So many tenths of a second another command is given to publish a run."""

console = Console(stderr=True)

CampaignName = Annotated[
    str,
    typer.Option(
        "--campaign", help="A shipped campaign's name, a folder, or a campaign.toml."
    ),
]
DataFolder = Annotated[
    Path, typer.Option("--data", help="Folder of runs.", envvar="HUSTINGS_RUNS")
]
StoreFolder = Annotated[
    Path, typer.Option("--store", help="Folder of the MLflow store without a server.")
]
MlflowServer = Annotated[
    str,
    typer.Option("--mlflow", help="MLflow server.", envvar="MLFLOW_TRACKING_URI"),
]
RunId = Annotated[
    str, typer.Option("--run", help="Run to work in; the latest without.")
]
Trials = Annotated[
    int,
    typer.Option(
        "--trials",
        min=1,
        help="Settings tried, the defaults first; 1 searches nothing.",
    ),
]
TimeLimit = Annotated[
    float,
    typer.Option(
        "--time-limit", min=1, help="Seconds after which no settings are tried."
    ),
]
ModelName = Annotated[
    str, typer.Option("--model", help="Kind of model that is tuned and trained.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes that learn.")]
TuningStorage = Annotated[
    str,
    typer.Option(
        "--tuning-storage",
        help="Database that keeps trials, such as postgresql+psycopg://user@host/name; "
        "a journal file beside the runs without.",
        envvar="HUSTINGS_TUNING_STORAGE",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
NVoters = Annotated[
    int, typer.Option("--voters", help="Simulated voters, where the campaign is one.")
]
NullTwin = Annotated[
    bool,
    typer.Option(
        "--null-twin", help="Simulate effects alike for all: personalising is worth 0."
    ),
]
NOTHING_TO_HAND_OVER = (
    "Nothing to hand over: the plan has no contacts, or none that has changed since "
    "its lists left."
)
DEFAULT_DATA, DEFAULT_STORE = Path(".data"), Path(".mlflow")
DEFAULT_TRIALS, DEFAULT_LIMIT_S = 6, 600.0
"""So many settings are tried, however busy the machine: the limit is for accidents."""
DEFAULT_WORKERS = 2
"""Half of the voters in one, all of them in the other; both search with more."""
AsJson = Annotated[bool, typer.Option("--json", help="For a program.")]


@dataclass(frozen=True)
class Tuning:
    """Options of `train` and `run` for the search of settings."""

    n_trials: int = DEFAULT_TRIALS
    time_limit_s: float = DEFAULT_LIMIT_S
    model: str = "stack"
    n_workers: int = DEFAULT_WORKERS
    tuning_storage: str = ""


def day_of(text: str, option: str) -> "pd.Timestamp":
    """A day as it is written on the command line.

    Raises:
        ValueError: If it is not written as 2026-09-08: 06.12.2026 is a day of June for
            some and of December for others.
    """
    import pandas as pd

    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise ValueError(f"expected {option} as YYYY-MM-DD, got {text!r}")
    return pd.Timestamp(text)


def utc_now() -> "pd.Timestamp":
    """The clock, in UTC to the second: a command looks at it once, when it begins."""
    import pandas as pd

    return pd.Timestamp(time.time(), unit="s", tz="UTC").floor("s")


@contextmanager
def alone(
    home: Path, command: str, *, at: "pd.Timestamp", begins: bool = False
) -> Iterator[None]:
    """Let the command change a campaign with no other one at work on it.

    What commands that were killed left half written is removed first, and said.

    Args:
        home: The campaign's folder. Without one there is nothing to change.
        command: Its name, for another one that is refused meanwhile.
        at: When it began.
        begins: Whether it makes the folder.

    Raises:
        LockedError: If another command is at work.
    """
    from hustings.experiments.plans.folder import one_command
    from hustings.experiments.run import remove_unfinished
    from hustings.experiments.stages.publication import publish_again

    if begins:
        home.mkdir(parents=True, exist_ok=True)
    if not home.is_dir():
        yield
        return
    # a folder of an earlier version could be read by everybody
    home.chmod(0o700)
    with one_command(home, command, at=at) as taken_up:
        if taken_up:
            _say(
                "A command was cut off. Files that changed since it began are taken as "
                f"written by it: {', '.join(taken_up)}. Whoever changed one by hand "
                "makes it anew."
            )
        for sentence in publish_again(home):
            _say(sentence)
        for left in remove_unfinished(home, at=at):
            _say(f"Removed what a command that was cut off left: {left}")
        yield


def settle(home: Path) -> None:
    """Finish what a command that was cut off had begun, before it is read.

    Raises:
        LockedError: If something is to be published, and a command that is at work
            does not finish it.
    """
    from hustings.experiments.plans.folder import LOCK
    from hustings.experiments.stages.publication import unpublished
    from hustings.features.lock import LockedError, holder_since

    if not unpublished(home) and holder_since(home / LOCK) is None:
        return
    for tries_left in reversed(range(SETTLES_WITHIN)):
        try:
            with alone(home, "settle", at=utc_now()):
                return
        except LockedError:
            # a command is at work: what is to be published it does first of all
            if not unpublished(home):
                return
            if not tries_left:
                raise
            time.sleep(0.1)


@contextmanager
def changing(
    campaign: str, data: Path, command: str
) -> "Iterator[tuple[Path, pd.Timestamp]]":
    """The folder of a campaign that a command is alone to change, and the time.

    Args:
        campaign: As the command was given it.
        data: Folder of runs.
        command: Its name, for another one that is refused meanwhile.

    Yields:
        The campaign's folder, and when the command began, UTC.
    """
    home, at = home_of(campaign, data), utc_now()
    with alone(home, command, at=at):
        yield home, at


@contextmanager
def errors_reported(*, debug: bool) -> Iterator[None]:
    """A wrong campaign or table ends with its message and an exit code of its own."""
    from hustings.features.ingest import DataMissing

    _GIVEN.set(None)
    try:
        yield
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except Exception as failure:
        if debug:
            raise
        print_error(str(failure) or repr(failure))
        missing = isinstance(failure, FileNotFoundError | DataMissing)
        bad_input = isinstance(failure, ValueError | FileExistsError)
        code = MISSING if missing else BAD_INPUT if bad_input else FAILED
        if code == FAILED:
            console.print(f"{type(failure).__name__}; --debug shows where")
        raise typer.Exit(code) from None


def print_error(text: str) -> None:
    """Print what was wrong with the campaign or its data."""
    console.print(f"[red]error:[/red] {_escaped(as_to_type(text))}")


def as_to_type(text: str) -> str:
    """A text in which each command is as it has to be typed for the campaign at hand.

    What fails deep inside names a command, as in `hustings run`, and does not know how
    this command was told which campaign is meant and where it lies: that is added here.

    Args:
        text: Commands in it stand between backticks.
    """
    given = _GIVEN.get()
    if given is None:
        return text
    return _COMMAND.sub(lambda said: f"`hustings {given.typed(said[1])}`", text)


_COMMAND = re.compile(r"`hustings ([^`]+)`(?! \(process)")
"""A command that a text names; not one that is at work."""
OF_NO_CAMPAIGN = frozenset({"init", "schema", "components"})
"""Commands that take no --campaign."""
WITHOUT_DATA = frozenset({"month", "rules"})
"""Commands of a campaign that take no --data."""
WITH_STORE = frozenset(
    {
        "ingest", "features", "train", "evaluate", "promote", "score", "plan", "report",
        "run", "day", "compare", "remove-provider", "rollback", "runs", "lift", "power",
        "show", "forget", "web", "backup", "restore",
    }
)  # fmt: skip
"""Commands that take --store."""


@dataclass(frozen=True)
class _Given:
    """How this command was told which campaign is meant, and where it lies."""

    address: "CampaignAddress"
    home: Path
    store: Path | None
    """None for the one that commands use without an option."""

    def typed(self, words: str) -> str:
        """A command with the options that say the same."""
        command = words.split()[0]
        if command in OF_NO_CAMPAIGN or "--campaign" in words:
            return words
        if command in WITHOUT_DATA:
            return f"{words} --campaign {shlex.quote(self.address.campaign)}"
        if command not in WITH_STORE:
            return f"{words} {self.address.options}"
        if self.store is None:
            return f"{words} {self._with_store()}"
        return f"{words} {self.address.options} --store {shlex.quote(str(self.store))}"

    def _with_store(self) -> str:
        """Options with the store of the latest run, where its record can be read."""
        try:
            return self.address.with_store(self.home)
        except (OSError, ValueError):
            return self.address.options


_GIVEN: "ContextVar[_Given | None]" = ContextVar("_GIVEN", default=None)


def _say(sentence: str) -> None:
    console.print(_escaped(as_to_type(sentence)), soft_wrap=True)


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for the stage and a line for the step, once it takes over two seconds."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from hustings.experiments.run import STAGES

    columns = (TextColumn("{task.description:<32}"), BarColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        stages = bar.add_task("stages", total=len(STAGES), visible=False)
        step = bar.add_task("", total=None, visible=False)

        def tell(what: str, n_done: int, total: int) -> None:
            visible = time.monotonic() - started > SHOW_AFTER_S
            if what in STAGES:
                bar.update(
                    stages, description=what, completed=n_done, total=total,
                    visible=visible,
                )  # fmt: skip
                bar.update(step, visible=False)
                if not console.is_terminal and n_done == STAGES.index(what):
                    console.print(f"{what} ...")
            else:
                bar.update(
                    step, description=f"  {what[:30]}", completed=n_done,
                    total=total or None, visible=visible,
                )  # fmt: skip

        yield tell


def make_run(
    campaign: str,
    data: Path,
    store: Path,
    mlflow: str,
    *,
    run_id: str = "",
    tuning: Tuning | None = None,
    voters: int = 0,
    null_twin: bool = False,
) -> "Run":
    """The run that options describe, not begun yet."""
    from hustings.experiments.declaration import load_campaign
    from hustings.experiments.stages.context import Run

    declared = load_campaign(campaign)
    if declared.simulate is not None:
        n_voters = voters or declared.simulate.n_voters
        null_twin = null_twin or declared.simulate.null_twin
        drawn = {"n_voters": n_voters, "null_twin": null_twin}
        declared.simulate = declared.simulate.model_copy(update=drawn)
        # a twin is another campaign: it must not meet the champion of the first
        declared.campaign.name += "-null" if null_twin else ""
    home = data / declared.campaign.name
    elsewhere = None if store == DEFAULT_STORE else store
    _GIVEN.set(_Given(address_of(campaign, data), home, elsewhere))
    return Run(
        at=utc_now(),
        campaign=declared,
        home=home,
        folder=home / run_id,
        run_id=run_id,
        store=store,
        mlflow_uri=mlflow,
        say=_say,
        **vars(tuning or Tuning()),
    )


def new_run_id() -> str:
    """Id of a run: the second in which it began, and a random suffix."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def known_run(run: "Run", campaign: str) -> "Run":
    """The run that was named, else the latest.

    Raises:
        AlteredError: If a file of it is not what was written, naming it.
        FileNotFoundError: If there is none.
    """
    from dataclasses import replace

    from hustings.experiments.plans.folder import LOCK
    from hustings.experiments.stages.context import latest
    from hustings.features.checksums import require_unaltered
    from hustings.features.lock import holder_since

    settle(run.home)
    run_id = run.run_id or latest(run.home)
    if not run_id:
        raise FileNotFoundError(
            f"{run.home}: expected a run; `hustings ingest "
            f"{address_of(campaign, run.home.parent).options}` starts one"
        )
    since_ns = holder_since(run.home / LOCK)
    require_unaltered(run.home / run_id, at_work_since_ns=since_ns)
    return replace(run, run_id=run_id, folder=run.home / run_id)


def say_next(campaign: str, data: Path, at: "pd.Timestamp", plan_id: str = "") -> None:
    """Say in one line, after a command has done its work, what is due next.

    Args:
        campaign: As the command was given it.
        data: Folder of runs.
        at: When the command began.
        plan_id: The plan that it was about; empty for none.
    """
    from hustings.experiments.declaration import load_campaign
    from hustings.experiments.status import next_step

    declared = load_campaign(campaign)
    home = data / declared.campaign.name
    address = address_of(campaign, data)
    due = next_step(declared, home, at, plan_id, address=address)
    if due is not None:
        _say(f"Next: {due.command} ({due.why})")


def address_of(campaign: str, data: Path) -> "CampaignAddress":
    """How the next command is told what this one was told.

    Args:
        campaign: As the command was given it.
        data: Folder of runs.
    """
    from hustings.experiments.status import CampaignAddress

    elsewhere = None if data == DEFAULT_DATA else data
    return CampaignAddress(campaign, elsewhere, DEFAULT_STORE)


def of_past_days(plan_id: str, n_contacts: int, options: str) -> str:
    """Contacts that an export left on lists of days that have passed, in words.

    Args:
        plan_id: The plan.
        n_contacts: How many.
        options: Of the campaign's address.
    """
    return (
        f"plan {plan_id}: {n_contacts:,} contacts of days that have passed were left: "
        f"mark what was sent with `hustings plans sent {plan_id} {options}`"
    )


def home_of(campaign: str, data: Path) -> Path:
    """The folder of a campaign's runs."""
    from hustings.experiments.declaration import load_campaign

    home = data / load_campaign(campaign).campaign.name
    _GIVEN.set(_Given(address_of(campaign, data), home, None))
    settle(home)
    return home
