"""README's table of results from the committed evaluations.

`python -m tests.documents` writes it; `tests/test_documents.py` compares.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN = "<!-- results: made from experiments/*/evaluation.json -->"
END = "<!-- end of results -->"
SHIPPED = {
    "sample": "200,000 simulated voters",
    "persuasion_flyer": "10,000 voters, one flyer",
    "2006_mailers": "240,729 voters, four mailers, turnout",
    "2024_issue_messages": "ten issues, 490 message texts",
}
VERDICTS = {
    "personalise": "personalise",
    "one_split_suffices": "one split suffices",
    "not_worth_personalising": "does not pay",
}


def evaluation(campaign: str) -> dict[str, Any]:
    path = ROOT / "experiments" / campaign / "evaluation.json"
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def points(interval: dict[str, float], per_point: float) -> str:
    value, low, high = (interval[k] / per_point for k in ("value", "low", "high"))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})".replace("-", "−")


def row(campaign: str) -> str:
    judged = evaluation(campaign)
    spend = f"{SHIPPED[campaign]}, ${judged['spend_per_voter_usd']:.2f} a voter"
    results = judged["experiments"]
    if len(results) > 1:
        n, paying = len(results), judged["headline"]["n_personalise"]
        return f"| `{campaign}` | {spend} | in {paying} of {n} | | does not pay |"
    (result,) = results.values()
    per_point = judged["outcome"]["unit_per_point"]
    mix, split = (
        points(result["differences"][name], per_point)
        for name in ("best_mix", "one_covariate")
    )
    verdict = VERDICTS[result["verdict"]]
    return f"| `{campaign}` | {spend} | {mix} | {split} | {verdict} |"


def table() -> str:
    head = "| campaign | | over the best mix | over the best split | verdict |"
    rule = "|---|---|---|---|---|"
    return "\n".join([head, rule, *map(row, SHIPPED)])


def main() -> None:
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    readme.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}")


if __name__ == "__main__":
    main()
