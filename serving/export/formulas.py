"""Cells of which a spreadsheet makes no formula, and the way back."""

import re

import pandas as pd

_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.,() -]*$)")
"""How a text begins that a spreadsheet works out; a number or telephone is none."""
_HARMLESS = re.compile(r"^'(?=[=+@\t\r-])")


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of which a spreadsheet makes no formula: an apostrophe stands before one.

    Names and ids come from a file that others wrote, and lists are opened by people.

    Args:
        frame: Any table; numbers and times stay as they are.
    """
    texts = frame.select_dtypes(["str", "object"])
    harmless = {str(n): _without_formulas(column) for n, column in texts.items()}
    return frame.assign(**harmless)


def _without_formulas(texts: pd.Series) -> pd.Series:
    suspect = texts.astype("str").str.match(r"[=@\t\r+-]").fillna(value=False)
    rows = suspect.to_numpy(dtype=bool)
    if not rows.any():
        return texts
    written = [f"'{t}" if _FORMULA.match(t) else t for t in texts[rows]]
    column: pd.Series = texts.copy()
    column[rows] = written
    return column


def as_exported(texts: pd.Series) -> pd.Series:
    """What `without_formulas` made of texts turned back, where a file comes back."""
    return texts.str.replace(_HARMLESS, "", regex=True)
