"""Load an exact model version; write and read the bundle that a server starts from."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hustings.features.atomic import whole_folder
from hustings.features.checksums import require_unaltered, write_checksums
from hustings.serving.contact_lists import FILE as CONTACT_LISTS
from hustings.serving.contact_lists import ContactLists
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


def write_bundle(
    version: "Version",
    model: CampaignModel,
    plan: Mapping[str, Any],
    lists: ContactLists,
    folder: Path,
) -> None:
    """Write all that the endpoint needs into one folder, whole or not at all.

    Args:
        version: Exact version to serve.
        model: Its model, with the messages that were never sent and are planned.
        plan: Prices, options and rules of the current plan (`plan.terms`).
        lists: Contact lists by channel.
        folder: Replaced if it exists.
    """
    from hustings.training.registry.register import CHAMPION

    with whole_folder(folder) as bundle:
        model.save(bundle / "model")
        (bundle / "plan.json").write_text(json.dumps(plan, indent=1))
        lists.write(bundle)
        version_record = {
            "name": version.name,
            "version": version.version,
            "alias": CHAMPION,
            "run_id": version.run_id,
            **{f"tag_{key}": value for key, value in version.tags.items()},
        }
        (bundle / "version.json").write_text(json.dumps(version_record, indent=1))
        write_checksums(bundle)


def read_bundle(
    folder: Path,
) -> tuple[CampaignModel, dict[str, Any], dict[str, str]]:
    """Model, plan terms and version of a bundle.

    Raises:
        AlteredError: If a file is not what was written, naming it.
        FileNotFoundError: Naming what is missing and what makes it.
    """
    for name in ("plan.json", "version.json", CONTACT_LISTS):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder / name}: expected a serving bundle; `hustings run` makes one"
            )
    require_unaltered(folder)
    model = CampaignModel.load(folder / "model")
    plan = json.loads((folder / "plan.json").read_text())
    version = json.loads((folder / "version.json").read_text())
    return model, plan, version
