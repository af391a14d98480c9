"""Writes the digests of every pinned package: `make hashes`, after a pin was moved.

    python -m tests.hashes PATH/TO/uv

`constraints.txt` has every package of an installation, each with the SHA-256 of all
files of its version, so that pip installs these files or none. `constraints-cuda.txt`
has what PyTorch's own wheel for Linux on x86 needs besides. PyTorch also ships a wheel
without CUDA, under the same version, whose digest an index other than PyPI has:
`CPU_WHEEL` says which one the tests ran with.
"""

import re
import subprocess
import sys
from collections.abc import Collection

from tests.checkout import ROOT

PINS, CUDA = ROOT / "constraints.txt", ROOT / "constraints-cuda.txt"
CPU_WHEEL = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
"""Of torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl."""
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s\\;]+)", re.M)
_INDEX = "https://pypi.org/simple"
_OPTIONS = ("--generate-hashes", "--no-header", "--no-annotate", "--quiet",
            "--python-version", "3.11.5", "--index-url", _INDEX,
            "--python-platform", "x86_64-manylinux_2_28")  # fmt: skip
_HEAD = """\
# Every package of an installation with all extras, at versions that were installed
# and tested together, with the digests of their files: see the Makefile's rule for the
# environment. Move one at a time, then `make hashes`; the reason goes into
# .github/CHANGELOG.md.
"""
_CUDA_HEAD = """\
# What PyTorch's wheel of PyPI for Linux on x86 needs besides constraints.txt; its wheel
# without CUDA needs none of it. `make hashes` writes this file.
"""


def pins(text: str) -> dict[str, str]:
    """Version by the plain name of its package, as a file of pins has them.

    >>> pins("Flask_Cors==6.0 \\\\\\n    --hash=sha256:00\\n")
    {'flask-cors': '6.0'}
    """
    return {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version in _PIN.findall(text)
    }


def main() -> None:
    (uv,) = sys.argv[1:]
    pinned = pins(PINS.read_text())
    hashed = _compiled(uv, [f"{n}=={v}" for n, v in pinned.items()], "--no-deps")
    torch = f"torch=={pinned['torch']} \\\n"
    hashed = hashed.replace(torch, f"{torch}    --hash=sha256:{CPU_WHEEL} \\\n")
    PINS.write_text(_HEAD + hashed)
    besides = _compiled(uv, [f"torch=={pinned['torch']}"], "--constraint", str(PINS))
    CUDA.write_text(_CUDA_HEAD + _without(besides, pinned))


def _compiled(uv: str, requirements: Collection[str], *options: str) -> str:
    """Pins with the digests of all their files, in the order of their names."""
    compiled = subprocess.run(
        [uv, "pip", "compile", "-", *_OPTIONS, *options],
        input="\n".join(requirements), text=True, capture_output=True, check=False,
    )  # fmt: skip
    if compiled.returncode:
        sys.exit(compiled.stderr)
    return compiled.stdout


def _without(text: str, names: Collection[str]) -> str:
    blocks = re.split(r"\n(?=\S)", text.strip())
    return "\n".join(b for b in blocks if not pins(b).keys() & set(names)) + "\n"


if __name__ == "__main__":
    main()
