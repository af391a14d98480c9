"""Priors for message effects from other studies, and their combination with data.

A vendor's topline or a pretest panel is not the field effect. It enters as a prior for
the message's mean: the estimate times a declared, uncertain transport factor.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats
from hustings.features.training_set import EffectPrior, MessageTest


class Combined(NamedTuple):
    """Estimates combined with priors.

    Attributes:
        mean: Shape (k,).
        covariance: Shape (k, k).
        conflict: (estimate − prior) in units of the error of that difference, NaN where
            one of them is missing, shape (k,): beyond ±3 one of both is wrong.
    """

    mean: Floats
    covariance: Floats
    conflict: Floats


def transported(
    estimate: Floats, se: Floats, transport: Floats, transport_sd: Floats
) -> tuple[Floats, Floats]:
    """Mean and variance of a field effect, from an estimate made elsewhere.

    transport × estimate, and transport² se² + estimate² transport_sd².

    Args:
        estimate: Effect elsewhere, shape (k,).
        se: Its standard error, shape (k,).
        transport: Share of it that is expected in the field, shape (k,).
        transport_sd: How uncertain that share is, shape (k,).

    >>> mean, variance = transported(*np.array([[6.0], [1.0], [0.5], [0.25]]))
    >>> mean.tolist(), variance.tolist()
    ([3.0], [2.5])
    """
    return transport * estimate, transport**2 * se**2 + estimate**2 * transport_sd**2


def combine_with_prior(
    estimate: Floats, covariance: Floats, prior_mean: Floats, prior_var: Floats
) -> Combined:
    """Precision-weighted mean of estimates and priors.

    Args:
        estimate: Shape (k,).
        covariance: Of the estimates, infinite on the diagonal where there are no data,
            shape (k, k).
        prior_mean: NaN where nothing is known, shape (k,).
        prior_var: Shape (k,).

    Raises:
        ValueError: If a prior's variance is not above 0, or there is neither an
            estimate nor a prior.

    Source: Gelman et al., Bayesian Data Analysis (2013), section 3.5.
    """
    has_prior = np.isfinite(prior_mean)
    measured = np.isfinite(np.diag(covariance)) & np.isfinite(estimate)
    if not (prior_var[has_prior] > 0).all():
        raise ValueError(
            f"expected prior variances above 0, got {prior_var[has_prior].min()}"
        )
    if not (has_prior | measured).all():
        raise ValueError(
            f"expected an estimate or a prior of everything, got neither of "
            f"{int((~has_prior & ~measured).sum())}"
        )
    precision, pull = np.zeros_like(covariance), np.zeros(len(estimate))
    inside = np.ix_(measured, measured)
    precision[inside] = np.linalg.inv(covariance[inside])
    pull[measured] = precision[inside] @ estimate[measured]
    of_prior = np.where(has_prior, 1.0 / np.where(has_prior, prior_var, 1.0), 0.0)
    pull = pull + of_prior * np.where(has_prior, prior_mean, 0.0)
    combined = np.linalg.inv(precision + np.diag(of_prior))
    comparable = has_prior & measured
    spread = np.sqrt(np.where(comparable, np.diag(covariance) + prior_var, np.nan))
    return Combined(combined @ pull, combined, (estimate - prior_mean) / spread)


def prior_of(table: pd.DataFrame, messages: tuple[str, ...]) -> EffectPrior | None:
    """Prior of every message of a test; several sources of one are weighted.

    Args:
        table: PRIORS table, effects in the direction of the outcome (higher is better).
        messages: Of the test, length M.

    Returns:
        None where no message has one.
    """
    of_messages = table[table["message_id"].isin(messages)]
    if of_messages.empty:
        return None
    columns = (of_messages[c].to_numpy(np.float64) for c in _MOMENTS)
    mean, variance = transported(*columns)
    row = pd.Index(messages).get_indexer(pd.Index(of_messages["message_id"]))
    precision = np.bincount(row, 1 / variance, minlength=len(messages))
    pulled = np.bincount(row, mean / variance, minlength=len(messages))
    has_prior = precision > 0
    nothing = np.full(len(messages), np.nan)
    return EffectPrior(
        np.divide(pulled, precision, out=nothing.copy(), where=has_prior),
        np.divide(1.0, precision, out=nothing.copy(), where=has_prior),
    )


_MOMENTS = ("effect", "se", "transport", "transport_sd")


def with_prior(test: MessageTest, table: pd.DataFrame, direction: float) -> MessageTest:
    """The test with priors of its messages from other studies.

    Args:
        test: The experiment.
        table: PRIORS table, in the outcome's own direction.
        direction: -1 where the outcome is better when lower, else 1.
    """
    turned = table.assign(effect=direction * table["effect"])
    return replace(test, prior=prior_of(turned, test.messages))
