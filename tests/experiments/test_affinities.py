"""From counts by cell to columns beside the voters, a table and a part of the page."""

from pathlib import Path

import pandas as pd
import pytest

from hustings.experiments.declaration import EXPERIMENTS, load_campaign
from hustings.experiments.report.affinity import affinity_section
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.tables import stage_features, stage_ingest
from hustings.features.affinity import CELL
from hustings.features.simulated.campaign import Sample, simulate, write_sample
from hustings.features.tables import AFFINITIES, SMALLEST_CELL, check
from hustings.training.registry.campaign_model import Reader

NOW = pd.Timestamp.now("UTC").floor("s")

ISSUES = ["health care", "jobs", "public safety", "schools"]


@pytest.fixture(scope="module")
def sample() -> Sample:
    return simulate(n_voters=6_000, seed=4, n_messages=4)


def made(folder: Path, sample: Sample, *, exclude: str = "") -> Run:
    """A campaign of the sample, ingested and with its features."""
    write_sample(sample, folder / "campaign" / "raw")
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    start, end = shipped.index("[simulate]"), shipped.index("[outcome]")
    declared = (shipped[:start] + shipped[end:]).replace('"raw:', '"raw/')
    # affinities link nobody
    start, end = declared.index("[link]"), declared.index("[tables.voters]")
    declared = declared[:start] + declared[end:]
    start, end = declared.index("columns = ["), declared.index("exclude = []")
    declared = f'{declared[:start]}columns = ["age"]\n{declared[end:]}'
    declared = declared.replace("exclude = []", f"exclude = [{exclude}]")
    (folder / "campaign" / "campaign.toml").write_text(declared)
    campaign = load_campaign(folder / "campaign")
    run = Run(campaign, folder, folder / "run", "run", folder / "mlflow", at=NOW)
    stage_ingest(run)
    stage_features(run)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, sample: Sample) -> Run:
    return made(tmp_path_factory.mktemp("affinity"), sample)


def test_a_run_writes_affinities_and_gives_them_to_the_models(run: Run) -> None:
    known = run.read("affinities")
    assert sorted(known["issue"].unique()) == ISSUES
    assert check(AFFINITIES, known)["n_voters"].min() >= SMALLEST_CELL
    columns = [f"affinity__{issue}" for issue in ISSUES]
    assert run.read("features")[columns].notna().all(axis=None)


def test_a_voter_is_read_online_as_it_was_in_training(run: Run) -> None:
    reader = Reader.from_json(run.read_json("reader"))
    voters, rows = run.table("voters"), run.read("training_set")
    online = reader.features(voters).loc[rows["voter_id"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(online, run.read("features"), check_like=True)


def test_a_reaction_counted_after_the_first_delivery_is_no_feature(
    tmp_path: Path, sample: Sample, run: Run
) -> None:
    counts, first = sample.tables["reaction_counts"], run.read("training_set")
    at = first["sent_on"].min()
    more = counts.assign(n=counts["reach"].where(counts["age_band"] == "65+", 0.0))
    late = more.assign(counted_until=at + pd.Timedelta(seconds=1))
    tables = sample.tables | {"reaction_counts": pd.concat([counts, late])}
    again = made(tmp_path, Sample(**(vars(sample) | {"tables": tables})))
    pd.testing.assert_frame_equal(again.read("features"), run.read("features"))
    # what people read is of today, and knows it
    today = again.read("affinities").set_index(["issue", *CELL])["affinity"]
    before = run.read("affinities").set_index(["issue", *CELL])["affinity"]
    old = ("jobs", "65+", "", "")
    assert today[old] > 2 * before[old]


def test_counts_of_after_the_test_are_read_by_people_and_no_model(
    tmp_path: Path, sample: Sample
) -> None:
    counts = sample.tables["reaction_counts"]
    late = counts.assign(counted_until=pd.Timestamp("2026-08-01"))
    tables = sample.tables | {"reaction_counts": late}
    run = made(tmp_path, Sample(**(vars(sample) | {"tables": tables})))
    assert list(run.read("features")) == ["age"]
    assert run.read_json("reader")["affinities"] is None
    assert len(run.read("affinities"))


def test_what_is_excluded_is_no_feature_and_does_not_come_back_by_the_cell(
    tmp_path: Path, sample: Sample
) -> None:
    run = made(tmp_path / "all", sample, exclude='"affinity__*"')
    assert list(run.read("features")) == ["age"]
    run = made(tmp_path / "sex", sample, exclude='"sex"')
    assert (run.read("affinities")["sex"] == "").all()
    cells = run.read_json("reader")["affinities"]["cells"]
    assert {sex for _, sex, _ in cells} == {""}


# --- the page ------------------------------------------------------------------------


def test_the_page_names_the_groups_that_like_an_issue_most_and_least(run: Run) -> None:
    page = affinity_section(run.read("affinities"))
    for issue in ISSUES:
        assert f"<summary>{issue.capitalize()}</summary>" in page
    health = page[page.index("<summary>Health care") : page.index("<summary>Jobs")]
    groups = health[: health.index("<h3>Places")]
    assert groups.index("65+") < groups.index(">least<")
    assert "65+" not in groups[groups.index(">least<") :].split("Most of them")[-1]
    assert "95 % interval" in groups


def test_the_page_speaks_of_no_group_of_fewer_than_twenty(run: Run) -> None:
    known = run.read("affinities")
    small = known.assign(n_voters=SMALLEST_CELL - 1)
    with_small = pd.concat([known, small.assign(place="26999")], ignore_index=True)
    assert "26999" not in affinity_section(with_small)


def test_without_counts_there_is_no_such_section() -> None:
    assert affinity_section(None) == ""
    assert affinity_section(pd.DataFrame(columns=list(AFFINITIES.columns))) == ""
