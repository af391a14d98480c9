"""`hustings`: one subcommand per stage, in the order in which the data flow.

Nothing heavy is imported before a subcommand needs it, so that --help is quick.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from experiments.run import Run

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")
# before anything loads OpenMP, see training.boosting
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

OK, FAILED, BAD_INPUT, MISSING = 0, 1, 2, 3
"""Exit codes: done; a fault of ours; the campaign or its data; a file not there."""
SHOW_AFTER_S = 2.0

app = typer.Typer(
    name="hustings",
    help="From randomised message tests to a budgeted plan: who gets which message.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console(stderr=True)

_Campaign = Annotated[
    str, typer.Argument(help="A shipped campaign's name, a folder, or a campaign.toml.")
]
_Data = Annotated[
    Path, typer.Option("--data", help="Folder of runs.", envvar="HUSTINGS_RUNS")
]
_Store = Annotated[
    Path, typer.Option("--store", help="Folder of the MLflow store without a server.")
]
_Mlflow = Annotated[
    str,
    typer.Option("--mlflow", help="MLflow server.", envvar="MLFLOW_TRACKING_URI"),
]
_RunId = Annotated[
    str, typer.Option("--run", help="Run to work in; the latest without.")
]
_Trials = Annotated[int, typer.Option("--trials", min=1, help="Settings tried.")]
_Limit = Annotated[
    float,
    typer.Option("--time-limit", min=1, help="Seconds for all tunings together."),
]
_Model = Annotated[
    str, typer.Option("--model", help="Kind of model that is tuned and trained.")
]
_Workers = Annotated[
    int, typer.Option("--workers", min=1, help="Processes that search settings.")
]
_Storage = Annotated[
    str,
    typer.Option(
        "--tuning-storage",
        help="Database that keeps trials, such as postgresql+psycopg://user@host/name; "
        "a journal file beside the runs without.",
        envvar="HUSTINGS_TUNING_STORAGE",
    ),
]
_Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
_Voters = Annotated[
    int, typer.Option("--voters", help="Simulated voters, where the campaign is one.")
]
_NullTwin = Annotated[
    bool,
    typer.Option(
        "--null-twin", help="Simulate effects alike for all: personalising is worth 0."
    ),
]
_DEFAULT_DATA, _DEFAULT_STORE = Path(".data"), Path(".mlflow")
_DEFAULT_TRIALS, _DEFAULT_LIMIT_S = 6, 30.0


@dataclass(frozen=True)
class _Tuning:
    """How settings are searched: what `train` and `run` are told."""

    n_trials: int = _DEFAULT_TRIALS
    time_limit_s: float = _DEFAULT_LIMIT_S
    model: str = "stack"
    n_workers: int = 1
    tuning_storage: str = ""


@contextmanager
def _errors_told(*, debug: bool) -> Iterator[None]:
    """A wrong campaign or table ends with its message and an exit code of its own."""
    from features.ingest import DataMissing

    try:
        yield
    except (typer.Exit, typer.Abort, KeyboardInterrupt):
        raise
    except Exception as failure:
        if debug:
            raise
        console.print(f"[red]error:[/red] {_escaped(str(failure) or repr(failure))}")
        missing = isinstance(failure, FileNotFoundError | DataMissing)
        bad_input = isinstance(failure, ValueError)
        code = MISSING if missing else BAD_INPUT if bad_input else FAILED
        if code == FAILED:
            console.print(f"{type(failure).__name__}; --debug shows where")
        raise typer.Exit(code) from None


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for the stage and a line for the step, once it takes over two seconds."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from experiments.run import STAGES

    columns = (TextColumn("{task.description:<32}"), BarColumn(), TimeElapsedColumn())
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True) as shown:
        stages = shown.add_task("stages", total=len(STAGES), visible=False)
        step = shown.add_task("", total=None, visible=False)

        def tell(what: str, done: int, total: int) -> None:
            visible = time.monotonic() - started > SHOW_AFTER_S
            if what in STAGES:
                shown.update(
                    stages, description=what, completed=done, total=total,
                    visible=visible,
                )  # fmt: skip
                shown.update(step, visible=False)
                if not console.is_terminal and done == STAGES.index(what):
                    console.print(f"{what} ...")
            else:
                shown.update(
                    step, description=f"  {what[:30]}", completed=done,
                    total=total or None, visible=visible,
                )  # fmt: skip

        yield tell


def _make_run(
    campaign: str,
    data: Path,
    store: Path,
    mlflow: str,
    *,
    run_id: str = "",
    tuning: _Tuning | None = None,
    voters: int = 0,
    null_twin: bool = False,
) -> "Run":
    from experiments.run import Run
    from experiments.spec import load_campaign

    declared = load_campaign(campaign)
    if declared.simulate is not None:
        n_voters = voters or declared.simulate.n_voters
        null_twin = null_twin or declared.simulate.null_twin
        drawn = {"n_voters": n_voters, "null_twin": null_twin}
        declared.simulate = declared.simulate.model_copy(update=drawn)
        # a twin is another campaign: it must not meet the champion of the first
        declared.campaign.name += "-null" if null_twin else ""
    home = data / declared.campaign.name
    return Run(
        campaign=declared,
        home=home,
        folder=home / run_id,
        run_id=run_id,
        store=store,
        mlflow_uri=mlflow,
        **vars(tuning or _Tuning()),
    )


def _new_run_id() -> str:
    """The second it began, and what tells it from another that began in it."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"


@app.command()
def init(
    files: Annotated[list[Path], typer.Argument(help="Voter file to look at.")],
    debug: _Debug = False,
) -> None:
    """Look at a new voter file and draft its mapping, with reasons."""
    with _errors_told(debug=debug):
        from features.draft import draft_mapping

        for file in files:
            if not file.exists():
                raise FileNotFoundError(f"{file}: expected a voter file, found none")
            typer.echo(draft_mapping(file).toml())


def _stage(
    stage: str,
    campaign: str,
    run_id: str,
    data: Path,
    store: Path,
    mlflow: str,
    voters: int,
    *,
    debug: bool,
    tuning: _Tuning | None = None,
) -> None:
    with _errors_told(debug=debug):
        from dataclasses import replace

        from experiments.run import point_to, run_stage

        first = stage == "ingest"
        run = _make_run(
            campaign, data, store, mlflow,
            run_id=run_id or (_new_run_id() if first else ""),
            tuning=tuning, voters=voters,
        )  # fmt: skip
        run = _known_run(run, campaign)
        with _progress() as tell:
            run_stage(replace(run, tell=tell), stage)
        if first:
            point_to(run.home, run.run_id)
            _tell_links(run.folder)
        typer.echo(run.folder)


def _known_run(run: "Run", campaign: str) -> "Run":
    """The run that was named, else the latest."""
    from dataclasses import replace

    from experiments.run import latest

    known = run.run_id or latest(run.home)
    if not known:
        raise FileNotFoundError(
            f"{run.home}: expected a run; `hustings ingest {campaign}` starts one"
        )
    return replace(run, run_id=known, folder=run.home / known)


def _tell_links(folder: Path) -> None:
    """Who was linked, where the campaign declares that anybody may be."""
    import json

    path = folder / "links.json"
    if path.exists():
        told = json.loads(path.read_text())
        linked = told["n_by_key"] + told["n_by_fields"]
        typer.echo(
            f"Linked {linked:,} of {told['n_reactors']:,} reactors with a basis; "
            f"expected: {told['expected_false']:.0f} wrong, "
            f"{told['expected_missed']:.0f} missed."
        )


def _stage_command(stage: str, told: str) -> None:
    """One subcommand of a stage; all but `train` take the same options."""

    def command(
        campaign: _Campaign = "sample",
        run: _RunId = "",
        data: _Data = _DEFAULT_DATA,
        store: _Store = _DEFAULT_STORE,
        mlflow: _Mlflow = "",
        voters: _Voters = 0,
        debug: _Debug = False,
    ) -> None:
        _stage(stage, campaign, run, data, store, mlflow, voters, debug=debug)

    command.__doc__ = told
    app.command(stage)(command)


for _name, _told in (
    ("ingest", "Raw files to checked tables and quarantine; starts a run."),
    ("features", "Checked tables to the training set."),
):
    _stage_command(_name, _told)


@app.command()
def dictionary(
    campaign: _Campaign = "sample",
    written: Annotated[
        str, typer.Option("--format", help="markdown, csv or json.")
    ] = "markdown",
    run: _RunId = "",
    data: _Data = _DEFAULT_DATA,
    debug: _Debug = False,
) -> None:
    """What every column of a run says, whence it comes and what it may be used for."""
    with _errors_told(debug=debug):
        from features.dictionary import FORMATS, read_entries

        if written not in FORMATS:
            raise ValueError(
                f"expected --format {' or '.join(FORMATS)}, got {written!r}"
            )
        asked = _make_run(campaign, data, _DEFAULT_STORE, "", run_id=run)
        known = _known_run(asked, campaign).read_json("dictionary")
        typer.echo(FORMATS[written](read_entries(known["entries"])), nl=False)


@app.command()
def train(
    campaign: _Campaign = "sample",
    run: _RunId = "",
    trials: _Trials = _DEFAULT_TRIALS,
    time_limit: _Limit = _DEFAULT_LIMIT_S,
    model: _Model = "stack",
    workers: _Workers = 1,
    tuning_storage: _Storage = "",
    data: _Data = _DEFAULT_DATA,
    store: _Store = _DEFAULT_STORE,
    mlflow: _Mlflow = "",
    voters: _Voters = 0,
    debug: _Debug = False,
) -> None:
    """Training set to tuned candidates, tracked in MLflow.

    A search that was cut off goes on where it stopped; several commands search
    together where they share a tuning storage.
    """
    tuning = _Tuning(trials, time_limit, model, workers, tuning_storage)
    _stage(
        "train", campaign, run, data, store, mlflow, voters, debug=debug, tuning=tuning
    )


@app.command()
def evaluate(
    campaign: _Campaign = "sample",
    run: _RunId = "",
    data: _Data = _DEFAULT_DATA,
    store: _Store = _DEFAULT_STORE,
    mlflow: _Mlflow = "",
    voters: _Voters = 0,
    sealed: Annotated[
        bool,
        typer.Option(
            "--sealed",
            help="Instead, seal what the promoted model predicts of voters whose "
            "outcome nobody knows yet.",
        ),
    ] = False,
    opened: Annotated[
        Path | None,
        typer.Option(
            "--open",
            help="Instead, open a seal and judge it by the outcomes that have come; "
            "its predictions and key lie beside it.",
        ),
    ] = None,
    debug: _Debug = False,
) -> None:
    """Candidates against the baselines they have to beat."""
    if not sealed and opened is None:
        _stage(
            "evaluate", campaign, run, data, store, mlflow, voters, debug=debug
        )  # fmt: skip
        return
    with _errors_told(debug=debug):
        import secrets

        from experiments.run.context import utc_now
        from experiments.run.sealed import open_sealed, seal_predictions
        from training.seal import KEY_BYTES

        if sealed and opened is not None:
            raise ValueError("expected one of --sealed and --open, got both")
        known = _known_run(
            _make_run(
                campaign, data, store, mlflow,
                run_id=run, voters=voters,
            ),
            campaign,
        )  # fmt: skip
        if opened is not None:
            typer.echo(open_sealed(known, opened))
        else:
            key = secrets.token_bytes(KEY_BYTES)
            typer.echo(seal_predictions(known, key, sealed_at=utc_now()))


for _name, _told in (
    ("promote", "Register the candidate that deserves it; champion by the verdict."),
    ("score", "Lift of every message for every voter."),
    ("plan", "Scores, costs and budget to a plan, and the endpoint's bundle."),
    ("report", "The page a person looks at."),
):
    _stage_command(_name, _told)


@app.command()
def run(
    campaign: _Campaign = "sample",
    trials: _Trials = _DEFAULT_TRIALS,
    time_limit: _Limit = _DEFAULT_LIMIT_S,
    model: _Model = "stack",
    workers: _Workers = 1,
    tuning_storage: _Storage = "",
    data: _Data = _DEFAULT_DATA,
    store: _Store = _DEFAULT_STORE,
    mlflow: _Mlflow = "",
    voters: _Voters = 0,
    null_twin: _NullTwin = False,
    debug: _Debug = False,
) -> None:
    """Every stage: raw tables to checked tables, model, plan and report."""
    with _errors_told(debug=debug):
        from dataclasses import replace

        from experiments.run import run_campaign

        made = _make_run(
            campaign, data, store, mlflow, run_id=_new_run_id(),
            tuning=_Tuning(trials, time_limit, model, workers, tuning_storage),
            voters=voters, null_twin=null_twin,
        )  # fmt: skip
        with _progress() as tell:
            folder = run_campaign(replace(made, tell=tell))
        _summary(folder)


def _summary(folder: Path) -> None:
    """What came out and where it lies."""
    import json

    evaluation = json.loads((folder / "evaluation.json").read_text())
    told = json.loads((folder / "run.json").read_text())
    plan, promoted = told["plan"], json.loads((folder / "promoted.json").read_text())
    typer.echo(evaluation["headline"]["sentence"])
    typer.echo(
        f"Plan: {plan['n_contacts']:,} contacts for {plan['spent_usd']:,.2f} of "
        f"{plan['budget_usd']:,.2f} USD."
    )
    typer.echo(f"Model: {promoted['name']} version {promoted['version']} (champion).")
    quarantined = json.loads((folder / "ingest.json").read_text())
    n = sum(row["quarantined"] for row in quarantined.values())
    typer.echo(f"Rows quarantined: {n:,}.")
    _tell_links(folder)
    typer.echo(f"Took {sum(told['timings_s'].values()):.0f} s.")
    typer.echo(f"Results: {folder}/")
    typer.echo(f"Report:  {folder / 'report.html'}")


@app.command()
def compare(
    campaign: _Campaign = "sample",
    last: Annotated[int, typer.Option("--last", min=1, help="Runs shown.")] = 10,
    data: _Data = _DEFAULT_DATA,
    store: _Store = _DEFAULT_STORE,
    mlflow: _Mlflow = "",
    debug: _Debug = False,
) -> None:
    """The last runs of a campaign side by side, from MLflow."""
    with _errors_told(debug=debug):
        from training.register import open_store
        from training.track import recent_runs

        asked = _make_run(campaign, data, store, mlflow)
        open_store(mlflow or None, store)
        found = recent_runs(asked.campaign.campaign.name, last)
        if found.empty:
            raise FileNotFoundError(
                f"{asked.campaign.campaign.name}: expected runs in MLflow, found none; "
                f"`hustings run {campaign}` makes one"
            )
        _show_runs(
            [{str(k): v for k, v in r.items()} for r in found.to_dict("records")]
        )


def _show_runs(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("run", "model", "verdict", "gain from personalising", "slope", "code")
    for row in rows:
        gain, slope = "–", "–"
        if row["gain"] == row["gain"]:
            low, high = row["gain_low"], row["gain_high"]
            gain = f"{row['gain']:+.4g} ({low:+.4g} to {high:+.4g})"
            slope = f"{row['slope']:.2f}"
        verdict = row["verdict"] or row["status"].lower()
        table.add_row(row["run"], row["model"], verdict, gain, slope, row["commit"])
    Console(width=None if sys.stdout.isatty() else 140).print(table)


@app.command("remove-provider")
def remove_provider(
    campaign: _Campaign,
    provider: Annotated[
        str, typer.Argument(help="Its name, as in [providers.<name>].")
    ],
    data: _Data = _DEFAULT_DATA,
    store: _Store = _DEFAULT_STORE,
    debug: _Debug = False,
) -> None:
    """Take a provider's columns out of every run, and keep them out of later ones."""
    with _errors_told(debug=debug):
        from features.provider import remove_provider as take_out

        home = _make_run(campaign, data, store, "").home
        home.mkdir(parents=True, exist_ok=True)
        found = take_out(home, provider)
        typer.echo(f"Taken out of {len(found.cleaned)} files; no later run reads it.")
        for path in found.deleted:
            typer.echo(f"Deleted, a stage makes it anew: {path}")
        for path in found.mentions:
            typer.echo(f"Still names it: {path}")
        for run_id in found.trained_on:
            typer.echo(f"Learnt from it, to be trained again: {run_id}")


@app.command()
def rollback(
    campaign: _Campaign = "sample",
    to: Annotated[
        str, typer.Option("--to", help="Version; the champion before without.")
    ] = "",
    why: Annotated[str, typer.Option("--why", help="Kept with the version.")] = "",
    by: Annotated[
        str, typer.Option("--by", help="Who says so; your account without.")
    ] = "",
    data: _Data = _DEFAULT_DATA,
    store: _Store = _DEFAULT_STORE,
    mlflow: _Mlflow = "",
    debug: _Debug = False,
) -> None:
    """Make an earlier version the champion again, and serve its plan."""
    with _errors_told(debug=debug):
        from experiments.run import roll_back_campaign
        from training.register import operator

        asked = _make_run(campaign, data, store, mlflow)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        version, planned = roll_back_campaign(
            asked, to=to, by=by or operator(), at=at, why=why
        )
        typer.echo(f"Champion: {version.name} version {version.version}.")
        if planned is None:
            typer.echo(
                "No run has a plan of this version: the endpoint still serves what it "
                f"served. `hustings run {campaign}` makes a plan."
            )
        else:
            typer.echo(
                f"Served from now on: the plan of {planned}. Restart `hustings serve "
                f"{campaign}` if it runs."
            )


snapshots = typer.Typer(
    help="Deliveries of the voter file, and what changed between two.",
    no_args_is_help=True,
)
app.add_typer(snapshots, name="snapshots")


def _home(campaign: str, data: Path) -> Path:
    from experiments.spec import load_campaign

    return data / load_campaign(campaign).campaign.name


@snapshots.command("diff")
def snapshots_diff(
    campaign: _Campaign = "sample",
    between: Annotated[
        list[str] | None,
        typer.Argument(help="Two snapshots by number, name or day; the last without."),
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="List every voter.")] = False,
    data: _Data = _DEFAULT_DATA,
    debug: _Debug = False,
) -> None:
    """Who is new, gone, moved, merged or changed from one voter file to the next."""
    with _errors_told(debug=debug):
        import pandas as pd

        from experiments.run.persons import SNAPSHOTS, read_identity
        from features.identity import former_ids, present_ids
        from features.snapshot import diff, diff_text, find

        if between is not None and len(between) not in {0, 2}:
            raise ValueError(f"expected two snapshots or none, got {len(between)}")
        home = _home(campaign, data)
        old, new = find(home / SNAPSHOTS, between or [])
        former = present_ids(former_ids(read_identity(home)))
        tables = (pd.read_parquet(old.path), pd.read_parquet(new.path))
        found = diff(*tables, former)
        typer.echo(diff_text(found, old.name, new.name, ids=ids))


_OfCampaign = Annotated[
    str, typer.Option("--campaign", help="A shipped campaign's name, or a folder.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="For a program.")]


@app.command()
def show(
    voter: Annotated[str, typer.Argument(help="Any id that the person has had.")],
    campaign: _OfCampaign = "sample",
    as_json: _AsJson = False,
    data: _Data = _DEFAULT_DATA,
    store: _Store = _DEFAULT_STORE,
    mlflow: _Mlflow = "",
    debug: _Debug = False,
) -> None:
    """Everything held on a person: answers an access request."""
    with _errors_told(debug=debug):
        import json

        from experiments.holdings import Where
        from experiments.show import held, held_text

        run = _make_run(campaign, data, store, mlflow)
        found = held(Where(run.campaign, run.home, store, mlflow), voter)
        typer.echo(json.dumps(found, indent=1) if as_json else held_text(found))


@app.command()
def forget(
    voter: Annotated[
        str, typer.Argument(help="Any id of the person; none: finish what was begun.")
    ] = "",
    campaign: _OfCampaign = "sample",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: _AsJson = False,
    data: _Data = _DEFAULT_DATA,
    store: _Store = _DEFAULT_STORE,
    mlflow: _Mlflow = "",
    debug: _Debug = False,
) -> None:
    """Remove a person from everything that the campaign keeps, for good.

    A later voter file does not bring the person back. No other command may run on the
    campaign meanwhile. What was cut off goes on with the next call.
    """
    with _errors_told(debug=debug):
        from experiments.forget import as_json as json_of
        from experiments.forget import forget as forget_person
        from experiments.forget import resume, told_text
        from experiments.holdings import Where
        from experiments.run.context import utc_now

        run = _make_run(campaign, data, store, mlflow)
        where = Where(run.campaign, run.home, store, mlflow)
        if not voter:
            done = resume(where, at=utc_now())
        else:
            if not yes:
                typer.confirm(
                    "This cannot be undone: every trace of the person goes. Go on?",
                    abort=True, err=True,
                )  # fmt: skip
            batch = secrets.token_hex(8)
            done = [forget_person(where, voter, at=utc_now(), batch=batch)]
        for told in done:
            typer.echo(json_of(told) if as_json else told_text(told))
        if any(told.left for told in done):
            raise typer.Exit(FAILED)


@app.command()
def verify(
    campaign: _Campaign = "sample",
    data: _Data = _DEFAULT_DATA,
    debug: _Debug = False,
) -> None:
    """Whether the ledger is what was written; names the first altered entry."""
    with _errors_told(debug=debug):
        from experiments.ledger import LedgerError, noted_heads, open_ledger

        home = _home(campaign, data)
        known = noted_heads(home)
        found = open_ledger(home).verify(known)
        if found.fault:
            raise LedgerError(f"{found.n_entries:,} entries hold; {found.fault}")
        typer.echo(
            f"{found.n_entries:,} entries hold, as do the ends that {len(known)} runs "
            f"noted. The end: {found.head.seq} {found.head.digest}"
        )


@app.command()
def serve(
    campaign: _Campaign = "sample",
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 3000,
    data: _Data = _DEFAULT_DATA,
    debug: _Debug = False,
) -> None:
    """The scoring endpoint of a campaign's champion, on loopback; needs a key.

    HUSTINGS_API_KEY holds the key that every request but health must carry.
    """
    with _errors_told(debug=debug):
        from experiments.spec import load_campaign
        from serving.service import serve_bundle

        name = load_campaign(campaign).campaign.name
        serve_bundle(data / name / "serving", host=host, port=port)


@app.command()
def consume(
    campaign: _Campaign = "sample",
    broker: Annotated[
        str, typer.Option("--broker", help="Address, such as redis://localhost:6379.")
    ] = "redis://localhost:6379",
    stream: Annotated[
        str, typer.Option("--stream", help="Stream, topic, subject or queue.")
    ] = "reactions",
    data: _Data = _DEFAULT_DATA,
    debug: _Debug = False,
) -> None:
    """Reactions from a broker into the campaign's store, until it is stopped."""
    with _errors_told(debug=debug):
        from experiments.run.reactions import open_intake
        from experiments.spec import load_campaign
        from serving.consumer import consume as consume_stream

        declared = load_campaign(campaign)
        intake = open_intake(declared, data / declared.campaign.name)
        consume_stream(intake, broker, stream=stream)


reactions_app = typer.Typer(help="Reactions that platforms export.")
app.add_typer(reactions_app, name="reactions")


@reactions_app.callback()
def _reactions() -> None:
    """Reactions that platforms export."""


@reactions_app.command("import")
def import_reactions(
    file: Annotated[Path, typer.Argument(help="A page's export, CSV or Parquet.")],
    campaign: Annotated[str, typer.Option("--campaign")] = "sample",
    platform: Annotated[
        str, typer.Option("--platform", help="Where no column tells it.")
    ] = "facebook",
    data: _Data = _DEFAULT_DATA,
    debug: _Debug = False,
) -> None:
    """Counts by post, kind and time into the campaign's store, each once."""
    with _errors_told(debug=debug):
        from experiments.run.reactions import import_insights, open_intake
        from experiments.spec import load_campaign
        from features.insights import read_insights
        from serving.intake import utc_now

        declared = load_campaign(campaign)
        how = declared.reactions
        insights = read_insights(
            file, columns=how.columns, counts=how.counts, platform=platform
        )
        intake = open_intake(declared, data / declared.campaign.name)
        told = import_insights(intake, insights, now=utc_now())
        typer.echo(
            f"Kept {told.accepted:,}, known already {told.duplicate:,}, "
            f"quarantined {told.quarantined:,}."
        )
        for fault in told.faults[:5]:
            typer.echo(f"  {fault.message}")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(help="Posts with totals by kind.")],
    campaign: Annotated[str, typer.Option("--campaign")] = "sample",
    speed: Annotated[str, typer.Option("--speed", help="3600x, or max.")] = "3600x",
    url: Annotated[
        str, typer.Option("--url", help="Service to send to; the store without.")
    ] = "",
    since: Annotated[str, typer.Option("--from", help="First time.")] = "",
    until: Annotated[str, typer.Option("--to", help="Time after the last.")] = "",
    half_life_h: Annotated[
        float,
        typer.Option(
            "--half-life-h",
            min=0.01,
            help="Hours in which half of a post's reactions come.",
        ),
    ] = 3.0,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 2016,
    data: _Data = _DEFAULT_DATA,
    debug: _Debug = False,
) -> None:
    """Play real posts and their reactions in time order."""
    with _errors_told(debug=debug):
        from experiments.replay import (
            Decay,
            in_order,
            moment,
            play,
            posts_of,
            speed_of,
            to_endpoint,
        )  # fmt: skip
        from experiments.run.reactions import open_intake
        from experiments.spec import load_campaign
        from features.insights import read_insights
        from serving.intake import utc_now

        declared = load_campaign(campaign)
        how, pace = declared.reactions, speed_of(speed)
        insights = read_insights(file, columns=how.columns, counts=how.counts)
        posts = posts_of(insights, since=moment(since), until=moment(until))
        if url:
            send = to_endpoint(url, os.environ.get("HUSTINGS_API_KEY", ""))
        else:
            intake = open_intake(declared, data / declared.campaign.name)

            def send(batch: list[dict[str, Any]]) -> None:
                intake.receive(batch, received_at=utc_now())

        events = in_order(posts, Decay(half_life_h), seed)
        with console.status("playing") as shown:
            n = play(
                events, send, speed=pace,
                tell=lambda at, n: shown.update(f"{at:%Y-%m-%d %H:%M}  {n:,} events"),
            )  # fmt: skip
        typer.echo(f"Played {n:,} events of {len(posts):,} posts.")


def main() -> None:
    """Entry point of the script `hustings`."""
    sys.argv[0] = "hustings"
    app()


if __name__ == "__main__":
    main()
