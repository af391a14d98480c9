"""Others' knowledge of message effects: toplines, panels, forecasts, past tests."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa

from hustings.experiments.declaration import CampaignError
from hustings.experiments.stages.context import Json, Run
from hustings.features.arrays import Floats, Ints
from hustings.features.prior_evidence import PriorEvidence, prior_evidence
from hustings.features.tables import (
    CONTROL,
    FORECASTS,
    PAST_EFFECTS,
    PRIORS,
    TableError,
    check,
)
from hustings.features.training_set import EffectPrior
from hustings.features.voter import Encoding
from hustings.training.learners.forecasts import expected_effects
from hustings.training.learners.transport import Panel, Poststratified, poststratified
from hustings.training.registry.campaign_model import Reader

MOST_VOTERS = 50_000
"""Means of this many voters have a standard error below half a per cent of an SD."""


def write_known_effects(run: Run, reader: Reader) -> None:
    """Write `priors.parquet`, and the overlap of panels and voters to `overlap.json`.

    Toplines enter as declared, panels reweighted to the voter file. Nothing is written
    where a campaign has neither.
    """
    toplines, panels = run.optional_table("priors"), run.optional_table("panel")
    prior_tables = [] if toplines is None else [toplines]
    overlap: Json = {}
    if panels is not None:
        for source, rows in panels.groupby("source", sort=True):
            pretest = _pretest(run, reader, rows)
            prior_tables.append(pretest.priors(str(source)))
            overlap[str(source)] = vars(pretest.estimate.overlap)
    if prior_tables:
        run.write("priors", check(PRIORS, pd.concat(prior_tables, ignore_index=True)))
        run.write_json("overlap", overlap)


def evidence_of(run: Run) -> PriorEvidence | None:
    """Forecasts and effects of earlier campaigns; None where there are neither."""
    forecasts = run.optional_table("forecasts")
    past_effects = run.optional_table("past_effects")
    if forecasts is None and past_effects is None:
        return None
    return prior_evidence(
        run.table("messages"),
        _or_empty(FORECASTS, forecasts),
        _or_empty(PAST_EFFECTS, past_effects),
        direction=run.campaign.outcome.direction,
        slope_sd=run.campaign.forecasts.slope_sd,
    )


def require_sentence_model(run: Run) -> None:
    """Refuse, before anything is trained, to read texts without the sentence model.

    Texts are read where others know something and a message was never sent.

    Raises:
        CampaignError: If the model is needed and not installed.
    """
    campaign = run.campaign
    if not (campaign.has_others_knowledge and campaign.forecasts.texts):
        return
    tested = set(run.table("designs")["message_id"])
    if set(run.table("messages")["message_id"]) <= tested:
        return
    # its library is slow to import
    from hustings.features.minilm import model_folder

    try:
        model_folder()
    except ModuleNotFoundError as missing:
        raise CampaignError(
            f"{campaign.file}: [forecasts].texts: {missing}; or declare texts = false"
        ) from None


def prior_of_past_tests(run: Run, messages: tuple[str, ...]) -> EffectPrior | None:
    """Prior of messages before the campaign's own test; None without earlier ones.

    Forecasts are believed as far as earlier tests show. The campaign's own answers have
    no part in it, so that a learner may add them.

    Args:
        run: Its tables are read.
        messages: Length M; one may come several times.
    """
    evidence = evidence_of(run)
    if evidence is None or not evidence.past.effect.any():
        return None
    expected = expected_effects(
        evidence, [], evidence.rows(messages),
        usual_effect=float(np.abs(evidence.past.effect).mean()),
    )  # fmt: skip
    return EffectPrior(expected.mean, expected.se**2)


def _or_empty(schema: pa.DataFrameSchema, table: pd.DataFrame | None) -> pd.DataFrame:
    if table is not None:
        return table
    return check(schema, pd.DataFrame({name: [] for name in schema.columns}))


class _Pretest(NamedTuple):
    """Effects of a panel, poststratified to the voters of the file."""

    estimate: Poststratified
    messages: tuple[str, ...]
    transport: float
    transport_sd: float

    def priors(self, source: str) -> pd.DataFrame:
        return self.estimate.priors(
            self.messages, source,
            transport=self.transport, transport_sd=self.transport_sd,
        )  # fmt: skip


def _pretest(run: Run, reader: Reader, rows: pd.DataFrame) -> _Pretest:
    voters = run.table("voters").head(MOST_VOTERS)
    features = reader.features(voters)
    shared = [c for c in reader.encoding.names if c in rows and c in features]
    if not shared:
        raise TableError(
            f"table panel, source {rows['source'].iloc[0]!r}: expected a column that "
            f"is a feature of the voters too ({', '.join(reader.encoding.names)}), got "
            "none; add it under [tables.panel.extra]"
        )
    levels = {c: v for c, v in reader.encoding.levels.items() if c in shared}
    encoding = Encoding(tuple(shared), levels)
    messages = tuple(sorted(set(rows["message_id"]) - {CONTROL}))
    panel = Panel(
        encoding.transform(rows[shared]),
        _arms(rows, messages),
        run.campaign.outcome.direction * rows["value"].to_numpy(np.float64),
        _weights(rows),
    )
    estimate = poststratified(
        panel, encoding.transform(features), tuple(encoding.categorical)
    )
    first = rows.iloc[0]
    return _Pretest(
        estimate, messages, float(first["transport"]), float(first["transport_sd"])
    )


def _arms(rows: pd.DataFrame, messages: tuple[str, ...]) -> Ints:
    arm = pd.Index([CONTROL, *messages]).get_indexer(pd.Index(rows["message_id"]))
    return np.asarray(arm, dtype=np.int64)


def _weights(rows: pd.DataFrame) -> Floats:
    if "weight" not in rows:
        return np.ones(len(rows))
    return rows["weight"].to_numpy(dtype=np.float64)
