"""The two towers recover what was planted, invent nothing, and know what they know."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.features.message import MessageFeatures
from hustings.features.prior_evidence import prior_evidence
from hustings.features.tables import FORECASTS, PAST_EFFECTS, check
from hustings.features.training_set import Arm
from hustings.training.learners.gbm import prepare
from hustings.training.learners.lift_model import load_lift, save_lift
from hustings.training.learners.net import NetLift, fit_net
from hustings.training.learners.towers import (
    InputColumns,
    message_vectors,
    voter_vectors,
)
from hustings.training.learners.unseen import UnseenLift, why_not_answered

SMALL = {"n_members": 4, "n_hidden": 16, "n_vector": 4, "n_epochs": 15}


def written(
    ids: tuple[str, ...], *, seed: int = 0, told: np.ndarray | None = None
) -> MessageFeatures:
    """Messages of one issue with a text of eight numbers, the first of them given."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(len(ids), 8)).astype(np.float32)
    if told is not None:
        matrix[:, 0] = 3.0 * told
    names = (*(f"embedding_{i:03d}" for i in range(6)), "log_words", "variety")
    return MessageFeatures(ids, ("issue",) * len(ids), names, matrix)


def steep(X: np.ndarray) -> np.ndarray:
    """Message 0 for those high in X0, message 1 for those low, message 2 for all."""
    return np.column_stack([1.5 * X[:, 0], 1.0 - 1.0 * X[:, 0], 1.0 + 0 * X[:, 0]])


@pytest.fixture(scope="module")
def small(planted: Callable) -> tuple:
    test, true = planted(np.random.default_rng(1), n_households=2_000, lift=steep)
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    return (
        test,
        true,
        prepared,
        fit_net(prepared, written(test.messages), SMALL, seed=1),
    )


def test_planted_differences_between_voters_are_found(small) -> None:
    test, true, _, model = small
    lift = model.predict(test.X, test.unit_id).lift
    for m in (0, 1):
        assert np.corrcoef(lift[:, m], true[:, m])[0, 1] > 0.8
    constant = ((model.nuisances.effects.shrunken - true) ** 2).mean()
    assert ((lift - true) ** 2).mean() < 0.5 * constant


def test_intervals_cover_the_true_lift_averaged_over_voters(small) -> None:
    test, true, _, model = small
    lifts = model.predict(test.X, test.unit_id)
    covered = np.abs(lifts.lift - true) < 1.96 * lifts.se
    assert 0.8 < covered.mean() < 0.999
    # narrower than what a constant would have to say: the lifts' own spread
    assert lifts.se.mean() < true.std(axis=0).mean()


def test_shuffled_treatments_leave_next_to_no_spread(small) -> None:
    test, _, _, model = small
    spreads = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(int(test.unit.max()) + 1)
        first = np.unique(test.unit, return_index=True)[1]
        shuffled = replace(test, arm=test.arm[first][order][test.unit])
        again = prepare(shuffled, [], dict.fromkeys(test.messages, "issue"), seed=1)
        found = fit_net(again, written(test.messages), SMALL, seed=1)
        spreads.append(found.predict(test.X, test.unit_id).lift.std(axis=0).mean())
    planted = model.predict(test.X, test.unit_id).lift.std(axis=0)[:2].mean()
    assert np.mean(spreads) < 0.12 * planted, spreads


def test_the_same_seed_gives_the_same_model_and_another_seed_another(small) -> None:
    test, _, prepared, model = small
    lift = model.predict(test.X, test.unit_id).lift
    short = {**SMALL, "n_epochs": 2}
    one, two, other = (
        fit_net(prepared, written(test.messages), short, seed=seed).weights
        for seed in (1, 1, 2)
    )
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    assert (one["voter.dense_1"] != other["voter.dense_1"]).any()
    np.testing.assert_array_equal(model.predict(test.X, test.unit_id).lift, lift)


def test_a_voter_is_predicted_by_a_network_that_never_saw_its_unit(small) -> None:
    """A household's outcome goes wild: others' networks change, its own does not."""
    test, _, prepared, _ = small
    mine = test.unit == 7
    wild = replace(prepared, residual=np.where(mine, 1e4, prepared.residual))
    short = {**SMALL, "n_epochs": 2}
    before, after = (
        fit_net(p, written(test.messages), short, seed=1).weights["voter.linear"]
        for p in (prepared, wild)
    )
    own = prepared.fold[mine][0]
    np.testing.assert_array_equal(before[own], after[own])
    assert (np.delete(before, own, 0) != np.delete(after, own, 0)).any()


def test_a_folder_without_weights_is_an_error_that_names_them(
    small, tmp_path: Path
) -> None:
    small[3].save(tmp_path)
    (tmp_path / "net.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected net\.safetensors"):
        NetLift.load(tmp_path)


def test_who_only_predicts_needs_no_torch(small, tmp_path: Path) -> None:
    small[3].save(tmp_path)
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from hustings.training.learners.net import NetLift\n"
        f"model = NetLift.load(Path({str(tmp_path)!r}))\n"
        "X = np.zeros((2, 4), np.float32)\n"
        "lift = model.predict(X, np.array(['a', 'b'], dtype=object)).lift\n"
        "assert np.isfinite(lift).all()\n"
        "assert 'torch' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_numpy_and_torch_give_the_same_vectors(small) -> None:
    import torch

    test, _, _, model = small
    n_folds = len(model.weights["voter.fold"])
    numbers = np.tile(model.columns.numbers(test.X[:50]), (n_folds, 1, 1))
    codes = np.tile(model.columns.codes(test.X[:50]), (n_folds, 1, 1))
    w = {name: torch.tensor(array) for name, array in model.weights.items()}
    np.testing.assert_allclose(
        voter_vectors(model.weights, numbers, codes),
        voter_vectors(w, torch.tensor(numbers), torch.tensor(codes)).numpy(),
        atol=1e-5,
    )
    text, issue = model.sent
    own = message_vectors(model.weights, text, issue, model.weights["message.free"])
    tensors = (torch.tensor(text), torch.tensor(issue), w["message.free"])
    np.testing.assert_allclose(own, message_vectors(w, *tensors).numpy(), atol=1e-5)


# --- columns --------------------------------------------------------------------------


def test_missing_values_and_unseen_levels_have_a_place_of_their_own() -> None:
    """Of 3 and 2 levels: rows 0-3 and 4-6 of the table, 0 and 4 for the unseen."""
    X = np.array([[0, 1.0, 0], [1, np.nan, 1], [2, 3.0, 1]], dtype=np.float32)
    columns = InputColumns.of(X, [0, 2])
    strange = np.array([[np.nan, np.nan, 7], [99, 1.0, 0]], dtype=np.float32)
    np.testing.assert_array_equal(columns.codes(X), [[1, 5], [2, 6], [3, 6]])
    np.testing.assert_array_equal(columns.codes(strange), [[0, 4], [0, 5]])
    assert columns.n_rows == 7
    # mean 2 and deviation 1; then the flag
    np.testing.assert_allclose(columns.numbers(X), [[-1, 0], [0, 1], [1, 0]])
    np.testing.assert_allclose(columns.numbers(strange), [[0, 1], [-1, 0]])


def test_an_unseen_category_level_gets_a_lift(planted: Callable) -> None:
    test, true = planted(
        np.random.default_rng(2), n_households=1_500, categorical=True,
        lift=lambda X: np.column_stack([2.0 * (X[:, 3] == 1), 1.0 + 0 * X[:, 3]]),
    )  # fmt: skip
    prepared = prepare(test, [3], dict.fromkeys(test.messages, "issue"), seed=1)
    model = fit_net(prepared, written(test.messages), SMALL, seed=1)
    lift = model.predict(test.X, test.unit_id).lift
    assert np.corrcoef(lift[:, 0], true[:, 0])[0, 1] > 0.8
    X = test.X[:30].copy()
    X[:10, 3], X[10:20, 3], X[20:, 0] = 99, np.nan, np.nan
    lifts = model.predict(X, test.unit_id[:30])
    for found in lifts:
        assert np.isfinite(found).all()
    # between those of the levels that were seen
    assert lift[:, 0].min() - 0.5 < lifts.lift[:20, 0].mean() < lift[:, 0].max() + 0.5


# --- messages never sent --------------------------------------------------------------

TOLD = np.array([-1.0, 1.0] * 12)
"""What the text of 24 messages tells of their average effect."""
OWN = 0.5 * np.random.default_rng(8).normal(size=24)
"""What it does not tell."""


@pytest.fixture(scope="module")
def library(planted: Callable) -> tuple:
    """24 messages whose effect is 3 + 2 × what is told + what is not."""
    test, true = planted(
        np.random.default_rng(3), n_households=3_000, control=0.3, noise=0.5,
        lift=lambda X: 3.0 + 2.0 * TOLD + OWN + 0.8 * X[:, :1],
    )  # fmt: skip
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    texts = written(test.messages, told=TOLD)
    return test, true, prepared, texts, fit_net(prepared, texts, SMALL, seed=1)


def new_messages(told: list[float], *, like: MessageFeatures) -> MessageFeatures:
    """Other messages in the words of those that were sent."""
    matrix = like.matrix[: len(told)].copy()
    matrix[:, 0] = 3.0 * np.array(told)
    ids = tuple(f"new_{i}" for i in range(len(told)))
    return MessageFeatures(ids, like.issue[: len(told)], like.names, matrix)


def test_a_message_never_sent_is_predicted_from_its_text(library) -> None:
    test, _, _, texts, model = library
    assert model.prior.test.passed
    new = new_messages([1.0, -1.0, 0.9, -0.9], like=texts)
    lifts = model.predict_new(test.X, test.unit_id, new)
    found = lifts.lift.mean(axis=0)
    # the truth is 5 and 1
    np.testing.assert_allclose(found, [5, 1, 4.8, 1.2], atol=1.0)
    # and voters differ as the messages share it
    assert np.corrcoef(lifts.lift[:, 0], test.X[:, 0])[0, 1] > 0.7


def test_a_message_never_sent_stands_among_those_that_were(
    library, tmp_path: Path
) -> None:
    test, _, _, texts, model = library
    new = new_messages([1.0, -1.0], like=texts)
    assert why_not_answered(model, new) == {}
    (tmp_path / "lift").mkdir()
    save_lift(UnseenLift(model, new), tmp_path / "lift")
    read = load_lift(tmp_path / "lift")
    assert read.nuisances.messages == (*model.nuisances.messages, "new_0", "new_1")
    lifts, sent = (
        read.predict(test.X, test.unit_id),
        model.predict(test.X, test.unit_id),
    )
    alone = model.predict_new(test.X, test.unit_id, new)
    np.testing.assert_allclose(lifts.lift, np.hstack([sent.lift, alone.lift]))
    np.testing.assert_allclose(lifts.se, np.hstack([sent.se, alone.se]))
    np.testing.assert_allclose(lifts.baseline, sent.baseline)
    # an arm of it is offered like any other
    arms = [Arm("new_1", "mail"), Arm(model.nuisances.messages[0], "mail")]
    values = read.nuisances.option_values(lifts.lift, arms)
    assert np.isfinite(values).all()


def test_texts_and_forecasts_inform_the_messages_that_were_sent_together(
    library,
) -> None:
    """A die beside the texts changes little; a forecaster who is right helps."""
    _, true, prepared, texts, model = library
    truth = true.mean(axis=0)
    rng = np.random.default_rng(0)
    messages = pd.DataFrame(
        {"message_id": list(texts.ids), "issue": "issue", "text": "Text"}
    )
    past = pd.DataFrame({name: [] for name in PAST_EFFECTS.columns})
    shrunken = {}
    for name, points in (("dice", rng.normal(size=len(truth))), ("oracle", truth)):
        forecasts = pd.DataFrame(
            {"forecaster": name, "message_id": list(texts.ids), "points": points}
        )
        evidence = prior_evidence(
            messages, check(FORECASTS, forecasts), check(PAST_EFFECTS, past),
            direction=1.0, slope_sd=1.0,
        )  # fmt: skip
        known = replace(prepared, test=replace(prepared.test, evidence=evidence))
        fitted = fit_net(known, texts, {**SMALL, "n_epochs": 1}, seed=1)
        shrunken[name] = fitted.nuisances.effects.shrunken
    by_text = model.nuisances.effects.shrunken
    assert np.abs(shrunken["dice"] - by_text).max() < 0.1 * np.std(truth)
    error = {n: ((e - truth) ** 2).mean() for n, e in shrunken.items()}
    raw = ((model.nuisances.effects.raw - truth) ** 2).mean()
    assert error["oracle"] < error["dice"] < raw


def test_a_message_of_an_issue_never_sent_is_left_out_with_the_reason(library) -> None:
    _, _, _, texts, model = library
    new = replace(new_messages([1.0], like=texts), issue=("war",))
    reasons = why_not_answered(model, new)
    assert reasons == {"new_0": "no message about war was ever sent"}


def test_a_message_never_sent_gets_a_wider_interval(library) -> None:
    test, _, _, texts, model = library
    sent = model.predict(test.X, test.unit_id).se
    new = model.predict_new(test.X, test.unit_id, new_messages([1.0], like=texts)).se
    assert (new.mean(axis=0) > sent.mean(axis=0).max()).all()


def test_the_effects_of_sent_messages_know_their_texts(library) -> None:
    _, true, prepared, _, model = library
    found, effects = model.prior.of_sent(), model.nuisances.effects
    np.testing.assert_array_equal(effects.shrunken, found.mean)
    np.testing.assert_array_equal(effects.shrunken_se, found.se)
    assert (effects.shrunken != prepared.nuisances.effects.shrunken).all()
    # the estimates themselves stay what they are
    np.testing.assert_array_equal(effects.raw, prepared.nuisances.effects.raw)
    assert np.corrcoef(effects.shrunken, true.mean(axis=0))[0, 1] > 0.99


def test_where_texts_say_nothing_the_model_abstains(library) -> None:
    test, _, prepared, _, _ = library
    model = fit_net(prepared, written(test.messages, seed=9), SMALL, seed=1)
    assert not model.prior.test.passed
    found = model.predict_new(test.X[:5], test.unit_id[:5], written(("new",)))
    assert np.isnan(found.lift).all()
    assert np.isnan(found.se).all()
    assert np.isfinite(found.baseline).all()
    # what was sent keeps its plain effects
    assert model.nuisances is prepared.nuisances


def test_an_issue_or_text_unlike_all_that_was_sent_is_abstained_from(library) -> None:
    test, _, _, texts, model = library
    new = new_messages([1.0, 1.0, 1.0], like=texts)
    new.matrix[1, :6] = 40.0
    new = replace(new, issue=("issue", "issue", "another"))
    found = model.predict_new(test.X[:5], test.unit_id[:5], new)
    np.testing.assert_array_equal(np.isnan(found.lift[0]), [False, True, True])


def test_texts_read_in_another_way_are_refused(library) -> None:
    test, _, _, texts, model = library
    other = replace(texts, names=texts.names[::-1])
    with pytest.raises(ValueError, match="with the 8 text features of the fit"):
        model.predict_new(test.X[:2], test.unit_id[:2], other)


def test_a_message_without_features_is_named(small) -> None:
    test, _, prepared, _ = small
    with pytest.raises(KeyError, match="message 'm2'"):
        fit_net(prepared, written(test.messages[:2]), SMALL, seed=1)


def test_missing_outcomes_teach_nothing(planted: Callable) -> None:
    test, true = planted(np.random.default_rng(5), n_households=1_500, lift=steep)
    lacking = np.random.default_rng(0).random(len(test.Y)) < 0.2
    test = replace(test, Y=np.where(lacking, np.nan, test.Y))
    prepared = prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)
    model = fit_net(prepared, written(test.messages), SMALL, seed=1)
    lift = model.predict(test.X, test.unit_id).lift
    assert np.corrcoef(lift[:, 0], true[:, 0])[0, 1] > 0.7
