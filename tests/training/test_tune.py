"""Settings are searched from the defaults on, shared, and a killed search goes on."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from lightgbm.basic import LightGBMError
from optuna.trial import TrialState

from hustings.features.training_set import MessageTest
from hustings.training.learners.gbm import (
    DEFAULT_PARAMS,
    Prepared,
    prepare,
    r_loss_steps,
)
from hustings.training.registry import trials as kept
from hustings.training.registry import tune as module
from hustings.training.registry.trials import open_trials, trials_at
from hustings.training.registry.tune import (
    SPACES,
    Search,
    Tuned,
    TuningError,
    share_of_time,
    tune,
)

ROOT = Path(__file__).parents[2]
FINISHED = {"COMPLETE", "PRUNED"}


def drawn_test(planted: Callable) -> MessageTest:
    test, _ = planted(
        np.random.default_rng(1), n_households=1_000,
        lift=lambda X: np.column_stack([X[:, 0], 0 * X[:, 0]]),
    )  # fmt: skip
    return test


def prepared_of(test: MessageTest) -> Prepared:
    return prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)


@pytest.fixture(scope="module")
def prepared(planted: Callable) -> Prepared:
    return prepared_of(drawn_test(planted))


def search(**changed: Any) -> Search:
    asked = {"name": "half0", "loss": r_loss_steps, "n_trials": 4, "seed": 1}
    return Search(**{"model": "gbm", **asked, **changed})


def tuned(prepared: Prepared, **changed: Any) -> Tuned:
    ways = ("time_limit_s", "n_workers", "remake", "on_trial")
    how = {name: changed.pop(name) for name in ways if name in changed}
    return tune(search(**changed), prepared, **{"time_limit_s": 600.0, **how})


def settings_of(trials: pd.DataFrame) -> pd.DataFrame:
    # which trials are cut short depends on how many are asked for
    return trials[["number", *DEFAULT_PARAMS]]


@pytest.fixture(scope="module")
def found(prepared: Prepared) -> Tuned:
    return tuned(prepared, n_trials=12)


# --- what is tried --------------------------------------------------------------------


def test_the_first_trial_is_the_defaults(found: Tuned) -> None:
    first = found.trials.iloc[0]
    assert first["number"] == 0
    assert first["state"] == "COMPLETE"
    assert {name: first[name] for name in DEFAULT_PARAMS} == dict(DEFAULT_PARAMS)


@pytest.mark.parametrize("model", SPACES)
def test_the_defaults_lie_within_the_search_space(model: str) -> None:
    suggest, defaults = SPACES[model]
    trial = optuna.trial.FixedTrial(dict(defaults))
    assert suggest(trial) == dict(defaults)


def test_settings_name_the_model_that_they_are_for(found: Tuned) -> None:
    assert found.settings["model"] == "gbm"
    assert set(found.settings) == {"model", *DEFAULT_PARAMS}


def test_a_model_that_there_is_not_is_told_with_those_that_are(
    prepared: Prepared,
) -> None:
    with pytest.raises(ValueError, match=r"one of .*gbm.*got 'oracle'"):
        tuned(prepared, model="oracle")


def leaves_are_better(
    _: Prepared, settings: Mapping[str, Any], *, hold: int, seed: int
) -> Iterator[float]:
    """The more leaves the better, by far more than folds differ."""
    yield -float(settings["num_leaves"]) + 0.01 * hold + 0 * seed


def all_the_same(
    _: Prepared, settings: Mapping[str, Any], *, hold: int, seed: int
) -> Iterator[float]:
    """No settings are better than any, but for the noise of a fold."""
    drawn = [int(1e6 * float(v)) for v in settings.values() if not isinstance(v, str)]
    yield float(np.random.default_rng([hold, seed, *drawn]).normal())


def defaults_fail(
    _: Prepared, settings: Mapping[str, Any], *, hold: int, seed: int
) -> Iterator[float]:
    """The defaults cannot be worked with; others can."""
    if settings["num_leaves"] == DEFAULT_PARAMS["num_leaves"]:
        raise ValueError("too many leaves")
    yield float(settings["num_leaves"]) + 0.01 * hold + 0 * seed


def never_called(
    _: Prepared, _settings: Mapping[str, Any], *, hold: int, seed: int
) -> Iterator[float]:
    """A loss that nobody needs."""
    raise AssertionError(f"fold {hold}, seed {seed}")


def test_one_trial_is_the_defaults_and_costs_nothing(prepared: Prepared) -> None:
    """There is nothing to compare: no fold is learnt for it."""
    found = tuned(prepared, loss=never_called, n_trials=1)
    assert dict(found.settings) == {"model": "gbm", **DEFAULT_PARAMS}
    assert (len(found.trials), len(found.steps), found.n_lacking) == (0, 0, 0)


def test_where_the_defaults_fail_the_best_of_the_others_is_taken(
    prepared: Prepared,
) -> None:
    found = tuned(prepared, loss=defaults_fail, n_trials=6)
    assert found.trials.loc[0, "state"] == "FAIL"
    best = found.trials.loc[found.trials["value"].idxmin()]
    assert found.settings["num_leaves"] == best["num_leaves"]
    assert best["taken"]


def test_settings_that_are_better_in_every_fold_are_taken(prepared: Prepared) -> None:
    found = tuned(prepared, loss=leaves_are_better, n_trials=8)
    complete = found.trials[found.trials["state"] == "COMPLETE"]
    best = complete.loc[complete["value"].idxmin()]
    assert best["num_leaves"] > DEFAULT_PARAMS["num_leaves"]
    assert {"model": "gbm", **best[list(DEFAULT_PARAMS)]} == dict(found.settings)
    assert found.trials.loc[found.trials["taken"], "number"].tolist() == [
        best["number"]
    ]


def test_the_best_of_noise_does_not_replace_the_defaults(prepared: Prepared) -> None:
    """The best of eight looks better than the defaults in nearly every search."""
    stayed, looked_better = 0, 0
    for seed in range(20):
        found = tuned(prepared, loss=all_the_same, n_trials=8, seed=seed)
        stayed += dict(found.settings) == {"model": "gbm", **DEFAULT_PARAMS}
        looked_better += int(found.trials["value"].idxmin() != 0)
    assert looked_better >= 14
    assert stayed >= 18


def test_hopeless_trials_are_cut_short_and_say_why(found: Tuned) -> None:
    states = found.trials["state"].value_counts()
    assert states["PRUNED"] >= 4
    assert set(states.index) == FINISHED
    steps = found.steps.groupby("number").size()
    n_folds = 4
    for trial in found.trials.itertuples():
        if trial.state == "PRUNED":
            n_known = steps[trial.number] * n_folds // steps[0]
            assert 1 <= n_known < n_folds
            assert f"over the defaults on {n_known} of 4 folds" in trial.reason
        else:
            assert trial.reason == ""
            assert steps[trial.number] == steps[0]


def test_what_is_cut_short_could_not_have_replaced_the_defaults(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing is cut the same settings are taken, by more fits."""
    for loss in (all_the_same, leaves_are_better):
        cut = [tuned(prepared, loss=loss, n_trials=8, seed=s) for s in range(3)]
        with monkeypatch.context() as patched:
            patched.setattr(module, "_why_hopeless", lambda *_: "")
            to_the_end = [
                tuned(prepared, loss=loss, n_trials=8, seed=s) for s in range(3)
            ]
        assert [t.settings for t in cut] == [t.settings for t in to_the_end]
        n_steps = [sum(len(t.steps) for t in found) for found in (cut, to_the_end)]
        assert n_steps[0] < 0.8 * n_steps[1]


def test_no_folds_to_come_make_a_gain_surer_than_is_said() -> None:
    rng = np.random.default_rng(1)
    for k in (1, 2, 3):
        known = rng.normal(0.3, 1.0, k)
        most = module.most_certain(known, 4)
        for _ in range(2_000):
            left = rng.normal(1.0, 1.0) + rng.normal(0, 0.1, 4 - k)
            gains = np.concatenate([known, left])
            t = gains.mean() / (gains.std(ddof=1) / 2)
            assert t <= most + 1e-9


def test_the_same_seed_tries_the_same_settings(
    prepared: Prepared, found: Tuned
) -> None:
    again = tuned(prepared, n_trials=5)
    pd.testing.assert_frame_equal(
        settings_of(again.trials), settings_of(found.trials.head(5))
    )
    other = tuned(prepared, n_trials=2, seed=2)
    assert other.trials.loc[1, "num_leaves":].tolist() != (
        found.trials.loc[1, "num_leaves":].tolist()
    )


# --- what goes wrong ------------------------------------------------------------------


def few_leaves_only(
    prepared: Prepared, settings: Mapping[str, Any], /, *, hold: int, seed: int
) -> Iterator[float]:
    """A learner that cannot grow what the search draws."""
    if settings["num_leaves"] > DEFAULT_PARAMS["num_leaves"]:
        raise LightGBMError("too many leaves")
    yield from r_loss_steps(prepared, settings, hold=hold, seed=seed)


def test_an_error_ends_a_trial_and_not_the_search(prepared: Prepared) -> None:
    found = tuned(prepared, loss=few_leaves_only, n_trials=8)
    failed = found.trials["num_leaves"] > DEFAULT_PARAMS["num_leaves"]
    assert 0 < failed.sum() < 8 == len(found.trials)
    assert (found.trials["state"] == "FAIL").tolist() == failed.tolist()
    told = found.trials.loc[failed, "reason"].unique()
    assert told.tolist() == ["LightGBMError: too many leaves"]
    assert found.settings["num_leaves"] <= DEFAULT_PARAMS["num_leaves"]


def test_where_all_trials_fail_the_first_error_is_told(prepared: Prepared) -> None:
    def nan(*_: Any, **__: Any) -> Iterator[float]:
        yield math.nan

    with pytest.raises(TuningError, match=r"all 3 trials failed.*finite loss, got nan"):
        tuned(prepared, loss=nan, n_trials=3)


def test_a_fault_of_ours_is_not_taken_for_bad_settings(prepared: Prepared) -> None:
    def broken(*_: Any, **__: Any) -> Iterator[float]:
        yield {}["nothing"]

    with pytest.raises(KeyError):
        tuned(prepared, loss=broken)


# --- time -----------------------------------------------------------------------------


def test_no_trial_starts_after_the_time_limit(prepared: Prepared) -> None:
    found = tuned(prepared, n_trials=50, time_limit_s=0.2)
    tried = found.trials[found.trials["state"] != "WAITING"]
    assert 1 <= len(tried) < 50
    assert 0 < found.n_lacking <= 50 - len(tried[tried["state"].isin(FINISHED)])
    nothing = tuned(prepared, n_trials=5, time_limit_s=0.0)
    assert len(nothing.trials) == 0
    assert nothing.settings == {"model": "gbm", **DEFAULT_PARAMS}


def slowly(
    prepared: Prepared, settings: Mapping[str, Any], /, *, hold: int, seed: int
) -> Iterator[float]:
    """The loss, a fifth of a second a step."""
    for loss in r_loss_steps(prepared, settings, hold=hold, seed=seed):
        time.sleep(0.2)
        yield loss


def test_a_trial_is_cut_at_the_time_limit_and_taken_up_by_the_next_call(
    prepared: Prepared, tmp_path: Path
) -> None:
    journal = str(tmp_path / "tuning.journal")
    began = time.monotonic()
    cut = tuned(
        prepared, loss=slowly, storage=journal, n_trials=2, time_limit_s=0.1
    ).trials  # fmt: skip
    assert time.monotonic() - began < 2.0
    assert cut["state"].tolist() == ["FAIL", "WAITING"]
    assert "the time was over" in cut.loc[0, "reason"]
    found = tuned(prepared, loss=slowly, storage=journal, n_trials=2)
    tried = found.trials[found.trials["state"].isin(FINISHED)]
    assert len(tried) == 2
    assert found.n_lacking == 0
    assert dict(DEFAULT_PARAMS) in tried[list(DEFAULT_PARAMS)].to_dict("records")


def test_what_a_tuning_leaves_of_the_time_goes_to_the_others() -> None:
    assert share_of_time(120.0, 0.0, 3) == 40.0
    assert share_of_time(120.0, 10.0, 2) == 55.0
    assert share_of_time(120.0, 130.0, 1) == 0.0


# --- a killed process -----------------------------------------------------------------


def test_a_search_goes_on_where_it_was_cut_off(
    prepared: Prepared, found: Tuned, tmp_path: Path
) -> None:
    """Three trials, then a call for six: the same three, and three more."""
    journal = str(tmp_path / "new folder" / "tuning.journal")
    told: list[int] = []

    def on_trial(trial: optuna.trial.FrozenTrial) -> None:
        told.append(trial.number)

    first = tuned(prepared, storage=journal, n_trials=3)
    second = tuned(prepared, storage=journal, n_trials=6, on_trial=on_trial)
    before, after = (t.trials.drop(columns="taken") for t in (first, second))
    pd.testing.assert_frame_equal(before, after.head(3))
    assert second.trials["number"].tolist() == [0, 1, 2, 3, 4, 5]
    assert told == [3, 4, 5]
    # as if it had never stopped
    pd.testing.assert_frame_equal(
        settings_of(second.trials), settings_of(found.trials.head(6))
    )
    third = tuned(prepared, storage=journal, n_trials=6, on_trial=on_trial)
    pd.testing.assert_frame_equal(second.trials, third.trials)
    assert third.settings == second.settings
    assert len(told) == 3
    # another study in the same file begins anew
    assert len(tuned(prepared, storage=journal, n_trials=2, name="half1").trials) == 2


def test_other_data_never_meet_the_trials_of_these(
    prepared: Prepared, planted: Callable, tmp_path: Path
) -> None:
    journal = str(tmp_path / "tuning.journal")
    tuned(prepared, storage=journal, n_trials=2)
    test = drawn_test(planted)
    other = prepared_of(replace(test, Y=test.Y + (test.arm == 1)))
    assert len(tuned(other, storage=journal, n_trials=3).trials) == 3
    assert module.study_name(search(), prepared) == module.study_name(
        search(n_trials=9, storage="elsewhere"), prepared_of(test)
    )


def test_the_defaults_are_tried_even_where_the_first_process_died_on_them(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = str(tmp_path / "tuning.journal")
    study = module._study(module.study_name(search(), prepared), open_trials(journal))
    study.ask()  # trial 0 runs, and nobody will ever tell how it ended
    monkeypatch.setattr(kept, "CLAIM_S", -1.0)
    found = tuned(prepared, storage=journal, n_trials=3)
    complete = found.trials[found.trials["state"].isin(FINISHED)]
    assert len(complete) == 3
    tried = complete[list(DEFAULT_PARAMS)].to_dict("records")
    assert dict(DEFAULT_PARAMS) in tried
    assert found.trials.loc[0, "reason"] == "its process died"


def test_settings_that_kill_their_process_are_not_tried_for_ever(
    prepared: Prepared, tmp_path: Path
) -> None:
    journal = str(tmp_path / "tuning.journal")
    study = module._study(module.study_name(search(), prepared), open_trials(journal))
    for _ in range(1 + module.MOST_RETRIES):
        trial = study.ask()
        kept.claim(trial)
        trial.set_user_attr("owner", [kept.socket.gethostname(), 2**22 + 1, "1"])
        module._drawn(study, trial, search())
        module._take_up_the_dead(study, search())
    assert [t.state.name for t in study.trials] == ["FAIL"] * (1 + module.MOST_RETRIES)
    assert all(t.params == dict(DEFAULT_PARAMS) for t in study.trials)


SEARCHER = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.package"]
sys.path.insert(0, sys.argv[1] + "/tests/training")
import numpy as np
from conftest import draw_test
from test_tune import prepared_of, drawn_test, search, slowly
from hustings.training.learners import boosting
from hustings.training.registry.tune import tune
boosting._FIXED["num_threads"] = boosting.N_THREADS = 1
wanted = search(loss=slowly, storage=sys.argv[2], n_trials=int(sys.argv[3]))
prepared = prepared_of(drawn_test(draw_test))
print("ready", flush=True)
tune(wanted, prepared, time_limit_s=600.0)
"""


def searcher(storage: str, n_trials: int) -> subprocess.Popen[str]:
    """A process of its own that searches what `prepared` searches."""
    asked = [sys.executable, "-c", SEARCHER, str(ROOT), storage, str(n_trials)]
    return subprocess.Popen(asked, stdout=subprocess.PIPE, text=True)


def trials_in(storage: str) -> list[optuna.trial.FrozenTrial]:
    with trials_at(storage) as opened:
        (study,) = opened.get_all_studies()
        return opened.get_all_trials(study._study_id)


def steps_in(journal: str) -> list[int]:
    """Trials that have told of a step."""
    if not Path(journal).read_text().count("study_name"):
        return []
    return [t.number for t in trials_in(journal) if t.intermediate_values]


def until(happened: Callable[[], bool], *, s: float = 120.0) -> None:
    end = time.monotonic() + s
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_search_killed_within_a_trial_loses_and_repeats_nothing(
    prepared: Prepared, tmp_path: Path
) -> None:
    journal = str(tmp_path / "tuning.journal")
    killed = searcher(journal, 50)
    try:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "ready\n"
        until(Path(journal).exists)
        until(lambda: steps_in(journal) == [0, 1])
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        killed.stdout.close()
    before = trials_in(journal)
    cut = before[-1]
    assert [t.state.name for t in before] == ["COMPLETE", "RUNNING"]
    # half a line, as of a process that died while it wrote
    with Path(journal).open("a") as file:
        file.write('{"op_code": 5, "wor')
    found = tuned(prepared, loss=slowly, storage=journal, n_trials=3)
    trials = found.trials
    finished = trials[trials["state"].isin(FINISHED)]
    assert len(finished) == 3
    assert not finished[list(DEFAULT_PARAMS)].duplicated().any()
    # nothing lost: what was done stays, what was begun is done
    assert trials.loc[0, "value"] == before[0].value
    assert trials.loc[1, ["state", "reason"]].tolist() == ["FAIL", "its process died"]
    assert cut.params in finished[list(DEFAULT_PARAMS)].to_dict("records")


@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_two_processes_share_the_trials_of_one_search(
    kind: str, prepared: Prepared, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    storage = str(tmp_path / "tuning.journal")
    if kind == "postgresql":
        storage = request.getfixturevalue("postgres")
        storage = storage.replace("postgresql://", "postgresql+psycopg://")
    n = 6
    both = [searcher(storage, n) for _ in range(2)]
    try:
        assert [process.wait(timeout=240) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
            process.communicate()
    trials = trials_in(storage)
    # each may finish one more than asked for
    assert n <= len(trials) <= n + 1
    assert [t.number for t in trials] == list(range(len(trials)))
    assert {t.state.name for t in trials} <= FINISHED
    assert trials[0].params == dict(DEFAULT_PARAMS)
    assert len({tuple(t.params.values()) for t in trials}) == len(trials)
    owners = {t.user_attrs["owner"][1] for t in trials}
    assert owners == {process.pid for process in both}
    # a third finds them all done
    found = tuned(prepared, loss=slowly, storage=storage, n_trials=n)
    assert len(found.trials) == len(trials)
    assert found.settings["model"] == "gbm"


def in_company(
    prepared: Prepared, settings: Mapping[str, Any], /, *, hold: int, seed: int
) -> Iterator[float]:
    """The loss, once two processes are at work."""
    present = Path(os.environ["HUSTINGS_TEST_PRESENT"])
    (present / str(os.getpid())).touch()
    until(lambda: len(list(present.iterdir())) == 2)
    yield from r_loss_steps(prepared, settings, hold=hold, seed=seed)


def test_workers_of_one_call_search_together(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = tmp_path / "present"
    present.mkdir()
    monkeypatch.setenv("HUSTINGS_TEST_PRESENT", str(present))
    # by the name under which the other process can import it
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from test_tune import in_company as loss

    journal, test = str(tmp_path / "tuning.journal"), prepared.test
    found = tuned(
        prepared, loss=loss, storage=journal, n_trials=6, n_workers=2,
        remake=partial(prepare, test, [], dict.fromkeys(test.messages, "i"), seed=1),
    )  # fmt: skip
    trials = trials_in(journal)
    assert 6 <= len(found.trials) == len(trials) <= 7
    owners = {t.user_attrs["owner"][1] for t in trials}
    assert len(owners) == 2
    assert os.getpid() in owners
    tried = found.trials[list(DEFAULT_PARAMS)]
    assert not tried.duplicated().any()


def test_workers_that_share_nothing_are_refused(prepared: Prepared) -> None:
    with pytest.raises(ValueError, match="a storage that they share"):
        tuned(prepared, n_workers=2)


def test_a_database_that_is_not_there_is_told_without_its_password() -> None:
    with pytest.raises(ValueError, match="tuning storage") as told:
        open_trials("postgresql+psycopg://me:secret@127.0.0.1:1/none")
    assert "secret" not in str(told.value)
    assert "127.0.0.1:1/none" in str(told.value)


def test_a_trial_elsewhere_is_dead_once_it_has_been_silent_for_long() -> None:
    def running(owner: list[Any], heard_at: float) -> optuna.trial.FrozenTrial:
        notes = {"owner": owner, "heard_at": heard_at}
        return optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=notes)

    here, mine = kept.socket.gethostname(), os.getpid()
    alive = running([here, mine, kept._started(mine)], 0.0)
    assert not kept.is_dead(alive, now=1e9)
    # the number was given to another process
    assert kept.is_dead(running([here, mine, "1"], 0.0), now=0.0)
    elsewhere = running(["another machine", 1, "1"], 1000.0)
    assert not kept.is_dead(elsewhere, now=1000.0 + kept.GRACE_S)
    assert kept.is_dead(elsewhere, now=1001.0 + kept.GRACE_S)
