"""The report stage: writes report.html and logs the page and its schedule chart."""

import pandas as pd
from pandera.pandas import DataFrameSchema

from hustings.experiments.report import figures, judged_only, write_report
from hustings.experiments.results import Source
from hustings.experiments.stages.context import Json, Run
from hustings.experiments.stages.groups import groups_planned
from hustings.experiments.stages.places import places_planned
from hustings.experiments.stages.sample_ratios import ratios_by_week
from hustings.experiments.stages.tracking import log_figure, tracking
from hustings.features.tables import ASSIGNMENTS, PLAN
from hustings.training.registry.register import log_file


def stage_report(run: Run) -> None:
    """Write report.html; log it and the chart of the schedule to MLflow."""
    evaluation, messages = run.read_json("evaluation"), run.table("messages")
    record, ingested = run.record(), run.read_json("ingest")
    version = "none"
    if run.has("promoted.json"):
        promoted = run.read_json("promoted")
        version = f"{promoted['name']}/{promoted['version']}"
    write_report(
        run.path("report.html"),
        campaign=run.campaign,
        sources=[
            Source.from_json({"table": name, **row}) for name, row in ingested.items()
        ],
        evaluation=evaluation,
        plan=_planned(run, PLAN),
        assignments=_planned(run, ASSIGNMENTS),
        quarantine=run.read("quarantine"),
        messages=messages,
        record=record,
        model_version=version,
        linked=_linked(run),
        affinities=run.optional("affinities"),
        groups=groups_planned(run, evaluation) if record.plan else None,
        places=places_planned(run) if record.plan else None,
        ratios=ratios_by_week(run),
    )  # fmt: skip
    with tracking(run):
        # `evaluate` has logged the other charts
        charts = figures(judged_only(evaluation), record.plan, messages)
        schedule = charts.get("schedule")
        if schedule is not None:
            log_figure(run, "schedule", schedule)
        log_file(run.path("report.html"))


def _planned(run: Run, table: DataFrameSchema) -> pd.DataFrame:
    """A table of the plan; empty where nothing was learnt, and nothing planned."""
    nothing = pd.DataFrame({name: [] for name in table.columns})
    planned = run.optional(str(table.name))
    return nothing if planned is None else planned


def _linked(run: Run) -> Json:
    """What was linked and bought, where the campaign declares that."""
    facts = {}
    if run.has("links.json"):
        facts["links"] = run.read_json("links")
    if run.has("providers.json"):
        facts["providers"] = run.read_json("providers")
    return facts
