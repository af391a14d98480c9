"""The two-tower network: a vector of every voter, a vector of every message.

h_m(x) = ⟨v(x), u_m⟩ is how the lift of message m for voter x deviates from its average.
It minimises the R-loss of all messages at once (Nie & Wager 2021; Kaddour et al. 2021
for many treatments), mean of w (residual − Σ_m (1[W = m] − e_m) h_m(x))², in which the
known propensities say how noisy each message is.

Notation of shapes: F folds, each with a network that never saw it; K members, which
share weights but for scaling vectors of their own (TabM: Gorishniy et al. 2025) and
learn from reweighted units (Bayesian bootstrap: Rubin 1981); B voters; M messages;
R length of a vector. The forward functions take arrays of numpy and of torch:
torch trains, numpy predicts, so that who only predicts needs no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hustings.features.arrays import Floats, Floats32, Ints

if TYPE_CHECKING:
    import torch


DEFAULT_PARAMS: Mapping[str, Any] = {
    "n_members": 8, "n_hidden": 32, "n_vector": 8, "n_epochs": 6,
    "learning_rate": 3e-3, "weight_decay": 0.05,
}  # fmt: skip
N_MESSAGE_HIDDEN = 16
EMBEDDED = 4
"""Length of the embedding of a categorical column."""
N_STEPS = 40
"""Batches an epoch, where that leaves between `BATCH_LEAST` and `BATCH_MOST` rows."""
BATCH_LEAST, BATCH_MOST = 256, 4096
VALIDATION_SHARE = 0.15
"""Of the units a network may see, kept back to choose the epoch."""


@dataclass(frozen=True)
class InputColumns:
    """How a row of features enters the voter tower.

    Attributes:
        numeric: Columns of numbers, length p.
        centre: Their means, length p.
        scale: Their standard deviations, length p.
        flagged: Those among them that may be missing.
        categorical: Columns of category codes, length c.
        n_levels: Levels of each, length c; a code beyond them, or none, is level 0.
    """

    numeric: tuple[int, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    flagged: tuple[int, ...]
    categorical: tuple[int, ...]
    n_levels: tuple[int, ...]

    @classmethod
    def of(cls, X: Floats32, categorical: Sequence[int]) -> Self:
        """Read off the training features, which hold no outcome.

        Args:
            X: Shape (n, n_features).
            categorical: Columns that hold category codes 0, 1, ...
        """
        numeric = [j for j in range(X.shape[1]) if j not in set(categorical)]
        finite = [X[np.isfinite(X[:, j]), j].astype(np.float64) for j in numeric]
        levels = [X[np.isfinite(X[:, j]), j] for j in categorical]
        return cls(
            tuple(numeric),
            tuple(float(c.mean()) if len(c) else 0.0 for c in finite),
            tuple(max(float(c.std()), 1e-6) if len(c) else 1.0 for c in finite),
            tuple(j for j in numeric if not np.isfinite(X[:, j]).all()),
            tuple(categorical),
            tuple(int(c.max()) + 1 if len(c) else 0 for c in levels),
        )

    @property
    def n_rows(self) -> int:
        """Rows of the table of levels: every column has one for unseen levels."""
        return sum(self.n_levels) + len(self.n_levels)

    def numbers(self, X: Floats32) -> Floats32:
        """Standardised numbers, 0 where missing, and flags, shape (n, p + flagged)."""
        centre, scale = (
            np.array(c, dtype=np.float32) for c in (self.centre, self.scale)
        )
        values = (X[:, self.numeric] - centre) / scale
        # a value far outside what was seen must not carry a lift away with it
        values = np.clip(np.nan_to_num(values, posinf=0.0, neginf=0.0), -5.0, 5.0)
        missing = ~np.isfinite(X[:, self.flagged])
        return np.column_stack([values, missing]).astype(np.float32)

    def codes(self, X: Floats32) -> Ints:
        """Row of every column's level in one table of all levels, shape (n, c)."""
        values = np.nan_to_num(X[:, self.categorical], nan=-1.0, posinf=-1.0)
        code = values.astype(np.int64) + 1
        code[(code < 0) | (code > np.array(self.n_levels, dtype=np.int64))] = 0
        # every column has a row for unseen levels, before its own
        before = np.cumsum([0, *(n + 1 for n in self.n_levels)])[:-1]
        return np.asarray(code + before, dtype=np.int64)


def voter_vectors(w: Mapping[str, Any], numbers: Any, codes: Any) -> Any:
    """v(x), shape (F, K, B, R).

    Args:
        w: Weights.
        numbers: Shape (F, B, p).
        codes: Shape (F, B, c).
    """
    x = numbers
    if codes.shape[-1]:
        table, fold = w["voter.levels"], w["voter.fold"][:, None]
        parts = [table[fold, codes[..., j]] for j in range(codes.shape[-1])]
        x = _joined([numbers, *parts])
    x = x[:, None] * w["voter.scale_0"]
    h = (x @ w["voter.dense_1"] * w["voter.scale_1"] + w["voter.bias_1"]).clip(0)
    h = (h @ w["voter.dense_2"] + w["voter.bias_2"]).clip(0)
    return x @ w["voter.linear"] + h @ w["voter.dense_3"] - w["voter.centre"]


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, axis=-1)
    import torch

    return torch.cat(list(parts), -1)


def message_vectors(w: Mapping[str, Any], text: Any, issue: Any, free: Any) -> Any:
    """u_m, shape (F, K, M, R): what all share, text, issue and what is its own.

    Args:
        w: Weights.
        text: Standardised features, shape (M, d).
        issue: One-hot, zeros for an issue never sent, shape (M, I).
        free: Of every message, shape (F, 1, M, R); zeros for one never sent.
    """
    h = text @ w["message.dense_1"] * w["message.scale_1"] + w["message.bias_1"]
    of_text = h.clip(0) @ w["message.dense_2"]
    return of_text + w["message.bias"] + issue @ w["message.issue"] + free


class TowerData(NamedTuple):
    """Training data of the towers; axis 0 is the voter unless said otherwise.

    Attributes:
        numbers: Shape (n, p).
        codes: Shape (n, c).
        n_levels: Rows of the table of levels.
        text: Standardised features of the messages, shape (M, d).
        issue: One-hot issues of the messages, shape (M, I).
        contrast: 1[W = m] − e_m, shape (n, M).
        residual: Outcome less its expectation for the voter's own arm, shape (n,).
        weight: 0 where the outcome is missing, shape (n,).
        fold: Shape (n,).
        unit: Code of the coarsest unit, shape (n,).
    """

    numbers: Floats32
    codes: Ints
    n_levels: int
    text: Floats32
    issue: Floats32
    contrast: Floats32
    residual: Floats32
    weight: Floats32
    fold: Ints
    unit: Ints


def train_towers(
    data: TowerData, params: Mapping[str, Any], *, seed: int, n_threads: int
) -> dict[str, Floats32]:
    """One network per fold, all in one loop; each keeps the epoch that suits it best.

    Args:
        data: The test.
        params: Over `DEFAULT_PARAMS`.
        seed: Of the start, the batches, the bootstrap and the validation units.
        n_threads: On a CPU; a GPU is used where there is one.

    Returns:
        Weights, each with leading axis F.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        return _train(data, {**DEFAULT_PARAMS, **params}, seed)
    finally:
        torch.set_num_threads(before)


def _train(
    data: TowerData, params: Mapping[str, Any], seed: int
) -> dict[str, Floats32]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rng = np.random.default_rng(seed)
    split = _Split.of(data, rng)
    tensors = _Tensors.of(data, int(params["n_members"]), rng, device)
    weights = start(data, params, rng)
    w = {name: torch.tensor(value, device=device) for name, value in weights.items()}
    learnt = {name: w[name].requires_grad_() for name in w if name not in _FIXED}
    optimiser = torch.optim.AdamW(
        learnt.values(), lr=params["learning_rate"], weight_decay=params["weight_decay"]
    )
    n_epochs, n_rows = int(params["n_epochs"]), split.train.shape[1]
    batch = int(np.clip(n_rows // N_STEPS, min(BATCH_LEAST, n_rows), BATCH_MOST))
    n_steps = n_rows // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=params["learning_rate"], total_steps=n_epochs * n_steps
    )
    best = _Best(w, split.n_folds)
    for _ in range(n_epochs):
        for rows in _batches(split.train, batch, rng, device):
            optimiser.zero_grad(set_to_none=True)
            noise = torch.tensor(
                rng.standard_normal(w["message.free"].shape, dtype=np.float32),
                device=device,
            )
            loss = _loss(w, tensors, rows, noise, n_rows)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        best.offer(w, _explained(w, tensors, split.validation))
    trained = {name: value.cpu().numpy() for name, value in best.weights.items()}
    # h in outcome units from here on
    for name in ("voter.linear", "voter.dense_3"):
        trained[name] = trained[name] * spread(data)[:, None, None, None]
    return trained


_FIXED = ("voter.fold", "voter.centre")


@dataclass(frozen=True)
class _Split:
    """Rows of every fold's network.

    Attributes:
        train: Shape (F, n_train): as many for each.
        validation: Shape (F, n_validation).
    """

    train: Ints
    validation: Ints

    @property
    def n_folds(self) -> int:
        return len(self.train)

    @classmethod
    def of(cls, data: TowerData, rng: np.random.Generator) -> Self:
        # a unit stays whole: its members share noise
        for_validation = (
            rng.random(int(data.unit.max()) + 1)[data.unit] < VALIDATION_SHARE
        )
        seen = data.weight > 0
        folds = range(int(data.fold.max()) + 1)
        train = [
            np.flatnonzero(seen & ~for_validation & (data.fold != k)) for k in folds
        ]
        held = [np.flatnonzero(seen & for_validation & (data.fold != k)) for k in folds]
        return cls(_even(train, rng), _even(held, rng))


def _even(rows: Sequence[Ints], rng: np.random.Generator) -> Ints:
    least = min(map(len, rows))
    return np.stack([rng.permutation(r)[:least] for r in rows])


@dataclass(frozen=True)
class _Tensors:
    """The data where it is trained, and the deviation of the residual by fold."""

    numbers: "torch.Tensor"
    codes: "torch.Tensor"
    text: "torch.Tensor"
    issue: "torch.Tensor"
    contrast: "torch.Tensor"
    residual: "torch.Tensor"
    spread: "torch.Tensor"
    weight: "torch.Tensor"

    @classmethod
    def of(
        cls, data: TowerData, n_members: int, rng: np.random.Generator, device: str
    ) -> Self:
        import torch

        drawn = rng.standard_exponential((int(data.unit.max()) + 1, n_members))
        weight = data.weight[:, None] * drawn[data.unit]
        seen = data.weight > 0
        parts = (
            data.numbers, data.codes, data.text, data.issue, data.contrast,
            data.residual, spread(data),
            (weight / weight[seen].mean()).astype(np.float32),
        )  # fmt: skip
        return cls(*(torch.tensor(part, device=device) for part in parts))


def spread(data: TowerData) -> Floats32:
    """Deviation of the residual among those a fold's network may see, shape (F,).

    While h is learnt it is in multiples of it.
    """
    seen = data.weight > 0
    folds = range(int(data.fold.max()) + 1)
    by_fold = [float(data.residual[seen & (data.fold != k)].std()) for k in folds]
    return np.maximum(by_fold, 1e-12).astype(np.float32)


def start(
    data: TowerData, params: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, npt.NDArray[Any]]:
    """Weights before the first step: h is 0 everywhere, every member differs.

    Args:
        data: For the shapes.
        params: `n_members`, `n_hidden`, `n_vector`.
        rng: Of the start.
    """
    F, K = int(data.fold.max()) + 1, int(params["n_members"])
    H, R = int(params["n_hidden"]), int(params["n_vector"])
    d, (M, t) = data.numbers.shape[1] + EMBEDDED * data.codes.shape[1], data.text.shape
    n_issues = data.issue.shape[1]

    def drawn(*shape: int) -> Floats:
        return np.asarray(rng.normal(size=shape) / np.sqrt(shape[-2]))

    def signs(*shape: int) -> Floats:
        return rng.choice([-1.0, 1.0], size=shape)

    weights = {
        "voter.levels": 0.3 * rng.normal(size=(F, max(data.n_levels, 1), EMBEDDED)),
        "voter.scale_0": 1.0 + 0.2 * rng.normal(size=(F, K, 1, d)),
        "voter.dense_1": drawn(F, 1, d, H),
        "voter.scale_1": signs(F, K, 1, H),
        "voter.bias_1": 0.1 * rng.normal(size=(F, K, 1, H)),
        "voter.dense_2": drawn(F, 1, H, H),
        "voter.bias_2": 0.1 * rng.normal(size=(F, K, 1, H)),
        "voter.dense_3": np.zeros((F, 1, H, R)),
        "voter.linear": np.zeros((F, 1, d, R)),
        "voter.centre": np.zeros((F, K, 1, R)),
        "message.dense_1": rng.normal(size=(F, 1, t, N_MESSAGE_HIDDEN)),
        "message.scale_1": signs(F, K, 1, N_MESSAGE_HIDDEN),
        "message.bias_1": 0.1 * rng.normal(size=(F, K, 1, N_MESSAGE_HIDDEN)),
        "message.dense_2": 0.3 * drawn(F, 1, N_MESSAGE_HIDDEN, R),
        "message.bias": rng.normal(size=(F, K, 1, R)) / np.sqrt(R),
        "message.issue": 0.1 * rng.normal(size=(F, 1, n_issues, R)),
        "message.free": 0.1 * rng.normal(size=(F, 1, M, R)),
        "message.free_log_sd": np.full((F, 1, M, R), -2.0),
        "message.prior_log_sd": np.full((F, 1, n_issues, 1), -1.5),
    }
    single_precision: dict[str, npt.NDArray[Any]] = {
        name: value.astype(np.float32) for name, value in weights.items()
    }
    return {**single_precision, "voter.fold": np.arange(F)}


def _batches(
    train: Ints, batch: int, rng: np.random.Generator, device: str
) -> Iterator["torch.Tensor"]:
    """Rows of every fold in a new order, shape (F, batch) each."""
    import torch

    order = torch.tensor(rng.permuted(train, axis=1), device=device)
    for at in range(0, train.shape[1] - batch + 1, batch):
        yield order[:, at : at + batch]


def _predicted(
    w: Mapping[str, Any], data: _Tensors, rows: "torch.Tensor", free: "torch.Tensor"
) -> "torch.Tensor":
    """Σ_m (1[W = m] − e_m) h_m(x), shape (F, K, B)."""
    v = voter_vectors(w, data.numbers[rows], data.codes[rows])
    u = message_vectors(w, data.text, data.issue, free)
    predicted: torch.Tensor = (v * (data.contrast[rows][:, None] @ u)).sum(-1)
    return predicted


def _loss(
    w: Mapping[str, Any],
    data: _Tensors,
    rows: "torch.Tensor",
    noise: "torch.Tensor",
    n_rows: int,
) -> "torch.Tensor":
    """Evidence bound: R-loss with what is a message's own drawn, plus its divergence.

    The free part of a message is N(0, σ²) with a σ² of its issue that is learnt: with
    few people it stays at 0, and σ² says how far a message never sent may deviate.
    """
    free = w["message.free"] + noise * w["message.free_log_sd"].exp()
    target = data.residual[rows] / data.spread[:, None]
    error = target[:, None] - _predicted(w, data, rows, free)
    weight = data.weight[rows].movedim(-1, 1)
    fit = 0.5 * (weight * error**2).mean(dim=(1, 2))
    log_sd = w["message.free_log_sd"]
    prior = data.issue @ w["message.prior_log_sd"]
    second = (log_sd * 2).exp() + w["message.free"] ** 2
    divergence = prior - log_sd + 0.5 * second * (-2 * prior).exp() - 0.5
    loss: torch.Tensor = (fit + divergence.sum(dim=(1, 2, 3)) / n_rows).sum()
    return loss


def _explained(w: Mapping[str, Any], data: _Tensors, rows: Ints) -> "torch.Tensor":
    """Share of the validation rows' R-loss that h explains at its best scale, (F,).

    The scale is free: how far h is believed is the calibration's to say.
    """
    import torch

    with torch.no_grad():
        at = torch.tensor(rows, device=data.residual.device)
        predicted = _predicted(w, data, at, w["message.free"]).mean(dim=1)
        weight, y = data.weight[at].mean(dim=-1), data.residual[at]
        moment = (weight * predicted * y).sum(dim=1).clip(0)
        norm = (weight * predicted**2).sum(dim=1) * (weight * y**2).sum(dim=1)
        return moment**2 / norm.clip(1e-30)


class _Best:
    """The weights of the best epoch of every fold."""

    def __init__(self, w: Mapping[str, "torch.Tensor"], n_folds: int) -> None:
        self.weights = {name: value.detach().clone() for name, value in w.items()}
        self.score = [-1.0] * n_folds

    def offer(self, w: Mapping[str, "torch.Tensor"], score: "torch.Tensor") -> None:
        for k, epoch_score in enumerate(score.tolist()):
            if epoch_score > self.score[k]:
                self.score[k] = epoch_score
                for name, value in w.items():
                    self.weights[name][k] = value.detach()[k]
