"""Builds a Bento from a bundle: endpoint, model and pinned libraries in one folder.

`python -m hustings.serving.bento BUNDLE OUT` prints where it lies; `bentoml serve`
starts it anywhere, without the repository; `bentoml containerize` makes an image.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path

from hustings.features.checksums import AlteredError
from hustings.serving.components import bill_of_materials
from hustings.serving.load import read_bundle
from hustings.training.registry.register import copy_package

PACKAGES = ("features", "training", "serving")
"""Of this repository, what answers a request; the experiments stay at home."""
LIBRARIES = (
    "alembic", "bentoml", "duckdb", "ibis-framework", "lightgbm", "numpy", "pandas",
    "pandera", "prometheus_client", "pyarrow", "pydantic", "safetensors", "scipy",
    "sqlalchemy", "sqlglot", "starlette",
)  # fmt: skip
COMPONENTS = "components.cdx.json"
"""Libraries of the Bento with their licences."""
SERVICE = "hustings.serving.service:Hustings"


def build_bento(bundle: Path, out: Path) -> Path:
    """Pack a bundle with the code that serves it.

    Args:
        bundle: Folder that `hustings plan` writes.
        out: A BentoML home; made where it is not there.

    Returns:
        Folder of the Bento, to give to `bentoml serve`. It is labelled with the exact
        model version inside.

    Raises:
        FileNotFoundError: If a file of the bundle is missing.
        RuntimeError: With BentoML's own words, if it cannot build.
    """
    _, _, version = read_bundle(bundle)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        _assemble(context, bundle, version, LIBRARIES)
        tag = _built(context, out)
    name, _, number = tag.partition(":")
    return out / "bentos" / name / number


def _assemble(
    context: Path, bundle: Path, version: dict[str, str], libraries: Sequence[str]
) -> None:
    """Everything that goes into the Bento."""
    copy_package(context, PACKAGES)
    shutil.copytree(bundle, context / "bundle")
    listed = json.dumps(bill_of_materials(libraries), indent=1)
    (context / COMPONENTS).write_text(listed)
    pins = [f"{name}=={installed_version(name)}" for name in libraries]
    (context / "requirements.txt").write_text("\n".join(pins) + "\n")
    bentofile = {
        "service": SERVICE,
        "name": version["name"],
        "labels": {
            "model": version["name"],
            "model_version": version["version"],
            "data_hash": version.get("tag_data_hash", "unknown")[:16],
        },
        "include": ["hustings/", "bundle/", COMPONENTS],
        # LightGBM's wheel takes OpenMP from the system
        "docker": {"system_packages": ["libgomp1"]},
        "python": {"requirements_txt": "./requirements.txt", "lock_packages": False},
    }
    # JSON is YAML, too
    (context / "bentofile.yaml").write_text(json.dumps(bentofile, indent=1))


def _built(context: Path, out: Path) -> str:
    """Tag of the new Bento. A process of its own imports the code that is packed."""
    there = {
        **os.environ,
        "BENTOML_HOME": str(out.resolve()),
        "BENTOML_DO_NOT_TRACK": "true",
        "PYTHONPATH": "",
    }
    build = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--output", "tag"],
        cwd=context,
        env=there,
        capture_output=True,
        text=True,
        check=False,
    )
    tags = [
        line.removeprefix("__tag__:")
        for line in build.stdout.splitlines()
        if line.startswith("__tag__:")
    ]
    if build.returncode or not tags:
        raise RuntimeError(f"bentoml build failed: {build.stderr.strip()[-2000:]}")
    return tags[0]


def main() -> None:
    """`python -m hustings.serving.bento BUNDLE OUT`."""
    if len(sys.argv) != 3:
        sys.exit("expected two folders: python -m hustings.serving.bento BUNDLE OUT")
    bundle, out = map(Path, sys.argv[1:])
    try:
        sys.stdout.write(f"{build_bento(bundle, out)}\n")
    except (FileNotFoundError, AlteredError) as fault:
        sys.exit(str(fault))


if __name__ == "__main__":
    main()
