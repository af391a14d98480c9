"""The response model: turnout and support without a message, by voter and area."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.stages.context import Json, Run
from hustings.features.arrays import Floats, Floats32
from hustings.features.membership import among
from hustings.features.tables import AREAS, CHANCES, HISTORY_PREFIX, check
from hustings.features.training_set import MessageTest, coarsest_unit
from hustings.training.estimators.metrics import Interval
from hustings.training.estimators.votes import as_votes, turnout_lifts
from hustings.training.learners.response import (
    Response,
    area_spread,
    by_area,
    fit_response,
)
from hustings.training.policy_value.current_practice import PredictedResponse
from hustings.training.policy_value.reliability import reliability
from hustings.training.registry.campaign_model import Reader

MIN_CONTROLS = 200
"""Fewer observed controls than this do not identify a probability well enough."""
LEVELS = ("precinct", "county_fips")


class _Audience(NamedTuple):
    """Voters to predict for, and their features."""

    voters: pd.DataFrame
    X: Floats32


@dataclass(frozen=True)
class _Predicted:
    """One outcome of one experiment."""

    outcome: str
    test: MessageTest
    model: Response
    chance: Floats
    area_tables: list[pd.DataFrame]

    def reliability_on_controls(self) -> Json:
        """Reliability of the predictions on the observed controls."""
        left = (self.test.arm == 0) & self.test.observed
        controls = self.test.take(left)
        predicted = self.model.predict(controls.X, controls.unit_id)
        return reliability(predicted, controls.Y, controls.cluster).as_dict()


def write_predicted_response(
    run: Run, tests: Mapping[str, MessageTest], reader: Reader
) -> None:
    """Predict turnout and support where controls were observed.

    Writes `chances.parquet` (by voter), `areas.parquet` (by precinct and county) and
    `reliability.json`.
    """
    everyone = run.table("voters")
    rows: list[pd.DataFrame] = []
    areas: list[pd.DataFrame] = []
    reliabilities: Json = {}
    for experiment_id, test in tests.items():
        audience = _audience(run, everyone, test, reader)
        frame = pd.DataFrame({"voter_id": audience.voters["voter_id"]})
        frame = frame.assign(
            experiment_id=experiment_id, turnout=np.nan, support=np.nan
        )
        reliabilities[experiment_id] = {}
        for prediction in _predictions(run, test, audience, reader):
            frame[prediction.outcome] = prediction.chance
            reliabilities[experiment_id][prediction.outcome] = (
                prediction.reliability_on_controls()
            )
            areas += prediction.area_tables
        rows.append(frame)
    run.write("chances", check(CHANCES, pd.concat(rows, ignore_index=True)))
    empty = pd.DataFrame(columns=list(AREAS.columns))
    run.write("areas", check(AREAS, pd.concat(areas) if areas else empty))
    run.write_json("reliability", reliabilities)


def _audience(
    run: Run, everyone: pd.DataFrame, test: MessageTest, reader: Reader
) -> _Audience:
    """All voters, or those of the experiment where each has its own."""
    voters = everyone
    if run.campaign.plan.audience == "experiment":
        voters = everyone[among(everyone["voter_id"], test.voter_id)]
    voters = voters.reset_index(drop=True)
    return _Audience(voters, reader.encoding.transform(reader.features(voters)))


def _predictions(
    run: Run, test: MessageTest, audience: _Audience, reader: Reader
) -> Iterator[_Predicted]:
    for outcome, Y in _outcomes(run, test).items():
        outcome_test = replace(test, Y=Y)
        if ((outcome_test.arm == 0) & outcome_test.observed).sum() < MIN_CONTROLS:
            continue
        model = fit_response(
            outcome_test, reader.encoding.categorical, seed=run.campaign.campaign.seed
        )
        unit = coarsest_unit(audience.voters).to_numpy(dtype=object)
        chance = model.predict(audience.X, unit)
        tables = _areas(outcome_test, model, audience.voters, chance, outcome)
        yield _Predicted(outcome, outcome_test, model, chance, tables)


def _outcomes(run: Run, test: MessageTest) -> dict[str, Floats]:
    """Turnout and support of the test's voters in [0, 1], where they were observed."""
    outcome, by_outcome = run.campaign.outcome, {}
    if outcome.measures == "turnout":
        by_outcome["turnout"] = test.Y
    elif outcome.turnout is not None:
        by_outcome["turnout"] = observed_turnout(run, outcome.turnout, test)
    if outcome.measures == "support":
        # a point is one supporter in a hundred, so a hundred of them are everybody
        share = outcome.direction * test.Y / outcome.support_scale
        # what links or panels correct may lie beyond the scale, its mean may not
        if np.nanmin(share) >= -1 and np.nanmax(share) <= 2:
            by_outcome["support"] = share
    return {name: Y for name, Y in by_outcome.items() if np.isfinite(Y).any()}


def observed_turnout(run: Run, outcome: str, test: MessageTest) -> Floats:
    """Observed turnout of the test's voters: 1, 0 or NaN if unknown, shape (n,)."""
    responses = run.table("responses")
    rows = responses[
        (responses["outcome"] == outcome)
        & (responses["experiment_id"] == test.experiment_id)
    ]
    voted = rows.set_index("voter_id")["value"].reindex(test.voter_id)
    return voted.to_numpy(dtype=np.float64)


def _areas(
    test: MessageTest,
    model: Response,
    voters: pd.DataFrame,
    chance: Floats,
    outcome: str,
) -> list[pd.DataFrame]:
    """Mean predictions by precinct and county, with the spread that controls show."""
    controls = test.take((test.arm == 0) & test.observed)
    predicted = model.predict(controls.X, controls.unit_id)
    place = voters.set_index("voter_id")
    tables = []
    for level in (name for name in LEVELS if name in voters):
        area = place[level].reindex(controls.voter_id).to_numpy(dtype=object)
        has_area = pd.notna(area)
        if not has_area.any():
            continue
        spread = area_spread(predicted[has_area], controls.Y[has_area], area[has_area])
        table = by_area(chance, voters[level].to_numpy(dtype=object), spread)
        tables.append(
            table.assign(experiment_id=test.experiment_id, outcome=outcome, level=level)
        )
    return tables


def predicted_response_of(run: Run, test: MessageTest) -> PredictedResponse | None:
    """A test's predictions by `write_predicted_response`, None where one is unknown.

    Where turnout was not measured, the share of past elections voted in takes its
    place. A voter's own chance comes from models that never saw its unit, so a policy
    that goes by it can be judged on that voter.
    """
    table = run.read("chances")
    of_experiment = table[table["experiment_id"] == test.experiment_id].set_index(
        "voter_id"
    )
    chances = of_experiment.reindex(test.voter_id)
    voters = run.table("voters").set_index("voter_id").reindex(test.voter_id)
    turnout = chances["turnout"]
    if turnout.isna().all():
        voted = [c for c in voters if str(c).startswith(HISTORY_PREFIX)]
        turnout = voters[voted].mean(axis=1) if voted else turnout
        turnout = turnout.fillna(turnout.mean())
    if turnout.isna().any() or chances["support"].isna().any():
        return None
    level = next((name for name in LEVELS if name in voters), None)
    area = None if level is None else voters[level].to_numpy(dtype=object)
    return PredictedResponse(
        turnout.to_numpy(dtype=np.float64),
        chances["support"].to_numpy(dtype=np.float64),
        area,
        run.campaign.outcome.persuadable,
    )


def in_votes(run: Run, test: MessageTest) -> MessageTest:
    """The test with votes as its outcome, by the predictions and `turnout.json`.

    Raises:
        CampaignError: If nobody's chance to vote could be predicted.
    """
    chances, outcome = predicted_response_of(run, test), run.campaign.outcome
    reliabilities = run.read_json("reliability")[test.experiment_id]
    if chances is None or "turnout" not in reliabilities:
        raise CampaignError(
            f'{run.campaign.file}, [outcome].value = "votes": expected {MIN_CONTROLS} '
            f"people of experiment {test.experiment_id!r} who were sent nothing with "
            f"{outcome.turnout!r} and {outcome.name!r} observed, got fewer, or support "
            "outside its scale"
        )
    stored = run.read_json("turnout")["effects"]
    effects = {message: Interval(**effect) for message, effect in stored.items()}
    return as_votes(
        test,
        chances.turnout,
        outcome.turnout_weight * turnout_lifts(effects, test.messages),
        2 * chances.support - 1,
        support_scale=outcome.support_scale,
    )
