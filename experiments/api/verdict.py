"""What judging a fitted model on held-out voters gave, for a person and a program."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from hustings.experiments.report.markup import (
    html_badge,
    html_table,
    joined,
    paragraph,
)
from hustings.experiments.report.words import as_span, interval_text
from hustings.experiments.stages.context import rounded
from hustings.training.learners.baselines import CellLift
from hustings.training.policy_value.gate import BLOCKING
from hustings.training.policy_value.policies import PERSONALISED, Policy
from hustings.training.policy_value.results import Evaluation
from hustings.training.policy_value.verdict import answer

Json = dict[str, Any]


@dataclass(frozen=True)
class PolicyVerdict:
    """Verdict on voters that no model saw, as the stage `evaluate` gives it.

    Attributes:
        evaluation: All of it, as `evaluation.json` holds it of an experiment.
        policy: What was chosen on all the tested for the champion; `plan` delivers it.
            None where the champion is a model that is registered already, a partner's,
            or nothing was learnt.
        split: Lifts of the two groups where the champion is one split; None else.
        unit_per_point: Outcome units in one point.
        outcome: What the outcome is called.
        notes: What was set aside or assumed, a sentence each.
        model_id: Digest of the model that was judged; empty of a campaign's verdict.
    """

    evaluation: Evaluation
    policy: Policy | None = field(repr=False)
    split: CellLift | None = field(repr=False)
    unit_per_point: float
    outcome: str
    notes: tuple[str, ...]
    model_id: str

    @property
    def judged_model(self) -> str:
        """What was judged, in words for an error."""
        return f"another model ({self.model_id})" if self.model_id else "a campaign"

    @property
    def lifts_id(self) -> str:
        """Digest of the lifts that the champion goes by, which `lift` states."""
        if self.split is None:
            return self.model_id
        split = self.split.split
        cells = "all" if split is None else f"{split.feature}/{split.threshold!r}"
        return f"{self.model_id}/{cells}"

    @property
    def verdict(self) -> str:
        """One of personalise, one_split_suffices, not_worth_personalising."""
        return self.evaluation.verdict.verdict

    @property
    def champion(self) -> str:
        """Name of the policy to use."""
        return self.evaluation.verdict.champion

    @property
    def sentence(self) -> str:
        """The answer, with its interval and how many more voters would tell."""
        return answer(
            self.to_json(), unit_per_point=self.unit_per_point, label=self.outcome
        )

    @property
    def n_more_voters(self) -> int | None:
        """Voters that a next test needs on top of these to show what is believed.

        The gain worth having, where one was declared, else the estimate less its luck;
        where nothing is shown to do anything, the best message's effect. None where
        `n_more_voters_reason` says why.
        """
        return self._more_voters()[0]

    @property
    def n_more_voters_reason(self) -> str:
        """Why no number of voters is given; empty where one is."""
        return self._more_voters()[1]

    def _more_voters(self) -> tuple[int | None, str]:
        """Voters that are lacking, or why nobody can say how many."""
        gate = self.evaluation.verdict
        power = gate.power
        chance = None if power is None else power.at_worthwhile or power.at_estimate
        reasons = gate.forbidden_by or gate.lacking
        n_voters, why = None, ""
        if reasons:
            why = f"nothing was learnt: {'; '.join(reasons)}"
        elif gate.verdict == "personalise":
            why = "that personalising pays is shown already"
        elif gate.next_test is not None:
            n_voters = gate.next_test.n_voters
        elif gate.blocked_by:
            failed = " and ".join(BLOCKING[name] for name in gate.blocked_by)
            why = f"{failed}: more voters of such a test would tell no more"
        elif power is None:
            why = "no policy differs from personalising on the judged voters"
        elif chance is None:
            why = "personalising is not estimated to gain anything"
        elif chance.n_voters is None:
            why = "the gain is too small for any test that can be drawn"
        else:
            n_voters = max(chance.n_voters - power.n_tested, 0)
        return n_voters, why

    @property
    def policies(self) -> pd.DataFrame:
        """Every judged policy: its gain over nobody and what personalising adds to it.

        Gains are per voter, in outcome units, at the spend that was judged; intervals
        are of 95 %. The cells of `added` are missing of personalising itself.
        """
        rows = []
        for name, policy in self.evaluation.policies.items():
            added = self.evaluation.verdict.differences.get(name)
            row = {
                "policy": name, "label": policy.label, "gain": policy.gain.value,
                "gain_low": policy.gain.low, "gain_high": policy.gain.high,
                "spend_per_voter_usd": policy.spend_per_voter_usd,
                "contacted_share": policy.contacted_share,
            }  # fmt: skip
            of_added = {} if added is None else added.as_dict()
            rows.append(
                row
                | {
                    f"added{'' if end == 'value' else '_' + end}": of_added.get(end)
                    for end in ("value", "low", "high")
                }
            )
        return pd.DataFrame(rows).astype(
            dict.fromkeys(("added", "added_low", "added_high"), "float64")
        )

    @property
    def messages(self) -> pd.DataFrame:
        """Average effect of each message, as measured and as shrunken."""
        return average_lifts(self.evaluation.details["messages"])

    @property
    def checks(self) -> Json:
        """Whether the test can be trusted: sample ratio, attrition, overlap."""
        checks: Json = self.evaluation.details["checks"]
        return checks

    def to_json(self) -> Json:
        """All of it as plain JSON values, as `evaluation.json` rounds them."""
        stored: Json = rounded(self.evaluation.to_json())
        return stored

    def __str__(self) -> str:
        return "\n".join([self.sentence, *self.notes])

    def _repr_html_(self) -> str:
        """A table of the policies under the answer."""
        unit, differences = self.unit_per_point, self.evaluation.verdict.differences
        rows = [
            (
                policy.label,
                interval_text(as_span(policy.gain.as_dict(), unit)),
                "" if name == PERSONALISED or name not in differences
                else interval_text(as_span(differences[name].as_dict(), unit)),
                f"{policy.spend_per_voter_usd:.2f}",
            )
            for name, policy in self.evaluation.policies.items()
        ]  # fmt: skip
        return joined(
            [
                html_badge(self.verdict),
                paragraph(self.sentence),
                html_table(
                    "Gain per voter on voters that no model saw, with 95 % intervals",
                    ("Policy", "Gain", "Personalising adds", "USD a voter"), rows,
                ),
                *map(paragraph, self.notes),
            ]
        )  # fmt: skip


def average_lifts(message_rows: Sequence[Json]) -> pd.DataFrame:
    """Average effect of each message, as measured and as shrunken.

    Args:
        message_rows: From `verdict.message_rows`.
    """
    return pd.DataFrame(
        {
            "message_id": row["message_id"],
            "n_sent": row["n_sent"],
            "lift": row["effect"]["value"],
            "low": row["effect"]["low"],
            "high": row["effect"]["high"],
            "shrunken": row["shrunken"]["value"],
        }
        for row in message_rows
    )
