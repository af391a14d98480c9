"""The right reason: what may not be sent, or teaches nothing, is found before training.

Small campaigns of invented people, in the layout of a campaign that mailed a test;
every verdict comes through the command.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w
from typer.testing import CliRunner, Result

from hustings.experiments.cli import BAD_INPUT, OK, app
from hustings.experiments.stages.reactions import FILE
from hustings.serving.monitor.pauses import Pauses
from hustings.training.registry.register import (
    champion_version,
    earlier_attempts,
    open_store,
)

OWN = {"source": "invented", "licence": "own", "permitted_use": "any"}
QUICK = ("--trials", "1", "--time-limit", "8", "--model", "linear")


@dataclass
class Drawn:
    """A campaign's tables: people in the order in which they were drawn.

    Attributes:
        n: Voters.
        seed: Draws features and outcomes.
        frames: CSV files by table.
        messages: Rows of the messages, with the channel each was sent by.
        designs: Rows of the designs.
    """

    n: int
    seed: int = 1
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    designs: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        voter_id = [f"V{i:06d}" for i in range(self.n)]
        self.frames["voters"] = pd.DataFrame(
            {
                "voter_id": voter_id,
                "age": rng.integers(20, 90, self.n),
                "sex": rng.choice(["F", "M"], self.n),
                "cluster": voter_id,
                "g2022": rng.integers(0, 2, self.n),
                "g2024": rng.integers(0, 2, self.n),
            }
        )
        self.frames["deliveries"] = pd.DataFrame()
        self.frames["responses"] = pd.DataFrame()
        self.rng = rng

    def add(
        self,
        experiment: str,
        people: slice,
        arms: Mapping[str, float],
        *,
        channels: Mapping[str, str] | None = None,
        counts: Mapping[str, int] | None = None,
        by: str = "person",
    ) -> np.ndarray:
        """Draw an experiment; the outcome is age and noise, whatever was sent.

        Args:
            experiment: Its id.
            people: Rows of the voters.
            arms: Message (or control) → probability.
            channels: Message → channel; mail without.
            counts: Message → people, where the draw came out exactly so.
            by: What was drawn: "person" or "cluster".

        Returns:
            Rows of its responses in `frames["responses"]`.
        """
        voters = self.frames["voters"].iloc[people]
        names, share = list(arms), np.array(list(arms.values()))
        unit, codes = np.unique(voters["cluster"], return_inverse=True)
        if counts is None:
            arm = self.rng.choice(len(names), len(unit), p=share)[codes]
        else:
            arm = self.rng.permutation(
                np.repeat(range(len(names)), [counts[m] for m in names])
            )
        message = np.array(names, dtype=object)[arm]
        channel = [(channels or {}).get(m, "mail") for m in message]
        deliveries = pd.DataFrame(
            {
                "voter_id": voters["voter_id"], "experiment": experiment,
                "message_id": message, "by": by,
                "channel": np.where(message == "control", "none", channel),
            }
        )  # fmt: skip
        said = 30 + 0.3 * voters["age"] + 15 * self.rng.normal(size=len(voters))
        responses = pd.DataFrame(
            {
                "voter_id": voters["voter_id"], "experiment": experiment,
                "outcome": "support", "value": said.clip(0, 100).round(1),
            }
        )  # fmt: skip
        start = len(self.frames["responses"])
        for name, rows in (("deliveries", deliveries), ("responses", responses)):
            both = [self.frames[name], rows] if len(self.frames[name]) else [rows]
            self.frames[name] = pd.concat(both, ignore_index=True)
        for m, p in arms.items():
            c = "none" if m == "control" else (channels or {}).get(m, "mail")
            row = {"experiment_id": experiment, "message_id": m, "channel": c}
            self.designs.append({**row, "probability": p})
            if m != "control":
                self.messages.setdefault(m, {
                    "message_id": m, "issue": "jobs", "text": f"Text {m}",
                    "sponsor": "S", "disclaimer": "Paid for by S", "discloses": "none",
                })  # fmt: skip
        return np.arange(start, len(self.frames["responses"]))

    def write(self, folder: Path, **sections: Mapping[str, Any]) -> Path:
        """Write the campaign; sections are merged into its declaration."""
        folder.mkdir(parents=True)
        for name, frame in self.frames.items():
            frame.to_csv(folder / f"{name}.csv", index=False)
        campaign: dict[str, Any] = tomllib.loads(DECLARED)
        campaign["campaign"]["name"] = folder.name
        campaign["tables"]["messages"] = OWN | {"rows": list(self.messages.values())}
        campaign["tables"]["designs"] = OWN | {"rows": self.designs}
        for name, keys in sections.items():
            campaign[name] = campaign.get(name, {}) | dict(keys)
        (folder / "campaign.toml").write_text(tomli_w.dumps(campaign))
        return folder


DECLARED = """
[campaign]
title = "t"
question = "q"
rule_set = "us_default"
as_of = 2026-03-01
seed = 1

[outcome]
name = "support"
label = "support"
kind = "continuous"
measures = "support"
higher_is_better = true
absent = "missing"
unit_per_point = 1.0

[plan]
budget_usd = 400.0
start_on = 2026-03-02
days = 3
holdout_share = 0.1
explore_share = 0.05

[features]
columns = ["*"]
segment = ["age", "sex"]

[tables.voters]
path = "voters.csv"
source = "s"
licence = "l"
permitted_use = "p"
observed_on = 2026-01-01
[tables.voters.columns]
voter_id = "voter_id"
age = "age"
sex = "sex"
cluster_id = "cluster"
[tables.voters.history]
"2022-11-08 general" = "g2022"
"2024-11-05 general" = "g2024"

[tables.deliveries]
path = "deliveries.csv"
source = "s"
licence = "l"
permitted_use = "p"
[tables.deliveries.columns]
voter_id = "voter_id"
experiment_id = "experiment"
message_id = "message_id"
channel = "channel"
sent_on = { value = 2026-02-01 }
randomised_by = "by"

[tables.responses]
path = "responses.csv"
source = "s"
licence = "l"
permitted_use = "p"
[tables.responses.columns]
voter_id = "voter_id"
experiment_id = "experiment"
outcome = "outcome"
value = "value"
observed_at = { value = 2026-02-15 }

[tables.costs]
source = "s"
licence = "l"
permitted_use = "p"
rows = [
    { message_id = "*", channel = "mail", cost_usd = 0.5 },
    { message_id = "*", channel = "sms", cost_usd = 0.05 },
    { message_id = "*", channel = "phone", cost_usd = 2.0, capacity_per_day = 0 },
    { message_id = "*", channel = "door", cost_usd = 900.0 },
]

[answers.survey]
path = "given when it is read"
source = "s"
licence = "l"
permitted_use = "p"
[answers.survey.columns]
voter_id = "voter_id"
outcome = { value = "support" }
value = "value"
observed_at = { value = 2026-02-20 }
"""


def hustings(folder: Path, command: str, *arguments: str | Path) -> Result:
    where = ("--campaign", folder, "--data", folder.parent / "data")
    store = () if command in ("responses", "policies") else (
        "--store", folder.parent / "mlflow",
    )  # fmt: skip
    words = [str(word) for word in (command, *arguments, *where, *store)]
    return CliRunner().invoke(app, words, env={"MLFLOW_TRACKING_URI": None})


def results_of(folder: Path) -> Path:
    """Folder of the campaign's latest run."""
    home = folder.parent / "data" / folder.name
    return home / (home / "latest").read_text().strip()


def spent_nothing(folder: Path) -> None:
    """No model is registered, and the next attempt of the gate is the first."""
    open_store(None, folder.parent / "mlflow")
    assert champion_version(folder.name) is None
    assert earlier_attempts(folder.name, data_hash="other data") == 0


# --- rules ----------------------------------------------------------------------------


def test_every_rule_that_stops_everything_is_named_before_training(
    tmp_path: Path,
) -> None:
    """A line that lacks, a text to sign, a pause, consent, capacity, money, people."""
    drawn = Drawn(240)
    by = {"text": "sms", "call": "phone", "visit": "door"}
    names = ["control", "bare", "when", "paused", "rare", *by]
    drawn.add("e", slice(None), dict.fromkeys(names, 1 / len(names)), channels=by)
    drawn.messages["bare"]["disclaimer"] = ""
    drawn.messages["when"]["text"] = "Vote by text on Wednesday."
    folder = drawn.write(tmp_path / "stopped", plan={"minimum_audience": 400})
    home = tmp_path / "data" / "stopped"
    home.mkdir(parents=True)
    pauses = Pauses.open(home / FILE)
    pauses.pause(
        "paused", by="A. Pell", reason="under review", at=pd.Timestamp.now("UTC")
    )
    pauses.close()
    answer = hustings(folder, "run", *QUICK)
    assert answer.exit_code == BAD_INPUT, answer.output
    evaluation = json.loads((results_of(folder) / "evaluation.json").read_text())
    (result,) = evaluation["experiments"].values()
    assert (
        result["verdict"] == evaluation["headline"]["verdict"] == "nothing_may_be_sent"
    )
    said = " ".join(answer.output.split())
    for reason in (
        "Nothing may be sent, because",
        "message bare: lacks its sponsor or its 'paid for by' line, rule set "
        "us_default (240 voters)",
        "message when:",
        "message paused:",
        "sms: no permission",
        "phone: capacity 0 ([tables.costs] capacity_per_day) (240 voters)",
        "door: one contact costs 900.00 USD, the budget is 400.00 (240 voters)",
        "message rare: at most",
        "[plan] minimum_audience is 400",
    ):
        assert reason in said, (reason, said)
    assert "train ..." in said
    assert not (results_of(folder) / "candidates").exists()
    assert (
        "Nothing may be sent, because"
        in (results_of(folder) / "report.html").read_text()
    )
    spent_nothing(folder)
    for command in ("plan", "policies"):
        again = " ".join(hustings(folder, command).output.split())
        assert "Nothing may be sent, because" in again, command


# --- data -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Experiments that teach nothing, each for a reason of its own, in one campaign."""
    drawn = Drawn(1_445)
    thirds = {"control": 1 / 3, "a": 1 / 3, "b": 1 / 3}
    value = "value"
    constant = drawn.add("constant", slice(0, 300), thirds)
    drawn.frames["responses"].loc[constant, value] = 50.0
    sided = drawn.add("sided", slice(300, 600), thirds)
    sent = drawn.frames["deliveries"].loc[sided, "message_id"]
    drawn.frames["responses"].loc[sided[sent != "control"], value] = np.nan
    silent = drawn.add("silent", slice(600, 700), {"control": 0.5, "a": 0.5})
    drawn.frames["responses"].loc[silent, value] = np.nan
    drawn.add("pilot", slice(700, 745), thirds)
    clusters = np.repeat([f"C{k:02d}" for k in range(12)], 50)
    drawn.frames["voters"].loc[745:1344, "cluster"] = clusters
    drawn.add("clusters", slice(745, 1_345), thirds, by="cluster")
    drawn.add("never", slice(1_345, 1_445), {"control": 0.9, "b": 0.1},
              counts={"control": 100, "b": 0})  # fmt: skip
    drawn.frames["responses"] = drawn.frames["responses"].dropna(subset=[value])
    folder = drawn.write(
        tmp_path_factory.mktemp("untaught") / "untaught",
        plan={"audience": "experiment"},
    )
    return folder, hustings(folder, "run", *QUICK)


@pytest.mark.parametrize(
    ("experiment", "reason"),
    [
        ("constant", "the outcome 'support' has one value, 50: nothing can be learnt"),
        ("sided", "answers are of people who were sent nothing, none of people who "
         "were sent a message"),
        ("silent", "of its 100 people nobody's 'support' is in"),
        ("pilot", "at least 30 on either side"),
        ("pilot", "with this design about 90 people in all"),
        ("clusters", "too few clusters to train and judge: 12, at least 40 are needed"),
        ("never", "all 100 answers are of people who were sent nothing"),
    ],
)  # fmt: skip
def test_what_teaches_nothing_says_why_and_how_much_it_lacks(
    untaught: tuple[Path, Result], experiment: str, reason: str
) -> None:
    folder, answer = untaught
    assert answer.exit_code == BAD_INPUT, answer.output
    evaluation = json.loads((results_of(folder) / "evaluation.json").read_text())
    result = evaluation["experiments"][experiment]
    assert result["verdict"] == "nothing_can_be_said"
    assert reason in result["sentence"]
    assert reason in " ".join(answer.output.split())


def test_arms_of_which_nothing_came_are_told_and_nothing_is_registered(
    untaught: tuple[Path, Result],
) -> None:
    folder, answer = untaught
    said = " ".join(answer.output.split())
    assert "experiment never, b by mail: no deliveries" in said
    for arm in ("a by mail", "b by mail"):
        assert f"experiment sided, {arm}: " in said
    assert "deliveries and no responses; nothing can be said of it" in said
    notes = json.loads((results_of(folder) / "ingest.json").read_text())["designs"]
    assert any("no deliveries" in note for note in notes["notes"])
    assert "RuntimeWarning" not in answer.output
    spent_nothing(folder)


# --- few people -----------------------------------------------------------------------


def test_five_people_are_measured_and_neither_believed_nor_planned(
    tmp_path: Path,
    one_thread: None,  # noqa: ARG001 - for its effect
) -> None:
    """A null world: control 1,000, a 995, five people of b 6 above, c may not go."""
    drawn = Drawn(2_200)
    counts = {"control": 1_000, "a": 995, "b": 5, "c": 200}
    rows = drawn.add("e", slice(None), {m: n / 2_200 for m, n in counts.items()},
                     counts=counts)  # fmt: skip
    sent = drawn.frames["deliveries"].loc[rows, "message_id"]
    drawn.frames["responses"].loc[rows[sent == "b"], "value"] += 6.0
    drawn.messages["c"]["sponsor"] = ""
    folder = drawn.write(tmp_path / "five", plan={"policy": "single_best"})
    answer = hustings(folder, "run", *QUICK)
    assert answer.exit_code == OK, answer.output
    said = " ".join(answer.output.split())
    assert "b by mail was answered by fewer than 20 people, not by the 30" in said
    assert "May not be sent: c by mail, because message c: lacks its sponsor" in said
    assert "never been sent" not in said
    evaluation = json.loads((results_of(folder) / "evaluation.json").read_text())
    (result,) = evaluation["experiments"].values()
    for name, policy in result["policies"].items():
        assert policy["gain"]["low"] <= 0 <= policy["gain"]["high"], name
    message = {row["message_id"]: row for row in result["messages"]}
    assert not message["b"]["planned"]
    assert message["c"]["planned"]
    width = message["b"]["effect"]["high"] - message["b"]["effect"]["low"]
    assert width >= 2 * 12  # 15 points of noise, five people: ±13
    of_b = message["b"]
    assert abs(of_b["shrunken"]["value"]) < 0.8 * abs(of_b["effect"]["value"])
    plan = pd.read_parquet(results_of(folder) / "plan.parquet")
    assert set(plan["message_id"]) <= {"a"}


# --- values ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "codes", "low_high"),
    [
        ({}, [999, 998, -1, -99, 9999, 101], "0 to 100"),
        ({"scale": [1, 7], "unit_per_point": 0.06}, [99, 98, -1, 0, 9], "1 to 7"),
        ({"kind": "binary", "unit_per_point": 0.01, "measures": "other"}, [9, 2], None),
    ],
)
def test_codes_off_the_scale_are_set_aside_wherever_answers_come_in(
    tmp_path: Path, outcome: dict[str, Any], codes: list[float], low_high: str | None
) -> None:
    drawn = Drawn(120)
    drawn.add("e", slice(None), {"control": 0.5, "a": 0.5})
    value = drawn.frames["responses"]["value"]
    top = {"0 to 100": 100.0, "1 to 7": 7.0, None: 1.0}[low_high]
    scaled = (value / 100 * top).round().clip(lower=1 if low_high == "1 to 7" else 0)
    scaled.iloc[: len(codes)] = codes
    drawn.frames["responses"]["value"] = scaled
    folder = drawn.write(tmp_path / "codes")
    campaign = tomllib.loads((folder / "campaign.toml").read_text())
    campaign["outcome"] |= outcome
    (folder / "campaign.toml").write_text(tomli_w.dumps(campaign))
    answer = hustings(folder, "ingest")
    assert answer.exit_code == OK, answer.output
    reason = (
        f"expected a value of the outcome's scale, {low_high}"
        if low_high
        else "expected 0 or 1 of a binary outcome"
    )
    left = 120 - len(codes)
    said = " ".join(answer.output.split())
    assert f"responses: 120 rows in = {left} accepted + {len(codes)} set aside" in said
    assert reason in said
    drawn.frames["responses"][["voter_id", "value"]].to_csv(tmp_path / "later.csv")
    later = " ".join(
        hustings(folder, "responses", tmp_path / "later.csv").output.split()
    )
    said_so = (f"{reason}: {len(codes)}", f"{len(codes)} × value: {reason}")
    assert any(words in later for words in said_so), later


def test_isolated_values_of_an_unknown_scale_are_told_by_value_and_number(
    tmp_path: Path,
) -> None:
    drawn = Drawn(120)
    drawn.add("e", slice(None), {"control": 0.5, "a": 0.5})
    value = drawn.frames["responses"]["value"].copy()
    value.iloc[:6] = [9999, 9999, 9999, -999, -999, 5000]
    drawn.frames["responses"]["value"] = value
    folder = drawn.write(tmp_path / "unknown")
    campaign = (folder / "campaign.toml").read_text()
    (folder / "campaign.toml").write_text(
        campaign.replace('measures = "support"', 'measures = "other"')
    )
    answer = hustings(folder, "ingest")
    said = " ".join(answer.output.split())
    assert answer.exit_code == OK, answer.output
    assert "3 rows have support = 9999, far beyond all others" in said
    assert "2 rows have support = -999, far beyond all others" in said
    assert "5000" not in said
    report = json.loads((results_of(folder) / "ingest.json").read_text())
    assert len(report["responses"]["notes"]) == 2


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("unit_per_point = 1.0", "unit_per_point = 1.0\nscale = [7, 1]",
         "expected scale = [low, high] with low below high"),
        ('kind = "continuous"', 'kind = "binary"\nscale = [0, 10]',
         "expected scale = [0, 1]"),
    ],
)  # fmt: skip
def test_a_scale_that_is_none_is_refused(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    drawn = Drawn(10)
    drawn.add("e", slice(None), {"control": 0.5, "a": 0.5})
    folder = drawn.write(tmp_path / "scale")
    campaign = (folder / "campaign.toml").read_text()
    assert old in campaign
    (folder / "campaign.toml").write_text(campaign.replace(old, new))
    answer = hustings(folder, "ingest")
    assert answer.exit_code == BAD_INPUT
    assert reason in " ".join(answer.output.split())
