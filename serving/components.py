"""Components of an installation: libraries, versions and licences, as CycloneDX JSON.

Read from what is installed, so that the list is of what runs and not of what was meant.

Source: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json/
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any
from urllib.parse import quote

from packaging.requirements import Requirement

UNSTATED = "not stated by the package"
_LICENCE = "License :: "


def bill_of_materials(names: Iterable[str]) -> dict[str, Any]:
    """Libraries and all that they need, with the licence that each states.

    Args:
        names: Libraries, as they are installed here.

    Returns:
        A CycloneDX document; its components in the order of their names.

    Raises:
        PackageNotFoundError: If a library is not installed.
    """
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [
            {
                "type": "library",
                "name": name,
                "version": library.version,
                "purl": f"pkg:pypi/{name}@{quote(library.version)}",
                "licenses": [_licence(library)],
            }
            for name, library in sorted(_with_needs(names).items())
        ],
    }


def _with_needs(names: Iterable[str]) -> dict[str, Distribution]:
    """Installed libraries by their plain name, with those that they need here."""
    needed = {_plain(name): distribution(name) for name in names}
    waiting = list(needed.values())
    while waiting:
        for name in _needs(waiting.pop()):
            if name in needed:
                continue
            try:
                needed[name] = distribution(name)
            except PackageNotFoundError:
                continue  # left out on purpose, or another one stands in for it
            waiting.append(needed[name])
    return needed


def _needs(library: Distribution) -> Iterator[str]:
    for text in library.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _plain(requirement.name)


def _plain(name: str) -> str:
    """Name of a library as the index has it.

    >>> _plain("Prometheus_Client")
    'prometheus-client'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _licence(library: Distribution) -> Mapping[str, Any]:
    """The licence that a library states, by an expression or in words."""
    stated = library.metadata
    for expression in stated.get_all("License-Expression") or ():
        return {"expression": expression}
    of_classifiers = [
        text.split(" :: ")[-1]
        for text in stated.get_all("Classifier") or ()
        if text.startswith(_LICENCE)
    ]
    in_words = "".join(stated.get_all("License") or ()).strip().partition("\n")[0]
    return {"license": {"name": "; ".join(of_classifiers) or in_words or UNSTATED}}
