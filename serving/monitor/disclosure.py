"""Disclosure control for growing counts: every figure covers 20 people or more.

Every reaction belongs to one lane, and a lane is shown only in chunks of at least
`CHUNK` different people. Every figure shown is a sum of whole chunks. So each figure,
each difference of two figures and each part of a total covers at least that many
people. Who knows the reactions of up to `COLLUDING` accounts, having made them up
around one that is real, still sees no figure of fewer than `SMALLEST_CELL` others,
however often the accounts react: each counts once in a chunk. The price is a lag of up
to `CHUNK` − 1 people per lane.

Chunks depend only on the order of the reactions, not on when anybody looked: counting
the store again gives the same chunks, and a restart shows nothing more.
"""

from collections.abc import Iterable, Mapping

from hustings.features.tables import SMALLEST_CELL, in_twenties

COLLUDING = SMALLEST_CELL
"""So many accounts of one hand learn nothing of anybody else."""
CHUNK = SMALLEST_CELL + COLLUDING
"""Different people behind the reactions that are shown together."""
OTHER = "other"
"""Where lanes too small to be shown by themselves are shown together."""


class Lane:
    """Reactions of one kind that are shown together, in chunks.

    Attributes:
        n_shown: Reactions in whole chunks.
        waiting: Reactions that still wait for their chunk.
        nameless: Waiting people without an identity, such as those in a platform's
            counts.
        people: Hashes of the people who can be distinguished; fewer than `CHUNK`.
        since: When the oldest that waits came; any unit.
    """

    __slots__ = ("n_shown", "nameless", "people", "since", "waiting")

    def __init__(self) -> None:
        self.n_shown = 0
        self.waiting = 0
        self.nameless = 0
        self.people: set[str] = set()
        self.since = 0

    @property
    def n_waiting(self) -> int:
        """Different people that wait."""
        return self.nameless + len(self.people)

    def add(self, count: int, person: str | None, at: int) -> int:
        """Take a reaction in.

        Args:
            count: 1 for a person's, n for a platform's count of n people.
            person: Hash of the person; None where nobody knows.
            at: When it came.

        Returns:
            Reactions of the chunk that this one completes; 0 where none is complete.
        """
        if not self.waiting:
            self.since = at
        self.waiting += count
        if person is None:
            self.nameless += count
        else:
            self.people.add(person)
        return self._chunk() if self.n_waiting >= CHUNK else 0

    def _chunk(self) -> int:
        chunk, self.waiting = self.waiting, 0
        self.nameless = 0
        self.people = set()
        self.n_shown += chunk
        return chunk


def pour(lanes: Iterable[Lane], together: Lane) -> int:
    """Move the waiting reactions of several lanes into one, for good.

    Args:
        lanes: Whose waiting reactions leave them.
        together: The lane that takes them.

    Returns:
        Reactions of the chunk that they complete there; 0 where all of them together
        are still too few people.
    """
    for lane in lanes:
        together.waiting += lane.waiting
        together.nameless += lane.nameless
        together.people |= lane.people
        lane.waiting, lane.nameless, lane.people = 0, 0, set()
    return together._chunk() if together.n_waiting >= CHUNK else 0


def shown_counts(counts: Mapping[str, int]) -> dict[str, int]:
    """Numbers of people by group, as far as they may be shown one after the other.

    Each is rounded down to a multiple of `SMALLEST_CELL`: it is 0 or at least that, and
    so is its difference from any earlier one. A total may be shown only as their sum.

    Args:
        counts: People by group; each in one group.

    >>> shown_counts({"young": 47, "old": 19, "middle": 20})
    {'middle': 20, 'young': 40}
    """
    floors = {name: in_twenties(n) for name, n in counts.items()}
    return {name: n for name, n in sorted(floors.items()) if n}
