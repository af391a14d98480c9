"""Report: the page a person reads; its figures to MLflow too."""

from hustings.experiments.report import figure_png, figures, write_report
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.groups import groups_planned
from hustings.experiments.stages.places import places_planned
from hustings.experiments.stages.tracking import tracking
from hustings.training.registry.register import log_file


def stage_report(run: Run) -> None:
    """Everything a person reads, in one page; its figures to MLflow too."""
    evaluation, messages = run.read_json("evaluation"), run.table("messages")
    told = run.read_json("run")
    told["model_version"] = run.read_json("promoted")
    ingested = run.read_json("ingest")
    described = {
        **run.campaign.campaign.model_dump(mode="json"),
        "outcome": run.campaign.outcome.as_valued().model_dump(mode="json"),
        "plan": run.campaign.plan.model_dump(mode="json"),
        "sources": [{"table": name, **row} for name, row in ingested.items()],
    }
    aside = run.folder / "report.partial"
    write_report(
        aside,
        campaign=described,
        evaluation=evaluation,
        plan=run.read("plan"),
        assignments=run.read("assignments"),
        quarantine=run.read("quarantine"),
        messages=messages,
        run=told,
        linked={n: run.read_json(n) for n in ("links", "providers")
                if (run.folder / f"{n}.json").exists()},
        affinities=run.optional("affinities"),
        groups=groups_planned(run, evaluation),
        places=places_planned(run),
    )  # fmt: skip
    aside.replace(run.folder / "report.html")
    with tracking(run):
        # the others were drawn when the candidates were judged
        schedule = figures(evaluation, told, messages).get("schedule")
        if schedule is not None:
            path = run.folder / "figures" / "schedule.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(figure_png(schedule))
            log_file(path, folder="figures")
        log_file(run.folder / "report.html")
