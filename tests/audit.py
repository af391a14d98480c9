"""Known faults of the pinned packages, by pip-audit: `make audit`.

    python -m tests.audit PATH/TO/pip-audit

Exit code 0 where every package was looked up and none has a known fault, 1 where one
has, 3 where packages could not be looked up: then nothing is known of them.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.hashes import CUDA, PINS

FAULTY, NOT_LOOKED_UP = 1, 3


class Audit(NamedTuple):
    """What pip-audit says.

    Attributes:
        lines: For a person.
        code: Exit code.
    """

    lines: list[str]
    code: int


def audit_of(answer: Mapping[str, Any]) -> Audit:
    """What pip-audit's JSON says, those included that it could not look up."""
    packages = answer["dependencies"]
    faults = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in "
        f"{', '.join(fault['fix_versions']) or 'no version yet'}"
        for package in packages
        for fault in package.get("vulns", ())
    ]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    n_known = len(packages) - len(skipped)
    lines = [*faults, f"{len(faults)} known faults in {n_known} packages looked up."]
    if skipped:
        names = ", ".join(skipped[:5]) + (", ..." if len(skipped) > 5 else "")
        which = f"{len(skipped)} of {len(packages)} packages ({names})"
        lines.append(f"NOT LOOKED UP: {which}: the database has no answer from here.")
    code = FAULTY if faults else NOT_LOOKED_UP if skipped else 0
    return Audit(lines, code)


def main() -> None:
    (program,) = sys.argv[1:]
    said = subprocess.run(
        [program, "--requirement", str(PINS), "--requirement", str(CUDA),
         "--require-hashes", "--disable-pip",
         "--progress-spinner", "off", "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        audit = audit_of(json.loads(said.stdout))
    except ValueError:
        reason = (said.stderr.strip().splitlines() or ["no answer"])[-1]
        sys.stderr.write(f"NOT LOOKED UP: no database could be reached: {reason}\n")
        sys.exit(NOT_LOOKED_UP)
    sys.stdout.write("\n".join(audit.lines) + "\n")
    sys.exit(audit.code)


if __name__ == "__main__":
    main()
