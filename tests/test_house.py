"""Rules that the whole code keeps: what is there is reached, and has its own name."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "training", "serving", "experiments")
ROOTS = (
    "experiments/cli", "serving/service.py", "serving/bento.py",
    "training/registry/pyfunc.py", ".package/hustings/__init__.py",
)  # fmt: skip
"""Commands, endpoint, Bento, the registered model's code and the public package."""
NOT_REACHED = {
    "upgrade": "Alembic calls it, in the scripts of serving/reactions/versions",
    "undescribed": "the tests ask it whether every column has a description",
    "pair_probability": "what tests/speed/linkage compares linking persons with",
}
"""Public definitions that no root reaches, each with its reason."""
NOT_PASSED = dict.fromkeys(
    [
        ("EventBatch", name)
        for name in ("events", "post_texts", "withdrawals", "wishes", "unknown_kinds")
    ],
    "a batch begins empty and is filled where it is read",
) | {
    ("affinities", "place"): "a survey may know states that the counts do not",
    ("grow_tree", "depth"): "up to two questions the search is exact: tests compare it",
}
"""Optional parameters and fields that no call in the packages passes, and why."""
EMPTY_WORDS = frozenset(
    ("told", "found", "mine", "made", "asked", "kept", "known", "done", "whole", "own",
     "few", "some", "others", "both", "more", "named", "shown", "met")
)  # fmt: skip
MOST_PARAMETERS = 40
"""More than any function has: a list that is spread out may pass them all."""
MOST_EMPTY = 0.001
"""Largest share of the names that are given which say nothing; it only ever falls."""


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


def given_name(node: ast.AST) -> str:
    """Name that a variable, parameter, attribute or definition gets here; else ''."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.attr
    if isinstance(node, ast.stmt) and is_definition(node):
        return node.name.strip("_")
    return node.arg if isinstance(node, ast.arg) else ""


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


class Optional(NamedTuple):
    """A parameter or field with a default.

    Attributes:
        owner: Function, `Class.method` or class, as it is listed.
        call: Name by which it is called.
        name: Of the parameter.
        position: In a call, None for a keyword alone.
    """

    owner: str
    call: str
    name: str
    position: int | None


def optional_parameters(
    node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str, call: str, *, skip: int
) -> Iterator[Optional]:
    """Parameters with a default; `skip` of the first are not passed (self, cls)."""
    given = [*node.args.posonlyargs, *node.args.args]
    first = len(given) - len(node.args.defaults)
    for at, arg in enumerate(given[first:], first):
        yield Optional(owner, call, arg.arg, at - skip)
    for arg, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if default is not None:
            yield Optional(owner, call, arg.arg, None)


def is_record(node: ast.ClassDef) -> bool:
    """Whether a class's fields are what its calls pass."""
    bases = {ast.unparse(base) for base in node.bases}
    return "NamedTuple" in bases or any(
        "dataclass" in ast.unparse(d) for d in node.decorator_list
    )


def optional_fields(node: ast.ClassDef) -> Iterator[Optional]:
    fields = [f for f in node.body if isinstance(f, ast.AnnAssign)]
    for at, field in enumerate(fields):
        default = ast.unparse(field.value) if field.value is not None else ""
        name = ast.unparse(field.target)
        is_passed = default and not default.startswith("field(kw_only")
        if is_passed and "init=False" not in default and not name.startswith("_"):
            yield Optional(node.name, node.name, name, at)


def optional_names() -> Iterator[Optional]:
    """Every optional parameter or field of what is public.

    But for options of commands, and for what users pass to the Python API.
    """
    for path, tree in modules().items():
        if path.is_relative_to(ROOT / "experiments/api"):
            continue
        for node in tree.body:
            if not is_definition(node) or node.name.startswith("_"):
                continue
            if not isinstance(node, ast.ClassDef):
                # a decorator with arguments hands a command or an address over
                if not any(isinstance(d, ast.Call) for d in node.decorator_list):
                    yield from optional_parameters(node, node.name, node.name, skip=0)
                continue
            if is_record(node):
                yield from optional_fields(node)
            for method in node.body:
                if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                alone = {ast.unparse(d) for d in method.decorator_list}
                skip = int("staticmethod" not in alone)
                if method.name == "__init__":
                    yield from optional_parameters(
                        method, node.name, node.name, skip=skip
                    )
                elif not method.name.startswith("_"):
                    owner = f"{node.name}.{method.name}"
                    yield from optional_parameters(
                        method, owner, method.name, skip=skip
                    )


def passed() -> dict[str, set[str | int | None]]:
    """Keywords and positions that calls pass, by the name of what is called.

    None stands for a mapping that is spread out: it may pass anything. Inside a class
    `cls(...)` calls it; `partial` passes to its first argument.
    """
    by_call: dict[str, set[str | int | None]] = defaultdict(set)

    def note(name: str, call: ast.Call, *, skip: int = 0) -> None:
        for at, arg in enumerate(call.args[skip:]):
            spread = isinstance(arg, ast.Starred)
            by_call[name] |= set(range(at, MOST_PARAMETERS)) if spread else {at}
        by_call[name] |= {keyword.arg for keyword in call.keywords}

    def called(node: ast.expr) -> str:
        name = ast.unparse(node).rpartition(".")[2]
        return renamed.get(name, name)

    for tree in modules().values():
        renamed = {
            alias.asname: alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.asname
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Call) and called(inner.func) == "cls":
                        note(node.name, inner)
            if isinstance(node, ast.Call):
                note(called(node.func), node)
                if called(node.func) == "partial":
                    note(called(node.args[0]), node, skip=1)
    return by_call


def test_every_optional_parameter_is_passed_by_the_packages_themselves() -> None:
    by_call = passed()
    # a copy with changes passes fields of any record
    changed = by_call["replace"] | by_call["_replace"] | by_call["note"]
    left = {
        (one.owner, one.name)
        for one in optional_names()
        if not {one.name, None} & by_call[one.call]
        and (one.position is None or one.position not in by_call[one.call])
        and not (one.call[0].isupper() and one.name in changed)
    }  # fmt: skip
    assert left == set(NOT_PASSED)


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


def test_names_say_what_a_value_is() -> None:
    names = [
        name
        for tree in modules().values()
        for node in ast.walk(tree)
        if (name := given_name(node))
    ]
    empty = sum(name in EMPTY_WORDS for name in names)
    assert empty / len(names) <= MOST_EMPTY


@pytest.mark.parametrize("name", ["stage_score", "plan_contacts", "run_day", "offer"])
def test_the_walk_finds_what_is_surely_reached(name: str) -> None:
    assert name in reached_names()
