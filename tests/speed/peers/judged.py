"""A prediction judged, kept beside it under the hash of the judge."""

from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hustings.features.arrays import Floats
from hustings.training.estimators.metrics import Interval
from hustings.training.learners.gbm import prepare
from tests.speed.peers.judge import Tool, Truthful, against_truth, judge
from tests.speed.peers.peers import Predicted, Split, read_predicted

ROOT = Path(__file__).parents[3]
JUDGED_BY = (
    "features/training_set.py", "training/estimators/split.py",
    "training/estimators/metrics.py", "training/estimators/spend_path.py",
    "training/learners/boosting.py", "training/learners/average_effects.py",
    "training/learners/gbm.py", "tests/speed/peers/judge.py",
)  # fmt: skip
"""Files that settle what a prediction is found worth."""


def judged(split: Split, file: Path) -> Tool:
    """What a prediction is worth, from the cache or by judging it.

    Args:
        split: Its voters.
        file: The prediction.
    """
    kept = file.parent / "judged" / f"{file.stem}-{_judge_hash()}.npz"
    if not kept.exists():
        _write(kept, _judge(split, read_predicted(file)))
    return _read(kept)


def _judge(split: Split, found: Predicted) -> Tool:
    data, held = split.data, ~split.trained
    low, lift, high = (
        None if part is None else data.points * part
        for part in (found.low, found.lift, found.high)
    )
    truthful = None
    if data.truth is not None:
        flat = [data.test.messages.index(m) for m in data.flat]
        truthful = against_truth(
            lift, data.truth.lift[held], data.cost, data.spends,
            flat=flat, low=low, high=high,
        )  # fmt: skip
    cluster = np.unique(data.test.cluster[held], return_inverse=True)[1]
    return judge(
        lift, data.points * scores_of(split), data.cost, cluster, data.spends, truthful
    )


def scores_of(split: Split) -> Floats:
    """Γ of the judged, its nuisances cross-fitted among them, shape (n, 1 + M)."""
    file = split.cached("scores", _judge_hash())
    if not file.exists():
        data = split.data
        test = data.test.take(~split.trained)
        ready = prepare(test, data.categorical, data.issue_of, seed=split.seed)
        _save(file, scores=ready.scores)
    with np.load(file) as stored:
        return np.asarray(stored["scores"], dtype=np.float64)


@cache
def _judge_hash() -> str:
    found = sha256()
    for name in JUDGED_BY:
        found.update((ROOT / name).read_bytes())
    return found.hexdigest()[:16]


def _write(file: Path, tool: Tool) -> None:
    slope = tool.slope
    known = {} if tool.truthful is None else tool.truthful._asdict()
    _save(
        file, gained=tool.gained.astype(np.float32), spread=tool.spread,
        slope=np.array([slope.value, slope.low, slope.high]),
        **{f"truthful_{name}": np.asarray(v) for name, v in known.items()},
    )  # fmt: skip


def _save(file: Path, **arrays: npt.NDArray[np.generic]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".partial.npz")
    np.savez(aside, **arrays)
    aside.replace(file)


def _read(file: Path) -> Tool:
    with np.load(file) as stored:
        known = (
            [stored[f"truthful_{name}"] for name in Truthful._fields]
            if ("truthful_rmse" in stored)
            else None
        )
        return Tool(
            stored["gained"].astype(np.float64),
            Interval(*stored["slope"].tolist()),
            stored["spread"],
            None if known is None else Truthful(*known),
        )
