"""The stages ingest and features: from raw files to the training set."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.declaration import (
    Campaign,
    answered_feature_columns,
    barred_from_features,
    check_experiments,
    data_dir,
    derivation,
)
from hustings.experiments.declaration.sections import BINARY_SCALE
from hustings.experiments.record import record_digest
from hustings.experiments.stages.affinities import write_affinities
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.data_dictionary import write_dictionary
from hustings.experiments.stages.external_priors import (
    require_sentence_model,
    write_known_effects,
)
from hustings.experiments.stages.links import (
    identities,
    remember_people,
    write_links,
    write_unlinked,
)
from hustings.experiments.stages.loop_tables import recorded_rows
from hustings.experiments.stages.noteworthy import bare_arms, isolated_notes
from hustings.experiments.stages.persons import (
    KnownPersons,
    electorate_changes,
    known_persons,
    require_tombstones,
    voter_files,
)
from hustings.experiments.stages.providers import with_providers
from hustings.experiments.stages.reachable import write_reachable
from hustings.experiments.stages.reactions import remember_former
from hustings.features.asof import VoterFile, file_before, first_delivery
from hustings.features.atomic import write_json
from hustings.features.derived import (
    Derivation,
    counting_query,
    from_the_file,
    party_column,
    party_levels,
    with_derived,
)
from hustings.features.ingest import (
    Folders,
    Ingested,
    TableSource,
    first_rows,
    ingest,
)
from hustings.features.partner import with_partner_scores
from hustings.features.simulated.campaign import simulate, write_sample
from hustings.features.tables import (
    COUNTY,
    HISTORY_PREFIX,
    PRECINCT,
    QUARANTINE,
    RAW_TABLES,
    VOTERS,
    check,
    is_derived,
)
from hustings.features.training_set import build_training_set
from hustings.features.voter import Encoding, history_columns
from hustings.training.registry.campaign_model import JOINED, Reader
from hustings.training.registry.register import (
    as_numbers,
    environment,
    git_commit,
    synthetic_example,
)

N_EXAMPLE_FROM = 2_000
SIMULATED = "simulated.json"
"""Beside simulated tables: how they were drawn."""
NOT_TO_CONTACT = ("permissions", "do_not_contact")
"""Tables of which no loss may go unsaid: somebody may have asked to be left alone."""


def stage_ingest(run: Run) -> None:
    """Read the raw files; write the checked tables and the quarantine."""
    ingested = read_tables(run)
    wider = voters_with_others_columns(run, ingested)
    persons, campaign = known_persons(run.home), run.campaign
    remember_former(run, ingested.former)
    if "reactions" in ingested.tables and run.has("links.parquet"):
        remember_people(run, ingested.tables["reactions"], run.read("links"))
    rows = {name: table["accepted"] for name, table in ingested.report.items()}
    if "reactions" in ingested.tables:
        n_individual = len(run.table("reactions"))
        ingested.report["reactions"]["only_in_groups"] = (
            rows["reactions"] - n_individual
        )
        rows["reactions"] = n_individual
    for table in ingested.report.values():
        for note in table["notes"]:
            run.say(note)
    run.write("quarantine", check(QUARANTINE, ingested.quarantine))
    run.write("quarantined_voters", ingested.quarantined_voters)
    run.write_json("ingest", ingested.report)
    observed_on = campaign.tables["voters"].observed_on
    changes = electorate_changes(run.home, ingested.voters, ingested.former)
    snapshot = persons.remember(
        ingested.voters, ingested.former, observed_on=str(observed_on)
    )
    if wider is not None:
        run.write("tables/voters", check(VOTERS, wider))
    run.note(
        run_id=run.run_id,
        campaign=campaign.campaign.name,
        seed=campaign.campaign.seed,
        snapshot=snapshot,
        electorate=changes,
        versions=environment(),
        git_commit=git_commit(),
        data_hash=_data_hash(
            campaign, ingested.report, record_digest(run.home, run.at)
        ),
        rows=rows,
        data_hashes={
            name: source["sha256"] for name, source in ingested.report.items()
        },
    )


def read_tables(run: Run, *, collect: bool = False) -> Ingested:
    """Read the raw files and write the checked tables; nobody is remembered.

    Args:
        run: Whose campaign.
        collect: Go on after a fault that stops a run: see `Ingested.stops`. Nothing
            is written where the tables cannot be used.
    """
    # before anything is read: an engine that cannot be had stops the run
    on = run.engine
    # tombstones that were lost would let the forgotten in again
    require_tombstones(run.home)
    persons, campaign = known_persons(run.home), run.campaign
    raw_dir = _simulated(run, persons)
    ingested = ingest(
        campaign.tables,
        outcome=campaign.outcome.name,
        outcome_kind=campaign.outcome.kind,
        outcome_scale=campaign.outcome.value_range,
        campaign_dir=campaign.folder,
        data_dir=data_dir(),
        voters_path=run.path("tables/voters.parquet"),
        raw_dir=raw_dir,
        on_table=lambda name: run.tell(f"reading {name}", 0, 0),
        persons=persons.of_ingest(),
        further=partial(recorded_rows, run.home, at=run.at),
        collect=collect,
        on=on,
    )
    if not ingested.complete:
        return ingested
    for name, frame in ingested.tables.items():
        if name != "reactions":  # who reacted is not written but where it may be
            run.write(f"tables/{name}", check(RAW_TABLES[name], frame))
    mapping = ingested.sources["voters"].model_dump(mode="json", by_alias=True)
    run.write_json("voters_mapping", mapping)
    run.write("example", _example(campaign, ingested.sources["voters"], raw_dir))
    for name, notes in _notes(campaign, ingested.tables).items():
        ingested.report[name]["notes"] += notes
    for name in NOT_TO_CONTACT:
        lost = ingested.report.get(name, {}).get("quarantined", 0)
        if lost:
            ingested.report[name]["notes"].append(
                f"{name}: {lost:,} rows cannot be used: who asks there not to be "
                "contacted is not known by them; see quarantine.parquet, and act on "
                "them by hand"
            )
    return ingested


def _notes(
    campaign: Campaign, tables: Mapping[str, pd.DataFrame]
) -> dict[str, list[str]]:
    """What a person has to know of the tables of the tests, by table."""
    outcome, responses = campaign.outcome, tables["responses"]
    scales = {outcome.name: outcome.value_range}
    if outcome.turnout is not None:
        scales[outcome.turnout] = BINARY_SCALE
    return {
        "responses": isolated_notes(responses, scales),
        "designs": bare_arms(
            tables["designs"], tables["deliveries"], responses, outcome=outcome.name,
            absent=outcome.absent,
        ),
    }  # fmt: skip


def voters_with_others_columns(run: Run, ingested: Ingested) -> pd.DataFrame | None:
    """The voters with the columns from links, partners and providers; None without any.

    Who can be reached is written on the way, since the same files say it.

    Args:
        run: Its checked tables are written.
        ingested: From `read_tables`.
    """
    write_reachable(run, ingested.voters, ingested.tables)
    raw_dir = None if run.campaign.simulate is None else _raw(run)
    tables, voter_identities = ingested.tables, identities(run, raw_dir)
    linked = "reactions" in tables and voter_identities is not None
    if "reactions" in tables and not linked:
        write_unlinked(run, tables["reactions"])
    if not (linked or "partner_scores" in tables or run.campaign.providers):
        return None
    voters = pd.read_parquet(ingested.voters)
    if linked and voter_identities is not None:
        voters = write_links(run, {**tables, "voters": voters}, voter_identities)
    if "partner_scores" in tables:
        voters = with_partner_scores(voters, tables["partner_scores"])
    # before anything was sent the first contact is still to come
    sent = tables["deliveries"]
    planned_on = run.campaign.plan.start_on
    first = first_delivery(sent).date() if len(sent) else planned_on
    return with_providers(run, voters, voter_identities, raw_dir, first_delivery=first)


def _raw(run: Run) -> Path:
    return run.home / "raw"


def _simulated(run: Run, persons: KnownPersons) -> Path | None:
    """Folder of the simulated tables, drawn once for each declaration of them."""
    declared = run.campaign.simulate
    if declared is None:
        return None
    folder = _raw(run)
    if not is_simulated_as_declared(run):
        run.tell("simulating", 0, 0)
        wanted = declared.model_dump()
        drawn = simulate(**wanted)
        write_sample(persons.without_forgotten(drawn), folder)
        # another electorate: nobody of it has been seen before
        persons.start_again()
        write_json(folder / SIMULATED, wanted)
    return folder


def is_simulated_as_declared(run: Run) -> bool:
    """Whether the tables on record were drawn as is declared, or none are drawn."""
    declared, stamp = run.campaign.simulate, _raw(run) / SIMULATED
    if declared is None:
        return True
    drawn = json.loads(stamp.read_text()) if stamp.exists() else None
    return bool(drawn == declared.model_dump())


def _data_hash(campaign: Campaign, report: Mapping[str, Any], record: str) -> str:
    """Digest of the data of a run.

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
    # every engine gives the same tables
    without |= {"plan", "reactions", "monitor", "lift", "export", "answers", "engine"}
    if not campaign.has_others_knowledge:
        without |= {"forecasts"}
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
    raw = first_rows(source, "voters", folders, N_EXAMPLE_FROM)
    return synthetic_example(as_numbers(raw, source), seed=campaign.campaign.seed)


def _derivation(run: Run, voters: pd.DataFrame, as_of: pd.Timestamp) -> Derivation:
    """What the campaign derives of a voter file."""
    requested = derivation(run.campaign, list(voters.columns), as_of=as_of)
    if "neighbours" in requested.groups and "party" in requested.columns:
        return requested._replace(parties=party_levels(voters["party"]))
    return requested


def _derived(run: Run, as_of: pd.Timestamp) -> tuple[Derivation, pd.DataFrame]:
    """Derive the declared columns; write and return the voters with them."""
    voters = run.table("voters")
    requested = _derivation(run, voters, as_of)
    before = [c for c in voters if is_derived(str(c))]
    if not requested.groups and not before:
        return requested, voters
    voters = with_derived(voters, requested, run.engine)
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


def require_readable(run: Run, reader: Reader) -> None:
    """See that the run's voters have every column that a model reads.

    What is not there is derived from the whole file and written.

    Args:
        run: Its voters were ingested, whether or not a model was trained on them.
        reader: Of the model.

    Raises:
        TableError: If the voter file lacks a column that the model reads.
    """
    if set(reader.whole_file_columns) <= set(run.columns("tables/voters")):
        return
    voters = run.table("voters")
    requested = derivation(run.campaign, list(voters.columns), as_of=reader.as_of)
    read_parties = _parties_of(reader, voters)
    requested = requested._replace(parties=read_parties)
    voters = with_derived(voters, requested, run.engine)
    run.write("tables/voters", check(VOTERS, voters))


def _parties_of(reader: Reader, voters: pd.DataFrame) -> tuple[str, ...]:
    """Parties whose shares among the neighbours a model reads."""
    if "party" not in voters:
        return ()
    there = set(voters["party"].dropna()) | set(reader.encoding.levels.get("party", ()))
    prefixes = (PRECINCT, COUNTY)
    return tuple(
        sorted(
            party
            for party in there
            if {party_column(p, party) for p in prefixes}
            & set(reader.whole_file_columns)
        )
    )


def _files_of_deliveries(
    run: Run, voters: pd.DataFrame, deliveries: pd.DataFrame, requested: Derivation
) -> list[VoterFile]:
    """The voter files by which deliveries are met, as wide as the last one.

    Columns joined to the voters (links, partners, providers) were observed before the
    first delivery, whichever file it is joined to.

    Args:
        run: Its campaign's snapshots are read.
        voters: The last file, with all columns.
        deliveries: DELIVERIES.
        requested: What is derived of the last file.

    Returns:
        The last file is the last one; alone where every delivery came after it.
    """
    observed_on = run.campaign.tables["voters"].observed_on
    if observed_on is None:
        raise ValueError("expected observed_on of the voters, which ingest asks for")
    last = VoterFile(pd.Timestamp(observed_on), voters)
    earlier = [f for f in voter_files(run.home) if f.observed_on < last.observed_on]
    file_of_delivery = file_before(
        deliveries["sent_on"], [f.observed_on for f in (*earlier, last)]
    )
    if (file_of_delivery == len(earlier)).all():
        return [last]
    beside = ["voter_id", *(c for c in voters if str(c).startswith(JOINED))]
    files = [
        VoterFile(observed, _as_wide(then, voters[beside], run, requested))
        for k, (observed, then) in enumerate(earlier)
        if (file_of_delivery == k).any()
    ]
    return [*files, last]


def _as_wide(
    then: pd.DataFrame, beside: pd.DataFrame, run: Run, requested: Derivation
) -> pd.DataFrame:
    """An earlier voter file with what is joined to it and derived of it."""
    wide = then.merge(beside, on="voter_id", how="left")
    file_derivation = derivation(
        run.campaign, list(wide.columns), as_of=requested.as_of
    )
    file_derivation = file_derivation._replace(parties=requested.parties)
    return with_derived(wide, file_derivation, run.engine)


def _known_in_all(
    run: Run, columns: list[str], files: Sequence[VoterFile], as_of: pd.Timestamp
) -> list[str]:
    """Columns that every file has, elections before the first delivery among them.

    Those left out are noted in run.json.
    """
    past = set(history_columns(columns, as_of))
    later = [c for c in columns if c.startswith(HISTORY_PREFIX) and c not in past]
    absent = [c for c in columns if any(c not in f.voters for f in files)]
    run.note(
        features_left_out={
            "held at or after the first delivery": later,
            "not in a voter file from before a delivery": absent,
        }
    )
    return [c for c in columns if c not in {*later, *absent}]


def stage_features(run: Run) -> None:
    """Build the training set and the reader of voter rows from the checked tables.

    Raises:
        CampaignError: If the sentence model is needed and not installed.
    """
    require_sentence_model(run)
    campaign = run.campaign
    tables = {
        "designs": run.table("designs"),
        "deliveries": run.table("deliveries"),
        "responses": run.table("responses"),
    }
    first = first_delivery(tables["deliveries"])
    requested, voters = _derived(run, first)
    tables |= {"voters": voters}
    check_experiments(campaign, tables["designs"]["experiment_id"].unique())
    files = _files_of_deliveries(run, voters, tables["deliveries"], requested)
    cell_affinities = write_affinities(run, first)
    if cell_affinities is not None:
        voters = tables["voters"] = cell_affinities.joined_to(voters, as_of=first)
        files = [
            f._replace(voters=cell_affinities.joined_to(f.voters, as_of=first))
            for f in files
        ]
    columns = answered_feature_columns(campaign, voters)
    if cell_affinities is not None:
        # counts are brought to be read; [features].exclude leaves them out
        barred = barred_from_features(campaign, cell_affinities.names)
        columns += [n for n in cell_affinities.names if n not in barred | set(columns)]
    columns = _known_in_all(run, columns, files, first)
    training_set = build_training_set(
        tables,
        columns,
        outcome=campaign.outcome.name,
        absent=campaign.outcome.absent,
        higher_is_better=campaign.outcome.higher_is_better,
        files=files,
    )
    run.note(voter_files={f"{f.observed_on:%Y-%m-%d}": len(f.voters) for f in files})
    run.write("training_set", training_set.rows)
    run.write("features", training_set.features)
    reader = Reader(
        TableSource.model_validate(run.read_json("voters_mapping")),
        tuple(columns),
        first,
        Encoding.fit(training_set.features),
        counting_query(requested) if "history" in requested.groups else None,
        # a model that does not read them need not look them up
        cell_affinities
        if cell_affinities and set(cell_affinities.names) & set(columns)
        else None,
    )
    run.write_json("reader", reader.to_json())
    write_dictionary(run, requested, list(training_set.features.columns))
    write_known_effects(run, reader)
