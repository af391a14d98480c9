"""Arms, outcomes and probabilities of a test in frames → the product's training set."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hustings.experiments.api.arguments import name_text, number_of
from hustings.experiments.api.frames import (
    as_pandas,
    column,
    features_of,
    mapping_of,
    names_of,
    numbers_of,
    voter_ids,
)
from hustings.features.arrays import Floats, Ints, Objects
from hustings.features.tables import CHANNELS, CONTROL, NO_CHANNEL
from hustings.features.training_set import Arm, TrainingSet

EXPERIMENT = "test"
"""Experiment of the frames."""
SUMS_TO_ONE = 1e-6


class GivenTest(NamedTuple):
    """A test as its user has it.

    Attributes:
        X: Features, a row for each of n voters.
        arm: Message of every voter, or the control.
        y: Outcome, missing where it is not in.
        propensity: See `LiftModel.fit`.
        cluster: Who shares noise; None for nobody.
        channel: Channel of all messages, or of every voter.
        block: Stratum of the draw; None for one.
        voter_id: Names; None for the index.
        arms: Messages, or messages and channels, in order; None for sorted.
        control: Name of the control.
    """

    X: Any
    arm: Any
    y: Any
    propensity: Any
    cluster: Any
    channel: Any
    block: Any
    voter_id: Any
    arms: Any
    control: Any


@dataclass(frozen=True)
class ReadTest:
    """A test as the product's stages read it.

    Attributes:
        training_set: One row a voter, in the order of X.
        notes: What was assumed, a sentence each.
        assumed: Those of the notes that nobody declared and that may be wrong.
        is_binary: Whether the outcome is 0 or 1.
    """

    training_set: TrainingSet
    notes: tuple[str, ...]
    assumed: tuple[str, ...]
    is_binary: bool


def read_test(given: GivenTest) -> ReadTest:
    """Check a test and lay it out as the stage `features` does.

    Raises:
        ValueError: Naming the argument, what was expected and what came.
    """
    features = features_of(given.X)
    n = len(features)
    ids = voter_ids(given.X, given.voter_id, n)
    message, channel = _arms_of(given, n)
    outcome = numbers_of(given.y, "y", n)
    unit = ids if given.cluster is None else names_of(given.cluster, "cluster", n)
    block = np.full(n, "all", dtype=object)
    if given.block is not None:
        block = names_of(given.block, "block", n)
    sent = {Arm(m, c) for m, c in zip(message, channel, strict=True)} - {_NOTHING}
    arms = tuple(sorted(sent)) if given.arms is None else _ordered(given.arms, sent)
    probability, assumed = _probabilities(given, message, channel, block, arms)
    code, block = _blocks(probability, block)
    propensity = _assigned_propensity(probability, message, channel, arms)
    together = pd.Series(message).groupby(unit).transform("nunique").max() == 1
    drawn = unit if together else ids
    notes = list(assumed)
    if given.cluster is not None and not together:
        notes.append(
            "cluster: arms differ within clusters, so voters were drawn one by one; "
            "errors are clustered all the same"
        )
    n_missing = int(outcome.isna().sum())
    if n_missing:
        notes.append(f"y: {n_missing:,} of {n:,} outcomes are missing")
    rows = pd.DataFrame(
        {
            "voter_id": ids, "experiment_id": EXPERIMENT, "plan_id": EXPERIMENT,
            "block": block, "unit_id": unit, "household_id": unit, "drawn_id": drawn,
            "randomised_by": "household" if len(set(drawn)) < n else "person",
            "message_id": message, "channel": channel, "propensity": propensity,
            "outcome": outcome.to_numpy(),
        }
    )  # fmt: skip
    designs = _designs(probability, code, block, arms)
    return ReadTest(
        TrainingSet(rows, features, designs),
        tuple(notes),
        tuple(assumed),
        is_binary(outcome),
    )


def is_binary(outcome: pd.Series) -> bool:
    """Whether all outcomes that are in are 0 or 1."""
    return bool(outcome.dropna().isin([0.0, 1.0]).all())


_NOTHING = Arm(CONTROL, NO_CHANNEL)


def _arms_of(given: GivenTest, n: int) -> tuple[Objects, Objects]:
    """Message and channel of every voter, as tables have them, shape (n,) each."""
    control, arm = name_text(given.control), names_of(given.arm, "arm", n)
    is_control = arm == control
    counted = pd.Series(arm).value_counts()
    if not is_control.any() or is_control.all():
        raise ValueError(
            f"arm: expected rows of the control {control!r} and of messages, got "
            + ", ".join(f"{name} ({k:,})" for name, k in counted.items())
            + ("" if is_control.any() else "; name yours: LiftModel(control=...)")
        )
    if control != CONTROL and CONTROL in set(arm):
        raise ValueError(
            f"arm: expected no message called {CONTROL!r} beside the control "
            f"{control!r}"
        )
    if isinstance(given.channel, str):
        channel = np.full(n, given.channel, dtype=object)
    else:
        # controls were sent nothing: whatever stands there is not read
        by_row = column(given.channel, "channel", n).astype(object)
        by_row[is_control] = NO_CHANNEL
        channel = names_of(by_row, "channel", n)
    strange = sorted(set(channel[~is_control]) - set(CHANNELS))
    if strange:
        raise ValueError(
            f"channel: expected one of {', '.join(CHANNELS)}, got {strange[0]!r}"
        )
    return (
        np.where(is_control, CONTROL, arm).astype(object),
        np.where(is_control, NO_CHANNEL, channel).astype(object),
    )


def _ordered(given: Any, sent: set[Arm]) -> tuple[Arm, ...]:
    """Arms in the order that was given, each a message or (message, channel).

    Raises:
        ValueError: If they are not those that were sent.
    """
    channels = sorted({arm.channel for arm in sent})
    arms = [
        Arm(*map(name_text, arm))
        if isinstance(arm, tuple)
        else Arm(name_text(arm), channel)
        for arm in given
        for channel in (channels[:1] if isinstance(arm, tuple) else channels)
    ]
    if len(set(arms)) < len(arms) or set(arms) != sent:
        raise ValueError(
            "arms: expected each arm that was sent once, "
            f"{', '.join(f'{m} by {c}' for m, c in sorted(sent))}, got "
            f"{', '.join(f'{m} by {c}' for m, c in arms)}"
        )
    return tuple(arms)


def _codes(message: Objects, channel: Objects, arms: tuple[Arm, ...]) -> Ints:
    """0 for the control, k for the k-th arm, shape (n,)."""
    pairs = pd.MultiIndex.from_arrays([message, channel])
    return np.asarray(pd.MultiIndex.from_tuples([_NOTHING, *arms]).get_indexer(pairs))


def _probabilities(
    given: GivenTest,
    message: Objects,
    channel: Objects,
    block: Objects,
    arms: tuple[Arm, ...],
) -> tuple[Floats, list[str]]:
    """Probability of control and every arm, (n, 1 + A), and what was assumed."""
    n, propensity = len(message), given.propensity
    if propensity is None:
        return _shares(_codes(message, channel, arms), block, len(arms)), [
            "propensity: none was given; the shares of the arms"
            + (" in each block" if given.block is not None else "")
            + " stand for it, which is right only if every voter had the same chance"
        ]
    control = name_text(given.control)
    by_name = _by_name(propensity, arms, control)
    if by_name is not None:
        table = np.tile(_of_mapping(by_name, arms, control), (n, 1))
    else:
        table = _of_rows(propensity, arms, n, control)
    _require_probabilities(table)
    return table, []


def _shares(code: Ints, block: Objects, n_arms: int) -> Floats:
    """Share of control and every arm in each voter's block, shape (n, 1 + A)."""
    of_block, blocks = pd.factorize(block)
    counts = np.zeros((len(blocks), 1 + n_arms))
    np.add.at(counts, (of_block, code), 1.0)
    shares: Floats = (counts / counts.sum(axis=1, keepdims=True))[of_block]
    return shares


def _by_name(
    propensity: Any, arms: tuple[Arm, ...], control: str
) -> dict[Any, Any] | None:
    """Probabilities by message, where they are by message; None of those of voters.

    A series of pandas is by message where nothing but messages is in its index.
    """
    if isinstance(propensity, pd.Series):
        index = propensity.index.to_flat_index()
        keys = {
            tuple(map(name_text, k)) if isinstance(k, tuple) else name_text(k)
            for k in index
        }
        messages = {control, *map(tuple, arms), *(arm.message_id for arm in arms)}
        if not index.is_unique or not keys <= messages:
            return None
    return mapping_of(propensity, "propensity")


def _of_mapping(
    propensity: dict[Any, Any], arms: tuple[Arm, ...], control: str
) -> Floats:
    """The same probabilities for all, from a mapping, shape (1 + A,)."""
    given = {
        key: number_of(p, f"propensity of {key!r}", "one in [0, 1]", _is_probability)
        for key, p in propensity.items()
    }
    p = []
    for arm in arms:
        key = next((k for k in (tuple(arm), arm.message_id) if k in given), None)
        several = sum(other.message_id == arm.message_id for other in arms) > 1
        if key is None or (several and key == arm.message_id):
            raise ValueError(
                f"propensity: expected the probability of ({arm.message_id!r}, "
                f"{arm.channel!r}){'' if several else f' or {arm.message_id!r}'}, got "
                f"those of {', '.join(map(str, given))}"
            )
        p.append(given.pop(key))
    of_control = given.pop(control, 1.0 - sum(p))
    if given:
        raise ValueError(
            f"propensity: expected messages of the test and {control!r}, got "
            f"{next(iter(given))!r}, which nobody was sent"
        )
    return np.array([of_control, *p])


def _is_probability(p: float) -> bool:
    return 0 <= p <= 1


def _of_rows(propensity: Any, arms: tuple[Arm, ...], n: int, control: str) -> Floats:
    """Probabilities of every voter, shape (n, 1 + A).

    Args:
        propensity: A frame with a column for every message and the control; an array of
            shape (n, 1 + A), the control first and the arms in their order; of shape
            (n,) where there is one arm: its probability.
        arms: In their order.
        n: Voters.
        control: Its name.
    """
    messages = [arm.message_id for arm in arms]
    if getattr(propensity, "ndim", 0) == 1 or isinstance(propensity, list):
        if len(arms) != 1:
            raise ValueError(
                f"propensity: expected shape ({n}, {1 + len(arms)}), columns "
                f"{control}, {', '.join(messages)}, got one value a voter"
            )
        p = numbers_of(propensity, "propensity", n).to_numpy()
        return np.column_stack([1.0 - p, p])
    if isinstance(propensity, np.ndarray):
        if propensity.shape != (n, 1 + len(arms)):
            raise ValueError(
                f"propensity: expected shape ({n}, {1 + len(arms)}), columns "
                f"{control}, {', '.join(messages)}, got {propensity.shape}"
            )
        parts = [
            numbers_of(p, f"propensity, column {k}", n) for k, p in
            enumerate(propensity.T)
        ]  # fmt: skip
        return np.column_stack([part.to_numpy() for part in parts])
    table = as_pandas(propensity, "propensity")
    names = [control, *messages]
    if len(set(names)) < len(names) or set(table.columns) != set(names):
        raise ValueError(
            f"propensity: expected columns {', '.join(names)}, each once, got "
            f"{', '.join(table.columns)}; of several channels give an array"
        )
    parts = [numbers_of(table[name], f"propensity, {name}", n) for name in names]
    return np.column_stack([part.to_numpy() for part in parts])


def _require_probabilities(table: Floats) -> None:
    sums = table.sum(axis=1)
    wrong = ~((table >= 0).all(axis=1) & (np.abs(sums - 1.0) <= SUMS_TO_ONE))
    if wrong.any():
        k = int(np.argmax(wrong))
        raise ValueError(
            f"propensity: expected probabilities in [0, 1] that sum to 1, got "
            f"{', '.join(f'{p:g}' for p in table[k])} (sum {sums[k]:g}) in row {k} "
            f"({int(wrong.sum()):,} such rows)"
        )


def _assigned_propensity(
    probability: Floats, message: Objects, channel: Objects, arms: tuple[Arm, ...]
) -> Floats:
    """Probability of what each voter got, shape (n,)."""
    code = _codes(message, channel, arms)
    propensity: Floats = probability[np.arange(len(code)), code]
    if not (propensity > 0).all():
        k = int(np.argmax(propensity <= 0))
        raise ValueError(
            f"propensity: expected one above 0 of what was sent, got {propensity[k]:g} "
            f"of {message[k]!r} in row {k} ({int((propensity <= 0).sum()):,} such rows)"
        )
    return propensity


def _blocks(probability: Floats, block: Objects) -> tuple[Ints, Objects]:
    """Voters of equal probabilities in one block, as code and as name, shape (n,)."""
    keys = pd.DataFrame(probability).assign(block=block)
    code = np.asarray(keys.groupby(list(keys.columns), sort=False).ngroup())
    if len(np.unique(code)) == len(set(block)):
        return code, block
    return code, np.array([f"b{k}" for k in code], dtype=object)


def _designs(
    probability: Floats, code: Ints, block: Objects, arms: tuple[Arm, ...]
) -> pd.DataFrame:
    """DESIGNS: the probability of every arm that each block offers."""
    first = np.unique(code, return_index=True)[1]
    options = [_NOTHING, *arms]
    k, a = np.nonzero(probability[first] > 0)
    return pd.DataFrame(
        {
            "experiment_id": EXPERIMENT,
            "block": block[first][k],
            "message_id": [options[i].message_id for i in a],
            "channel": [options[i].channel for i in a],
            "probability": probability[first][k, a],
        }
    )
