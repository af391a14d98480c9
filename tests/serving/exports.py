"""A small locked plan with addresses, and what its files hold, for tests of exports."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv

from hustings.features.tables import no_places
from hustings.serving.export import (
    CHANNELS,
    Exported,
    ExportSettings,
    Planned,
    Recheck,
    export_plan,
)
from tests.experiments.drafts import whole

AT = pd.Timestamp("2026-09-07 18:00")
DAY, NEXT = pd.Timestamp("2026-09-08"), pd.Timestamp("2026-09-09")
SECRETS = ("@mail.example", "Elm Street", "+1650555", "Mary")
"""What stands in every voter's details, and may stand in lists alone."""


def voter(number: int) -> str:
    """Id of a voter."""
    return f"v{number:04}"


def plan_of(
    n: int = 800,
    *,
    per_day: int = 400,
    channels: Sequence[str] = ("mail", "phone", "social", "web"),
) -> Planned:
    """Voters 0 .. n-1 are contacted in turn by the channels; n .. n+59 held out."""
    number = np.arange(n)
    channel = np.array(channels)[number % len(channels)]
    message = np.where(number // 4 % 2 == 0, "jobs", "trade, fair")
    send_on = np.where(number // per_day % 2 == 0, DAY, NEXT).astype("datetime64[us]")
    plan = pd.DataFrame(
        {
            "voter_id": [voter(i) for i in number], "message_id": message,
            "channel": channel, "send_on": send_on, "cost_usd": 0.5, "lift": 0.01,
            "propensity": 0.8, "role": np.where(number % 9 == 0, "explore", "plan"),
        }
    )  # fmt: skip
    intended = {"intended_message_id": "jobs", "intended_channel": "mail"}
    same = ["voter_id", "role", "message_id", "channel", "propensity"]
    held = pd.DataFrame(
        {
            "voter_id": [voter(i) for i in range(n, n + 60)], "role": "holdout",
            "message_id": "control", "channel": "none", "propensity": 0.1,
        }
    )  # fmt: skip
    assignments = pd.concat([plan[same], held]).assign(**intended)
    messages = pd.DataFrame(
        {
            "message_id": ["jobs", "trade, fair"], "issue": ["jobs", "trade"],
            "text": "t", "sponsor": "Committee", "discloses": "none",
            "disclaimer": ["Paid for by the Committee", 'Paid for by "Fair, Inc."'],
        }
    )  # fmt: skip
    everybody = np.arange(n + 60)
    voters = pd.DataFrame(
        {
            "voter_id": [voter(i) for i in everybody],
            "age": np.where(everybody // 8 % 2 == 0, 30.0, 70.0),
            "sex": "F", "county_fips": "01001",
        }
    )  # fmt: skip
    return Planned(
        "p1",
        "locked",
        plan,
        whole(plan, assignments.reset_index(drop=True))["assignments"],
        messages,
        voters,
        no_places(),
    )


def details_of(planned: Planned) -> pd.DataFrame:
    """IDENTITIES of everybody."""
    ids = planned.voters["voter_id"]
    number = ids.str[1:].astype(int)
    return pd.DataFrame(
        {
            "voter_id": ids, "name": "Mary " + ids,
            "address": number.astype(str) + " Elm Street",
            "phone": "+1650555" + number.map("{:04}".format),
            "email": ids + "@mail.example",
        }
    )  # fmt: skip


def terms_of(**changed: object) -> ExportSettings:
    """Terms whose audiences and cells may be as small as any may be."""
    channels = {
        name: replace(channel, min_audience=20) for name, channel in CHANNELS.items()
    }
    return replace(ExportSettings("us_default", channels), **changed)  # type: ignore[arg-type]


def all_may(contacts: pd.DataFrame, _at: pd.Timestamp) -> pd.Series:
    """A check that refuses nobody."""
    return pd.Series("", index=contacts.index, dtype=object)


def refusing(code: str, **equal: object) -> Recheck:
    """A check that refuses contacts whose column has a value or one of several."""

    def recheck(contacts: pd.DataFrame, _at: pd.Timestamp) -> pd.Series:
        found = all_may(contacts, _at)
        for column, value in equal.items():
            some = value if isinstance(value, list) else [value]
            found[contacts[column].isin(some)] = code
        return found

    return recheck


def export(
    planned: Planned, parent: Path, stamp: str = "1", **changed: object
) -> Exported:
    """An export of everything that may go."""
    given: dict[str, object] = {
        "recheck": all_may, "stopped": {}, "at": AT, "terms": terms_of(),
    }  # fmt: skip
    given |= changed
    terms = given.pop("terms")
    return export_plan(planned, terms, parent, stamp, **given)  # type: ignore[arg-type]


def read(path: Path) -> pd.DataFrame:
    """A CSV of an export, every value as text."""
    with path.open("rb") as file:
        names = pyarrow.csv.open_csv(path).schema.names
        as_text = pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pyarrow.string())
        )
        return pyarrow.csv.read_csv(file, convert_options=as_text).to_pandas()


def manifest(exported: Exported) -> dict[str, object]:
    """The manifest of an export."""
    assert exported.folder is not None
    return json.loads((exported.folder / "manifest.json").read_text())  # type: ignore[no-any-return]


def names(folder: Path, start: str) -> list[str]:
    """Files whose name begins so."""
    return sorted(path.name for path in folder.glob(f"{start}*"))
