"""Control sockets of the server's arbiter, out of reach of the host's other users.

BentoML starts its worker by an arbiter (circus) that is controlled over two ports of
loopback without a password: whoever connects can run a command as the service's user
and read the environment of the worker. Here the sockets are files in a folder that
only the service's user may enter.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bentoml._internal.utils import circus

_FOLDER_PREFIX = "hustings-control-"
_OWNER_ALONE = 0o177
"""Mask under which a new socket gets the mode 0600."""


class PrivateArbiter(circus.Arbiter):
    """An arbiter that is controlled by files, in a folder of mode 0700."""

    def __init__(
        self, *args: Any, endpoint: str, pubsub_endpoint: str, **kwargs: Any
    ) -> None:
        # both addresses are BentoML's ports of loopback
        del endpoint, pubsub_endpoint
        folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
        super().__init__(
            *args,
            endpoint=f"ipc://{folder / 'control'}",
            pubsub_endpoint=f"ipc://{folder / 'events'}",
            **kwargs,
        )
        self.ctrl.initialize = _masked(self.ctrl.initialize)
        self.exit_stack.callback(shutil.rmtree, folder, ignore_errors=True)

    def initialize(self) -> None:
        """Bind the sockets."""
        _masked(super().initialize)()


def _masked(bind: Callable[[], None]) -> Callable[[], None]:
    def bind_masked() -> None:
        before = os.umask(_OWNER_ALONE)
        try:
            bind()
        finally:
            os.umask(before)

    return bind_masked


def close_control_ports() -> None:
    """Let BentoML start its worker by an arbiter without ports, in this process."""
    circus.Arbiter = PrivateArbiter  # type: ignore[misc]
