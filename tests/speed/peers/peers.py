"""The public tools, each in an environment of its own, and what they predicted.

An environment is made by pip from pinned versions the first time it is needed. A
prediction is kept under the hash of everything that settles it, so that only the first
run is long.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hustings.features.arrays import Bools, Floats
from hustings.training.policy_value.held_out_halves import HALVES, training_half
from tests.speed.peers import fit_peer
from tests.speed.peers.data_sets import DataSet

HOME = Path(".data/peers")
CACHE = HOME / "cache"
THREADS = 2
ENVIRONMENTS = {
    "main": (
        "econml==0.17.0", "causalml==0.18.0", "scikit-uplift==0.5.1", "lightgbm==4.7.0",
        "scikit-learn==1.9.1", "numpy==2.4.6", "scipy==1.17.1",
    ),
    # its scikit-learn is older, and it imports polars without saying so
    "metalearners": (
        "metalearners==0.13.0", "polars==2.1.0", "lightgbm==4.7.0",
        "scikit-learn==1.7.2", "numpy==2.4.6", "scipy==1.17.1",
    ),
    "stochtree": (
        "stochtree==0.4.5", "pandas==3.1.1", "scikit-learn==1.9.1", "numpy==2.4.6",
        "scipy==1.17.1",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """A public tool.

    Attributes:
        name: In the table.
        tool: In `fit_peer`.
        environment: Of `ENVIRONMENTS`.
        package: Whose version the table gives.
        most_work: Rows × columns × messages² that it has time for, over all splits of
            a task; None for any number.
    """

    name: str
    tool: str
    environment: str
    package: str
    most_work: int | None = None

    def splits_of(self, data: DataSet) -> int:
        """Splits of a task that it has time for."""
        if self.most_work is None:
            return sys.maxsize
        return self.most_work // (data.test.X.size * len(data.cost) ** 2)

    @property
    def version(self) -> str:
        """Package and pinned version."""
        pins = ENVIRONMENTS[self.environment]
        return next(p for p in pins if p.startswith(f"{self.package}=="))


PEERS = (
    Peer("LightGBM S-learner", "lightgbm_s", "main", "lightgbm"),
    Peer("EconML LinearDRLearner", "econml_linear_dr", "main", "econml"),
    Peer("causalml T (LightGBM)", "causalml_t", "main", "causalml"),
    Peer("scikit-uplift TwoModels", "uplift_two_models", "main", "scikit-uplift"),
    Peer("metalearners T", "metalearners_t", "metalearners", "metalearners"),
    Peer("causalml DR (LightGBM)", "causalml_dr", "main", "causalml"),
    Peer("causalml X (LightGBM)", "causalml_x", "main", "causalml"),
    Peer("metalearners DR", "metalearners_dr", "metalearners", "metalearners"),
    Peer("metalearners X", "metalearners_x", "metalearners", "metalearners"),
    Peer("EconML DRLearner (LightGBM)", "econml_dr_trees", "main", "econml"),
    # their trees solve for all arms at once: large tasks take too long
    Peer("EconML CausalForestDML", "econml_forest", "main", "econml", 32_000_000),
    Peer("stochtree BCF", "stochtree_bcf", "stochtree", "stochtree", 16_000_000),
)


class Predicted(NamedTuple):
    """Lift of the judged voters, outcome units, shape (n_held, M) each.

    Attributes:
        lift: Predicted.
        low: Lower end of the 95 % interval, or None.
        high: Upper end, or None.
        seconds: Of fit and of predict, and the threads that were allowed.
    """

    lift: Floats
    low: Floats | None
    high: Floats | None
    seconds: tuple[float, float, float]


@dataclass(frozen=True)
class Split:
    """One half of a data set to learn from, the other to be judged on.

    Attributes:
        data: The whole set.
        seed: Of the halves and of every tool.
        label: Which half is learnt from, one of `held_out_halves.HALVES`.
    """

    data: DataSet
    seed: int
    label: str

    @property
    def trained(self) -> Bools:
        """Who is learnt from, shape (n,)."""
        return training_half(self.data.test, self.label, seed=self.seed)

    def cached(self, tool: str, *settings: str) -> Path:
        """File of a prediction, named by the hash of what settles it."""
        told = "\n".join([self.data.fingerprint, self.label, str(self.seed), *settings])
        key = hashlib.sha256(told.encode()).hexdigest()[:16]
        slug = "".join(c if c.isalnum() else "_" for c in tool)
        return CACHE / self.data.name / f"{slug}-{self.seed}-{self.label}-{key}.npz"


def halves(data: DataSet, seed: int) -> list[Split]:
    """Both halves of a split."""
    return [Split(data, seed, label) for label in HALVES]


def peer_file(peer: Peer, split: Split) -> Path:
    """Where a public tool's prediction is kept."""
    pins = " ".join(ENVIRONMENTS[peer.environment])
    return split.cached(peer.name, peer.tool, pins, fit_peer.recipe(peer.tool))


def predict_by_peer(
    peer: Peer, splits: Sequence[Split], *, threads: int = THREADS
) -> None:
    """Fill the cache with a public tool's lifts of the judged voters of some splits.

    Args:
        peer: The tool.
        splits: What it learns from and is asked about; those in the cache are left.
        threads: How many it may use.

    Raises:
        RuntimeError: If the tool failed; what it had finished is kept.
    """
    missing = [s for s in splits if not peer_file(peer, s).exists()]
    if not missing:
        return
    python = environment(peer.environment)
    (CACHE / missing[0].data.name).mkdir(parents=True, exist_ok=True)
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            str(path)
            for i, split in enumerate(missing)
            for path in (
                _ask(split, Path(folder) / f"{i}.npz", threads),
                peer_file(peer, split).absolute(),
            )
        ]
        done = subprocess.run(
            [str(python), fit_peer.__file__, peer.tool, *paths],
            env={**os.environ, **limits, "OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        told = "\n".join(done.stderr.splitlines()[-8:])
        raise RuntimeError(f"{peer.name} on {missing[0].data.name} failed:\n{told}")


def _ask(split: Split, file: Path, threads: int) -> Path:
    test, trained = split.data.test, split.trained
    np.savez(
        file, X_train=test.X[trained], arm=test.arm[trained], Y=test.Y[trained],
        propensities=test.propensities[trained], X_eval=test.X[~trained],
        categorical=np.array(split.data.categorical, dtype=np.int64),
        seed=split.seed, threads=threads,
    )  # fmt: skip
    return file


def read_predicted(file: Path) -> Predicted:
    """A prediction from the cache."""
    with np.load(file) as stored:
        fit_s, predict_s, threads = stored["seconds"].tolist()
        low, high = (
            stored[end].astype(np.float64) if end in stored else None
            for end in ("low", "high")
        )
        return Predicted(
            stored["lift"].astype(np.float64), low, high, (fit_s, predict_s, threads)
        )


def write_predicted(file: Path, found: Predicted) -> None:
    """A prediction into the cache, whole or not at all."""
    kept = {k: v for k, v in found._asdict().items() if v is not None}
    arrays = {k: np.asarray(v, dtype=np.float32) for k, v in kept.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_suffix(".partial.npz")
    np.savez(aside, **arrays)
    aside.replace(file)


def environment(name: str) -> Path:
    """Python of an environment, made by pip from its pins where it is not there."""
    folder = HOME / name
    python, ready = folder / "bin" / "python", folder / ".installed"
    pins = "\n".join(ENVIRONMENTS[name])
    if not ready.exists() or ready.read_text() != pins:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", *ENVIRONMENTS[name]]
        subprocess.run(pip, check=True)
        ready.write_text(pins)
    return python.absolute()
