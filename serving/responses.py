"""Answers over HTTP that are the same for every route: refusals, and "not now"."""

import logging
from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa
from starlette.responses import JSONResponse, Response

from hustings.serving.bodies import RequestError, RequestFault

MAX_FAULTS_LISTED = 100
COME_AGAIN_S = 2
"""When to ask again what could not be answered now."""
_log = logging.getLogger(__name__)


def refused(
    status: int,
    faults: Sequence[RequestFault],
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A refusal in the one shape of errors; the gate puts in the request's id."""
    shown_faults = [fault.model_dump() for fault in faults[:MAX_FAULTS_LISTED]]
    content = {"faults": shown_faults, "n_faults": len(faults)}
    return JSONResponse(content, status, headers=headers)


def not_now(message: str) -> Response:
    """503: what is asked cannot be answered now, and when to ask again."""
    headers = {"Retry-After": str(COME_AGAIN_S)}
    return refused(503, [RequestFault(path="", message=message)], headers)


def answered(answer: Callable[[], Response], *, without_store: str) -> Response:
    """An answer, or why there is none.

    Args:
        answer: Computes it.
        without_store: What is said where the store of the campaign fails.
    """
    try:
        return answer()
    except RequestError as bad:
        return refused(bad.status, bad.faults)
    except sa.exc.SQLAlchemyError as failure:
        # its text may hold the rows
        _log.error("the store failed: %s", type(failure).__name__)
        return not_now(without_store)
