"""Every task of the bench by name, and which are for building, which for the verdict.

Learners are chosen on the build tasks; what is claimed is read off the verdict tasks,
each look at which is logged (`looks`). The split is declared here, before any tool was
fitted on a verdict task:

- A real data set of which any figure had been published in this repository or in the
  notes that its builders read (gains, average effects) is build.
- Of the archive's survey experiments, half are verdict: the first half in the order
  of the SHA-256 of their names.
- Simulated worlds have fixed seeds for building. For the verdict they are fresh: their
  seeds come from the last commit that changed a learner or a feature, so that nobody
  has seen them before the learner stands, and nobody draws them again.

No large field experiment is left that nobody has looked at: the mailers, Hillstrom and
New Haven are all build. The archive's README says of its studies together that the mean
gain of personalising is about nil.
"""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

from tests.speed.peers import studies
from tests.speed.peers.data_sets import LARGE, DataSet
from tests.speed.peers.worlds import KINDS, RARE12, draw_settings, world

Load = Callable[[], DataSet]

ROOT = Path(__file__).parents[3]
LEARNERS = ("training", "features")
"""Folders whose last commit settles the fresh worlds."""
N_WORLDS, N_RARE12 = 12, 2
"""Worlds of any kind, and of twelve rare messages, on either side."""
MOST_ROWS = 100_000
"""Rows of the largest world."""

_ISSUES: Mapping[str, Load] = {
    f"issue_{name.lower().replace(' ', '_')}": partial(studies.issue, name)
    for name in studies.ISSUES
}
_SURVEYS: Mapping[str, Load] = {
    f"survey_{name}": partial(studies.survey, name) for name in studies.STUDIES
}


def verdict_studies() -> tuple[str, ...]:
    """Half of the survey experiments, by the SHA-256 of their names."""
    ordered = sorted(studies.STUDIES, key=lambda name: sha256(name.encode()).digest())
    return tuple(ordered[: len(ordered) // 2])


_KEPT_APART = frozenset(f"survey_{name}" for name in verdict_studies())
_BUILD: Mapping[str, Load] = {
    **LARGE,
    "wi_group_competition": studies.group_competition,
    **_ISSUES,
    **{name: load for name, load in _SURVEYS.items() if name not in _KEPT_APART},
}
_VERDICT: Mapping[str, Load] = {
    "wi_ballot_secrecy": studies.wisconsin_secrecy,
    "ct_ballot_secrecy": studies.connecticut_secrecy,
    "bs2013": studies.climate_agreements,
    "onoburden2018": studies.candidates,
    **{name: load for name, load in _SURVEYS.items() if name in _KEPT_APART},
}


def build_tasks() -> tuple[str, ...]:
    """Names of the tasks on which learners are chosen."""
    return (*_BUILD, *_worlds(range(1, N_WORLDS + 1), range(1, N_RARE12 + 1)))


def verdict_tasks(root: Path = ROOT) -> tuple[str, ...]:
    """Names of the tasks of which claims are made, worlds fresh for these learners.

    Args:
        root: Of the repository.

    Raises:
        RuntimeError: If the learners are not as committed, or git does not answer.
    """
    changed = git(root, "status", "--porcelain", "--", *LEARNERS)
    if changed:
        raise RuntimeError(
            "expected learners and features as committed, which settles the fresh "
            f"worlds, got changes; commit them first:\n{changed}"
        )
    return (*_VERDICT, *_fresh_worlds(root))


def _fresh_worlds(root: Path) -> tuple[str, ...]:
    commit = learners_commit(root)
    seeds = [fresh_seed(commit, i) for i in range(N_WORLDS + N_RARE12)]
    return _worlds(seeds[:N_WORLDS], seeds[N_WORLDS:])


def _worlds(any_kind: range | list[int], rare12: range | list[int]) -> tuple[str, ...]:
    return (
        *(f"world_{draw_settings(seed).kind}_{seed}" for seed in any_kind),
        *(f"world_{RARE12}_{seed}" for seed in rare12),
    )


def fresh_seed(commit: str, i: int) -> int:
    """Seed of the i-th fresh world after a commit."""
    return int(sha256(f"{commit} {i}".encode()).hexdigest()[:12], 16)


def learners_commit(root: Path = ROOT) -> str:
    """The last commit that changed a learner or a feature.

    Args:
        root: Of the repository.
    """
    return git(root, "log", "-1", "--format=%H", "--", *LEARNERS)


def git(root: Path, *command: str) -> str:
    """What git answers in a repository.

    Raises:
        RuntimeError: If it does not.
    """
    ran = subprocess.run(
        ["git", "-C", str(root), *command], check=False, capture_output=True, text=True
    )
    if ran.returncode:
        raise RuntimeError(f"expected a git checkout at {root}, got {ran.stderr}")
    return ran.stdout.strip()


def verdict_among(names: Sequence[str], root: Path = ROOT) -> tuple[str, ...]:
    """The tasks that to run is a look at the verdict, fresh worlds included.

    Args:
        names: Of tasks.
        root: Of the repository.
    """
    others = {n for n in names if n.startswith("world_")} - set(build_tasks())
    apart = {*_VERDICT, *(_fresh_worlds(root) if others else ())}
    return tuple(name for name in names if name in apart)


def loader_of(name: str, *, most_rows: int = MOST_ROWS) -> Load:
    """What loads a task: one of the lists, or any world as world_KIND_SEED.

    What it loads may not be there (FileNotFoundError: its real table is not in
    HUSTINGS_DATA; TooFewAnswersError: too few people answered).

    Args:
        name: Of the task.
        most_rows: Of a world.

    Raises:
        ValueError: If there is no such task.
    """
    real = {**_BUILD, **_VERDICT}.get(name)
    if real is not None:
        return real
    prefix, _, rest = name.partition("_")
    kind, _, seed = rest.partition("_")
    if prefix == "world" and kind in KINDS and seed.isdecimal():
        return partial(world, int(seed), kind=kind, most_rows=most_rows)
    raise ValueError(
        f"expected a task of {', '.join(build_tasks())}, or world_KIND_SEED with a "
        f"kind of {', '.join(KINDS)}, got {name!r}"
    )
