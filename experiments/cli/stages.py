"""The stages, one subcommand each, in the order in which the data flow."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from hustings.experiments.cli.common import (
    BAD_INPUT,
    DEFAULT_DATA,
    DEFAULT_LIMIT_S,
    DEFAULT_STORE,
    DEFAULT_TRIALS,
    DEFAULT_WORKERS,
    CampaignName,
    DataFolder,
    Debug,
    MlflowServer,
    ModelName,
    NullTwin,
    NVoters,
    RunId,
    StoreFolder,
    TimeLimit,
    Trials,
    Tuning,
    TuningStorage,
    Workers,
    alone,
    errors_reported,
    known_run,
    make_run,
    new_run_id,
    print_error,
    progress,
    say_next,
)

app = typer.Typer()


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
    tuning: Tuning | None = None,
    version: str | None = None,
) -> None:
    with errors_reported(debug=debug):
        from dataclasses import replace

        from hustings.experiments.run import begin_run, run_stage
        from hustings.experiments.stages.champion import adopt
        from hustings.experiments.stages.context import point_to

        first = stage == "ingest"
        run = make_run(
            campaign, data, store, mlflow,
            run_id=run_id or (new_run_id() if first else ""),
            tuning=tuning, voters=voters,
        )  # fmt: skip
        run = known_run(run, campaign)
        begins = first and not run.folder.exists()
        with (
            alone(run.home, stage, at=run.at, begins=first),
            progress() as tell,
        ):
            if begins:
                begin_run(replace(run, tell=tell))
            else:
                if version is not None:
                    adopt(run, version=version)
                run_stage(replace(run, tell=tell), stage)
        if first:
            point_to(run.home, run.run_id)
            _tell_tables(run.folder)
            _tell_electorate(run.folder)
            _tell_links(run.folder)
            _tell_reachable(run.folder)
            _tell_left(run.folder)
        if version is not None:
            _tell_model(run.folder)
        if stage == "plan":
            _tell_plan(run.folder)
        typer.echo(run.folder)


def _tell_tables(folder: Path) -> None:
    """Rows of every table: in = accepted + set aside, and what was lost and why."""
    import json

    from hustings.features.ingest import account_of

    for name, table in json.loads((folder / "ingest.json").read_text()).items():
        typer.echo("\n".join(account_of(name, table)))
    typer.echo(f"Rows set aside: {folder / 'quarantine.parquet'}")


def _tell_plan(folder: Path) -> None:
    """Contacts and money of a plan, and why voters could not be offered anything."""
    from hustings.experiments.results import record_of_run

    plan = record_of_run(folder).plan
    assert plan is not None
    typer.echo(
        f"Plan: {plan.n_contacts:,} contacts for {plan.spent_usd:,.2f} of "
        f"{plan.budget_usd:,.2f} USD."
    )
    if plan.places is not None:
        usd = sum(place.cost_usd for place in plan.places.taken)
        typer.echo(
            f"Of it {usd:,.2f} USD for {len(plan.places.taken):,} whole places of "
            f"{plan.places.n_places:,}; {plan.places.n_held_out:,} are held out."
        )
    for refused in plan.not_eligible:
        typer.echo(f"  {refused.reason}: {refused.n_voters:,} voters")
    _tell_online(folder)


def _tell_electorate(folder: Path) -> None:
    """What changed since the voter file before; nothing of a campaign's first file."""
    from hustings.experiments.results import record_of_run

    changes = record_of_run(folder).electorate
    if changes:
        counted = ", ".join(f"{n:,} {kind}" for kind, n in changes.items())
        typer.echo(f"Voters since the file before: {counted}.")
        if changes["gone"]:
            typer.echo(
                f"The {changes['gone']:,} gone are scored and planned no more, and "
                "teach no model; their answers stay in the measured lift."
            )


def _tell_model(folder: Path) -> None:
    """Which model scored, and what became of messages that were never sent."""
    import json

    from hustings.experiments.results import record_of_run
    from hustings.experiments.stages.champion import unseen_in_words

    version = json.loads((folder / "promoted.json").read_text())
    typer.echo(f"Model: {version['name']} version {version['version']}.")
    for sentence in unseen_in_words(record_of_run(folder).unseen):
        typer.echo(sentence)


def _tell_online(folder: Path) -> None:
    """What the endpoint has sent and offers, which the plan leaves out."""
    from hustings.experiments.results import record_of_run

    plan = record_of_run(folder).plan
    if plan is not None and (plan.online.n_sent or plan.online.n_open):
        online = plan.online
        typer.echo(
            f"Online: {online.n_sent:,} contacts were sent for "
            f"{online.sent_usd:,.2f} USD and {online.n_open:,} offers are open with "
            f"{online.reserved_usd:,.2f} "
            f"reserved: off the budget of {plan.budget_usd:,.2f}, and these voters are "
            "not planned."
        )


def _tell_links(folder: Path) -> None:
    """Who was linked, where the campaign declares that anybody may be."""
    import json

    path = folder / "links.json"
    if path.exists():
        links = json.loads(path.read_text())
        linked = links["n_by_key"] + links["n_by_fields"]
        typer.echo(
            f"Linked {linked:,} of {links['n_reactors']:,} reactors with a basis; "
            f"expected: {links['expected_false']:.0f} wrong, "
            f"{links['expected_missed']:.0f} missed."
        )
        unread = Counter(links["identities"]["unread"]) + Counter(links["bad_voters"])
        for side, bad in (("reactors", links["bad_reactors"]), ("voters", unread)):
            counts = [f"{field}: {n:,}" for field, n in bad.items() if n]
            if counts:
                typer.echo(f"  {side}, values that are none: {', '.join(counts)}")


def _tell_reachable(folder: Path) -> None:
    """How many voters each channel reaches, where addresses are declared."""
    import json

    path = folder / "reachable.json"
    if not path.exists():
        return
    for channel, n in json.loads(path.read_text()).items():
        unusable = f"; {n['unusable']:,} have a value that is no address"
        typer.echo(
            f"{channel}: {n['reachable']:,} of {n['voters']:,} voters can be reached"
            f"{unusable if n['unusable'] else ''}"
        )


def _tell_left(folder: Path) -> None:
    """Own decisions and answers whose voters are in the voter file no more."""
    import json

    report = json.loads((folder / "ingest.json").read_text())
    n = {name: row["left_the_file"] for name, row in report.items()}
    if any(n.values()):
        typer.echo(
            f"Voters have left the voter file: {n.get('deliveries', 0):,} of the "
            f"campaign's own deliveries and {n.get('responses', 0):,} answers teach "
            "nothing; they count in the measured lift."
        )


def _stage_command(stage: str, help_text: str) -> None:
    """One subcommand of a stage; all but `train` take the same options."""

    def command(
        campaign: CampaignName,
        run: RunId = "",
        data: DataFolder = DEFAULT_DATA,
        store: StoreFolder = DEFAULT_STORE,
        mlflow: MlflowServer = "",
        voters: NVoters = 0,
        debug: Debug = False,
    ) -> None:
        _stage(stage, campaign, run, data, store, mlflow, voters, debug=debug)

    command.__doc__ = help_text
    app.command(stage)(command)


for _name, _help_text in (
    ("ingest", "Raw files to checked tables and quarantine; starts a run."),
    ("features", "Checked tables to the training set."),
):
    _stage_command(_name, _help_text)


@app.command()
def dictionary(
    campaign: CampaignName,
    written: Annotated[
        str, typer.Option("--format", help="markdown, csv or json.")
    ] = "markdown",
    run: RunId = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """What every column of a run says, whence it comes and what it may be used for."""
    with errors_reported(debug=debug):
        from hustings.features.dictionary import FORMATS, read_entries

        if written not in FORMATS:
            raise ValueError(
                f"expected --format {' or '.join(FORMATS)}, got {written!r}"
            )
        requested_run = make_run(campaign, data, DEFAULT_STORE, "", run_id=run)
        content = known_run(requested_run, campaign).read_json("dictionary")
        typer.echo(FORMATS[written](read_entries(content["entries"])), nl=False)


@app.command()
def train(
    campaign: CampaignName,
    run: RunId = "",
    trials: Trials = DEFAULT_TRIALS,
    time_limit: TimeLimit = DEFAULT_LIMIT_S,
    model: ModelName = "stack",
    workers: Workers = DEFAULT_WORKERS,
    tuning_storage: TuningStorage = "",
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    voters: NVoters = 0,
    debug: Debug = False,
) -> None:
    """Training set to tuned candidates, tracked in MLflow.

    A search that was cut off goes on where it stopped; several commands search
    together where they share a tuning storage.
    """
    tuning = Tuning(trials, time_limit, model, workers, tuning_storage)
    _stage(
        "train", campaign, run, data, store, mlflow, voters, debug=debug, tuning=tuning
    )


@app.command()
def evaluate(
    campaign: CampaignName,
    run: RunId = "",
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    voters: NVoters = 0,
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
    debug: Debug = False,
) -> None:
    """Candidates against the baselines they have to beat."""
    if not sealed and opened is None:
        _stage(
            "evaluate", campaign, run, data, store, mlflow, voters, debug=debug
        )  # fmt: skip
        return
    with errors_reported(debug=debug):
        import secrets

        from hustings.experiments.stages.sealed import open_sealed, seal_predictions
        from hustings.training.registry.seal import KEY_BYTES

        if sealed and opened is not None:
            raise ValueError("expected one of --sealed and --open, got both")
        target_run = known_run(
            make_run(
                campaign, data, store, mlflow,
                run_id=run, voters=voters,
            ),
            campaign,
        )  # fmt: skip
        with alone(target_run.home, "evaluate", at=target_run.at):
            if opened is not None:
                typer.echo(open_sealed(target_run, opened))
            else:
                key = secrets.token_bytes(KEY_BYTES)
                sealed_at = target_run.at
                typer.echo(seal_predictions(target_run, key, sealed_at=sealed_at))


_stage_command(
    "promote", "Register the candidate that deserves it; champion by the verdict."
)


def _registered_command(stage: str, help_text: str) -> None:
    """A stage by the registered champion, or by a version of it, of any voter file."""

    def command(
        campaign: CampaignName,
        version: Annotated[
            str,
            typer.Option("--version", help="Registered version; the champion without."),
        ] = "",
        run: RunId = "",
        data: DataFolder = DEFAULT_DATA,
        store: StoreFolder = DEFAULT_STORE,
        mlflow: MlflowServer = "",
        voters: NVoters = 0,
        debug: Debug = False,
    ) -> None:
        _stage(
            stage, campaign, run, data, store, mlflow, voters, debug=debug,
            version=version,
        )  # fmt: skip

    command.__doc__ = help_text
    app.command(stage)(command)


for _name, _help_text in (
    (
        "score",
        "Champion to the lift of every message for every voter.",
    ),
    ("plan", "Lifts, costs and budget to a plan, and the endpoint's bundle."),
):
    _registered_command(_name, _help_text)

_stage_command("report", "The page a person looks at.")


@app.command()
def run(
    campaign: CampaignName = "sample",
    trials: Trials = DEFAULT_TRIALS,
    time_limit: TimeLimit = DEFAULT_LIMIT_S,
    model: ModelName = "stack",
    workers: Workers = DEFAULT_WORKERS,
    tuning_storage: TuningStorage = "",
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    voters: NVoters = 0,
    null_twin: NullTwin = False,
    stopped: Annotated[
        str,
        typer.Option("--run", help="A run that stopped, to take up; else a new one."),
    ] = "",
    debug: Debug = False,
) -> None:
    """Every stage: raw tables to checked tables, model, plan and report."""
    with errors_reported(debug=debug):
        from dataclasses import replace

        from hustings.experiments.run import run_campaign, stopped_run

        new_run = make_run(
            campaign, data, store, mlflow, run_id=stopped or new_run_id(),
            tuning=Tuning(trials, time_limit, model, workers, tuning_storage),
            voters=voters, null_twin=null_twin,
        )  # fmt: skip
        if stopped and not stopped_run(new_run).is_dir():
            raise FileNotFoundError(
                f"{new_run.home}: expected {stopped} to be a run that stopped, found "
                "none of this name; without --run a new one begins"
            )
        with (
            alone(new_run.home, "run", at=new_run.at, begins=True),
            progress() as tell,
        ):
            folder = run_campaign(replace(new_run, tell=tell))
        _summary(folder)
        if not null_twin:
            say_next(campaign, data, new_run.at)


def _not_learnt(folder: Path, sentence: str) -> None:
    """The run has no model and no plan: the reason, and exit code 2."""
    _tell_tables(folder)
    typer.echo(f"Report:  {folder / 'report.html'}")
    print_error(sentence)
    raise typer.Exit(BAD_INPUT)


def _summary(folder: Path) -> None:
    """What came out and where it lies.

    Raises:
        typer.Exit: With code 2, if nothing was learnt and nothing can be planned.
    """
    import json

    from hustings.experiments.results import record_of_run
    from hustings.experiments.stages.champion import unseen_in_words

    evaluation = json.loads((folder / "evaluation.json").read_text())
    if not (folder / "promoted.json").exists():
        _not_learnt(folder, evaluation["headline"]["sentence"])
    promoted = json.loads((folder / "promoted.json").read_text())
    record = record_of_run(folder)
    assert record.timings_s is not None
    typer.echo(evaluation["headline"]["sentence"])
    _tell_plan(folder)
    typer.echo(f"Model: {promoted['name']} version {promoted['version']} (champion).")
    for sentence in unseen_in_words(record.unseen):
        typer.echo(sentence)
    _tell_tables(folder)
    _tell_links(folder)
    _tell_reachable(folder)
    _tell_left(folder)
    typer.echo(f"Took {sum(record.timings_s.values()):.0f} s.")
    typer.echo(f"Results: {folder}/")
    typer.echo(f"Report:  {folder / 'report.html'}")
