"""What a run would find of a campaign, before it: every check, and nothing written.

The stages before training are run in a temporary folder that has the campaign's record
(plans, answers, persons) by links and copies, and that is removed at the end.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from hustings.experiments.column_profile import column_profiles
from hustings.experiments.declaration import (
    CampaignError,
    answered_feature_columns,
    feature_columns,
)
from hustings.experiments.loop.declared import declared_loop
from hustings.experiments.loop.learners import arms_of
from hustings.experiments.loop.run_day import terms_of
from hustings.experiments.power import facts_of, of_tests, power, sentences
from hustings.experiments.stages.context import Run, unsaid
from hustings.experiments.stages.models import before_training
from hustings.experiments.stages.offers import require_some_held_out
from hustings.experiments.stages.sendable import Sendable, sendable
from hustings.experiments.stages.tables import (
    is_simulated_as_declared,
    read_tables,
    stage_features,
    voters_with_others_columns,
)
from hustings.features.ingest import account_of
from hustings.features.tables import CONTROL, TEST_TABLES, VOTERS, check
from hustings.features.training_set import Arm
from hustings.training.registry.campaign_model import Reader

MOST_COLUMNS = 60
"""Columns that are shown; what looks wrong is said of all."""


@dataclass
class CampaignCheck:
    """What a run would find.

    Attributes:
        parts: Heading → sentences.
        stops: Why a run would stop; empty where it would go through.
        command: What would go through: `run`, or `day` where nothing was tested yet.
    """

    parts: dict[str, list[str]] = field(default_factory=dict, init=False)
    stops: list[str] = field(default_factory=list, init=False)
    command: str = field(default="run", init=False)

    def say(self, heading: str, *lines: str) -> None:
        """Add sentences under a heading."""
        self.parts.setdefault(heading, []).extend(lines)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Note what would stop a run, and go on."""
        try:
            yield
        except (ValueError, FileNotFoundError) as failure:
            if str(failure) not in self.stops:
                self.stops.append(str(failure))


TABLES, COLUMNS, LOOK_AT = "Tables", "What the model will see", "Look at"
REACH, TEST = "Who can be reached", "What the test can detect"


def check_campaign(run: Run) -> CampaignCheck:
    """Run every check of ingest, rules and design on the whole files.

    Args:
        run: Its campaign and folder are read, and nothing is written there.
    """
    with tempfile.TemporaryDirectory(prefix="hustings-check-") as name:
        folder = Path(name)
        home = folder / run.home.name
        _link_record(run, home)
        aside = replace(
            run, home=home, folder=home / "check", run_id="check",
            store=folder / "mlflow", mlflow_uri="", say=unsaid,
        )  # fmt: skip
        return _checked(aside)


def _link_record(run: Run, home: Path) -> None:
    """The campaign's record under a temporary folder: links, and copies of databases.

    Folders are made anew and what lies in them is linked, so that a file which is
    written there is written there alone.
    """
    home.mkdir(parents=True)
    # another simulated electorate than that on record has no record
    if not run.home.is_dir() or not is_simulated_as_declared(run):
        return
    for path in run.home.iterdir():
        if (path / "run.json").exists():
            continue  # a run
        if path.is_dir():
            (home / path.name).mkdir()
            for inner in path.iterdir():
                (home / path.name / inner.name).symlink_to(inner.resolve())
        else:
            shutil.copyfile(path, home / path.name)


def _checked(run: Run) -> CampaignCheck:
    page = CampaignCheck()
    if not set(TEST_TABLES) <= set(run.campaign.tables):
        page.command = "day"
    ingested = read_tables(run, collect=True)
    page.stops += ingested.stops
    for name, report in ingested.report.items():
        page.say(TABLES, *account_of(name, report))
    if not ingested.complete:
        return page
    run = replace(run, say=partial(page.say, TABLES))
    with page.stopping():
        wider = voters_with_others_columns(run, ingested)
        if wider is not None:
            run.write("tables/voters", check(VOTERS, wider))
    run.write_json("ingest", ingested.report)
    is_tested = bool(len(run.table("deliveries")))
    _check_columns(page, run, is_tested=is_tested)
    with page.stopping():
        _check_reach(page, run, is_tested=is_tested)
    if is_tested and run.has("training_set.parquet"):
        with page.stopping():
            _check_tests(page, run)
    elif not is_tested:
        with page.stopping():
            terms_of(run)
            result = power(
                facts_of(run), holdouts=_holdouts(run), seed=run.campaign.campaign.seed
            )
            per_point = run.campaign.outcome.unit_per_point
            page.say(TEST, *sentences(result, per_point=per_point))
    return page


def _holdouts(run: Run) -> tuple[float, ...]:
    share = run.campaign.plan.holdout_share
    return (share,) if share else ()


# --- columns --------------------------------------------------------------------------


def _check_columns(page: CampaignCheck, run: Run, *, is_tested: bool) -> None:
    """The features, each in words, and those that look wrong."""
    columns: list[str] = []
    with page.stopping():
        if is_tested:
            stage_features(run)
            columns = list(Reader.from_json(run.read_json("reader")).feature_columns)
        else:
            columns = answered_feature_columns(run.campaign, run.table("voters"))
    on_file = list(run.table("voters").columns)
    if not columns:
        with page.stopping():
            columns = feature_columns(run.campaign, on_file)
    if "age" not in on_file and "birth_year" in on_file:
        page.say(COLUMNS, "age: in the year of the first delivery, from birth_year")
        columns.append("birth_year")
    profiles = column_profiles(run.path("tables/voters.parquet"), columns)
    page.say(COLUMNS, *map(str, profiles[:MOST_COLUMNS]))
    if len(profiles) > MOST_COLUMNS:
        page.say(COLUMNS, f"and {len(profiles) - MOST_COLUMNS} more columns")
    suspicions = [p.suspicion for p in profiles if p.suspicion]
    if suspicions:
        page.say(LOOK_AT, *suspicions)
    left_out = run.record().features_left_out if is_tested else None
    for reason, names in (left_out or {}).items():
        if names:
            page.say(COLUMNS, f"left out, {reason}: {', '.join(names)}")


# --- reach ----------------------------------------------------------------------------


def _check_reach(page: CampaignCheck, run: Run, *, is_tested: bool) -> None:
    """Voters whom each channel reaches, and the rules that stop the others."""
    voters = run.table("voters")
    if run.has("reachable.json"):
        for channel, n in run.read_json("reachable").items():
            page.say(
                REACH,
                f"{channel}: {n['reachable']:,} of {n['voters']:,} voters have an "
                f"address, {n['unusable']:,} a value that is none",
            )
    with page.stopping():
        require_some_held_out(run, voters)
    arms = _arms(run, is_tested=is_tested)
    of_all = sendable(run, voters, arms)
    for channel, n_voters in of_all.by_channel.items():
        page.say(
            REACH,
            f"{channel}: something may be sent to {n_voters:,} of "
            f"{len(voters):,} voters",
        )
    page.say(REACH, *(f"not: {stop}" for stop in of_all.stops), *of_all.notes())
    _require_any(of_all)


def _arms(run: Run, *, is_tested: bool) -> tuple[Arm, ...]:
    if not is_tested:
        return arms_of(run, declared_loop(run.campaign).channels)
    designs = run.table("designs")
    offered = designs[designs["message_id"] != CONTROL]
    pairs = offered[["message_id", "channel"]].drop_duplicates()
    return tuple(Arm(*pair) for pair in pairs.itertuples(index=False))


def _require_any(of_all: Sendable) -> None:
    if of_all.nothing:
        raise CampaignError(
            f"Nothing may be sent, because {'; '.join(map(str, of_all.stops))}."
        )


# --- tests ----------------------------------------------------------------------------


def _check_tests(page: CampaignCheck, run: Run) -> None:
    """What can be learnt of each experiment, and how small a lift it shows."""
    per_point = run.campaign.outcome.unit_per_point
    rows, voters = run.read("training_set"), run.table("voters")
    page.say(TEST, *of_tests(rows, voters, per_point=per_point))
    findings = before_training(run)
    page.say(TEST, *findings.notes)
    left_out = _of_experiments(findings.not_learnt)
    page.say(TEST, *left_out)
    if not findings.n_learnt:
        page.stops += left_out


def _of_experiments(reasons: Mapping[str, str]) -> list[str]:
    return [f"experiment {name}: {reason}" for name, reason in reasons.items()]


def page_of(checked: CampaignCheck) -> str:
    """The page that a person reads."""
    lines = []
    for heading, sentences_of_part in checked.parts.items():
        lines += [heading, *(f"  {line}" for line in sentences_of_part), ""]
    return "\n".join(lines)
