"""Sealed predictions of a campaign: made before, kept secret, opened by what came."""

import json
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from hustings.experiments.cli import BAD_INPUT, OK, app
from hustings.experiments.run import run_stage
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.sealed import open_sealed, seal_predictions
from hustings.features.checksums import AlteredError
from hustings.training.registry.seal import SealError

KEY = bytes(range(32))
SEALED_AT = pd.Timestamp("2026-09-05T08:00:00", tz="UTC")


@pytest.fixture
def copied(story: Any, tmp_path: Path) -> Callable[[str], Run]:
    """A copy of the finished run, in a home of its own."""

    def make(name: str) -> Run:
        shutil.copytree(story.run.folder, tmp_path / name)
        made: Run = replace(
            story.run, home=tmp_path, folder=tmp_path / name, run_id=name
        )
        return made

    return make


def with_answers(run: Run, story: Any, observed_at: str) -> None:
    """Everybody who had not answered does, as their true lift says."""
    responses, deliveries = run.table("responses"), run.table("deliveries")
    answered = set(responses.loc[responses["outcome"] == "support", "voter_id"])
    silent = deliveries[~deliveries["voter_id"].isin(answered)].reset_index(drop=True)
    value = story.truth["baseline"].reindex(silent["voter_id"]).to_numpy()
    sent = (silent["message_id"] != "control").to_numpy()
    lift = np.zeros(len(silent))
    lift[sent] = story.true_lift(silent[sent]).to_numpy()
    rng = np.random.default_rng(0)
    new = silent[["voter_id", "experiment_id", "plan_id"]].assign(
        outcome="support",
        value=value + lift + rng.normal(size=len(silent)),
        observed_at=pd.Timestamp(observed_at),
    )
    assert len(new) > 1_000
    whole = pd.concat([responses, new[responses.columns]], ignore_index=True)
    run.write("tables/responses", whole)
    run_stage(run, "features")


def test_a_seal_is_opened_by_the_answers_that_came_after_it(
    story: Any, copied: Callable[[str], Run]
) -> None:
    path = seal_predictions(copied("before"), KEY, sealed_at=SEALED_AT)
    later = copied("later")
    with_answers(later, story, "2026-10-01")
    found = json.loads(open_sealed(later, path).read_text())
    (judged,) = found["experiments"].values()
    sealed = json.loads(path.read_text())
    assert judged["n_voters"] == sealed["n_voters"] > 1_000
    # the story's lifts lie far apart and its model follows them
    slope = judged["pooled"]["slope"]
    assert slope["low"] > 0
    assert slope["low"] < 1 < slope["high"] + 0.5
    for message in judged["messages"]:
        assert all(group["n"] >= 20 for group in message["groups"])


def test_what_is_published_names_nobody_and_the_key_is_for_me_alone(
    copied: Callable[[str], Run],
) -> None:
    run = copied("before")
    path = seal_predictions(run, KEY, sealed_at=SEALED_AT)
    text = path.read_text()
    ids = run.table("voters")["voter_id"]
    assert not any(voter in text for voter in ids.sample(200, random_state=0))
    assert KEY.hex() not in text
    beside = {f.name.split(".", 1)[1]: f for f in path.parent.iterdir()}
    assert stat.S_IMODE(beside["key"].stat().st_mode) == 0o600
    kept = pd.read_parquet(beside["predictions.parquet"])
    assert "voter_id" not in kept
    assert kept["voter"].str.len().eq(64).all()


def test_answers_older_than_the_seal_and_changed_predictions_open_nothing(
    story: Any, copied: Callable[[str], Run]
) -> None:
    path = seal_predictions(copied("before"), KEY, sealed_at=SEALED_AT)
    later = copied("later")
    with_answers(later, story, "2026-09-01")
    with pytest.raises(SealError, match="the seal is younger than the outcome"):
        open_sealed(later, path)
    predictions = path.with_name(path.name.replace("seal.json", "predictions.parquet"))
    kept = pd.read_parquet(predictions)
    kept.assign(lift=kept["lift"] + 1e-9).to_parquet(predictions)
    with pytest.raises(AlteredError, match=r"predictions\.parquet: it is not what"):
        open_sealed(later, path)
    # checksums can be written anew, the seal's digest cannot
    elsewhere = shutil.copytree(path.parent, later.home / "elsewhere") / path.name
    with pytest.raises(SealError, match="the digest does not match"):
        open_sealed(later, elsewhere)
    elsewhere.write_text(path.read_text()[:60])
    with pytest.raises(SealError, match=rf"{path.name}: expected a file of a seal"):
        open_sealed(later, elsewhere)


def test_where_every_answer_is_known_nothing_can_be_sealed(
    story: Any, copied: Callable[[str], Run]
) -> None:
    run = copied("before")
    with_answers(run, story, "2026-09-01")
    with pytest.raises(SealError, match="nothing can be sealed any more"):
        seal_predictions(run, KEY, sealed_at=SEALED_AT)


def test_the_command_line_seals_and_says_why_it_does_not_open(
    story: Any, tmp_path: Path
) -> None:
    name = story.run.campaign.campaign.name
    shutil.copytree(story.run.folder, tmp_path / name / "first")
    (tmp_path / name / "latest").write_text("first")

    def hustings(*options: str) -> Result:
        arguments = ["evaluate", *options, "--campaign", str(story.folder),
                     "--data", str(tmp_path),
                     "--store", str(story.run.store)]  # fmt: skip
        return CliRunner().invoke(app, arguments, env={"MLFLOW_TRACKING_URI": None})

    sealed = hustings("--sealed")
    assert sealed.exit_code == OK, sealed.output
    path = sealed.output.strip().splitlines()[-1]
    assert Path(path).name.endswith(".seal.json")
    # nobody has answered since
    opened = hustings("--open", path)
    assert opened.exit_code == BAD_INPUT
    assert "got none: not yet there" in " ".join(opened.output.split())
    both = hustings("--open", path, "--sealed")
    assert both.exit_code == BAD_INPUT
    assert "one of --sealed and --open" in both.output
