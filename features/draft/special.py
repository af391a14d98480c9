"""Columns that may tell of a special category of personal data, by name and by value.

Race, ethnicity, origin, language, religion, health, union membership, sexual
orientation and opinions (GDPR Article 9, and opinions on contested issues that stand
for them). A suspicion is no finding: a person answers it.
"""

import re
from collections.abc import Iterable, Mapping

import pandas as pd

MAX_LEVELS = 400
"""A column with more different values is no list of kinds."""
N_LOOKED_AT = 20_000
ENOUGH = 0.25
"""Share of the different values that have one of the words."""


def plain_name(name: str) -> str:
    """A column's name in small letters, its words parted by underscores.

    >>> plain_name("FirstName"), plain_name("VG-04")
    ('first_name', 'vg_04')
    """
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def _named(anywhere: str, words: str) -> re.Pattern[str]:
    """Parts found anywhere in a plain name, or words that stand alone in it."""
    parts = [anywhere] if anywhere else []
    return re.compile("|".join([*parts, rf"(?:^|_)(?:{words})(?:_|\d|$)"]))


def words_of(text: str) -> frozenset[str]:
    """The words of a text.

    >>> sorted(words_of("W B"))
    ['B', 'W']
    """
    return frozenset(text.split())


_NAMES = {
    "race or ethnicity": _named(
        "ethnic|hisp|latin[oax]|racial|caucas|african|afro_?am|afam|pacific_?isl|"
        "multi_?rac|bi_?rac|native_?am|indigen|tribal|^nh_",
        "race|races|rac|black|aa|asian|asians|aapi|white|whites|native|indian|minority|"
        "tribe|roma|arab|mena",
    ),
    "origin": _named(
        "country_?of_?(?:orig|birth)|birth_?(?:place|country|state)|place_?of_?birth|"
        "national_?orig|foreign_?born|citizen|nationalit|immigra|ancestr|refugee|"
        "naturali[sz]ed",
        "origin|migrant|visa",
    ),
    "language": _named(
        "language|bilingual|spanish|mother_?tongue|vietnamese|mandarin|cantonese|tagalog",
        "lang|langs|speaks|esl",
    ),
    "religion": _named(
        "relig|church|cathol|jewish|judai|muslim|islam|christian|evangel|bible|mormon|"
        "hindu|buddh|mosque|synagog|protestant|baptist|lutheran|methodist|presbyter|"
        "pentecost|atheis|worship|kosher|halal|episcop",
        "cath|jew|jews|lds|sikh|faith|clergy|prayer|temple|parish",
    ),
    "health": _named(
        "health|medicat|medical|medicare(?!_?tax)|medicaid|disab|illness|disease|diabet|"
        "obes|vaccin|covid|asthma|pregnan|handicap|wheelchair|allerg|opioid|insulin|"
        "arthrit|genetic|biometric|prescription|hospital|ailment|fertility|psychiat",
        "medic|cancer|mental|hiv|aids|deaf|blind|bmi|smoker|smoking|addict|addiction|dna",
    ),
    "union membership": _named(
        "trade_?union|labou?r_?union|union_?(?:member|hh|house|score|model|flag|prob)|"
        "teamster|afl_?cio",
        "union|unions|unionized|unionised|seiu|ufcw|afscme|uaw",
    ),
    "sexual orientation": _named(
        "sexual|lgbt|lesbian|transgender|same_?sex|gender_?ident|homosex|bisex",
        "gay|gays|queer|orientation|pronoun|pronouns",
    ),
    "opinions": _named(
        "abortion|pro_?choice|pro_?life|planned_?parent|second_?amend|firearm|ideolog|"
        "marijuana|cannabis|death_?penalty|contracept|euthanas|climate_?change|"
        "gun_?(?:own|control|right|safe)",
        "gun|guns|nra|opinion|opinions|naral",
    ),
}
_NOT_A_UNION = re.compile(r"credit_?union|civil_?union|union_(?:county|city|street|st)")
_WORDS = {
    "race or ethnicity": "white black african hispanic latino latina latinx asian "
    "caucasian indigenous islander multiracial european",
    "religion": "catholic protestant jewish muslim evangelical hindu buddhist "
    "christian mormon lutheran baptist methodist islamic atheist sikh orthodox "
    "presbyterian agnostic pentecostal",
    "language": "english spanish chinese mandarin cantonese korean vietnamese tagalog "
    "russian arabic french german portuguese hindi polish italian haitian creole hmong "
    "somali punjabi japanese urdu bengali",
    "origin": "mexico cuba india china vietnam philippines haiti jamaica ireland "
    "germany poland russia salvador dominican guatemala colombia nigeria ethiopia "
    "pakistan bangladesh somalia ukraine honduras nicaragua venezuela ecuador peru "
    "iran iraq syria afghanistan",
    "health": "diabetes asthma cancer arthritis depression vaccinated unvaccinated "
    "disabled hypertension obese dementia",
    "sexual orientation": "gay lesbian straight heterosexual homosexual bisexual queer",
    "opinions": "pro-life pro-choice prolife prochoice",
}
_WORD_LISTS = {kind: words_of(words) for kind, words in _WORDS.items()}
_CODES = {
    "race or ethnicity": (
        ({"W", "B"}, words_of("W B H A O I M N P U X L Z R E")),
        ({"WH", "BH"}, words_of("WH BH AP HP AI OT U")),
        ({"HL", "NL"}, words_of("HL NL UN")),
    ),
    "language": (
        (
            {"EN", "ES"},
            words_of("EN ES ZH KO VI TL RU AR FR DE PT HI JA SO HT"),
        ),
        ({"ENG", "SPA"}, words_of("ENG SPA CHI ZHO KOR VIE TGL RUS ARA FRE")),
    ),
    "religion": (({"C", "J", "P"}, words_of("C J P M O H B X U E L")),),
}
"""Codes that must all be there, and those that may be there with them."""


def special_name(name: str) -> str:
    """The special category that a column's name speaks of; empty for none.

    >>> special_name("Religions_Description"), special_name("CountyName")
    ('religion', '')
    """
    plain = plain_name(name)
    for kind, pattern in _NAMES.items():
        if pattern.search(plain) and not (
            kind == "union membership" and _NOT_A_UNION.search(plain)
        ):
            return kind
    return ""


def looks_special(name: str) -> bool:
    """Whether a column's name speaks of race, religion, health or the like.

    >>> looks_special("NH_WHITE"), looks_special("GARDENINGM")
    (True, False)
    """
    return bool(special_name(name))


def special_values(values: pd.Series) -> str:
    """The special category that a column's values speak of; empty for none.

    >>> special_values(pd.Series(["W", "B", "H", "W"]))
    'race or ethnicity'
    """
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(
        values
    ):
        return ""
    step = max(len(values) // N_LOOKED_AT, 1)
    texts = values.iloc[::step].dropna().astype("str").str.strip().unique()
    levels = {text for text in texts if text}
    if not levels or len(levels) > MAX_LEVELS:
        return ""
    return _coded(levels) or _worded(levels)


def _coded(levels: set[str]) -> str:
    upper = {level.upper() for level in levels}
    for kind, lists in _CODES.items():
        if any(must <= upper <= may for must, may in lists):
            return kind
    return ""


def _worded(levels: Iterable[str]) -> str:
    """Two words of one list, or one among at most two values."""
    split = [set(re.findall(r"[a-z]+(?:-[a-z]+)?", level.lower())) for level in levels]
    split = [words | {part for w in words for part in w.split("-")} for words in split]
    for kind, words in _WORD_LISTS.items():
        different = set().union(*(words & level for level in split))
        n_levels = sum(bool(words & level) for level in split)
        if n_levels < ENOUGH * len(split):
            continue  # White Oak and Black Creek among many precincts
        if (len(different) > 1 and n_levels > 1) or (different and len(split) <= 2):
            return kind
    return ""


def suspicious_columns(columns: Mapping[str, pd.Series]) -> dict[str, str]:
    """Columns that may tell of a special category, with the reason.

    Args:
        columns: Values by the column's name in the source.

    Returns:
        Suspicious columns alone, in the order given. No value is repeated.
    """
    reasons: dict[str, str] = {}
    for name, values in columns.items():
        if kind := special_name(name):
            reasons[name] = f"its name speaks of {kind}"
        elif kind := special_values(values):
            reasons[name] = f"its values speak of {kind}"
    return reasons
