"""`plans`, `policies`, `evidence`: from what can be planned to what came back."""

from pathlib import Path
from typing import Annotated

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    FAILED,
    AsJson,
    CampaignName,
    DataFolder,
    Debug,
    RunId,
    address_of,
    changing,
    errors_reported,
    home_of,
    make_run,
    say_next,
    settle,
    utc_now,
)

app = typer.Typer()
life = typer.Typer(
    help="Plans from draft to what came back: list, diff, approve, lock, sent, spend.",
    no_args_is_help=True,
)
app.add_typer(life, name="plans")

PlanName = Annotated[
    str, typer.Argument(help="A plan's name or its beginning; the latest without.")
]
By = Annotated[str, typer.Option("--by", help="Name of the person who decides.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the ledger.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def policies(
    campaign: CampaignName,
    run_id: RunId = "",
    as_json: AsJson = False,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Every policy that a plan can name, and what each was judged to gain."""
    with errors_reported(debug=debug):
        import json
        from dataclasses import replace

        from hustings.experiments.stages.plannable import (
            latest_evaluated,
            plannable_policies,
        )

        run = make_run(campaign, data, DEFAULT_STORE, "")
        settle(run.home)
        name = run_id or latest_evaluated(run.home)
        evaluation = replace(run, folder=run.home / name).read_json("evaluation")
        rows = plannable_policies(evaluation, run.campaign.plan.policy)
        if as_json:
            judged = {"run": name, "policies": [row.to_json() for row in rows]}
            typer.echo(json.dumps(judged, indent=1))
            return
        for row in rows:
            typer.echo(row.sentence())
        if not rows:
            typer.echo(evaluation["headline"]["sentence"])


@life.command("list")
def list_plans(
    campaign: CampaignName,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Every plan with its state, contacts and money."""
    with errors_reported(debug=debug):
        from hustings.experiments.plans import listed_plans

        for plan in listed_plans(home_of(campaign, data), utc_now()):
            typer.echo(plan.line())


@life.command()
def show(
    campaign: CampaignName,
    plan: PlanName = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """A plan's steps and what it was made from."""
    with errors_reported(debug=debug):
        import json

        from hustings.experiments.plans import find, record_of

        home = home_of(campaign, data)
        record = record_of(home, find(home, plan))
        typer.echo(f"Plan {record.plan_id}: {record.state}")
        for step in record.steps:
            typer.echo(f"\nentry {step.seq}, {step.at}: {step.to} {step.key}".rstrip())
            facts = {k: v for k, v in step.body.items() if k not in {"plan", "key"}}
            typer.echo(json.dumps(facts, indent=1))


@life.command()
def diff(
    campaign: CampaignName,
    plan: PlanName = "",
    other: Annotated[
        str, typer.Argument(help="Another plan; the last one approved without.")
    ] = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """What a plan changes, by message, channel and county, and why."""
    with errors_reported(debug=debug):
        typer.echo(_diff_of_plans(home_of(campaign, data), plan, other))


def _diff_of_plans(home: Path, plan: str, other: str = "") -> str:
    from hustings.experiments.plans import diff as diff_plans
    from hustings.experiments.plans import diff_text, find, plans

    against = find(home, other) if other else ""
    return diff_text(diff_plans(home, plans(home), find(home, plan), against))


@life.command()
def approve(
    campaign: CampaignName,
    by: By,
    plan: PlanName = "",
    yes: Yes = False,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Answer for a plan, having read what it changes."""
    with (
        errors_reported(debug=debug),
        changing(campaign, data, "plans approve") as (home, at),
    ):
        from hustings.experiments import plans as plan_steps

        name = plan_steps.find(home, plan)
        typer.echo(_diff_of_plans(home, name))
        if not yes:
            typer.confirm(f"\nDo you, {by}, approve this plan?", abort=True, err=True)
        _print_step(plan_steps.approve(home, name, by=by, at=at))
        say_next(campaign, data, at, name)


@life.command()
def reject(
    campaign: CampaignName,
    by: By,
    why: Why,
    plan: PlanName = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """A draft that is not to be."""
    with (
        errors_reported(debug=debug),
        changing(campaign, data, "plans reject") as (home, at),
    ):
        from hustings.experiments import plans as plan_steps

        name = plan_steps.find(home, plan)
        _print_step(plan_steps.reject(home, name, by=by, why=why, at=at))


@life.command()
def cancel(
    campaign: CampaignName,
    by: By,
    why: Why,
    plan: PlanName = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """What was not sent yet never will be; its money is free again."""
    with (
        errors_reported(debug=debug),
        changing(campaign, data, "plans cancel") as (home, at),
    ):
        from hustings.experiments import plans as plan_steps

        name = plan_steps.find(home, plan)
        _print_online(plan_steps.send_online(home, name, at=at))
        _print_step(plan_steps.cancel(home, name, by=by, why=why, at=at))


@life.command()
def lock(
    campaign: CampaignName,
    plan: PlanName = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Decide a plan's voters and commit its money."""
    with (
        errors_reported(debug=debug),
        changing(campaign, data, "plans lock") as (home, at),
    ):
        from hustings.experiments import plans as plan_steps

        name = plan_steps.find(home, plan)
        _print_step(plan_steps.lock(home, name, at=at))
        say_next(campaign, data, at, name)


@life.command()
def sent(
    campaign: CampaignName,
    plan: PlanName = "",
    channel: Annotated[str, typer.Option("--channel", help="Only this one.")] = "",
    day: Annotated[str, typer.Option("--day", help="Only this one, YYYY-MM-DD.")] = "",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """A plan's contacts were handed over: one batch for each channel and day."""
    with (
        errors_reported(debug=debug),
        changing(campaign, data, "plans sent") as (home, at),
    ):
        from hustings.experiments import plans as plan_steps
        from hustings.experiments.handover.ballots import (
            already_voted,
            voters_by_plan_ids,
        )
        from hustings.experiments.handover.lists import (
            EXPORTS,
            batches,
            place_handovers,
        )
        from hustings.experiments.plans.recorded_files import lists_outside

        plan_steps.unaltered_plans(home)
        name = plan_steps.find(home, plan)
        voters_by_batch = plan_steps.batches_of(home, name, channel=channel, day=day)
        places_by_batch = plan_steps.place_batches_of(
            home, name, channel=channel, day=day
        )
        if not voters_by_batch and not places_by_batch:
            raise ValueError(
                f"plan {name}: expected contacts by {channel or 'any channel'} on "
                f"{day or 'any day'}, got none"
            )
        _print_online(plan_steps.send_online(home, name, at=at))
        online = plan_steps.sent_online(home, name)
        exported = batches(home / EXPORTS / name)
        record = plan_steps.record_of(home, name)
        voted = voters_by_plan_ids(campaign, home)
        for batch, voters in voters_by_batch.items():
            if record.has(plan_steps.SENT, batch):
                # whoever was taken out of its list since was on it
                typer.echo(f"{batch}: marked as sent before")
                continue
            handover = exported.get(batch)
            handed = voters[~voters.isin(online)]
            has_voted = voted(handed)
            # a list that lies elsewhere has left with them
            not_on_it = has_voted & (not lists_outside(home, name))
            withheld = already_voted(handed[not_on_it])
            if handover is not None:
                withheld = handover.withheld
                withheld = withheld[~withheld["voter_id"].isin(online)]
                n = int((~handed[has_voted].isin(withheld["voter_id"])).sum())
                if n:
                    typer.echo(
                        f"{batch}: {n:,} of its list have voted since it left: "
                        "`hustings already-voted "
                        f"{address_of(campaign, data).options}` names them"
                    )
            handed = handed[~handed.isin(withheld["voter_id"])]
            record = plan_steps.send(
                home, name, batch, handed, at=at, withheld=withheld,
                list_sha256="" if handover is None else handover.list_sha256,
            )  # fmt: skip
            text = f"{batch}: {len(handed):,} contacts"
            if handover is None and len(withheld):
                text += f"; {len(withheld):,} withheld, who have voted already"
            typer.echo(text)
        lists_of_places = place_handovers(home / EXPORTS / name)
        for batch, places in places_by_batch.items():
            handover = lists_of_places.get(batch)
            record = plan_steps.send_places(
                home, name, batch, places, at=at,
                withheld=None if handover is None else handover.withheld,
                list_sha256="" if handover is None else handover.list_sha256,
            )  # fmt: skip
            n_withheld = 0 if handover is None else len(handover.withheld)
            typer.echo(f"{batch}: {len(places) - n_withheld:,} whole places")
        _print_step(record)
        say_next(campaign, data, at, name)


@life.command()
def undo(
    campaign: CampaignName,
    by: By,
    why: Why,
    plan: PlanName = "",
    batch: Annotated[
        str,
        typer.Option("--batch", help="Only this batch; the last that were marked."),
    ] = "",
    yes: Yes = False,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Take back a `sent` that was marked by mistake, else the lock, by a new entry."""
    with (
        errors_reported(debug=debug),
        changing(campaign, data, "plans undo") as (home, at),
    ):
        from hustings.experiments import plans as plan_steps
        from hustings.experiments.handover.undo import objection

        name = plan_steps.find(home, plan)
        for step in plan_steps.to_undo(plan_steps.record_of(home, name), batch):
            what = f"{step.to} {step.key}".strip()
            typer.echo(f"entry {step.seq}, {step.at[:16]}: {what}")
        if not yes:
            typer.confirm(f"Do you, {by}, take this back?", abort=True, err=True)
        record = plan_steps.undo(
            home, name, by=by, why=why, batch=batch, at=at,
            # whoever confirms may take minutes, in which the endpoint hands out
            objection=lambda record, steps: objection(home, record, steps, utc_now()),
        )  # fmt: skip
        _print_step(record)
        say_next(campaign, data, at, name)


@life.command()
def returned(
    campaign: CampaignName,
    plan: PlanName = "",
    failed: Annotated[
        Path | None, typer.Option(help="CSV of deliveries: voter_id, reason.")
    ] = None,
    invoices: Annotated[
        Path | None,
        typer.Option(help="CSV: invoice, channel, send_on (or empty), amount_usd."),
    ] = None,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """What came back: deliveries that failed, and what was really paid."""
    with (
        errors_reported(debug=debug),
        changing(campaign, data, "plans returned") as (home, at),
    ):
        from hustings.experiments import plans as plan_steps

        name = plan_steps.find(home, plan)
        rows, bills = plan_steps.read_returned(failed, invoices)
        _print_step(plan_steps.returned(home, name, failed=rows, invoices=bills, at=at))


@life.command()
def spend(
    campaign: CampaignName,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Money by plan, channel and day: planned, committed, spent, failed, paid."""
    with errors_reported(debug=debug):
        from hustings.experiments.plans import spent
        from hustings.experiments.plans.money import shown_spend

        rows = shown_spend(spent(home_of(campaign, data), utc_now()))
        typer.echo(rows.to_string(index=False) if len(rows) else "No plan yet.")


@app.command()
def evidence(
    campaign: CampaignName = "",
    plan: PlanName = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the bundle, not there yet.")
    ] = None,
    by_id: Annotated[
        bool,
        typer.Option("--by-id", help="Voter ids instead of the ledger's pseudonyms."),
    ] = False,
    replay: Annotated[
        bool, typer.Option("--replay", help="Compute the plan again and compare.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            help="Instead, whether a bundle's files are those that were written; it "
            "needs no campaign.",
        ),
    ] = None,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """A plan's bundle for a regulator or a lawyer, and the proof that it replays."""
    if check is not None or not campaign:
        with errors_reported(debug=debug):
            _check_evidence(check)
        return
    with (
        errors_reported(debug=debug),
        changing(campaign, data, "evidence") as (home, at),
    ):
        from hustings.experiments.declaration import load_campaign
        from hustings.experiments.handover import evidence as proof
        from hustings.experiments.plans import find

        name = find(home, plan)
        if out is None and not replay:
            raise ValueError("expected --out FOLDER, --replay or both, got neither")
        if out is not None:
            declared = load_campaign(campaign)
            proof.write_evidence(
                declared, home, name, out, by_id=by_id, at=at
            )  # fmt: skip
            typer.echo(f"Evidence of plan {name}: {out}")
        if replay:
            replayed = proof.replay(home, name)
            typer.echo("\n".join(replayed.lines))
            if not replayed.same:
                raise typer.Exit(FAILED)


def _print_online(n_contacts: int) -> None:
    if n_contacts:
        typer.echo(f"{n_contacts:,} contacts had been carried out online")


def _print_step(record: object) -> None:
    from hustings.experiments.plans import PlanRecord

    assert isinstance(record, PlanRecord)
    step = record.steps[-1]
    typer.echo(f"Plan {record.plan_id}: {record.state} (entry {step.seq})")


def _check_evidence(bundle: Path | None) -> None:
    """Whether a bundle's files are those that were written; needs no campaign."""
    from hustings.experiments.handover.evidence import check_bundle

    if bundle is None:
        raise ValueError("expected --campaign, or --check FOLDER, got neither")
    faults = check_bundle(bundle)
    typer.echo("\n".join(faults) or f"Nothing was altered: {bundle}")
    if faults:
        raise typer.Exit(FAILED)
