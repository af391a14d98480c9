"""One declared campaign: question, tables, outcome, budget, features, seed.

`load_campaign` reads a `campaign.toml` and refuses what no campaign may do; an error
names the file, the key, its line, what was expected and what came.
"""

import os
import tomllib
from pathlib import Path

from pydantic import ValidationError

from hustings.experiments.declaration.ballots import BallotsSection
from hustings.experiments.declaration.campaign import CAMPAIGN_FILE, Campaign
from hustings.experiments.declaration.columns import (
    NEVER_FEATURES,
    answered_feature_columns,
    barred_from_features,
    check_experiments,
    derivation,
    feature_columns,
    special_columns,
)
from hustings.experiments.declaration.export import ExportSection
from hustings.experiments.declaration.faults import fault_text, lines_below, toml_lines
from hustings.experiments.declaration.guardrails import GuardrailSection
from hustings.experiments.declaration.lift import LiftSection
from hustings.experiments.declaration.loop import LoopSection, RepeatRule
from hustings.experiments.declaration.monitor import (
    AlertsSection,
    LinkSection,
    MonitorSection,
    ProviderSection,
    ReactionsSection,
)
from hustings.experiments.declaration.planning import PlanSection
from hustings.experiments.declaration.report import ReportSection
from hustings.experiments.declaration.section import CampaignError
from hustings.experiments.declaration.sections import (
    HISTORY_SEGMENT,
    MAX_SEGMENT_COLUMNS,
    CampaignSection,
    ChampionSection,
    ExperimentSection,
    FeaturesSection,
    OutcomeSection,
    SimulateSection,
)

__all__ = [
    "CAMPAIGN_FILE",
    "DATA_VARIABLE",
    "EXPERIMENTS",
    "HISTORY_SEGMENT",
    "MAX_SEGMENT_COLUMNS",
    "NEVER_FEATURES",
    "PROJECT",
    "AlertsSection",
    "BallotsSection",
    "Campaign",
    "CampaignError",
    "CampaignSection",
    "ChampionSection",
    "ExperimentSection",
    "ExportSection",
    "FeaturesSection",
    "GuardrailSection",
    "LiftSection",
    "LinkSection",
    "LoopSection",
    "MonitorSection",
    "OutcomeSection",
    "PlanSection",
    "ProviderSection",
    "ReactionsSection",
    "RepeatRule",
    "ReportSection",
    "SimulateSection",
    "answered_feature_columns",
    "barred_from_features",
    "campaign_file",
    "check_experiments",
    "data_dir",
    "derivation",
    "feature_columns",
    "load_campaign",
    "parse_campaign",
    "special_columns",
    "toml_lines",
]

EXPERIMENTS = Path(__file__).resolve().parents[1]
PROJECT = EXPERIMENTS.parent
DATA_VARIABLE = "HUSTINGS_DATA"


def data_dir() -> Path:
    """The folder of public data: HUSTINGS_DATA, else ../shared/data of the project."""
    set_to = os.environ.get(DATA_VARIABLE)
    return Path(set_to) if set_to else (PROJECT / "../shared/data").resolve()


def campaign_file(name_or_path: str | Path) -> Path:
    """The campaign.toml of a shipped campaign's name, a folder or a file.

    Raises:
        CampaignError: If there is none.
    """
    given = Path(name_or_path)
    shipped_file = EXPERIMENTS / given.name / CAMPAIGN_FILE
    if str(name_or_path) == given.name and shipped_file.is_file():
        return shipped_file
    file = given if given.suffix == ".toml" else given / CAMPAIGN_FILE
    if not file.is_file():
        shipped = sorted(
            path.parent.name for path in EXPERIMENTS.glob("*/campaign.toml")
        )
        raise CampaignError(
            f"expected a campaign, got {str(name_or_path)!r}: there is no {file}; give "
            f"a folder with a {CAMPAIGN_FILE}, or one of {', '.join(shipped)}"
        )
    return file


def load_campaign(name_or_path: str | Path) -> Campaign:
    """Read and check a campaign.

    Args:
        name_or_path: A shipped campaign's name, a folder, or a campaign.toml.

    Raises:
        CampaignError: Naming the file, key and line of everything that is wrong.
    """
    file = campaign_file(name_or_path)
    return parse_campaign(file.read_text(encoding="utf-8"), file=file)


def parse_campaign(text: str, *, file: Path = Path(CAMPAIGN_FILE)) -> Campaign:
    """A campaign from the text of its declaration.

    Raises:
        CampaignError: Naming the file, key and line of everything that is wrong.
    """
    try:
        declared = tomllib.loads(text)
    except tomllib.TOMLDecodeError as failure:
        raise CampaignError(f"{file}: not valid TOML: {failure}") from None
    lines = toml_lines(text)
    try:
        campaign = Campaign.model_validate(declared)
    except ValidationError as failure:
        messages = [fault_text(fault, lines) for fault in failure.errors()]
        raise CampaignError("\n".join(f"{file}, {line}" for line in messages)) from None
    campaign._file = file
    for name, source in campaign.tables.items():
        source.located(lines_below(lines, ("tables", name)))
    if campaign.link is not None:
        campaign.link.voters.located(lines_below(lines, ("link", "voters")))
    return campaign
