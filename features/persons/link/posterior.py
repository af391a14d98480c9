"""Match weights → posterior probability that a pair is one person.

The share of right pairs is not known beforehand. It is found by expectation
maximisation from the evidence itself, so that no recall has to be guessed.

Notation: r_ij = 2 ** weight is the likelihood ratio of pair (i, j).
"""

import numpy as np

from hustings.features.arrays import Floats, Ints

N_ROUNDS = 500
TOLERANCE = 1e-10
RIGHT_KEYS = 0.95
"""Share of the pairs of a key that are right, where no other field says anything."""


def pair_probability(weight: Floats, n_possible: float) -> Floats:
    """Every pair by itself, as among duplicates of one file.

    p = λ r / (1 − λ + λ r), where λ is the share of right pairs among all possible
    ones, the fixed point of λ = Σ p / n.

    Args:
        weight: Bits, shape (n_pairs,).
        n_possible: Pairs that the files could make, scored or not.
    """
    ratio = np.exp2(np.minimum(weight, 300.0))
    share = min(0.5, max(1.0, float((weight > 10).sum())) / n_possible)
    p = np.zeros(len(weight))
    for _ in range(N_ROUNDS):
        p = share * ratio / (1 - share + share * ratio)
        new_share = max(float(p.sum()), 1e-9) / n_possible
        if abs(new_share - share) < TOLERANCE * share:
            break
        share = new_share
    return p


def person_probability(
    left: Ints, weight: Floats, n_left: int, n_right: int
) -> tuple[Floats, float]:
    """Pairs of people who are in the other file at most once.

    A person is somebody of the other file with chance π, each of the N equally likely
    beforehand: p_ij = (π / N) r_ij / (1 − π + (π / N) Σ_k r_ik). So two people of one
    name share what is one person's, which pairs by themselves do not. π is the fixed
    point of π = mean_i Σ_j p_ij.

    Args:
        left: Who each pair is about, from 0, shape (n_pairs,).
        weight: Bits, shape (n_pairs,).
        n_left: People on the left.
        n_right: People on the right, N.

    Returns:
        p of every pair, and π.
    """
    ratio = np.exp2(np.minimum(weight, 300.0))
    evidence = np.bincount(left, weights=ratio, minlength=n_left)
    share, p = 0.5, np.zeros(len(weight))
    for _ in range(N_ROUNDS):
        prior = share / n_right
        p = prior * ratio / (1 - share + prior * evidence[left])
        new_share = float(np.clip(p.sum() / max(n_left, 1), 1e-9, 1 - 1e-9))
        if abs(new_share - share) < TOLERANCE:
            break
        share = new_share
    return p, share


def right_share(weight: Floats) -> Floats:
    """Pairs that an exact key made: right unless their other fields say otherwise.

    p = π r / (1 − π + π r), where π is the share of such pairs that are right, the
    fixed point of π = mean p. A key shared within a family is what is wrong of them.

    Args:
        weight: Bits, shape (n_pairs,).
    """
    ratio = np.exp2(np.minimum(weight, 300.0))
    share, p = RIGHT_KEYS, np.ones(len(weight))
    for _ in range(N_ROUNDS):
        p = share * ratio / (1 - share + share * ratio)
        # two pseudo pairs, of which a twentieth is wrong: a few keys prove little
        new_share = (float(p.sum()) + 2 * RIGHT_KEYS) / (len(weight) + 2)
        if abs(new_share - share) < TOLERANCE:
            break
        share = new_share
    return p
