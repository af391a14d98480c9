"""The one small campaign that several tests look at, run once through every stage."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

SPREAD = 3.0
"""How much farther lifts of the story lie apart than those of the shipped sample, so
that 12,000 voters are enough to see that personalising pays."""
N_STORY = 12_000


@dataclass(frozen=True)
class Story:
    """A campaign as a user would bring it, every stage run, and what is true of it.

    Attributes:
        folder: Of campaign.toml and raw/.
        run: The finished run (`experiments.stages.Run`).
        truth: By voter_id: baseline, and `lift__<message>` by mail.
        multiplier: Of the lift, by channel.
    """

    folder: Path
    run: Any
    truth: pd.DataFrame
    multiplier: dict[str, float]

    def elsewhere(self, home: Path) -> Any:
        """A run of the same campaign that shares nothing with the first."""
        return replace(
            self.run, home=home / "spread", folder=home / "spread" / "again",
            run_id="again", store=home / "mlflow",
        )  # fmt: skip

    def true_lift(self, sent: pd.DataFrame) -> pd.Series:
        """True lift of what each row of voter_id, message_id, channel was sent."""
        named = pd.Index("lift__" + sent["message_id"])
        column = self.truth.columns.get_indexer(named)
        row = self.truth.index.get_indexer(pd.Index(sent["voter_id"]))
        by_mail = pd.Series(self.truth.to_numpy()[row, column], index=sent.index)
        return by_mail * sent["channel"].map(self.multiplier)


def play(home: Path) -> None:
    from hustings.experiments.run import run_campaign

    truth, multiplier = _bring(home / "campaign")
    truth.to_parquet(home / "truth.parquet")
    (home / "multiplier.json").write_text(json.dumps(multiplier))
    (home / "at").write_text(pd.Timestamp.now("UTC").floor("s").isoformat())
    run_campaign(_run_of(home))


def as_played(home: Path) -> Story:
    truth = pd.read_parquet(home / "truth.parquet")
    multiplier = json.loads((home / "multiplier.json").read_text())
    run = _run_of(home)
    folder = run.home / "first"
    return Story(home / "campaign", replace(run, folder=folder), truth, multiplier)


def _run_of(home: Path) -> Any:
    from hustings.experiments.declaration import load_campaign
    from hustings.experiments.stages.context import Run

    campaign = load_campaign(home / "campaign")
    runs = home / "runs" / campaign.campaign.name
    return Run(
        campaign, runs, runs / "first", "first", home / "mlflow", n_trials=2,
        # a busy machine must not cut a trial short
        time_limit_s=3600.0, at=pd.Timestamp((home / "at").read_text()),
    )  # fmt: skip


def _bring(folder: Path) -> tuple[pd.DataFrame, dict[str, float]]:
    """A campaign folder with its raw files, two of whose rows are wrong."""
    from hustings.experiments.declaration import EXPERIMENTS
    from hustings.features.simulated.campaign import simulate, write_sample

    sample = simulate(n_voters=N_STORY, seed=5, n_messages=4)
    truth = sample.truth.set_index("voter_id").astype(float)
    named = sample.channels.set_index("channel")["multiplier"]
    multiplier = {str(channel): float(k) for channel, k in named.items()}
    lifts = truth.filter(like="lift__")
    farther = (SPREAD - 1) * (lifts - lifts.mean())
    tables = sample.tables
    tables["responses"] = _moved(tables, farther, multiplier)
    voters = tables["voters"]
    old = voters.tail(1).assign(voter_id="V9999999", age=4.0)
    tables["voters"] = pd.concat([voters, old], ignore_index=True)
    write_sample(sample, folder / "raw")
    shipped = (EXPERIMENTS / "sample" / "campaign.toml").read_text()
    start, end = shipped.index("[simulate]"), shipped.index("[outcome]")
    declared = (shipped[:start] + shipped[end:]).replace('"raw:', '"raw/')
    declared = declared.replace('name = "sample"', 'name = "spread"')
    # lifts so far apart leave the scale of a survey
    declared = declared.replace("[outcome]\n", "[outcome]\nscale = [-1000, 1000]\n")
    (folder / "campaign.toml").write_text(declared)
    truth[lifts.columns] += farther
    return truth, multiplier


def _moved(
    tables: dict[str, pd.DataFrame], farther: pd.DataFrame, multiplier: dict[str, float]
) -> pd.DataFrame:
    """Responses with the lifts spread, and one without a delivery."""
    sent = tables["deliveries"].query("message_id != 'control'")
    row = farther.index.get_indexer(pd.Index(sent["voter_id"]))
    column = farther.columns.get_indexer(pd.Index("lift__" + sent["message_id"]))
    by_mail = farther.to_numpy()[row, column]
    more = pd.Series(
        by_mail * sent["channel"].map(multiplier).to_numpy(), index=sent["voter_id"]
    )
    responses = tables["responses"].copy()
    support = responses["outcome"] == "support"
    added = more.reindex(responses["voter_id"]).fillna(0.0).to_numpy()
    responses["value"] += added * support.to_numpy()
    stray = responses.tail(1).assign(voter_id="V8888888")
    return pd.concat([responses, stray], ignore_index=True)
