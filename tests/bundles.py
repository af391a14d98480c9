"""A small bundle of the sample campaign, made without a run."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.declaration import feature_columns, load_campaign
from hustings.features.persons.keys import Never
from hustings.features.simulated.campaign import simulate, write_sample
from hustings.features.training_set import build_training_set, message_tests
from hustings.features.voter import Encoding
from hustings.serving.contact_lists import ContactLists
from hustings.serving.offer import OfferSettings
from hustings.training.learners.gbm import DEFAULT_PARAMS, Prepared, fit_gbm, prepare
from hustings.training.learners.lift_model import FittedLift
from hustings.training.policy_value.policies import Policy
from hustings.training.registry.campaign_model import CampaignModel, Reader
from tests.taken import ingest_all

OF_VOTERS = Never.of(b"k", [])
"""Nobody, under the key of the voters' digests of these bundles."""


@dataclass(frozen=True)
class Served:
    """A bundle and what it was made from."""

    folder: Path
    model: CampaignModel
    plan: dict[str, Any]
    voters: pd.DataFrame
    rows: list[dict[str, Any]]


def believed_gbm(prepared: Prepared, **params: Any) -> FittedLift:
    """Trees believed in full: of few voters the calibration would leave no spread."""
    settings = {**DEFAULT_PARAMS, "min_child_samples": 100, **params}
    lift = fit_gbm(prepared, settings, seed=5)
    slopes = np.ones(len(prepared.test.messages))
    calibration = replace(lift.calibration, weight=np.array([1.0, 0.5]), slope=slopes)
    return replace(lift, calibration=calibration)


def sample_bundle(
    home: Path,
    *,
    n_voters: int,
    n_messages: int,
    fit: Callable[[Prepared], FittedLift] = believed_gbm,
) -> Served:
    """The sample campaign on few voters, with lifts that differ between them."""
    campaign = load_campaign("sample")
    write_sample(
        simulate(n_voters=n_voters, seed=5, n_messages=n_messages), home / "raw"
    )
    found = ingest_all(
        campaign.tables,
        outcome=campaign.outcome.name,
        campaign_dir=campaign.folder,
        data_dir=home,
        raw_dir=home / "raw",
    )
    columns = feature_columns(campaign, list(found.tables["voters"].columns))
    made = build_training_set(
        found.tables, columns, outcome="support", absent="missing"
    )
    encoding = Encoding.fit(made.features)
    ((name, test),) = message_tests(made, encoding).items()
    issue_of = found.tables["messages"].set_index("message_id")["issue"].to_dict()
    prepared = prepare(test, encoding.categorical, issue_of, seed=5)
    lift = fit(prepared)
    as_of = made.rows["sent_on"].min().normalize()
    model = CampaignModel(
        campaign="sample",
        reader=Reader(found.sources["voters"], tuple(columns), as_of, encoding),
        lifts={name: lift},
        arms={name: test.arms},
        champions={name: "personalised"},
        facts={
            "outcome": campaign.outcome.model_dump(mode="json"),
            "verdict": "personalise",
            "sentence": "Personalising pays.",
            "data_hash": "d" * 64,
            "trained_at": "2026-09-01T00:00:00Z",
        },
    )
    folder = home / "bundle"
    model.save(folder / "model")
    price = {"mail": 2.0, "sms": 1.0, "phone": 3.0}
    plan = {
        "run": "a-run",
        "salt": "sample-5",
        "holdout_share": 0.2,
        "rule_set": "us_default",
        "audiences": {
            "all": {
                "settings": OfferSettings((name,), by_household=True).to_json(),
                "policy": Policy("personalised").to_json(),
                "arms": [
                    {
                        "message_id": arm.message_id,
                        "channel": arm.channel,
                        "cost_usd": price[arm.channel] / 4,
                        "price": price[arm.channel],
                    }
                    for arm in test.arms
                ],
                "shadow_price": 4.0,
            }
        },
        "rules": {
            "messages": found.tables["messages"][
                ["message_id", "text", "sponsor", "disclaimer", "discloses"]
            ].to_dict("records"),
            "lowers_turnout": [],
            "signed": [],
        },
        "limits": {
            "budget_usd": 1e6,
            "capacity_by_channel": {},
            "capacity_per_day": None,
            "contacts_per_voter": 1,
            "window_days": None,
        },
        "never": OF_VOTERS.to_json(),
        "forgotten": OF_VOTERS.to_json(),
    }
    version = {
        "name": "hustings-sample",
        "version": "7",
        "alias": "champion",
        "run_id": "r" * 32,
        "tag_verdict": "personalise",
        "tag_data_hash": "d" * 64,
        "tag_trained_at": "2026-09-01T00:00:00Z",
        "tag_judged_by": "j" * 32,
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    ContactLists().write(folder)
    (folder / "version.json").write_text(json.dumps(version))
    raw = pd.read_parquet(home / "raw" / "voters.parquet")
    voters = found.tables["voters"].reset_index(drop=True)
    return Served(folder, model, plan, voters, _as_json(raw))


def _as_json(raw: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a voter file as a client would send them."""
    rows: list[dict[str, Any]] = json.loads(
        raw.to_json(orient="records", date_format="iso", double_precision=15)
    )
    return rows
