"""Ingest and features: raw files → checked tables → training set."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.run.affinities import write_affinities
from experiments.run.context import Run
from experiments.run.elsewhere import write_known_effects
from experiments.spec import (
    Campaign,
    barred_from_features,
    check_experiments,
    data_dir,
    feature_columns,
)
from features.ingest import Folders, TableSource, ingest, read_raw
from features.partner import with_partner_scores
from features.sample import simulate, write_sample
from features.tables import QUARANTINE, RAW_TABLES, VOTERS, check
from features.training_set import build_training_set
from features.voter import Encoding
from training.model import Reader
from training.register import environment, git_commit, synthetic_example

N_EXAMPLE_FROM = 2_000


def stage_ingest(run: Run) -> None:
    """Raw files → checked tables and quarantine."""
    raw_dir = _simulated(run)
    campaign = run.campaign
    found = ingest(
        campaign.tables,
        outcome=campaign.outcome.name,
        outcome_kind=campaign.outcome.kind,
        campaign_dir=campaign.folder,
        data_dir=data_dir(),
        raw_dir=raw_dir,
        on_table=lambda name: run.tell(f"reading {name}", 0, 0),
    )
    for name, frame in found.tables.items():
        run.write(f"tables/{name}", check(RAW_TABLES[name], frame))
    if "partner_scores" in found.tables:
        voters, scores = found.tables["voters"], found.tables["partner_scores"]
        run.write("tables/voters", check(VOTERS, with_partner_scores(voters, scores)))
    run.write("quarantine", check(QUARANTINE, found.quarantine))
    run.write_json("ingest", found.report)
    mapping = found.sources["voters"].model_dump(mode="json", by_alias=True)
    run.write_json("voters_mapping", mapping)
    run.write("example", _example(campaign, found.sources["voters"], raw_dir))
    run.note(
        run_id=run.run_id,
        campaign=campaign.campaign.name,
        seed=campaign.campaign.seed,
        versions=environment(),
        git_commit=git_commit(),
        data_hash=_data_hash(campaign, found.report),
        rows={name: len(frame) for name, frame in found.tables.items()},
        data_hashes={name: told["sha256"] for name, told in found.report.items()},
    )


def _simulated(run: Run) -> Path | None:
    """Folder of the simulated tables, drawn once for each declaration of them."""
    declared = run.campaign.simulate
    if declared is None:
        return None
    folder, wanted = run.home / "raw", declared.model_dump()
    stamp = folder / "simulated.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != wanted:
        run.tell("simulating", 0, 0)
        write_sample(simulate(**wanted), folder)
        stamp.write_text(json.dumps(wanted))
    return folder


def _data_hash(campaign: Campaign, report: Mapping[str, Any]) -> str:
    told = {name: row["sha256"] for name, row in sorted(report.items())}
    declared = campaign.model_dump(mode="json", exclude={"plan"})
    text = json.dumps([told, declared], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _example(
    campaign: Campaign, source: TableSource, raw_dir: Path | None
) -> pd.DataFrame:
    """Synthetic rows in the voter file's own columns, for the model's signature."""
    folders = Folders(campaign=campaign.folder, data=data_dir(), raw=raw_dir)
    raw = read_raw(source, "voters", folders).frame.head(N_EXAMPLE_FROM)
    return synthetic_example(raw, seed=campaign.campaign.seed)


def stage_features(run: Run) -> None:
    """Checked tables → training set and the reader of voter rows."""
    campaign, voters = run.campaign, run.table("voters")
    tables = {
        name: run.table(name) for name in ("designs", "deliveries", "responses")
    } | {"voters": voters}
    check_experiments(campaign, tables["designs"]["experiment_id"].unique())
    first = tables["deliveries"]["sent_on"].min().normalize()
    fondness = write_affinities(run, first)
    if fondness is not None:
        voters = tables["voters"] = fondness.beside(voters, as_of=first)
    columns = feature_columns(campaign, list(voters.columns))
    if fondness is not None:
        # counts are brought to be read; [features].exclude leaves them out
        barred = barred_from_features(campaign, fondness.names)
        columns += [n for n in fondness.names if n not in barred | set(columns)]
    made = build_training_set(
        tables,
        columns,
        outcome=campaign.outcome.name,
        absent=campaign.outcome.absent,
        higher_is_better=campaign.outcome.higher_is_better,
    )
    run.write("training_set", made.rows)
    run.write("features", made.features)
    reader = Reader(
        TableSource.model_validate(run.read_json("voters_mapping")),
        tuple(columns),
        first,
        Encoding.fit(made.features),
        # a model that does not read them need not look them up
        fondness if fondness and set(fondness.names) & set(columns) else None,
    )
    run.write_json("reader", reader.to_json())
    write_known_effects(run, reader)
