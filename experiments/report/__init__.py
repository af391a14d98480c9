"""The campaign report: one self-contained HTML file, and its charts.

Every number on the page describes a group of at least `SMALLEST_CELL` people; no single
voter is on it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.declaration import Campaign
from hustings.experiments.report.affinity import affinity_section
from hustings.experiments.report.charts import figure_png, figures, trials_figure
from hustings.experiments.report.evaluation import (
    answer_section,
    asked_section,
    experiment_parts,
    judged_only,
    never_sent_section,
    not_learnt_section,
)
from hustings.experiments.report.groups import groups_section
from hustings.experiments.report.linked import linked_section
from hustings.experiments.report.markup import (
    Html,
    contents,
    folded_sections,
    html_section,
    joined,
    paragraph,
)
from hustings.experiments.report.page import write_page
from hustings.experiments.report.places import place_figures, places_section
from hustings.experiments.report.plan import (
    plan_section,
    quarantine_section,
    reach_section,
    reasons_section,
    run_footer,
    source_section,
)
from hustings.experiments.report.ratios import ratios_section
from hustings.experiments.report.week import WeekFacts, write_week
from hustings.experiments.results import (
    GroupPlanned,
    PlacesPlanned,
    RunRecord,
    Source,
    WeekRatio,
)

__all__ = [
    "WeekFacts",
    "figure_png",
    "figures",
    "judged_only",
    "trials_figure",
    "write_report",
    "write_week",
]


def write_report(
    path: Path,
    *,
    campaign: Campaign,
    sources: Sequence[Source],
    evaluation: Mapping[str, Any],
    plan: pd.DataFrame,
    assignments: pd.DataFrame,
    quarantine: pd.DataFrame,
    messages: pd.DataFrame,
    record: RunRecord,
    model_version: str,
    linked: Mapping[str, Any] | None = None,
    affinities: pd.DataFrame | None = None,
    groups: Mapping[str, Sequence[GroupPlanned]] | None = None,
    places: PlacesPlanned | None = None,
    ratios: Sequence[WeekRatio] = (),
) -> None:
    """Write the report of a run as one HTML file that needs no network.

    Args:
        path: The file to write.
        campaign: As declared.
        sources: Of its tables.
        evaluation: As in `evaluation.json`, effects in outcome units.
        plan: The `plan` table.
        assignments: The `assignments` table: eligible voters, holdout included.
        quarantine: The `quarantine` table; its values are not shown.
        messages: The `messages` table.
        record: Facts of the run, with the summary of the plan.
        model_version: The model that scored, as name/version.
        linked: `links`, as in `links.json`, and `providers`, as in `providers.json`,
            where the run has them.
        affinities: AFFINITIES table, where reactions were counted.
        groups: What is planned for the groups of every experiment, see
            `experiments.stages.groups`.
        places: What is planned by county, see `experiments.stages.places`.
        ratios: Sample ratios by week, see `experiments.stages.sample_ratios`.
    """
    set_aside = not_learnt_section(evaluation)
    evaluation = judged_only(evaluation)
    unit = float(evaluation["outcome"]["unit_per_point"])
    charts = figures(evaluation, record.plan, messages) | place_figures(places, unit)
    parts = experiment_parts(evaluation, charts, messages)
    policies = {
        one.experiment_id: one.policy
        for one in (record.plan.judged if record.plan else ())
    }
    details = [
        asked_section(campaign, evaluation),
        parts.details,
        never_sent_section(record.unseen, unit),
        reach_section(record.plan),
        linked_section(linked or {}),
        affinity_section(affinities),
        ratios_section(ratios),
        quarantine_section(quarantine),
        source_section(sources),
    ]
    sections = joined(
        [
            set_aside,
            plan_section(
                campaign,
                evaluation["n_eligible"],
                plan,
                assignments,
                messages,
                record.plan,
                charts,
            ),
            places_section(places, unit, charts),
            parts.why,
            groups_section(evaluation, groups or {}, unit, policies),
            reasons_section(record.plan, messages),
            parts.sure,
            html_section("details", "Details", *folded_sections(details)),
        ]
    )
    answer = answer_section(evaluation, plan, record.plan, days=campaign.plan.days)
    body = joined([answer, contents(sections), sections])
    write_page(
        path,
        title=campaign.campaign.title,
        kicker="Campaign report",
        body=body,
        notice=_replay(campaign),
        footer=run_footer(record, model_version),
    )


def _replay(campaign: Campaign) -> Html:
    if campaign.campaign.rule_set != "research_replay":
        return Html("")
    return paragraph(
        "A replay for research: the plan shows what would have been sent, and is "
        "never exported.",
        "banner",
    )
