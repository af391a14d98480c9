"""Rules that the whole code keeps: what is there is reached, and has its own name."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "training", "serving", "experiments")
ROOTS = (
    "experiments/cli", "serving/service.py", "serving/bento.py",
    "training/registry/pyfunc.py", ".package/hustings/__init__.py",
)  # fmt: skip
"""Commands, endpoint, Bento, the registered model's code and the public package."""
NOT_REACHED = {
    "undescribed": "the tests ask it whether every column has a description",
    "pair_probability": "what tests/speed/linkage compares linking persons with",
}
"""Public definitions that no root reaches, each with its reason."""
EMPTY_WORDS = frozenset(
    ("told", "found", "mine", "made", "asked", "kept", "known", "done", "whole", "own",
     "few", "some", "others", "both", "more", "named", "shown", "met")
)  # fmt: skip
MOST_EMPTY = 0.013
"""Largest share of assigned names that say nothing; it only ever falls."""


@cache
def modules() -> dict[Path, ast.Module]:
    """Every module of the packages, parsed."""
    files = chain.from_iterable((ROOT / name).rglob("*.py") for name in PACKAGES)
    return {path: ast.parse(path.read_text()) for path in sorted(files)}


def names_in(node: ast.AST) -> Iterator[str]:
    """Every name and attribute under a node, and what an import brings."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr
        elif isinstance(inner, ast.ImportFrom):
            # under a name of its own it is used by that one
            yield from (a.name for a in inner.names if a.asname)
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            # a kind of model is read by its name, an app by "module:name"
            yield inner.value.rpartition(":")[2]


def is_definition(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def is_root(path: Path) -> bool:
    return str(path.relative_to(ROOT)).startswith(ROOTS)


def reached_names() -> set[str]:
    """Names that the roots lead to, through what each of them refers to."""
    refers: dict[str, set[str]] = defaultdict(set)
    seen: set[str] = set()
    public = ast.parse((ROOT / ".package/hustings/__init__.py").read_text())
    seen |= set(names_in(public)) | {
        alias.name
        for node in ast.walk(public)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for path, tree in modules().items():
        for node in tree.body:
            if is_root(path) or not is_definition(node):
                # what a module does when it is imported is done
                seen |= set(names_in(node))
            else:
                refers[node.name] |= set(names_in(node))
    todo = list(seen)
    while todo:
        for name in refers.pop(todo.pop(), ()):
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen


def test_every_public_definition_is_reached_from_a_command_or_the_endpoint() -> None:
    reached = reached_names()
    unreached = {
        node.name: str(path.relative_to(ROOT))
        for path, tree in modules().items()
        if not is_root(path)
        for node in tree.body
        if is_definition(node)
        and not node.name.startswith("_")
        and node.name not in reached
    }
    assert set(unreached) == set(NOT_REACHED), unreached


def test_a_module_has_a_name_of_its_own_within_its_package() -> None:
    places = defaultdict(list)
    for path in modules():
        parts = path.relative_to(ROOT).parts
        if path.stem not in {"__init__", "__main__"} and len(parts) > 2:
            places["/".join(parts[:2]), path.stem].append(path)
    twice = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert not twice


def test_no_more_public_classes_share_a_name_than_did() -> None:
    places = defaultdict(list)
    for path, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert not twice


def test_assigned_names_say_what_a_value_is() -> None:
    assigned = [
        node.id
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    empty = sum(name in EMPTY_WORDS for name in assigned)
    assert empty / len(assigned) <= MOST_EMPTY


@pytest.mark.parametrize("name", ["stage_score", "plan_contacts", "run_day", "offer"])
def test_the_walk_finds_what_is_surely_reached(name: str) -> None:
    assert name in reached_names()
