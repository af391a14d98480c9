"""Special categories that are kept for the audit alone: do scores give them away?"""

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
    """Whether what was learnt stands for a special category of the campaign.

    Args:
        run: Its voters have the columns, which are no features.
        voter_id: Shape (n,).
        unit_id: Household of each, shape (n,).
        seen: What would be acted on, shape (n, k).

    Returns:
        `ok`, `limit` and a row for every category of every column.
    """
    voters = run.table("voters").set_index("voter_id")
    limit = run.campaign.features.proxy_limit
    few = unit_uniforms(unit_id, salt="proxy") < AUDITED_AT_MOST / max(len(seen), 1)
    rows: list[Json] = []
    for column in sorted(special_columns(run.campaign, list(voters.columns))):
        told = voters[column].reindex(voter_id[few])
        for value, who in _categories(told):
            found = audit_proxy(
                seen[few], who, unit_id[few], limit=limit,
                seed=run.campaign.campaign.seed,
            )  # fmt: skip
            if found is not None:
                rows.append(_row(column, value, found))
    return {"ok": all(r["ok"] for r in rows), "limit": limit, "categories": rows}


def _categories(told: pd.Series) -> list[tuple[str, Bools]]:
    """Every value of a column and who has it; of two, the first says both."""
    known = told.astype(object).where(told.notna(), None)
    if pd.api.types.is_numeric_dtype(told) and told.nunique() > 12:
        return [("above the median", (told > told.median()).to_numpy(dtype=bool))]
    values = [v for v, _ in known.value_counts().items()]
    kept = values[-1:] if len(values) == 2 else values
    return [(str(v), (known == v).to_numpy(dtype=bool)) for v in kept]


def _row(column: str, value: str, found: Proxy) -> Json:
    return {
        "column": column, "value": value, "auc": found.auc.as_dict(),
        "n_with": found.n_with, "ok": found.ok,
    }  # fmt: skip
