"""The `Campaign` model: every section of `campaign.toml` and rules between them."""

from pathlib import Path
from typing import Self

from pydantic import PrivateAttr, model_validator

from hustings.experiments.declaration.ballots import BallotsSection
from hustings.experiments.declaration.export import ExportSection
from hustings.experiments.declaration.guardrails import GuardrailSection
from hustings.experiments.declaration.lift import LiftSection
from hustings.experiments.declaration.loop import LoopSection
from hustings.experiments.declaration.monitor import (
    LinkSection,
    MonitorSection,
    ProviderSection,
    ReactionsSection,
)
from hustings.experiments.declaration.planning import PlanSection
from hustings.experiments.declaration.report import ReportSection
from hustings.experiments.declaration.section import FileGivenLater, Name, Section
from hustings.experiments.declaration.sections import (
    CampaignSection,
    ChampionSection,
    EngineSection,
    ExperimentSection,
    FeaturesSection,
    ForecastsSection,
    OutcomeSection,
    SimulateSection,
)
from hustings.features.ingest import TableSource
from hustings.features.tables import (
    RAW_TABLES,
    REQUIRED_TABLES,
    TEST_TABLES,
    off_scale,
)
from hustings.serving.rules import WORDS, rule_set

CAMPAIGN_FILE = "campaign.toml"


class Campaign(Section):
    """A campaign's declaration: every section of `campaign.toml`.

    Attributes:
        campaign: What is asked, under which rules, as of when.
        outcome: What is measured, and which way is better.
        plan: Budget, days, limits, holdout and exploration.
        features: Which columns of the voters may be features.
        tables: Where every table lies and how it is read, by its name.
        experiments: What an experiment's outcome is worth, by experiment.
        guardrails: Outcomes that may not be harmed, by a name.
        champion: What is worth promoting, and for how long it is defended.
        reactions: How public reactions are taken in.
        monitor: What is watched while messages are out, and who is told.
        lift: How the lift of plans is measured.
        link: On which basis reactors are looked for in the voter file.
        providers: Columns that are bought or lent, by provider.
        export: Formats of the channels' lists and of the results they return.
        answers: How a file of outcomes is read, by a name.
        ballots: How a file of ballots is read: who has voted already.
        simulate: What the simulator draws in place of files; none without.
        report: What the report shows besides.
        loop: Learning and pacing from day to day; none without.
        forecasts: How what others know of messages is read.
        engine: What works on large tables.
    """

    campaign: CampaignSection
    outcome: OutcomeSection
    plan: PlanSection
    features: FeaturesSection
    tables: dict[str, TableSource]
    experiments: dict[str, ExperimentSection] = {}
    guardrails: dict[Name, GuardrailSection] = {}
    champion: ChampionSection = ChampionSection()
    reactions: ReactionsSection = ReactionsSection()
    monitor: MonitorSection = MonitorSection()
    lift: LiftSection = LiftSection()
    link: LinkSection | None = None
    providers: dict[Name, ProviderSection] = {}
    export: ExportSection = ExportSection()
    answers: dict[Name, FileGivenLater] = {}
    ballots: BallotsSection | None = None
    simulate: SimulateSection | None = None
    report: ReportSection = ReportSection()
    loop: LoopSection | None = None
    forecasts: ForecastsSection = ForecastsSection()
    engine: EngineSection = EngineSection()

    _file: Path = PrivateAttr(default=Path(CAMPAIGN_FILE))

    @property
    def file(self) -> Path:
        """The campaign.toml it was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder of the campaign, which paths of tables are relative to."""
        return self._file.parent

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.campaign.as_of > self.plan.start_on:
            raise ValueError(
                f"expected campaign.as_of on or before plan.start_on, got "
                f"{self.campaign.as_of} and {self.plan.start_on}"
            )
        return self

    @model_validator(mode="after")
    def _a_needed_lift_is_of_a_whole_plan(self) -> Self:
        if self.plan.goal == "least_cost" and self.loop is not None:
            raise ValueError(
                '[plan].goal = "least_cost" holds for a whole plan: expected no '
                "section [loop], which plans day by day"
            )
        return self

    @model_validator(mode="after")
    def _as_the_rules_say(self) -> Self:
        rules = rule_set(self.campaign.rule_set)
        for rule in rules.of("no_predicted_support"):
            if self.outcome.value == "votes":
                raise ValueError(
                    f"[outcome].value = 'votes' needs {WORDS[rule.code]} of every "
                    f"voter: rule set {rules.name!r} refuses it ({rule.code})"
                )
        for rule in rules.of("collected_from_person"):
            collected_from = (
                self.tables["voters"].collected_from
                if "voters" in self.tables
                else None
            )
            if collected_from != "person":
                raise ValueError(
                    f"[tables.voters].collected_from: rule set {rules.name!r} expects "
                    f"'person', got {collected_from!r} ({rule.code})"
                )
            if self.providers:
                raise ValueError(
                    f"[providers] are {WORDS['bought_data']}: rule set {rules.name!r} "
                    "refuses them (bought_data)"
                )
        return self

    @model_validator(mode="after")
    def _values_of_the_outcome(self) -> Self:
        declared = self.export.results.answers if self.export.results else {}
        for question, answers in declared.items():
            if answers.outcome != self.outcome.name:
                continue
            where = f"[export.results.answers.{question}].values: "
            values = set(answers.values.values())
            strange = sorted(values - {0.0, 1.0})
            if self.outcome.kind == "binary" and strange:
                raise ValueError(
                    f"{where}expected 0 or 1 of the binary outcome "
                    f"{self.outcome.name!r}, got {strange[0]:g}"
                )
            scale = self.outcome.value_range
            outside = [v for v in sorted(values) if scale and not (
                scale[0] <= v <= scale[1]
            )]  # fmt: skip
            if scale and outside:
                raise ValueError(
                    f"{where}{off_scale(scale)}, got {outside[0]:g}; leave out answers "
                    "that are none"
                )
        return self

    @model_validator(mode="after")
    def _guards_against_harm(self) -> Self:
        outcome = self.outcome
        voted = outcome.name if outcome.measures == "turnout" else outcome.turnout
        for name, guardrail in self.guardrails.items():
            where, direction = f"[guardrails.{name}].direction", guardrail.direction
            if guardrail.outcome == voted and direction == "rise":
                raise ValueError(
                    f"{where}: expected 'fall' of turnout, got 'rise': no campaign may "
                    "be rewarded for keeping people from voting"
                )
            gain = "rise" if outcome.higher_is_better else "fall"
            if guardrail.outcome == outcome.name and direction != (
                "fall" if gain == "rise" else "rise"
            ):
                raise ValueError(
                    f"{where}: a {gain} of the campaign's outcome {outcome.name!r} is "
                    f"what it is after, got {direction!r}"
                )
        return self

    @model_validator(mode="after")
    def _identities_for_joins(self) -> Self:
        needy = [n for n, p in self.providers.items() if p.join != "voter_id"]
        if needy and self.link is None:
            raise ValueError(
                f"[providers.{needy[0]}] joins by who people are: expected a section "
                "[link] that says where the voters' identities lie, got none"
            )
        return self

    @property
    def has_others_knowledge(self) -> bool:
        """Whether forecasts or effects of earlier campaigns are declared."""
        return not {"forecasts", "past_effects"}.isdisjoint(self.tables)

    @model_validator(mode="after")
    def _forecasts_of_tables(self) -> Self:
        if "slope_sd" in self.forecasts.model_fields_set and (
            "forecasts" not in self.tables
        ):
            raise ValueError(
                "[forecasts].slope_sd: expected a section [tables.forecasts], got none"
            )
        if "texts" in self.forecasts.model_fields_set and not self.has_others_knowledge:
            raise ValueError(
                "[forecasts].texts: expected a section [tables.forecasts] or "
                "[tables.past_effects], got none"
            )
        if "past_effects" in self.tables and self.outcome.value == "votes":
            raise ValueError(
                "[tables.past_effects]: effects are in units of the outcome, expected "
                "[outcome].value = 'outcome', got 'votes'; leave the table out"
            )
        return self

    @model_validator(mode="after")
    def _simulated_outcomes(self) -> Self:
        given = set() if self.loop is None else self.loop.model_fields_set
        idle = sorted({"outcome_first_days", "outcome_last_days"} & given)
        if idle and self.simulate is None:
            raise ValueError(
                f"[loop].{idle[0]}: expected it in a simulated campaign alone, whose "
                "outcomes come when it says; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _all_tables(self) -> Self:
        needed = set(REQUIRED_TABLES)
        has_wave = self.loop is not None and self.loop.has_wave
        if has_wave and not set(TEST_TABLES) & set(self.tables):
            # the first wave is the campaign's first test
            needed -= set(TEST_TABLES)
        absent = [n for n in REQUIRED_TABLES if n in needed and n not in self.tables]
        unknown = [name for name in self.tables if name not in RAW_TABLES]
        if absent:
            raise ValueError(f"expected a section [tables.{absent[0]}], got none")
        if unknown:
            raise ValueError(
                f"[tables.{unknown[0]}] is no table: expected one of "
                f"{', '.join(RAW_TABLES)}"
            )
        if self.tables["voters"].observed_on is None:
            raise ValueError(
                "[tables.voters] expected observed_on, the day when its columns were "
                "observed: only what lies before the first delivery may be a feature"
            )
        return self
