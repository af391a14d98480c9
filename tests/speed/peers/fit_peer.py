"""Fits one public tool and predicts, inside the environment that holds that tool.

    python fit_peer.py TOOL ASKED.npz ANSWER.npz [ASKED.npz ANSWER.npz ...]

It imports nothing of this project. ASKED holds `X_train`, `arm`, `Y`, `propensities`,
`X_eval`, `categorical`, `seed` and `threads`; ANSWER gets `lift` (n_eval, M), `low` and
`high` where the tool says how sure it is, and `seconds`: of the processor, for fit and
predict, and the threads. The tool is imported once, before any clock starts.
"""

import importlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TREES = {
    "n_estimators": 100, "learning_rate": 0.05, "num_leaves": 15, "verbosity": -1,
}  # fmt: skip
"""LightGBM within every tool: calmer than its defaults, which overfit lifts more."""
LEAF = (20, 200)
"""Fewest rows of a leaf: a fiftieth of the rows within these, 200 from 10,000 rows on;
20 is LightGBM's default."""
FOREST = {"n_estimators": 500, "min_samples_leaf": 50, "max_samples": 0.4}
DRAWS = {"num_gfr": 10, "num_mcmc": 100}
"""Of the Bayesian forest: warm starts, and the draws from the posterior."""
BLOCK_ROWS = 10_000
"""Rows of which all draws are in memory at once."""
N_FOLDS = 3


class Asked(NamedTuple):
    """What a tool is given; n voters to learn from, M messages.

    Attributes:
        X: Imputed, standardised, categories one-hot, shape (n, n_columns).
        arm: 0 for control, shape (n,).
        Y: Observed outcome, shape (n,).
        propensities: Shape (n, 1 + M).
        X_eval: As X, of the voters to predict.
        seed: Of everything random.
        threads: How many a tool may use.
    """

    X: Floats
    arm: Ints
    Y: Floats
    propensities: Floats
    X_eval: Floats
    seed: int
    threads: int

    @property
    def n_messages(self) -> int:
        return self.propensities.shape[1] - 1

    @property
    def labels(self) -> npt.NDArray[np.str_]:
        """Arms as text that sorts in the order of their numbers."""
        return np.char.add("arm", np.char.zfill(self.arm.astype(str), 3))


class Answer(NamedTuple):
    """Predicted lift, shape (n_eval, M) each; None where there is no interval."""

    lift: Floats
    low: Floats | None = None
    high: Floats | None = None


Predict = Callable[[], Answer]


def read_asked(path: str) -> Asked:
    """What is asked, with its columns made ready for any tool."""
    stored = np.load(path)
    observed = ~np.isnan(stored["Y"])
    columns = [
        _column(stored["X_train"][:, j], stored["X_eval"][:, j], j in categorical)
        for categorical in [set(stored["categorical"].tolist())]
        for j in range(stored["X_train"].shape[1])
    ]
    train, held = (np.column_stack(side) for side in zip(*columns, strict=True))
    return Asked(
        train[observed], stored["arm"][observed], stored["Y"][observed],
        stored["propensities"][observed], held, int(stored["seed"]),
        int(stored["threads"]),
    )  # fmt: skip


def _column(train: Floats, held: Floats, is_category: bool) -> tuple[Floats, Floats]:
    """One-hot without the first level, or the median for what is missing and a flag."""
    train, held = train.astype(np.float64), held.astype(np.float64)
    if is_category:
        levels = np.unique(train[~np.isnan(train)])[1:]
        return train[:, None] == levels, held[:, None] == levels
    middle, spread = np.nanmedian(train), max(np.nanstd(train), 1e-9)
    missing = np.isnan(train)
    sides = []
    for side in (train, held):
        filled = (np.where(np.isnan(side), middle, side) - middle) / spread
        flag = np.isnan(side).astype(float)
        sides.append(np.column_stack([filled, flag] if missing.any() else [filled]))
    return sides[0], sides[1]


def _settings(asked: Asked) -> dict[str, Any]:
    leaf = int(np.clip(len(asked.Y) // 50, *LEAF))
    return {**TREES, "min_child_samples": leaf, "n_jobs": asked.threads}


def _trees(asked: Asked) -> Any:
    from lightgbm import LGBMRegressor

    return LGBMRegressor(**_settings(asked), random_state=asked.seed)


def _shares() -> Any:
    """The arms' shares for everyone: what a randomised design's propensity is."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="prior")


def _known(asked: Asked) -> dict[str, Floats]:
    """P(message | message or control) by label, shape (n,) each."""
    e = asked.propensities
    return {
        f"arm{m:03d}": e[:, m] / (e[:, 0] + e[:, m])
        for m in range(1, asked.n_messages + 1)
    }


def lightgbm_s(asked: Asked) -> Predict:
    """One LightGBM for all arms, the arm a category among the columns."""
    arm = asked.arm[:, None].astype(float)
    last = asked.X.shape[1]
    model = _trees(asked).fit(
        np.column_stack([asked.X, arm]), asked.Y, categorical_feature=[last]
    )

    def predict() -> Answer:
        n = len(asked.X_eval)
        by_arm = [
            model.predict(np.column_stack([asked.X_eval, np.full(n, float(a))]))
            for a in range(asked.n_messages + 1)
        ]
        return Answer(np.column_stack(by_arm[1:]) - by_arm[0][:, None])

    return predict


def econml_linear_dr(asked: Asked) -> Predict:
    """EconML's doubly robust learner with a linear final stage."""
    from econml.dr import LinearDRLearner

    model = LinearDRLearner(
        model_regression=_trees(asked), model_propensity=_shares(), cv=N_FOLDS,
        random_state=asked.seed,
    )  # fmt: skip
    model.fit(asked.Y, asked.arm, X=asked.X)
    return lambda: _inferred(model.const_marginal_effect_inference(asked.X_eval))


def econml_dr_trees(asked: Asked) -> Predict:
    """EconML's doubly robust learner with LightGBM as its final stage."""
    from econml.dr import DRLearner

    model = DRLearner(
        model_regression=_trees(asked), model_propensity=_shares(),
        model_final=_trees(asked), cv=N_FOLDS, random_state=asked.seed,
    )  # fmt: skip
    model.fit(asked.Y, asked.arm, X=asked.X)
    return lambda: Answer(np.asarray(model.const_marginal_effect(asked.X_eval)))


def econml_forest(asked: Asked) -> Predict:
    """EconML's causal forest on residuals."""
    from econml.dml import CausalForestDML

    model = CausalForestDML(
        model_y=_trees(asked), model_t=_shares(), discrete_treatment=True, cv=N_FOLDS,
        n_jobs=asked.threads, random_state=asked.seed, **FOREST,
    )  # fmt: skip
    model.fit(asked.Y, asked.arm, X=asked.X)
    return lambda: _inferred(model.const_marginal_effect_inference(asked.X_eval))


def _inferred(found: Any) -> Answer:
    low, high = found.conf_int(alpha=0.05)
    lift = np.asarray(found.point_estimate)
    return Answer(lift, np.reshape(low, lift.shape), np.reshape(high, lift.shape))


def causalml_t(asked: Asked) -> Predict:
    """causalml: a model for each arm."""
    from causalml.inference.meta import BaseTRegressor

    model = BaseTRegressor(learner=_trees(asked), control_name="arm000")
    model.fit(X=asked.X, treatment=asked.labels, y=asked.Y)
    return lambda: Answer(model.predict(asked.X_eval))


def causalml_x(asked: Asked) -> Predict:
    """causalml: effects imputed across arms, weighted by the known propensity."""
    from causalml.inference.meta import BaseXRegressor

    model = BaseXRegressor(learner=_trees(asked), control_name="arm000")
    known = _known(asked)
    model.fit(X=asked.X, treatment=asked.labels, y=asked.Y, p=known)
    n = len(asked.X_eval)
    shares = {label: np.full(n, p.mean()) for label, p in known.items()}
    return lambda: Answer(model.predict(asked.X_eval, p=shares))


def causalml_dr(asked: Asked) -> Predict:
    """causalml: the doubly robust learner with the known propensity."""
    from causalml.inference.meta import BaseDRRegressor

    model = BaseDRRegressor(learner=_trees(asked), control_name="arm000")
    model.fit(
        X=asked.X, treatment=asked.labels, y=asked.Y, p=_known(asked), seed=asked.seed
    )
    return lambda: Answer(model.predict(asked.X_eval))


def uplift_two_models(asked: Asked) -> Predict:
    """scikit-uplift: two models for each message, control and message."""
    from lightgbm import LGBMClassifier
    from sklift.models import TwoModels

    binary = bool(np.isin(asked.Y, (0.0, 1.0)).all())
    settings = {**_settings(asked), "random_state": asked.seed}
    models = []
    for m in range(1, asked.n_messages + 1):
        among = (asked.arm == 0) | (asked.arm == m)
        pair = [
            LGBMClassifier(**settings) if binary else _trees(asked) for _ in range(2)
        ]
        model = TwoModels(estimator_trmnt=pair[0], estimator_ctrl=pair[1])
        sent = (asked.arm[among] == m).astype(int)
        Y = asked.Y[among].astype(int) if binary else asked.Y[among]
        models.append(model.fit(asked.X[among], Y, sent))
    return lambda: Answer(np.column_stack([m.predict(asked.X_eval) for m in models]))


def metalearners_t(asked: Asked) -> Predict:
    """metalearners: a model for each arm."""
    from metalearners import TLearner

    return _meta(asked, TLearner, n_folds=1)


def metalearners_x(asked: Asked) -> Predict:
    """metalearners: effects imputed across arms."""
    from metalearners import XLearner

    return _meta(asked, XLearner, n_folds=N_FOLDS, **_two_stages(asked))


def metalearners_dr(asked: Asked) -> Predict:
    """metalearners: the doubly robust learner."""
    from metalearners import DRLearner

    return _meta(asked, DRLearner, n_folds=N_FOLDS, **_two_stages(asked))


def _two_stages(asked: Asked) -> dict[str, Any]:
    from lightgbm import LGBMRegressor
    from sklearn.dummy import DummyClassifier

    return {
        "treatment_model_factory": LGBMRegressor,
        "treatment_model_params": _settings(asked),
        "propensity_model_factory": DummyClassifier,
        "propensity_model_params": {"strategy": "prior"},
    }


def _meta(asked: Asked, kind: Any, **settings: Any) -> Predict:
    from lightgbm import LGBMRegressor

    model = kind(
        is_classification=False, n_variants=asked.n_messages + 1,
        nuisance_model_factory=LGBMRegressor, nuisance_model_params=_settings(asked),
        random_state=asked.seed, **settings,
    )  # fmt: skip
    model.fit(X=asked.X, y=asked.Y, w=asked.arm)
    n, m = len(asked.X_eval), asked.n_messages
    return lambda: Answer(model.predict(asked.X_eval, is_oos=True).reshape(n, m))


def stochtree_bcf(asked: Asked) -> Predict:
    """stochtree's Bayesian causal forest of all messages at once, by its own defaults.

    The design is randomised, so that no propensity stands among the covariates. Binary
    outcomes are modelled as numbers, on whose scale lifts add up.
    """
    from stochtree import BCFModel

    sent = (asked.arm[:, None] == np.arange(1, asked.n_messages + 1)).astype(float)
    model = BCFModel()
    model.sample(
        X_train=asked.X, Z_train=sent, y_train=asked.Y, **DRAWS,
        general_params={
            "random_seed": asked.seed, "num_threads": asked.threads,
            "propensity_covariate": "none",
        },
    )  # fmt: skip

    def predict() -> Answer:
        parts = []
        for start in range(0, len(asked.X_eval), BLOCK_ROWS):
            X = asked.X_eval[start : start + BLOCK_ROWS]
            ones = np.ones((len(X), asked.n_messages))
            drawn = model.predict(X=X, Z=ones, terms="cate", type="posterior")
            # one message comes without an axis of its own
            drawn = np.reshape(drawn, (len(X), -1, asked.n_messages))
            ends = np.quantile(drawn, [0.025, 0.975], axis=1)
            parts.append((drawn.mean(axis=1), *ends))
        return Answer(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    return predict


TOOLS: dict[str, Callable[[Asked], Predict]] = {
    "lightgbm_s": lightgbm_s,
    "econml_linear_dr": econml_linear_dr,
    "econml_dr_trees": econml_dr_trees,
    "econml_forest": econml_forest,
    "causalml_t": causalml_t,
    "causalml_x": causalml_x,
    "causalml_dr": causalml_dr,
    "uplift_two_models": uplift_two_models,
    "metalearners_t": metalearners_t,
    "metalearners_x": metalearners_x,
    "metalearners_dr": metalearners_dr,
    "stochtree_bcf": stochtree_bcf,
}


MODULES = {
    "lightgbm": ("lightgbm",),
    "econml": ("econml.dr", "econml.dml", "lightgbm"),
    "causalml": ("causalml.inference.meta", "lightgbm"),
    "uplift": ("sklift.models", "lightgbm"),
    "metalearners": ("metalearners", "lightgbm"),
    "stochtree": ("stochtree",),
}
"""What is imported before the clock starts, by the first word of a tool."""


def recipe(tool: str) -> str:
    """All that settles what a tool answers, as text: for the key of the cache."""
    shared = (
        _column, _settings, _trees, _shares, _known, _inferred, _two_stages, _meta,
    )  # fmt: skip
    text = "".join(inspect.getsource(f) for f in (TOOLS[tool], *shared))
    own = {"econml_forest": FOREST, "stochtree_bcf": DRAWS}.get(tool, "")
    return f"{text}{TREES}{LEAF}{own}{N_FOLDS}"


def main(tool: str, *paths: str) -> None:
    """Fit, predict, and write what came of it, for one pair of files after another."""
    warnings.simplefilter("ignore")
    for module in MODULES[tool.split("_")[0]]:
        importlib.import_module(module)
    for asked_path, answer_path in zip(paths[::2], paths[1::2], strict=True):
        _answer(tool, read_asked(asked_path), Path(answer_path))


def _cpu_seconds() -> float:
    """Of this process and of those that it has started, all threads."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _answer(tool: str, asked: Asked, path: Path) -> None:
    started = _cpu_seconds()
    predict = TOOLS[tool](asked)
    fitted = _cpu_seconds()
    answer = predict()
    seconds = [fitted - started, _cpu_seconds() - fitted, asked.threads]
    found = {k: v for k, v in answer._asdict().items() if v is not None}
    found = {k: np.asarray(v, dtype=np.float32) for k, v in found.items()}
    # whole or not at all: a run may be stopped at any time
    aside = path.with_suffix(".partial.npz")
    np.savez(aside, seconds=np.array(seconds), **found)
    aside.replace(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
