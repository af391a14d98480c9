"""Sessions of persons who signed in with their key, and the tokens of their forms.

A session is a random token in a cookie, signed with a key that this process draws and
never writes anywhere: a restart signs everybody out. It ends when nothing was asked for
a while, at the latest after a working day, when its person signs out, and when the key
is taken out of the file of keys.
"""

import hashlib
import hmac
import secrets
import threading
from dataclasses import dataclass, field, replace

import pandas as pd

from hustings.serving.keys import Key, Keys

LONGEST = pd.Timedelta(hours=12)
"""No session lasts longer, however busy it is."""
MOST_SESSIONS = 10_000
"""Open sessions of one process; the one that was quiet longest goes first."""


@dataclass(frozen=True)
class _Session:
    key_digest: str
    began_at: pd.Timestamp
    seen_at: pd.Timestamp


@dataclass(frozen=True)
class SignedIn:
    """A person with an open session.

    Attributes:
        key: The person's key: name and roles.
        form_token: Stands in every form of the session.
    """

    key: Key
    form_token: str


@dataclass
class Sessions:
    """Open sessions.

    Attributes:
        keys: The keys that are valid now.
        idle: Time without a request after which a session ends.
    """

    keys: Keys
    idle: pd.Timedelta
    _signing_key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    _open: dict[str, _Session] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sign_in(self, given: bytes, at: pd.Timestamp) -> str:
        """Open a session for a key that `keys` knows; its cookie."""
        token, digest = secrets.token_urlsafe(32), hashlib.sha256(given).hexdigest()
        with self._lock:
            self._open[token] = _Session(digest, at, at)
            if len(self._open) > MOST_SESSIONS:
                quietest = min(self._open, key=lambda name: self._open[name].seen_at)
                del self._open[quietest]
        return self.signed(token)

    def of(self, cookie: str, at: pd.Timestamp) -> SignedIn | None:
        """Whose session a cookie opens at a moment; None for nobody's, or an ended one.

        Args:
            cookie: As `sign_in` gave it.
            at: Of the request; the session goes on from then.
        """
        token = self.unsigned(cookie)
        with self._lock:
            session = self._open.get(token)
            if session is None:
                return None
            key = self.keys.of_digest(session.key_digest)
            is_idle = at - session.seen_at > self.idle
            if key is None or is_idle or at - session.began_at > LONGEST:
                del self._open[token]
                return None
            self._open[token] = replace(session, seen_at=at)
        return SignedIn(key, self.form_token(token))

    def is_open(self, cookie: str) -> bool:
        """Whether a cookie is of a session that has not been ended."""
        with self._lock:
            return self.unsigned(cookie) in self._open

    def sign_out(self, cookie: str) -> None:
        """End a session: its cookie opens nothing any more."""
        with self._lock:
            self._open.pop(self.unsigned(cookie), None)

    def form_token(self, token: str) -> str:
        """What the forms of a session carry, and no other site can know."""
        return self._mac(f"form {token}")

    def signed(self, token: str) -> str:
        """A cookie's value: a token, and that it is from here."""
        return f"{token}.{self._mac(f'cookie {token}')}"

    def unsigned(self, cookie: str) -> str:
        """The token of a cookie; empty for one that is not from here."""
        token, _, mac = cookie.partition(".")
        is_ours = hmac.compare_digest(
            mac.encode(), self._mac(f"cookie {token}").encode()
        )
        return token if is_ours else ""

    def _mac(self, text: str) -> str:
        return hmac.new(self._signing_key, text.encode(), hashlib.sha256).hexdigest()
