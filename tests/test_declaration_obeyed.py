"""Every key of a campaign.toml is read by the code that it is to direct.

A cheap first guard: a key that pydantic takes and nobody reads fails here. Whether what
is read changes an output is shown by the tests of the parts.

Who reads is found in the syntax trees: an expression stands for a section where its
annotation, its assignment or the name of the attribute says so. Checks of the
declaration itself (validators) are no readers.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from hustings.experiments.declaration import Campaign
from tests.checkout import PACKAGE, ROOT

Key = tuple[str, str]
"""Name of a section's class, and of its key."""
READ_AS_JSON: dict[Key, str] = {
    ("SimulateSection", "seed"): "features/simulated/campaign.py",
    ("SimulateSection", "early_reactions"): "features/simulated/campaign.py",
    ("SimulateSection", "n_messages"): "features/simulated/campaign.py",
    # asks for needed_lift, by which the least money is found
    ("PlanSection", "goal"): "experiments/declaration/planning.py",
    **{
        ("ReactionsSection", key): "serving/reactions/http.py"
        for key in ("area", "issue_floor", "keep_text", "posts")
    },
    **{
        ("AlertsSection", key): "serving/monitor/alerts.py"
        for key in ("mail_from", "mail_to", "smtp_host", "smtp_port", "smtp_security")
    },
    # refuses a campaign under a rule set that wants data from the persons themselves
    ("TableSource", "collected_from"): "experiments/declaration/campaign.py",
}
"""Keys that travel within their section's `model_dump`, each with the file that reads
it: the page of the report, the simulation, the endpoint's bundle. One that a validator
alone reads has its reason beside it."""
SAME_TYPE = {"items", "values", "get", "model_copy", "copy"}
"""Methods that give what they are called on, or what it holds."""


def sections(root: type[BaseModel] = Campaign) -> dict[str, type[BaseModel]]:
    """The sections of a declaration, by the names of their classes."""
    found = {root.__name__: root}
    for field in root.model_fields.values():
        for section in models_in(field.annotation):
            if section.__name__ not in found:
                found |= sections(section)
    return found


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


SECTIONS = sections()
FIELDS: dict[Key, frozenset[str]] = {
    (name, key): frozenset(m.__name__ for m in models_in(field.annotation))
    for name, section in SECTIONS.items()
    for key, field in section.model_fields.items()
}
SECTION_NAME = re.compile(r"\b(" + "|".join(SECTIONS) + r")\b")


class Readers(ast.NodeVisitor):
    """Collects the keys that a module reads."""

    def __init__(
        self,
        returned: dict[str, frozenset[str]],
        attributes: dict[str, frozenset[str]],
    ) -> None:
        self.returned = returned
        self.attributes = attributes
        self.names: list[dict[str, frozenset[str]]] = [{}]
        self.read: set[Key] = set()

    # --- what an expression stands for ---

    def of(self, node: ast.AST | None) -> frozenset[str]:
        if isinstance(node, ast.Name):
            for scope in reversed(self.names):
                if node.id in scope:
                    return scope[node.id]
            return self.attributes.get(node.id, frozenset())
        if isinstance(node, ast.Attribute):
            owners = self.of(node.value)
            known = [FIELDS[o, node.attr] for o in owners if (o, node.attr) in FIELDS]
            if known:
                return frozenset().union(*known)
            return self.attributes.get(node.attr, frozenset())
        if isinstance(node, ast.Call):
            return self._of_call(node)
        if isinstance(node, ast.Subscript | ast.Await | ast.Starred):
            return self.of(node.value)
        if isinstance(node, ast.NamedExpr):
            return self.of(node.value)
        if isinstance(node, ast.IfExp):
            return self.of(node.body) | self.of(node.orelse)
        if isinstance(node, ast.BoolOp):
            return frozenset().union(*(self.of(value) for value in node.values))
        return frozenset()

    def _of_call(self, node: ast.Call) -> frozenset[str]:
        called = node.func
        if isinstance(called, ast.Attribute):
            if called.attr in SAME_TYPE:
                return self.of(called.value)
            return self.returned.get(called.attr, frozenset())
        if isinstance(called, ast.Name):
            return self.returned.get(called.id, frozenset())
        return frozenset()

    # --- names ---

    def bind(self, target: ast.AST, of: frozenset[str]) -> None:
        if isinstance(target, ast.Name):
            self.names[-1][target.id] = of
        elif isinstance(target, ast.Tuple | ast.List):
            for element in target.elts:
                self.bind(element, of)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if any("validator" in ast.unparse(d) for d in node.decorator_list):
            return
        a = node.args
        arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs]
        scope = {arg.arg: named(arg.annotation) for arg in arguments if arg.annotation}
        if arguments and arguments[0].arg == "self" and len(self.names) > 1:
            scope["self"] = self.names[-1].get("self", frozenset())
        self.names.append(scope)
        self.generic_visit(node)
        self.names.pop()

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)  # type: ignore[arg-type]

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        own = frozenset({node.name} & SECTIONS.keys())
        self.names.append({"self": own})
        for statement in node.body:
            # the declaration of a key is no reader of it
            if not isinstance(statement, ast.AnnAssign):
                self.visit(statement)
        self.names.pop()

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        values = (
            node.value.elts if isinstance(node.value, ast.Tuple | ast.List) else None
        )
        for target in node.targets:
            if values and isinstance(target, ast.Tuple):
                for one, value in zip(target.elts, values, strict=False):
                    self.bind(one, self.of(value))
            else:
                self.bind(target, self.of(node.value))
            self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        self.bind(node.target, named(node.annotation) or self.of(node.value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.generic_visit(node)
        self.bind(node.target, self.of(node.value))

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self.bind(node.target, self.of(node.iter))
        for statement in [*node.body, *node.orelse]:
            self.visit(statement)

    def _comprehension(self, node: ast.AST) -> None:
        generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
        self.names.append({})
        for part in generators:
            self.visit(part.iter)
            self.bind(part.target, self.of(part.iter))
        self.generic_visit(node)
        self.names.pop()

    visit_ListComp = visit_SetComp = _comprehension  # noqa: N815
    visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815

    # --- reads ---

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            owners = self.of(node.value)
            self.read |= {(o, node.attr) for o in owners if (o, node.attr) in FIELDS}
        self.generic_visit(node)


def named(annotation: ast.AST | None) -> frozenset[str]:
    """Sections that an annotation names."""
    if annotation is None:
        return frozenset()
    return frozenset(SECTION_NAME.findall(ast.unparse(annotation)))


def trees() -> Iterator[ast.Module]:
    for part in ("features", "training", "serving", "experiments"):
        for path in sorted((PACKAGE / "hustings" / part).rglob("*.py")):
            yield ast.parse(path.read_text())


def keys_read(modules: list[ast.Module]) -> set[Key]:
    """The keys that some module reads."""
    returned: dict[str, frozenset[str]] = defaultdict(frozenset)
    returned |= {name: frozenset({name}) for name in SECTIONS}
    # what an attribute stands for where nothing is known of its owner
    attributes: dict[str, frozenset[str]] = defaultdict(frozenset)
    for (_, key), of in FIELDS.items():
        attributes[key] |= of
    for module in modules:
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef) and (of := named(node.returns)):
                returned[node.name] |= of
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                attributes[node.target.id] |= named(node.annotation)
    found: set[Key] = set()
    for module in modules:
        readers = Readers(returned, attributes)
        readers.visit(module)
        found |= readers.read
    return found


@pytest.fixture(scope="module")
def read() -> set[Key]:
    return keys_read(list(trees()))


def test_every_key_of_a_declaration_is_read_by_some_code(read: set[Key]) -> None:
    unread = FIELDS.keys() - read - READ_AS_JSON.keys()
    told = sorted(f"{section}.{key}" for section, key in unread)
    assert not told, f"declared, and read by nobody: {told}"


def test_no_exception_is_left_that_is_needed_no_more(read: set[Key]) -> None:
    assert READ_AS_JSON.keys() <= FIELDS.keys() - read
    for (_, key), path in READ_AS_JSON.items():
        assert re.search(rf"\b{key}\b", (ROOT / path).read_text()), (key, path)


CODE = """
class Run:
    campaign: Campaign
class LoopSection(Section):
    gate: str
    @model_validator(mode="after")
    def _check(self): assert self.wave_days
    @property
    def first(self): return self.wave_voters
def day(campaign: Campaign, run):
    if (loop := campaign.loop) is not None:
        loop.explore
    for name, channel in run.campaign.plan.channels.items():
        channel.setup_usd
    costs = [terms.most for terms in campaign.plan.messages.values()]
    frame.columns
"""


def test_a_key_that_nobody_reads_is_found_out() -> None:
    read = keys_read([ast.parse(CODE)])
    assert {
        ("LoopSection", "wave_voters"),
        ("LoopSection", "explore"),
        ("PlanChannelSection", "setup_usd"),
        ("PlanMessageSection", "most"),
        ("Campaign", "loop"),
    } <= read
    # a validator's, another section's of that name, any frame's
    for unread in (
        ("LoopSection", "wave_days"),
        ("LoopSection", "gate"),
        ("PlanGroupSection", "most"),
        ("FeaturesSection", "columns"),
    ):
        assert unread not in read
