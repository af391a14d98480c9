"""Pictures of the documents, from the latest finished run of the sample campaign.

`make run` and then `python -m tests.pictures` write them into `.github/docs`: the page
of the run as a browser shows it, and its charts, in 128 colours and 900 pixels wide.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from tests.checkout import ROOT

DOCS = ROOT / ".github" / "docs"
CHARTS = {
    "curve": "spring_test_curve", "policies": "spring_test_policies",
    "messages": "spring_test_messages", "calibration": "spring_test_calibration",
    "schedule": "schedule",
}  # fmt: skip
"""Name of the picture → the chart of a run."""
WIDTH, N_COLOURS = 900, 128
PAGES = {"report": (1100, 480), "report-narrow": (390, 844)}
"""Name of the picture → width and height of the window."""


def write_pictures(run: Path, into: Path) -> None:
    """Draw the page of a run and its charts.

    Args:
        run: Folder of a finished run.
        into: Folder that gets the pictures.
    """
    for name, chart in CHARTS.items():
        _reduced(run / "figures" / f"{chart}.png", into / f"{name}.png", WIDTH)
    with TemporaryDirectory() as folder:
        for name, (width, height) in PAGES.items():
            shot = Path(folder) / f"{name}.png"
            subprocess.run(
                [
                    "chromium", "--headless", "--no-sandbox", "--hide-scrollbars",
                    f"--window-size={width},{height}", f"--screenshot={shot}",
                    (run / "report.html").resolve().as_uri(),
                ],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
            _reduced(shot, into / f"{name}.png", width)


def _reduced(source: Path, target: Path, width: int) -> None:
    picture = Image.open(source).convert("RGB")
    if picture.width > width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    picture.quantize(N_COLOURS).save(target, optimize=True)


def main() -> None:
    home = Path(sys.argv[1] if sys.argv[1:] else ROOT / ".data" / "sample")
    write_pictures(home / (home / "latest").read_text().strip(), DOCS)


if __name__ == "__main__":
    main()
