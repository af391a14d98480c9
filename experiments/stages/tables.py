"""Ingest and features: raw files → checked tables → training set."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.declaration import (
    Campaign,
    barred_from_features,
    check_experiments,
    data_dir,
    derivation,
    feature_columns,
)
from hustings.experiments.stages.affinities import write_affinities
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.data_dictionary import write_dictionary
from hustings.experiments.stages.external_priors import write_known_effects
from hustings.experiments.stages.links import identities, write_links
from hustings.experiments.stages.loop_tables import recorded_rows
from hustings.experiments.stages.persons import Known, known_persons
from hustings.experiments.stages.providers import with_providers
from hustings.experiments.stages.reactions import remember_former
from hustings.features.asof import first_delivery
from hustings.features.derived import (
    Derivation,
    counting_query,
    from_the_file,
    party_levels,
    with_derived,
)
from hustings.features.ingest import Folders, TableSource, ingest, read_raw
from hustings.features.partner import with_partner_scores
from hustings.features.simulated.campaign import simulate, write_sample
from hustings.features.tables import (
    QUARANTINE,
    RAW_TABLES,
    VOTERS,
    check,
    is_derived,
)
from hustings.features.training_set import build_training_set
from hustings.features.voter import Encoding
from hustings.training.registry.campaign_model import Reader
from hustings.training.registry.register import (
    environment,
    git_commit,
    synthetic_example,
)

N_EXAMPLE_FROM = 2_000


def stage_ingest(run: Run) -> None:
    """Raw files → checked tables and quarantine."""
    persons = known_persons(run.home)
    raw_dir = _simulated(run, persons)
    campaign = run.campaign
    found = ingest(
        campaign.tables,
        outcome=campaign.outcome.name,
        outcome_kind=campaign.outcome.kind,
        campaign_dir=campaign.folder,
        data_dir=data_dir(),
        raw_dir=raw_dir,
        on_table=lambda name: run.tell(f"reading {name}", 0, 0),
        persons=persons.of_ingest(),
        further=partial(recorded_rows, run.home),
    )
    for name, frame in found.tables.items():
        if name != "reactions":  # who reacted is not written but where it may be
            run.write(f"tables/{name}", check(RAW_TABLES[name], frame))
    voters = _with_columns_beside(run, found.tables, raw_dir)
    if voters is not found.tables["voters"]:
        run.write("tables/voters", check(VOTERS, voters))
    remember_former(run, found.former)
    rows = {name: len(frame) for name, frame in found.tables.items()}
    if "reactions" in found.tables:
        kept = len(run.table("reactions"))
        found.report["reactions"]["only_in_groups"] = rows["reactions"] - kept
        rows["reactions"] = kept
    run.write("quarantine", check(QUARANTINE, found.quarantine))
    run.write("quarantined_voters", found.quarantined_voters)
    run.write_json("ingest", found.report)
    mapping = found.sources["voters"].model_dump(mode="json", by_alias=True)
    run.write_json("voters_mapping", mapping)
    run.write("example", _example(campaign, found.sources["voters"], raw_dir))
    observed_on = campaign.tables["voters"].observed_on
    snapshot = persons.remember(
        found.tables["voters"], found.former, observed_on=str(observed_on)
    )
    run.note(
        run_id=run.run_id,
        campaign=campaign.campaign.name,
        seed=campaign.campaign.seed,
        snapshot=snapshot,
        versions=environment(),
        git_commit=git_commit(),
        data_hash=_data_hash(campaign, found.report),
        rows=rows,
        data_hashes={name: told["sha256"] for name, told in found.report.items()},
    )


def _with_columns_beside(
    run: Run, tables: Mapping[str, pd.DataFrame], raw_dir: Path | None
) -> pd.DataFrame:
    """The voters with what links, partners and providers say of them."""
    voters, known = tables["voters"], identities(run, raw_dir)
    if "reactions" in tables:
        voters = write_links(run, tables, known)
    if "partner_scores" in tables:
        voters = with_partner_scores(voters, tables["partner_scores"])
    first = first_delivery(tables["deliveries"]).date()
    return with_providers(run, voters, known, raw_dir, first_delivery=first)


def _simulated(run: Run, persons: Known) -> Path | None:
    """Folder of the simulated tables, drawn once for each declaration of them."""
    declared = run.campaign.simulate
    if declared is None:
        return None
    folder, wanted = run.home / "raw", declared.model_dump()
    stamp = folder / "simulated.json"
    if not stamp.exists() or json.loads(stamp.read_text()) != wanted:
        run.tell("simulating", 0, 0)
        drawn = simulate(**wanted)
        write_sample(persons.without_forgotten(drawn), folder)
        # another electorate: nobody of it has been seen before
        persons.start_again()
        stamp.write_text(json.dumps(wanted))
    return folder


def _data_hash(campaign: Campaign, report: Mapping[str, Any]) -> str:
    told = {name: row["sha256"] for name, row in sorted(report.items())}
    # a section that is not there is no part of what was declared
    without = {n for n in ("link", "providers") if not getattr(campaign, n)}
    without |= {"plan", "reactions", "monitor", "lift", "export"}
    declared = campaign.model_dump(mode="json", exclude=without)
    if campaign.reactions.kinds:
        declared["kinds"] = campaign.reactions.kinds
    text = json.dumps([told, declared], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _example(
    campaign: Campaign, source: TableSource, raw_dir: Path | None
) -> pd.DataFrame:
    """Synthetic rows in the voter file's own columns, for the model's signature."""
    folders = Folders(campaign=campaign.folder, data=data_dir(), raw=raw_dir)
    raw = read_raw(source, "voters", folders).frame.head(N_EXAMPLE_FROM)
    return synthetic_example(raw, seed=campaign.campaign.seed)


def _derived(run: Run, as_of: pd.Timestamp) -> tuple[Derivation, pd.DataFrame]:
    """What the campaign derives, and the voters with it, which are written anew."""
    voters = run.table("voters")
    asked = derivation(run.campaign, list(voters.columns), as_of=as_of)
    before = [c for c in voters if is_derived(str(c))]
    if not asked.groups and not before:
        return asked, voters
    if "neighbours" in asked.groups and "party" in asked.columns:
        asked = asked._replace(parties=party_levels(voters["party"]))
    voters = with_derived(voters, asked)
    run.write("tables/voters", check(VOTERS, voters))
    beside = from_the_file(voters.columns)
    if beside:
        # a row that is scored elsewhere has to bring these columns
        drawn = synthetic_example(
            voters[beside].head(N_EXAMPLE_FROM), seed=run.campaign.campaign.seed
        )
        example = run.read("example")
        kept = example.drop(columns=[c for c in example if is_derived(str(c))])
        run.write("example", kept.join(drawn))
    return asked, voters


def stage_features(run: Run) -> None:
    """Checked tables → training set and the reader of voter rows."""
    campaign = run.campaign
    tables = {name: run.table(name) for name in ("designs", "deliveries", "responses")}
    first = first_delivery(tables["deliveries"])
    asked, voters = _derived(run, first)
    tables |= {"voters": voters}
    check_experiments(campaign, tables["designs"]["experiment_id"].unique())
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
        counting_query(asked) if "history" in asked.groups else None,
        # a model that does not read them need not look them up
        fondness if fondness and set(fondness.names) & set(columns) else None,
    )
    run.write_json("reader", reader.to_json())
    write_dictionary(run, asked, list(made.features.columns))
    write_known_effects(run, reader)
