"""Writes the page of libraries and their licences, from what is installed.

`make licences`, after a pin was moved.
"""

from hustings.serving.components import bill_of_materials
from tests.checkout import ROOT
from tests.hashes import pinned_versions

PAGE = ROOT / ".github" / "docs" / "licences.md"
_HEAD = """\
# Libraries and their licences

[8 Operations](8-operations.md)

Every library of an installation with all extras, with the licence that its package
states; a Bento's `components.cdx.json` has those that answer requests. `make licences`
writes this page.

| library | version | licence |
|---|---|---|
"""


def page() -> str:
    """The page for the pinned libraries, all of them installed."""
    pinned = pinned_versions()
    rows = {
        component["name"]: component
        for component in bill_of_materials(pinned)["components"]
        if component["name"] in pinned
    }
    return _HEAD + "".join(
        f"| {name} | {rows[name]['version'].partition('+')[0]} | "
        f"{_licence(rows[name]['licenses'][0])} |\n"
        for name in sorted(rows)
    )


def _licence(stated: dict[str, object]) -> str:
    named = stated.get("license")
    words = named["name"] if isinstance(named, dict) else stated["expression"]
    return " ".join(str(words).split())[:120].replace("|", "/")


if __name__ == "__main__":
    PAGE.write_text(page())
