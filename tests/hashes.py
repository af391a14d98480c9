"""Writes the digests of every pinned package: `make hashes`, after a pin was moved.

    python -m tests.hashes PATH/TO/uv

`constraints.txt` has every package of an installation, each with the SHA-256 of all
files of its version, so that pip installs these files or none. PyTorch is apart: pip
would rather take the wheel whose digest its index knows. `constraints-cpu.txt` in
`.github` has the wheel without CUDA, which the tests ran with; `constraints-cuda.txt`
that of PyPI for Linux on x86, with all that it needs.
"""

import re
import subprocess
import sys
from collections.abc import Collection

from tests.checkout import ROOT

PINS = ROOT / "constraints.txt"
CPU, CUDA = (ROOT / ".github" / f"constraints-{part}.txt" for part in ("cpu", "cuda"))
CPU_WHEEL = "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
"""Of torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl."""
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s\\;]+)", re.M)
_OPTIONS = ("--generate-hashes", "--no-header", "--no-annotate", "--quiet",
            "--python-version", "3.11.5",
            "--python-platform", "x86_64-manylinux_2_28")  # fmt: skip
_HEAD = """\
# Every package of an installation with all extras, at versions that were installed
# and tested together, with the digests of their files: see the Makefile's rule for the
# environment. Move one at a time, then `make hashes`; the reason goes into
# .github/CHANGELOG.md.
"""
_CPU_HEAD = """\
# PyTorch without CUDA, where pip is configured to take it from an index or folder that
# has it; without, constraints-cuda.txt is installed. `make hashes` writes this file.
"""
_CUDA_HEAD = """\
# PyTorch's wheel of PyPI, and what it needs besides constraints.txt: installed where
# pip has none without CUDA. `make hashes` writes this file.
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
    pinned = pinned_versions()
    torch = f"torch=={pinned.pop('torch')}"
    packages = [f"{name}=={version}" for name, version in pinned.items()]
    PINS.write_text(_HEAD + _compiled(uv, packages, "--no-deps"))
    CPU.write_text(f"{_CPU_HEAD}{torch} \\\n    --hash=sha256:{CPU_WHEEL}\n")
    besides = _compiled(uv, [torch], "--constraint", str(PINS))
    CUDA.write_text(_CUDA_HEAD + _without(besides, pinned))


def pinned_versions() -> dict[str, str]:
    """Version of every package of an installation, by its plain name."""
    return pins(PINS.read_text()) | pins(CPU.read_text())


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
