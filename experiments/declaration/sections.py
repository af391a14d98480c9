"""`[campaign]`, `[outcome]`, `[features]` and other short sections."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hustings.experiments.declaration.section import (
    Chance,
    Positive,
    Section,
    Text,
    is_glob,
    matching_columns,
)

MAX_SEGMENT_COLUMNS = 3
HISTORY_SEGMENT = "history"
PROXY_LIMIT = 0.75
"""AUC from which on what was learnt stands for a special category. Age and sex alone
tell religion or health at about .6 to .7; more than that is a proxy of its own."""

BINARY_SCALE = (0.0, 1.0)


class ForecastsSection(Section):
    """`[forecasts]`: how what others know of messages is read.

    Attributes:
        slope_sd: How much a forecaster is believed to know before any test: prior SD of
            its slope about 0, in SDs of the effects per SD of its forecasts.
        texts: Whether texts are read to tell what a message never sent would do, and
            whether it is like those that were tested. It needs the sentence model.
    """

    slope_sd: Positive = 0.3
    texts: bool = True


class CampaignSection(Section):
    """`[campaign]`: what is asked, under which rules, as of when.

    Attributes:
        name: Folder of its runs, and its name in MLflow.
        title: Head of the report.
        question: What the campaign wants to know, in a sentence.
        rule_set: Rules of law and platforms that bind it.
        as_of: Day when it is declared: on or before the plan's first.
        seed: Of everything that is drawn.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    title: Text
    question: Text
    rule_set: Literal["us_default", "eu_2024_900", "places_only", "research_replay"]
    as_of: date
    seed: Annotated[int, Field(ge=0)]


class OutcomeSection(Section):
    """`[outcome]`: what is measured, and which way is better.

    Attributes:
        name: The outcome, as responses call it.
        label: What reports call it.
        kind: `binary`: 0 or 1; or `continuous`.
        measures: What it says of: `support`, `turnout` or `other`.
        higher_is_better: Whether more of it is what the campaign is after.
        absent: What a voter without a response means: `zero`, or `missing`.
        unit_per_point: Outcome units in what reports call a point.
        turnout: The outcome in responses that says who voted, where another one is
            asked about: a message that lowers it is barred from the plan.
        scale: Lowest and highest value that an answer can have; what lies outside is a
            survey's code for no answer, and is set aside.
        persuadable: Predicted support, as a share, between which a voter counts as
            persuadable; without it, the middle third of the audience.
        value: What a lift is worth: the outcome itself, or votes.
        turnout_weight: Of votes by turnout relative to votes by support; never below 0.
    """

    name: Text
    label: Text
    kind: Literal["binary", "continuous"]
    measures: Literal["support", "turnout", "other"]
    higher_is_better: bool
    absent: Literal["zero", "missing"]
    unit_per_point: Positive
    scale: tuple[float, float] | None = None
    turnout: Text | None = None
    persuadable: tuple[Chance, Chance] | None = None
    value: Literal["outcome", "votes"] = "outcome"
    turnout_weight: Annotated[float, Field(allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _band_in_order(self) -> Self:
        if self.persuadable and self.persuadable[0] >= self.persuadable[1]:
            raise ValueError("expected persuadable = [low, high] with low below high")
        return self

    @model_validator(mode="after")
    def _scale_in_order(self) -> Self:
        if self.scale and not self.scale[0] < self.scale[1]:
            raise ValueError("expected scale = [low, high] with low below high")
        if self.kind == "binary" and self.scale not in (None, BINARY_SCALE):
            raise ValueError(
                'expected scale = [0, 1], or none, where kind = "binary", got '
                f"{list(self.scale or ())}"
            )
        return self

    @model_validator(mode="after")
    def _never_against_voting(self) -> Self:
        if self.measures == "turnout" and not self.higher_is_better:
            raise ValueError(
                "expected higher_is_better = true of turnout: no campaign may be "
                "rewarded for keeping people from voting"
            )
        return self

    @model_validator(mode="after")
    def _turnout_counts_for_good(self) -> Self:
        if self.turnout_weight < 0:
            raise ValueError(
                f"expected a turnout_weight of at least 0, got {self.turnout_weight}: "
                "no campaign may be rewarded for keeping people from voting"
            )
        return self

    @model_validator(mode="after")
    def _votes_of_support(self) -> Self:
        if self.value != "votes":
            return self
        if self.measures != "support" or not self.higher_is_better:
            raise ValueError(
                'expected measures = "support" and higher_is_better = true where '
                'value = "votes": votes are support × the chance to vote'
            )
        if self.turnout is None:
            raise ValueError(
                'expected turnout = "<outcome>" where value = "votes": without knowing '
                "who voted there is no chance to vote"
            )
        return self

    @property
    def direction(self) -> float:
        """Sign that turns the outcome so that higher is better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def support_scale(self) -> float:
        """Outcome units from no support to full support: a hundred points."""
        return 100 * self.unit_per_point

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Lowest and highest possible value; None where the campaign does not say.

        Support whose point is 1.0 is on a scale of 0 to 100: that is what
        `unit_per_point` says.
        """
        if self.kind == "binary":
            return BINARY_SCALE
        if self.scale is None and self.measures == "support":
            return (0.0, 100.0) if self.unit_per_point == 1 else None
        return self.scale

    @property
    def improving_range(self) -> tuple[float, float] | None:
        """`value_range` of the outcome turned so that higher is better."""
        if self.value_range is None or self.higher_is_better:
            return self.value_range
        low, high = self.value_range
        return -high, -low

    def as_valued(self) -> Self:
        """The outcome as it is judged and planned: votes, where that is declared."""
        if self.value == "outcome":
            return self
        votes = {"label": f"votes ({self.label})", "kind": "continuous"}
        return self.model_copy(update=votes | {"unit_per_point": 0.01})


class FeaturesSection(Section):
    """`[features]`: which columns of the voters may be features.

    Attributes:
        columns: Columns of the voters that may be features, by name or pattern.
        exclude: Columns that may not, by name or pattern.
        segment: Up to three columns of whose bins the segments of reports consist.
        legal_basis_special: Legal basis for special categories; empty for none.
        derived: Which columns are derived of the whole file, see `features.derived`:
            "history", "household", "neighbours". All of them are features.
        special_categories: Columns that tell of race, religion, health and the like:
            no features without a legal basis.
        not_special: Columns that look so, by name or by values, and are none.
        proxy_limit: AUC above which what was learnt stands for a special category,
            and nothing is promoted.
    """

    columns: Annotated[list[Text], Field(min_length=1)]
    derived: list[Literal["history", "household", "neighbours"]] = []
    exclude: list[Text] = []
    segment: Annotated[list[Text], Field(max_length=MAX_SEGMENT_COLUMNS)] = [
        "age",
        "sex",
        HISTORY_SEGMENT,
    ]
    special_categories: list[Text] = []
    not_special: list[Text] = []
    legal_basis_special: str = ""
    proxy_limit: Annotated[float, Field(gt=0.5, le=1)] = PROXY_LIMIT

    @model_validator(mode="after")
    def _special_needs_a_basis(self) -> Self:
        both_ways = set(self.special_categories) & set(self.not_special)
        if both_ways:
            raise ValueError(
                f"expected {min(both_ways)!r} in special_categories or in not_special, "
                "got it in both"
            )
        names = set(self.columns) | set(self.segment)
        plain = sorted(name for name in names if not is_glob(name))
        special = [
            name for name in plain if matching_columns(self.special_categories, [name])
        ]
        if special and not self.legal_basis_special:
            raise ValueError(
                f"{special[0]!r} is a special category: expected a stated "
                "legal_basis_special, got none"
            )
        return self


class ExperimentSection(Section):
    """`[experiments.<id>]`: what its outcome is worth, so that budgets can be shared.

    Attributes:
        value: Worth of one outcome unit, in a unit common to all experiments.
    """

    value: Positive


class ChampionSection(Section):
    """`[champion]`: what is worth promoting, and for how long it is defended.

    Attributes:
        worthwhile_gain: Smallest gain of personalising per voter over the best baseline
            that is worth having, in units of the outcome: where none is shown, the
            report says whether one of this size would have been.
        max_age_days: After so many days a champion is not compared any more: what it
            learnt is too old to be held against new data. Never without.
    """

    max_age_days: Positive | None = None
    worthwhile_gain: Positive | None = None


class EngineSection(Section):
    """`[engine]`: what works on the rows of voters and other large tables.

    Attributes:
        spark: URL of a Spark master, such as "local[2]" or "spark://host:7077", where
            `ingest`, `features` and `score` work; DuckDB on this machine without.
    """

    spark: Annotated[
        str | None,
        Field(pattern=r"^(local(\[(\d+|\*)\])?|spark://\S+|k8s://\S+|yarn)$"),
    ] = None


class SimulateSection(Section):
    """`[simulate]`: the tables at `raw:` are made by the simulator.

    Attributes:
        n_voters: Voters to simulate.
        seed: Of the simulation.
        n_messages: Messages to simulate.
        null_twin: Whether effects are alike for all, so that personalising is worth 0.
        early_reactions: Whether the voters also reacted in public before the test.
    """

    n_voters: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    n_messages: Annotated[int, Field(ge=1)] = 8
    null_twin: bool = False
    early_reactions: bool = False
