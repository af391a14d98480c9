"""What the values of a column look like: dates, contact details, codes."""

import re

import pandas as pd

MOST = 0.95
"""Share of the values that must look so for a guess by value."""
HALF = 0.5
MAX_SHOWN_LEVELS = 12
LONGEST_SHOWN = 16
MAX_FORMATS = 3

DATE_FORMATS = (
    "%Y-%m-%d", "%m/%d/%Y", "%Y%m%d", "%d.%m.%Y", "%m-%d-%Y", "%d/%m/%Y", "%m%d%Y",
    "%m/%d/%y", "%Y/%m/%d", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y",
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M",
    "%m/%d/%Y %I:%M:%S %p",
)  # fmt: skip
_OTHER_ORDER = {"%m/%d/%Y": "%d/%m/%Y", "%d/%m/%Y": "%m/%d/%Y"}
_NO_VALUE = re.compile(
    r"^(?:[^0-9A-Za-z]+|[#xX*?0/.\-]+|n/?a|#n/a|null|none|unknown|unk|nan|"
    r"0?1/0?1/1[89]00|1[89]00-?01-?01(?: 00:00:00)?)$",
    re.I,
)
CONTACT_VALUES = {
    "e-mail addresses": re.compile(r"^[^@\s]+@[^@\s]+\.[a-zA-Z]{2,}$"),
    "telephone numbers": re.compile(r"^(?=\+|.*[() .-])\+?[( ]*(?:\d[() .-]*){10,13}$"),
    "street addresses": re.compile(r"^\d+\w? +[A-Za-z].*[A-Za-z]"),
}
_DATE_LIKE = re.compile(r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
_CODE = re.compile(r"^[A-Za-z0-9_+#/*.-]{1,3}$")


def no_values(values: pd.Series) -> list[str]:
    """Texts that stand where a date or a number is missing, such as ##/##/####."""
    texts = [v for v in values.unique() if _NO_VALUE.match(v)]
    return sorted(texts)[:MAX_SHOWN_LEVELS]


def date_formats(values: pd.Series) -> list[str]:
    """Formats that read nearly all dates of a column, the frequent first; none else.

    Args:
        values: Texts, without blanks and without what means no value.
    """
    rest, chosen = values, list[str]()
    while len(rest) and len(chosen) < MAX_FORMATS:
        share = {f: _reads(rest, f) for f in DATE_FORMATS if f not in chosen}
        for first in chosen:
            share.pop(_OTHER_ORDER.get(first, ""), None)
        best = max(share, key=lambda f: share[f])
        if not share[best]:
            break
        chosen.append(best)
        rest = rest[pd.to_datetime(rest, format=best, errors="coerce").isna()]
    is_read = len(values) and 1 - len(rest) / len(values) > MOST
    return chosen if is_read else []


def _reads(values: pd.Series, written: str) -> float:
    """Share of the values that are plausible dates in a format."""
    read = pd.to_datetime(values, format=written, errors="coerce")
    return float(read.dt.year.between(1890, 2100).mean())


def contact_values(values: pd.Series) -> str:
    """What contact details the values look like; empty for none."""
    text = values[~values.str.match(_DATE_LIKE)]
    for what, shape in CONTACT_VALUES.items():
        if len(text) and text.str.match(shape).sum() > HALF * len(values):
            return what
    return ""


def levels(values: pd.Series) -> str:
    """The frequent values where they are codes; only their number where they are not.

    A longer text may be a person's, so that it is shown only where several rows share
    it and no more than a few different ones are there.
    """
    counts = values[values != ""].value_counts()
    are_codes = all(_CODE.match(level) for level in counts.index)
    are_shared = bool((counts > 1).all()) and all(
        len(level) <= LONGEST_SHOWN for level in counts.index
    )
    if not len(counts):
        return "none in the rows looked at"
    if len(counts) > MAX_SHOWN_LEVELS or not (are_codes or are_shared):
        return f"of {len(counts)} kinds"
    return ", ".join(counts.index)


def counts_rows(values: pd.Series) -> bool:
    """Whether the values count the rows one by one, as a row number does."""
    numbers = pd.to_numeric(values, errors="coerce")
    first = numbers.iloc[0] if len(numbers) else None
    return first in (0, 1) and bool((numbers.diff().dropna() == 1).all())
