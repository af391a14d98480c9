"""Record linkage of reactors to voters, with the probability of each link.

Exact keys come first, where both sides have them; the others are compared field by
field. Only people with a recorded basis may be handed in: `persons.linkable` sees to
that. No label is ever used; the seed fixes the result.

Each person of the file may be several reactors (accounts), a reactor is one person at
most: of a reactor's candidates the likeliest is taken, and it alone, where it is at
least as likely as the threshold. From a threshold of a half on there is only one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats, Ints
from hustings.features.persons.link.blocking import Rule
from hustings.features.persons.link.fields import (
    EQUIVALENTS,
    FIELDS,
    Tidied,
    share_filled,
    tidy,
    with_equivalents,
)
from hustings.features.persons.link.posterior import person_probability, right_share
from hustings.features.persons.link.score import LEAST_WEIGHT, Scored, score_pairs
from hustings.features.tables import LINKS, TableError, check

__all__ = ["KeyCheck", "LinkSummary", "Linked", "link_reactors"]


THRESHOLD = 0.5
"""Below it a link is more likely wrong than right."""
BY_KEY, BY_FIELDS = "key", "fields"
MIN_CHECKED = 20
"""Fewer reactors found by key than this say nothing of those found by their fields."""


class KeyCheck(NamedTuple):
    """Reactors found by key, looked for again by their other fields alone.

    Attributes:
        n: Reactors whose fields named a voter with at least the threshold.
        expected: Share of them that should be right by their probability.
        found: Share whose voter is the one of the key.
        se: Standard error of that share.
    """

    n: int
    expected: float
    found: float
    se: float

    @property
    def relative_error(self) -> float:
        """How far the probabilities may be off, as a share of them, one SD."""
        return float(np.hypot(self.found - self.expected, self.se) / self.expected)


@dataclass(frozen=True)
class LinkSummary:
    """Summary of a linkage: counts only, no person's data.

    Attributes:
        n_reactors: Reactors with a basis.
        n_voters: Voters they were compared with.
        n_by_key: Linked by an exact key.
        n_by_fields: Linked by their other fields.
        threshold: Least probability of a link.
        expected_false: Links that are wrong, by their probabilities.
        expected_missed: Reactors of the file who were not linked to their voter, by
            the probabilities of their candidates.
        share_in_file: Share of the reactors not found by key who are in the file.
        rules: Which pairs were looked at.
        learnt_from: Pairs that the weights were learnt from.
        filled: Field → share of reactors who gave it.
        bad_reactors: Field → values that no such field can have.
        bad_voters: The same of the voters.
        check: What keys say of the probabilities; None where too few have one.
    """

    n_reactors: int
    n_voters: int
    n_by_key: int
    n_by_fields: int
    threshold: float
    expected_false: float
    expected_missed: float
    share_in_file: float
    rules: tuple[Rule, ...]
    learnt_from: tuple[Rule, ...]
    filled: dict[str, float]
    bad_reactors: dict[str, int]
    bad_voters: dict[str, int]
    check: KeyCheck | None

    def to_json(self) -> dict[str, Any]:
        """Convert to plain JSON values."""
        return asdict(self) | {"check": self.check and self.check._asdict()}


@dataclass(frozen=True)
class Linked:
    """Links, and what they came to.

    Attributes:
        links: LINKS table.
        summary: Counts and expectations.
    """

    links: pd.DataFrame
    summary: LinkSummary


def link_reactors(
    reactors: pd.DataFrame,
    voters: pd.DataFrame,
    *,
    fields: Sequence[str] | None = None,
    rules: Sequence[Rule] = (),
    threshold: float = THRESHOLD,
    calling_code: str = "1",
    seed: int,
) -> Linked:
    """Find reactors in the voter file.

    Args:
        reactors: reaction_person and identity columns (`fields.FIELDS`, or `name`), a
            row a person; only people who may be linked.
        voters: voter_id and identity columns, a row a voter.
        fields: Fields to compare by; all that both have without.
        rules: Fields that have to agree for a pair to be compared, several rules;
            found from the columns without.
        threshold: Least probability of a link, from .5.
        calling_code: Of telephones that are written without one.
        seed: Of every draw.

    Raises:
        TableError: If a person or voter has two rows, nothing can be compared, or the
            threshold is below a half.
    """
    _refuse_repeats(reactors, "reaction_person")
    _refuse_repeats(voters, "voter_id")
    if not THRESHOLD <= threshold < 1:
        raise TableError(
            f"expected a threshold in [{THRESHOLD}, 1), got {threshold}: below it a "
            "link is more likely wrong than right; mend [link].threshold"
        )
    ours, theirs = _comparable(
        tidy(reactors, calling_code=calling_code),
        tidy(voters, calling_code=calling_code),
        fields,
    )
    keyed = _by_key(ours.frame, theirs.frame)
    scored = (
        score_pairs(ours.frame, theirs.frame, rules=rules, seed=seed)
        if len(reactors)
        else _NOTHING
    )
    decided = _decided(keyed, scored, len(reactors), len(voters), ours.frame)
    is_linked = decided.best >= threshold
    links = pd.DataFrame(
        {
            "reaction_person": reactors["reaction_person"].to_numpy()[is_linked],
            "voter_id": voters["voter_id"].to_numpy()[decided.voter[is_linked]],
            "probability": np.clip(np.round(decided.best[is_linked], 6), 1e-6, 1.0),
            "linked_by": np.where(keyed[is_linked] >= 0, BY_KEY, BY_FIELDS),
        }
    ).astype({"reaction_person": "str", "voter_id": "str", "linked_by": "str"})
    links = links.sort_values("reaction_person", ignore_index=True)
    summary = LinkSummary(
        n_reactors=len(reactors),
        n_voters=len(voters),
        n_by_key=int((keyed[is_linked] >= 0).sum()),
        n_by_fields=int((keyed[is_linked] < 0).sum()),
        threshold=threshold,
        expected_false=float((1 - decided.best[is_linked]).sum()),
        expected_missed=float(decided.total.sum() - decided.best[is_linked].sum()),
        share_in_file=decided.share,
        rules=scored.rules,
        learnt_from=scored.learnt_from,
        filled=share_filled(ours.frame),
        bad_reactors=ours.bad,
        bad_voters=theirs.bad,
        check=_checked(keyed, scored, len(reactors), len(voters), threshold),
    )
    return Linked(check(LINKS, links), summary)


_EMPTY = np.empty(0, dtype=np.int64)
_NOTHING = Scored(_EMPTY, _EMPTY, _EMPTY.astype(np.float64), (), ())


def _refuse_repeats(frame: pd.DataFrame, key: str) -> None:
    n = int(frame[key].duplicated().sum())
    if n:
        raise TableError(
            f"expected one row for each {key} to link, got {n} more; join the rows of "
            "a person first"
        )


def _comparable(
    reactors: Tidied, voters: Tidied, fields: Sequence[str] | None
) -> tuple[Tidied, Tidied]:
    """Both sides with the fields that both have, or that both can be made to have."""
    ours = with_equivalents(reactors.frame, voters.frame)
    theirs = with_equivalents(voters.frame, reactors.frame)
    shared = [str(c) for c in ours if c in theirs]
    wanted = [_shared_form(c, shared) for c in fields or shared]
    wanted = [c for c in wanted if c in FIELDS or fields]
    absent = [c for c in wanted if c not in shared]
    if absent or not wanted:
        raise TableError(
            f"expected fields that reactors and voters both have "
            f"({', '.join(shared) or 'they share none'}), got {absent or 'none'}; "
            "mend [link].columns in campaign.toml"
        )
    compared = [c for c in shared if c in wanted or c not in FIELDS]
    return Tidied(ours[compared], reactors.bad), Tidied(theirs[compared], voters.bad)


def _shared_form(field: str, shared: Sequence[str]) -> str:
    """The field, or what it says too where only that is shared."""
    other = EQUIVALENTS.get(field, field)
    return other if field not in shared and other in shared else field


def _by_key(ours: pd.DataFrame, theirs: pd.DataFrame) -> Ints:
    """Row of the voter with the same key, -1 for none; a key of two voters is none."""
    voter_row = np.full(len(ours), -1, dtype=np.int64)
    for key in ("declared_id", "email_sha256"):
        if key in ours:
            once = theirs[key].dropna().drop_duplicates(keep=False)
            rows = pd.Series(theirs.index.get_indexer(once.index), index=once)
            row_by_this_key = ours[key].map(rows).fillna(-1).to_numpy(dtype=np.int64)
            voter_row = np.where(voter_row < 0, row_by_this_key, voter_row)
    return voter_row


class _Decided(NamedTuple):
    """Best voter (row) of every reactor, its probability, and that of all voters."""

    voter: Ints
    best: Floats
    total: Floats
    share: float


def _decided(
    keyed: Ints, scored: Scored, n_ours: int, n_theirs: int, ours: pd.DataFrame
) -> _Decided:
    has_key = keyed >= 0
    rest = ~has_key[scored.left]
    left = (np.cumsum(~has_key) - 1)[scored.left[rest]]
    p, share = person_probability(
        left, scored.weight[rest], int((~has_key).sum()), n_theirs
    )
    of_pair = scored.left[rest]
    total = np.bincount(of_pair, weights=p, minlength=n_ours).astype(np.float64)
    # the likeliest last, and of equally likely ones the first of the file
    order = np.lexsort((-scored.right[rest], p))
    voter, best = keyed.copy(), np.zeros(n_ours)
    voter[of_pair[order]] = scored.right[rest][order]
    best[of_pair[order]] = p[order]
    key_p = right_share(_weight_of_key(keyed, scored, ours))
    best[has_key], total[has_key] = key_p, key_p
    return _Decided(voter, best, total, share)


def _weight_of_key(keyed: Ints, scored: Scored, ours: pd.DataFrame) -> Floats:
    """What the other fields say of the pairs that a key made, in bits.

    A pair that no rule brought together agrees on nothing that it could; where a
    reactor gave nothing but the key there is no evidence either way.
    """
    by_key = scored.right == keyed[scored.left]
    weight = np.full(len(keyed), np.nan)
    weight[scored.left[by_key]] = scored.weight[by_key]
    other_fields = ours[[c for c in ours if FIELDS.get(str(c), "name") != "key"]]
    said = other_fields.notna().sum(axis=1).to_numpy() > 1
    weight = np.where(np.isnan(weight), np.where(said, LEAST_WEIGHT, 0.0), weight)
    return np.asarray(weight[keyed >= 0], dtype=np.float64)


def _checked(
    keyed: Ints, scored: Scored, n_ours: int, n_theirs: int, threshold: float
) -> KeyCheck | None:
    """Check link probabilities on reactors whose key names the voter."""
    p, _ = person_probability(scored.left, scored.weight, n_ours, n_theirs)
    sure = (p >= threshold) & (keyed[scored.left] >= 0)
    n = int(sure.sum())
    if n < MIN_CHECKED:
        return None
    right = scored.right[sure] == keyed[scored.left[sure]]
    share = float(right.mean())
    # one pseudo count keeps an error of zero from meaning that none is possible
    wrong = (n - right.sum() + 1) / (n + 2)
    se = float(np.sqrt(wrong * (1 - wrong) / n))
    return KeyCheck(n, float(p[sure].mean()), share, se)
