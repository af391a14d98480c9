"""Normalisation of names: as people write them → as they can be compared.

Case, accents, titles and punctuation are removed; a nickname also yields the name that
it is short for. The result serves matching alone and is never stored or sent.
"""

import re
import unicodedata

import pandas as pd

_TITLES = frozenset(
    ["mr", "mrs", "ms", "miss", "mx", "dr", "prof", "rev", "sir", "dame", "hon"]
)
_SUFFIXES = frozenset(["jr", "sr", "ii", "iii", "iv", "esq", "phd", "md"])
_FOLDED = str.maketrans(
    {"ß": "ss", "æ": "ae", "ø": "o", "đ": "d", "ł": "l", "œ": "oe", "þ": "th"}
)
_WITHIN = re.compile("['`.\N{RIGHT SINGLE QUOTATION MARK}\N{ACUTE ACCENT}]")

_NICKNAMES = """
alexander alex al sandy xander
alexandra alexa sandra lexie sasha
alfred alf alfie fred
amanda mandy
andrew andy drew
anthony tony ant
barbara barb babs barbie
benjamin ben benny benji
brandon bran
catherine cathy kate katie cate kitty
charles charlie chuck chas
christine chris tina chrissy christie
christopher kit topher
cynthia cindy
daniel dan danny
david dave davey
deborah deb debbie debby
donald don donnie
dorothy dot dottie
edward ed eddie ned ted teddy
elizabeth liz lizzie beth betty bess eliza libby lisbeth
emily em emmy
eric rick
frances fran francie
francis frank frankie
gabriel gabe
gary gaz
george georgie
gerald gerry jerry
gregory greg
helen nell nellie
henry harry hank
jacob jake
james jim jimmy jamie
jason jase
jeffrey jeff geoff
jennifer jen jenny jenn
jessica jess jessie
john johnny jack jock
jonathan jon jonny
joseph joe joey
joshua josh
judith judy
justin jus
katherine kathy kath kat
kathleen kay
kenneth ken kenny
kevin kev
kimberly kim
laura laurie
lawrence larry lars
leonard len lenny leo
margaret maggie meg peggy marge margie madge
mary molly polly mamie
matthew matt matty
melissa mel missy lissa
michael mike mick mickey mikey
michelle shelly shell
nancy nan
nathaniel nathan nate nat
nicholas nick nicky
nicole nikki
pamela pam
patricia pat patty patsy tricia trish
patrick paddy
peter pete
philip phil pip
rachel rach
raymond ray
rebecca becca becky
richard rich richie dick dickie
robert rob robbie bob bobby bert
ronald ron ronnie
ryan ry
samantha sammie
samuel sam sammy
sharon shaz
stephanie steph stevie
stephen steve
steven ste
susan sue susie suzie
theodore theo
thomas tom tommy
timothy tim timmy
victoria vicky tori
vincent vince vinnie
virginia ginny
walter walt wally
william will bill billy willie liam
zachary zach zack
"""
"""A name, then what it is called for short; common English ones, far from all."""

NICKNAMES = {
    short: name
    for name, *shorts in (line.split() for line in _NICKNAMES.strip().splitlines())
    for short in shorts
}
"""Short form → the name."""


def plain_name(name: str) -> str:
    """A name in small ASCII letters where it can be, without punctuation.

    >>> plain_name("  O'Brien-Łuczak, José ")
    'obrien luczak jose'
    """
    folded = name.strip().lower().translate(_FOLDED)
    parts = unicodedata.normalize("NFKD", folded)
    bare = "".join(c for c in parts if not unicodedata.combining(c))
    joined = _WITHIN.sub("", bare)
    return " ".join(re.sub(r"[\W\d_]+", " ", joined).split())


def plain_names(names: pd.Series) -> pd.Series:
    """`plain_name` of every name; one without a letter is missing."""
    plain_of_name = {name: plain_name(name) or None for name in names.dropna().unique()}
    return names.map(plain_of_name).astype("str")


def root_names(plain: pd.Series) -> pd.Series:
    """The name that a first name is short for, or itself; its first word alone.

    >>> root_names(pd.Series(["bob", "robert john", "ada"])).tolist()
    ['robert', 'robert', 'ada']
    """
    root_of_name = {name: _root(name) for name in plain.dropna().unique()}
    return plain.map(root_of_name).astype("str")


def _root(plain: str) -> str:
    first = plain.split()[0]
    return NICKNAMES.get(first, first)


def split_names(names: pd.Series) -> pd.DataFrame:
    """Whole names → first_name and last_name, titles and suffixes left out.

    "Last, First" is read as it is meant; a single word is a last name.

    Args:
        names: As written.

    >>> split_names(pd.Series(["Dr. Ann Lee Jr.", "Lee, Ann", "Lee"])).values.tolist()
    [['ann', 'lee'], ['ann', 'lee'], [nan, 'lee']]
    """
    parts_of_name = {name: _split(name) for name in names.dropna().unique()}
    first = names.map({name: parts[0] for name, parts in parts_of_name.items()})
    last = names.map({name: parts[1] for name, parts in parts_of_name.items()})
    return pd.DataFrame(
        {"first_name": first.astype("str"), "last_name": last.astype("str")}
    )


def _split(name: str) -> tuple[str | None, str | None]:
    before, comma, after = name.partition(",")
    # "Lee, Ann" is turned round, not "Ann Lee, Jr."
    if comma and not set(plain_name(after).split()) <= _SUFFIXES:
        first, last = _bare_words(after, _SUFFIXES | _TITLES), _bare_words(before)
    else:
        words = _bare_words(name)
        first, last = words[:-1], words[-1:]
    return " ".join(first) or None, " ".join(last) or None


def _bare_words(name: str, at_end: frozenset[str] = _SUFFIXES) -> list[str]:
    """Words of a name without titles before it and suffixes after it.

    One word stays, and so does what stands elsewhere: people are called Hon or Md.
    """
    words = plain_name(name).split()
    while len(words) > 1 and words[0] in _TITLES:
        words = words[1:]
    while len(words) > 1 and words[-1] in at_end:
        words = words[:-1]
    return words
