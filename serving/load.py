"""An exact model version → the model, and the bundle that a server starts from."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hustings.training.registry.campaign_model import CampaignModel

# the registry is imported where it is asked: a server starts from a bundle, without
# MLflow's seconds
if TYPE_CHECKING:
    from hustings.training.registry.register import Version


def load_champion(campaign: str) -> "tuple[CampaignModel, Version] | None":
    """The present champion of a campaign, None where nothing was promoted yet."""
    from hustings.training.registry.register import champion_version

    version = champion_version(campaign)
    return None if version is None else (load_version(version), version)


def load_version(version: "Version") -> CampaignModel:
    """Exactly this version from the registry."""
    from hustings.training.registry.register import download

    with tempfile.TemporaryDirectory() as folder:
        return CampaignModel.load(download(version, Path(folder)))


def write_bundle(version: "Version", plan: Mapping[str, Any], folder: Path) -> None:
    """All that the endpoint needs, in one new folder, written aside and renamed.

    Args:
        version: Exact version to serve.
        plan: Prices, options and rules of the current plan (`plan.terms`).
        folder: Replaced if it exists.
    """
    from hustings.training.registry.register import CHAMPION, download

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        new = Path(aside) / "bundle"
        new.mkdir()
        saved = download(version, Path(aside) / "download")
        shutil.copytree(saved, new / "model")
        (new / "plan.json").write_text(json.dumps(plan, indent=1))
        told = {
            "name": version.name,
            "version": version.version,
            "alias": CHAMPION,
            "run_id": version.run_id,
            **{f"tag_{key}": value for key, value in version.tags.items()},
        }
        (new / "version.json").write_text(json.dumps(told, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)


def read_bundle(
    folder: Path,
) -> tuple[CampaignModel, dict[str, Any], dict[str, str]]:
    """Model, plan terms and version of a bundle.

    Raises:
        FileNotFoundError: Naming what is missing and what makes it.
    """
    for name in ("plan.json", "version.json"):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder / name}: expected a serving bundle; `hustings run` makes one"
            )
    model = CampaignModel.load(folder / "model")
    plan = json.loads((folder / "plan.json").read_text())
    version = json.loads((folder / "version.json").read_text())
    return model, plan, version
