"""The stages ingest and features: from raw files to the training set."""

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
from hustings.experiments.record import record_digest
from hustings.experiments.stages.affinities import write_affinities
from hustings.experiments.stages.context import Run, utc_now
from hustings.experiments.stages.data_dictionary import write_dictionary
from hustings.experiments.stages.external_priors import write_known_effects
from hustings.experiments.stages.links import identities, write_links
from hustings.experiments.stages.loop_tables import recorded_rows
from hustings.experiments.stages.persons import Known, known_persons
from hustings.experiments.stages.providers import with_providers
from hustings.experiments.stages.reactions import remember_former
from hustings.features.asof import first_delivery
from hustings.features.atomic import write_json
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
    """Read the raw files; write the checked tables and the quarantine."""
    persons, at = known_persons(run.home), utc_now()
    raw_dir = _simulated(run, persons)
    campaign = run.campaign
    ingested = ingest(
        campaign.tables,
        outcome=campaign.outcome.name,
        outcome_kind=campaign.outcome.kind,
        campaign_dir=campaign.folder,
        data_dir=data_dir(),
        raw_dir=raw_dir,
        on_table=lambda name: run.tell(f"reading {name}", 0, 0),
        persons=persons.of_ingest(),
        further=partial(recorded_rows, run.home, at=at),
    )
    for name, frame in ingested.tables.items():
        if name != "reactions":  # who reacted is not written but where it may be
            run.write(f"tables/{name}", check(RAW_TABLES[name], frame))
    voters = _with_columns_beside(run, ingested.tables, raw_dir)
    if voters is not ingested.tables["voters"]:
        run.write("tables/voters", check(VOTERS, voters))
    remember_former(run, ingested.former)
    rows = {name: len(frame) for name, frame in ingested.tables.items()}
    if "reactions" in ingested.tables:
        n_individual = len(run.table("reactions"))
        ingested.report["reactions"]["only_in_groups"] = (
            rows["reactions"] - n_individual
        )
        rows["reactions"] = n_individual
    run.write("quarantine", check(QUARANTINE, ingested.quarantine))
    run.write("quarantined_voters", ingested.quarantined_voters)
    run.write_json("ingest", ingested.report)
    mapping = ingested.sources["voters"].model_dump(mode="json", by_alias=True)
    run.write_json("voters_mapping", mapping)
    run.write("example", _example(campaign, ingested.sources["voters"], raw_dir))
    observed_on = campaign.tables["voters"].observed_on
    snapshot = persons.remember(
        ingested.tables["voters"], ingested.former, observed_on=str(observed_on)
    )
    run.note(
        run_id=run.run_id,
        campaign=campaign.campaign.name,
        seed=campaign.campaign.seed,
        snapshot=snapshot,
        versions=environment(),
        git_commit=git_commit(),
        data_hash=_data_hash(campaign, ingested.report, record_digest(run.home, at)),
        rows=rows,
        data_hashes={
            name: source["sha256"] for name, source in ingested.report.items()
        },
    )


def _with_columns_beside(
    run: Run, tables: Mapping[str, pd.DataFrame], raw_dir: Path | None
) -> pd.DataFrame:
    """The voters with the columns from links, partners and providers."""
    voters, voter_identities = tables["voters"], identities(run, raw_dir)
    if "reactions" in tables:
        voters = write_links(run, tables, voter_identities)
    if "partner_scores" in tables:
        voters = with_partner_scores(voters, tables["partner_scores"])
    # before anything was sent the first contact is still to come
    sent = tables["deliveries"]
    planned_on = run.campaign.plan.start_on
    first = first_delivery(sent).date() if len(sent) else planned_on
    return with_providers(run, voters, voter_identities, raw_dir, first_delivery=first)


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
        write_json(stamp, wanted)
    return folder


def _data_hash(campaign: Campaign, report: Mapping[str, Any], record: str) -> str:
    """What tells the data of a run from those of another.

    Args:
        campaign: The declaration.
        report: Of ingest, with the digest of every file.
        record: Digest of the campaign's own plans and answers; empty without any.
    """
    file_hashes = {name: row["sha256"] for name, row in sorted(report.items())}
    if record:
        file_hashes["(record)"] = record
    # a section that is not there is no part of what was declared
    without = {n for n in ("link", "providers") if not getattr(campaign, n)}
    without |= {"plan", "reactions", "monitor", "lift", "export", "answers"}
    declared = campaign.model_dump(mode="json", exclude=without)
    if campaign.reactions.kinds:
        declared["kinds"] = campaign.reactions.kinds
    text = json.dumps([file_hashes, declared], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _example(
    campaign: Campaign, source: TableSource, raw_dir: Path | None
) -> pd.DataFrame:
    """Synthetic rows in the voter file's own columns, for the model's signature."""
    folders = Folders(campaign=campaign.folder, data=data_dir(), raw=raw_dir)
    raw = read_raw(source, "voters", folders).frame.head(N_EXAMPLE_FROM)
    return synthetic_example(raw, seed=campaign.campaign.seed)


def _derived(run: Run, as_of: pd.Timestamp) -> tuple[Derivation, pd.DataFrame]:
    """Derive the declared columns; write and return the voters with them."""
    voters = run.table("voters")
    requested = derivation(run.campaign, list(voters.columns), as_of=as_of)
    before = [c for c in voters if is_derived(str(c))]
    if not requested.groups and not before:
        return requested, voters
    if "neighbours" in requested.groups and "party" in requested.columns:
        requested = requested._replace(parties=party_levels(voters["party"]))
    voters = with_derived(voters, requested)
    run.write("tables/voters", check(VOTERS, voters))
    derived_columns = from_the_file(voters.columns)
    if derived_columns:
        # a row that is scored elsewhere has to bring these columns
        drawn = synthetic_example(
            voters[derived_columns].head(N_EXAMPLE_FROM),
            seed=run.campaign.campaign.seed,
        )
        example = run.read("example")
        underived = example.drop(columns=[c for c in example if is_derived(str(c))])
        run.write("example", underived.join(drawn))
    return requested, voters


def stage_features(run: Run) -> None:
    """Build the training set and the reader of voter rows from the checked tables."""
    campaign = run.campaign
    tables = {name: run.table(name) for name in ("designs", "deliveries", "responses")}
    first = first_delivery(tables["deliveries"])
    requested, voters = _derived(run, first)
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
    training_set = build_training_set(
        tables,
        columns,
        outcome=campaign.outcome.name,
        absent=campaign.outcome.absent,
        higher_is_better=campaign.outcome.higher_is_better,
    )
    run.write("training_set", training_set.rows)
    run.write("features", training_set.features)
    reader = Reader(
        TableSource.model_validate(run.read_json("voters_mapping")),
        tuple(columns),
        first,
        Encoding.fit(training_set.features),
        counting_query(requested) if "history" in requested.groups else None,
        # a model that does not read them need not look them up
        fondness if fondness and set(fondness.names) & set(columns) else None,
    )
    run.write_json("reader", reader.to_json())
    write_dictionary(run, requested, list(training_set.features.columns))
    write_known_effects(run, reader)
