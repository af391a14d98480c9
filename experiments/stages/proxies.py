"""The proxy audit: whether scores reveal special categories that no model reads."""

import pandas as pd

from hustings.experiments.declaration import special_columns
from hustings.experiments.stages.context import Json, Run
from hustings.features.arrays import Bools, Floats, Objects
from hustings.training.estimators.split import unit_uniforms
from hustings.training.policy_value.proxy_audit import (
    AUDITED_AT_MOST,
    Proxy,
    audit_proxy,
)

OTHER = "other"


def proxy_check(
    run: Run,
    voter_id: Objects,
    unit_id: Objects,
    seen: Floats,
) -> Json:
    """Audit whether the scores reveal a special category of the campaign.

    Args:
        run: Its voters have the columns, which are kept for this audit alone.
        voter_id: Shape (n,).
        unit_id: Household of each, shape (n,).
        seen: Scores that decisions would follow, shape (n, k).

    Returns:
        `ok`, `limit` and a row for every category of every column.
    """
    voters = run.table("voters").set_index("voter_id")
    limit = run.campaign.features.proxy_limit
    sampled = unit_uniforms(unit_id, salt="proxy") < AUDITED_AT_MOST / max(len(seen), 1)
    rows: list[Json] = []
    for column in sorted(special_columns(run.campaign, list(voters.columns))):
        cells = voters[column].reindex(voter_id[sampled])
        for value, who in _categories(cells):
            proxy = audit_proxy(
                seen[sampled], who, unit_id[sampled], limit=limit,
                seed=run.campaign.campaign.seed,
            )  # fmt: skip
            if proxy is not None:
                rows.append(_row(column, value, proxy))
    return {"ok": all(r["ok"] for r in rows), "limit": limit, "categories": rows}


def _categories(cells: pd.Series) -> list[tuple[str, Bools]]:
    """Values of a column and which voters have each; of two values, one suffices."""
    labels = cells.astype(object).where(cells.notna(), None)
    if pd.api.types.is_numeric_dtype(cells) and cells.nunique() > 12:
        return [("above the median", (cells > cells.median()).to_numpy(dtype=bool))]
    values = [v for v, _ in labels.value_counts().items()]
    audited = values[-1:] if len(values) == 2 else values
    return [(str(v), (labels == v).to_numpy(dtype=bool)) for v in audited]


def _row(column: str, value: str, proxy: Proxy) -> Json:
    return {
        "column": column, "value": value, "auc": proxy.auc.as_dict(),
        "n_with": proxy.n_with, "ok": proxy.ok,
    }  # fmt: skip
