"""Wishes to be left alone, in whatever words people and platforms use for them.

A wish is certain where the words say nothing else; it ends a permission. A reply that
holds such words in another sense ("stop Trump"), or a kind that looks like a refusal,
is uncertain: nothing more is sent until a person has read it. A false stop costs one
contact, a missed one breaks the law: what may be a wish is never none. The words lie in
`wish.toml`.

Source: 47 CFR 64.1200(a)(10): "any reasonable means" revoke consent, the words stop,
quit, end, revoke, opt out, cancel and unsubscribe always do.
"""

import difflib
import re
import tomllib
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from hustings.features.tables import CHANNELS

_SAID = tomllib.loads(Path(__file__).with_name("wish.toml").read_text(encoding="utf-8"))
_KINDS = {
    name: frozenset(words.split())
    for name, words in _SAID["kinds"].items()
    if isinstance(words, str)
}
_WORDS = {name: frozenset(words.split()) for name, words in _SAID["words"].items()}


def _any_of(patterns: Iterable[str], flags: int = 0) -> re.Pattern[str]:
    pattern = "|".join(patterns)
    for name, part in _SAID["parts"].items():
        pattern = pattern.replace(f"<{name}>", part)
    return re.compile(pattern, flags)


STOP_KINDS = _KINDS["stop"]
"""What platforms call a wish, in letters and digits alone."""
TEXT_KINDS = _KINDS["with_text"]
"""Kinds whose text is what somebody wrote, in letters and digits alone."""
_LOOKS_LIKE_A_REFUSAL = _any_of(_SAID["kinds"]["looks_like"])
_SENTENCES = {
    name: _any_of(patterns)
    for name, patterns in _SAID["sentences"].items()
    if name != "sign_upon_a_message"
}
_SIGN_UPON_A_MESSAGE = _any_of(
    _SAID["sentences"]["sign_upon_a_message"], re.IGNORECASE | re.DOTALL
)
_NAMES_CHANNEL = {name: re.compile(words) for name, words in _SAID["channels"].items()}
_ORIGINAL = re.compile(
    r"^\s*(?:-{2,}\s*original message|_{10,}|from:\s.*\n\s*(?:sent|date|to):)",
    re.IGNORECASE | re.MULTILINE,
)
"""Above it an e-mail is the sender's own."""
_STOP = re.compile("s+t+o+p+")
_CLAUSES = re.compile(r"[\n\r.!?;:,()\[\]|/\\*~=<>{}•…–—-]+")
_APOSTROPHES = re.compile("['’‘`´ʼ＇]")  # noqa: RUF001
_SIGNS = re.compile(r"[\W_]+")
_STOP_SIGNS, _MAYBE_SIGNS = "🛑⛔", "🛑⛔🚫✋🖕"
_MOST_READ = 10_000
"""Characters of a text in which a wish is looked for."""
_ALIKE = 0.75


class Wish(NamedTuple):
    """A wish to be left alone.

    Attributes:
        certain: Whether it can mean nothing else; else a person decides.
        channels: Channels that it names besides the one by which it came.
    """

    certain: bool
    channels: tuple[str, ...]


MAYBE = Wish(certain=False, channels=())
"""What a person has to read."""


def squeezed(kind: str) -> str:
    """A kind in small letters and digits alone.

    >>> squeezed("Opted-Out")
    'optedout'
    """
    return _SIGNS.sub("", _plain(kind))


def wish_of(kind: str, text: str | None, *, is_known: bool) -> Wish | None:
    """A wish to be left alone in a reaction, None where there is none.

    Args:
        kind: As the platform names it.
        text: What somebody wrote, None for nothing.
        is_known: Whether a table of kinds names this one: another kind with a text is a
            wish as far as anybody can tell.

    >>> wish_of("Opt-Out", None, is_known=True)
    Wish(certain=True, channels=())
    >>> wish_of("reply", "Don't stop", is_known=True)
    Wish(certain=False, channels=())
    >>> wish_of("reply", "Count me in", is_known=True)
    """
    by_kind = _of_kind(squeezed(kind), is_known=is_known, has_text=bool(text))
    return plainest([by_kind, _of_text(text) if text else None])


def plainest(wishes: Iterable[Wish | None]) -> Wish | None:
    """One wish for several signs of it: certain if one is, with all their channels."""
    present = [wish for wish in wishes if wish is not None]
    channels_named = {channel for wish in present for channel in wish.channels}
    is_certain = any(wish.certain for wish in present)
    channels = tuple(channel for channel in CHANNELS if channel in channels_named)
    return Wish(is_certain, channels) if present else None


def _of_kind(kind: str, *, is_known: bool, has_text: bool) -> Wish | None:
    if kind in _KINDS["every_channel"]:
        return Wish(certain=True, channels=CHANNELS)
    if kind in STOP_KINDS or kind in _KINDS["by_name"]:
        return Wish(certain=True, channels=())
    if kind in _KINDS["no_wish"] or kind in TEXT_KINDS:
        return None
    looks = _LOOKS_LIKE_A_REFUSAL.search(kind) is not None
    return MAYBE if looks or (has_text and not is_known) else None


def _of_text(text: str) -> Wish | None:
    """The wish in what somebody wrote, without what it quotes of ours."""
    if _SIGN_UPON_A_MESSAGE.match(text):
        return None
    written = _unquoted(text)
    plain = _plain(written)
    flat = _SIGNS.sub(" ", plain).strip()
    if _is_certain(written, plain, flat):
        return Wish(certain=True, channels=_channels_of(flat))
    words = flat.split()
    is_near = len(words) == 1 and bool(
        difflib.get_close_matches(words[0], _WORDS["stop"], n=1, cutoff=_ALIKE)
    )
    is_uncertain = (
        is_near
        or not _WORDS["stop"].isdisjoint(words)
        or _SENTENCES["uncertain"].search(flat)
        or _SENTENCES["certain"].search(flat)
        or _SENTENCES["other_scripts"].search(written.casefold())
        or any(sign in text for sign in _MAYBE_SIGNS)
    )
    return MAYBE if is_uncertain else None


def _is_certain(written: str, plain: str, flat: str) -> bool:
    bare = flat.replace(" ", "")
    clauses = [_SIGNS.sub(" ", clause) for clause in _CLAUSES.split(plain)]
    if any(_asks_alone(text.split()) for text in (*clauses, flat, bare)):
        return True
    if not bare:
        return any(sign in written for sign in _STOP_SIGNS)
    in_script = _SIGNS.sub("", written.casefold())
    if _SENTENCES["other_scripts"].fullmatch(in_script):
        return True
    is_turned_round = _SENTENCES["negated"].search(flat)
    return bool(_SENTENCES["certain"].search(flat)) and not is_turned_round


def _asks_alone(words: Collection[str]) -> bool:
    """Whether words ask to stop and, politeness aside, say nothing else."""
    asking = {w for w in words if w in _WORDS["stop"] or _STOP.fullmatch(w)}
    other_words = set(words) - asking
    if asking:
        return _WORDS["polite"] | _WORDS["alone"] >= other_words
    # "voto para ti" and "the end" are not asked for by their few plain words
    return (
        bool(other_words & _WORDS["alone"])
        and _WORDS["please"] | _WORDS["alone"] >= other_words
    )


def _channels_of(flat: str) -> tuple[str, ...]:
    """Channels that a certain wish names."""
    if _SENTENCES["every_channel"].search(flat):
        return CHANNELS
    return tuple(name for name, word in _NAMES_CHANNEL.items() if word.search(flat))


def _unquoted(text: str) -> str:
    """A reply without the message of ours below it; all of it where nothing is left."""
    above = _ORIGINAL.split(text, maxsplit=1)[0]
    lines = [line for line in above.splitlines() if not line.lstrip().startswith(">")]
    written = "\n".join(lines)
    return written if written.strip() else text


def _plain(text: str) -> str:
    """Small letters without accents, apostrophes and disguises such as ST0P."""
    letters = unicodedata.normalize("NFKD", text[:_MOST_READ]).casefold()
    bare = "".join(c for c in letters if not unicodedata.combining(c))
    return re.sub(r"(?<=[a-z])0|0(?=[a-z])", "o", _APOSTROPHES.sub("", bare))
