"""Every file of a run: its contract, and the stages that write and read it.

`Run` reads and writes the files of this table and no others. A checked table is
`tables/<name>.parquet`, in the contract of that name.
"""

from dataclasses import dataclass
from fnmatch import fnmatch

import pandera.pandas as pa

from hustings.features.tables import (
    AFFINITIES,
    AREAS,
    ASSIGNMENTS,
    CHANCES,
    LINKS,
    PLAN,
    PRIORS,
    QUARANTINE,
    RAW_TABLES,
    REACTION_GROUPS,
)


@dataclass(frozen=True)
class Artifact:
    """One file of a run, or a family of them by a pattern.

    Attributes:
        file: Under the run's folder; `*` stands for a name that the campaign gives.
        written_by: Stages.
        read_by: Stages, and commands that are no stage; empty for a file that only
            people read.
        schema: Contract of the table; None where its columns depend on the campaign.
        for_people: Why it is written although no stage or command reads it.
    """

    file: str
    written_by: tuple[str, ...]
    read_by: tuple[str, ...] = ()
    schema: pa.DataFrameSchema | None = None
    for_people: str = ""


_RAW_READERS = {
    "merges": (), "voters": ("features", "train", "score", "plan", "export", "lift"),
    "messages": ("train", "plan", "report", "sign"),
    "designs": ("features", "evaluate", "power"),
    "deliveries": ("features", "score", "plan", "day"),
    "responses": ("features", "evaluate", "lift"),
    "reactions": ("features",), "reaction_counts": ("features",),
    "permissions": ("train", "plan", "day", "export"),
    "do_not_contact": ("train", "plan", "day", "export"),
    "addresses": ("train", "plan", "day", "export"),
    "costs": ("evaluate", "plan", "day", "power"),
    "priors": ("features",), "panel": ("features",), "partner_scores": ("evaluate",),
    "past_effects": ("train", "score", "day"), "forecasts": ("train", "score", "day"),
}  # fmt: skip
_ACCESS = "`show` lists it to the person whose row it is"

ARTIFACTS: dict[str, Artifact] = {
    artifact.file: artifact
    for artifact in (
        *(
            Artifact(
                f"tables/{name}.parquet", ("ingest", "features"), _RAW_READERS[name],
                schema, "" if _RAW_READERS[name] else _ACCESS,
            )
            for name, schema in RAW_TABLES.items()
        ),
        Artifact("quarantine.parquet", ("ingest",), ("report", "show"), QUARANTINE),
        Artifact("quarantined_voters.parquet", ("ingest",), ("show", "forget")),
        Artifact(
            "ingest.json", ("ingest",),
            ("features", "promote", "report", "run", "show"),
        ),
        Artifact("voters_mapping.json", ("ingest",), ("features",)),
        Artifact("example.parquet", ("ingest", "features"), ("features", "promote")),
        Artifact("links.parquet", ("ingest",), ("features",), LINKS),
        Artifact("links.json", ("ingest",), ("report", "run")),
        Artifact("reachable.json", ("ingest",), ("run",)),
        Artifact("providers.json", ("ingest",), ("features", "report")),
        Artifact(
            "reaction_groups.parquet", ("ingest",), (), REACTION_GROUPS,
            "all that is kept of reactors who may not be known, for an analyst",
        ),
        Artifact("affinities.parquet", ("features",), ("report",), AFFINITIES),
        Artifact(
            "training_set.parquet", ("features",),
            ("train", "evaluate", "power", "forget"),
        ),
        Artifact("features.parquet", ("features",), ("train", "evaluate", "forget")),
        Artifact(
            "reader.json", ("features",), ("train", "evaluate", "promote", "plan")
        ),
        Artifact("dictionary.json", ("features",), ("dictionary", "evidence")),
        Artifact("priors.parquet", ("features",), ("train", "power"), PRIORS),
        Artifact("overlap.json", ("features",), ("evaluate",)),
        Artifact("turnout.json", ("train", "day"), ("evaluate", "plan", "export")),
        Artifact("electorate.json", ("evaluate", "plan", "day"), ("plan", "day")),
        Artifact("guardrails.json", ("train", "day"), ("evaluate", "promote", "plan")),
        Artifact(
            "not_learnt.json", ("train",), ("evaluate", "promote", "score", "plan")
        ),
        Artifact("settings.json", ("train",), ("evaluate",)),
        Artifact("policies.json", ("train",), ("evaluate", "promote")),
        Artifact("candidates/*", ("train",), ("evaluate", "promote")),
        Artifact(
            "chances.parquet", ("train",), ("evaluate", "plan", "day", "export-scores"),
            CHANCES,
        ),
        Artifact("reliability.json", ("train",), ("evaluate",)),
        Artifact(
            "areas.parquet", ("train",), (), AREAS,
            "turnout and support of precincts and counties, for an analyst",
        ),
        Artifact(
            "tuning/*.parquet", ("train",), (), None,
            "every setting that was tried, where there is no MLflow to ask",
        ),
        Artifact(
            "evaluation.json", ("evaluate",), ("promote", "plan", "report", "run")
        ),
        Artifact("model/*", ("promote",), ("promote",)),
        Artifact(
            "promoted.json", ("promote", "day"),
            ("score", "plan", "report", "rollback", "evidence"),
        ),
        Artifact("scores.parquet", ("score",), ("export-scores",)),
        Artifact("plan.parquet", ("plan",), ("report", "show", "week"), PLAN),
        Artifact("assignments.parquet", ("plan",), ("report",), ASSIGNMENTS),
        Artifact("plan.json", ("plan",), ("rollback", "forget")),
        Artifact("checksums.json", ("report",), ("verify",)),
        Artifact("serving/*", ("plan",), ("publish",)),
        Artifact("unpublished.json", ("promote", "plan"), ("publish",)),
        Artifact(
            "figures/*.png", ("train", "evaluate", "report"), (), None,
            "the charts of the run, as MLflow has them",
        ),
        Artifact(
            "report.html", ("report",), (), None, "the page that a person looks at"
        ),
        Artifact(
            "run.json",
            ("ingest", "train", "evaluate", "score", "plan"),
            ("train", "evaluate", "report", "run", "verify", "week"),
        ),
    )
}  # fmt: skip


class ArtifactError(LookupError):
    """A stage asks for a file that no run has."""


def require_artifact(file: str) -> None:
    """Refuse a file that is not in the table.

    Raises:
        ArtifactError: Naming it.
    """
    if file not in ARTIFACTS and not any(fnmatch(file, name) for name in ARTIFACTS):
        raise ArtifactError(
            f"{file}: expected a file of a run that experiments/artifacts.py lists"
        )
