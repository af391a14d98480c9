"""The campaign's secret by which identifiers of persons are hashed.

It comes from the environment, or from a file that the environment names; never from a
`campaign.toml`, which is kept and shown.
"""

from collections.abc import Mapping
from pathlib import Path

from hustings.features.tables import TableError

KEY_VARIABLE, KEY_FILE_VARIABLE = "HUSTINGS_LINK_KEY", "HUSTINGS_LINK_KEY_FILE"
LEAST_KEY_BYTES = 16


def known_link_key(environment: Mapping[str, str]) -> bytes | None:
    """The secret, None where the environment has none.

    Args:
        environment: HUSTINGS_LINK_KEY, or HUSTINGS_LINK_KEY_FILE that holds it.

    Raises:
        TableError: If it is too short to keep a secret.
    """
    key_file = environment.get(KEY_FILE_VARIABLE, "")
    given = Path(key_file).read_bytes().strip() if key_file else b""
    key = given or environment.get(KEY_VARIABLE, "").strip().encode()
    if key and len(key) < LEAST_KEY_BYTES:
        raise TableError(
            f"expected a secret of at least {LEAST_KEY_BYTES} bytes in {KEY_VARIABLE} "
            f"or in the file {KEY_FILE_VARIABLE}, got {len(key)} bytes"
        )
    return key or None


def link_key(environment: Mapping[str, str]) -> bytes:
    """The secret, to join hashed identifiers by.

    Raises:
        TableError: If there is none, or it is too short to keep a secret.
    """
    key = known_link_key(environment)
    if key is None:
        raise TableError(
            f"expected a secret of at least {LEAST_KEY_BYTES} bytes in {KEY_VARIABLE} "
            f"or in the file {KEY_FILE_VARIABLE} to join hashed identifiers, got none"
        )
    return key
