"""Pages as HTML: templates of Jinja, every value escaped, nothing that runs."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hustings.experiments.report.page import CHART_STYLE, STYLE
from hustings.experiments.web.sessions import SignedIn

PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
FILE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action "
    "'none'; frame-ancestors 'none'"
)
"""Pages that commands wrote hold their style themselves."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LINKS = (
    ("/today", "Today"), ("/plans", "Plans"), ("/week", "Week"), ("/lift", "Lift"),
    ("/power", "Power"), ("/reports", "Reports"),
    ("/messages", "Monitor"), ("/requests", "Requests"),
)  # fmt: skip


@cache
def _templates() -> Environment:
    folder = Path(str(files("hustings.experiments.web") / "templates"))
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "count": lambda n: f"{n:,}",
        "usd": lambda amount: f"{amount:,.2f}",
        "moment": lambda text: str(text)[:16].replace("T", " "),
        "percent": lambda share: f"{100 * share:.0f} %",
        "signed": lambda points: f"{points:+.2f}".replace("-", "−"),
    }
    environment.filters["bars"] = bars
    return environment


BAR_PX, HEIGHT_PX = 3, 34


def bars(hours: Sequence[tuple[int, int]]) -> list[tuple[str, int, float, float]]:
    """Good reactions above a line, bad ones below it, on one scale, hour by hour.

    Args:
        hours: Good and bad of every hour.

    Returns:
        Kind, left edge, top and height of every bar, pixels.
    """
    most = [max((pair[i] for pair in hours), default=0) for i in (0, 1)]
    scale = HEIGHT_PX / max(sum(most), 1)
    line = most[0] * scale
    return [
        (kind, BAR_PX * i, line - n * scale * int(kind == "good"), n * scale)
        for i, pair in enumerate(hours)
        for kind, n in zip(("good", "bad"), pair, strict=True)
        if n
    ]


def rendered(
    template: str,
    page: Any,
    *,
    campaign: str,
    here: str,
    visitor: SignedIn | None,
    opens: frozenset[str],
    form_token: str,
    status: int = 200,
) -> Response:
    """A page.

    Args:
        template: Name of its template.
        page: Its results object.
        campaign: Title of the campaign; empty for those who are not signed in.
        here: Path of the link that is the present one.
        visitor: Who looks at it; None for nobody signed in.
        opens: Paths that the visitor's roles open.
        form_token: Of its forms.
        status: HTTP status.
    """
    text = _templates().get_template(template).render(
        page=page, campaign=campaign, here=here, form_token=form_token,
        visitor=None if visitor is None else visitor.key,
        links=[link for link in LINKS if link[0] in opens],
    )  # fmt: skip
    headers = {**_HEADERS, "Content-Security-Policy": PAGE_POLICY}
    return HTMLResponse(text, status, headers=headers)


def stylesheet() -> Response:
    """The style of the report, and what forms and links add to it."""
    added_style = files("hustings.experiments.web") / "templates" / "web.css"
    text = f"{STYLE}{CHART_STYLE}\n{added_style.read_text(encoding='utf-8')}"
    return Response(text, media_type="text/css", headers=_HEADERS)


def written_page(path: Path) -> Response:
    """A page as a command wrote it."""
    headers = {**_HEADERS, "Content-Security-Policy": FILE_POLICY}
    return HTMLResponse(path.read_bytes(), headers=headers)


def go_to(path: str) -> RedirectResponse:
    """Let the browser look at a page after a form."""
    return RedirectResponse(path, 303, headers=_HEADERS)
