"""A campaign of one message against none, as a campaign.toml, but for its voters.

The test lies in `test.csv`: voter_id, message_id, channel, value.
"""

TITLE = """
[campaign]
name = "field"
title = "t"
question = "q"
rule_set = "us_default"
as_of = 2026-03-01
seed = 1
[outcome]
name = "support"
label = "support"
kind = "binary"
measures = "support"
higher_is_better = true
absent = "missing"
unit_per_point = 0.01
[plan]
budget_usd = 300.0
start_on = 2026-03-02
days = 3
holdout_share = 0.1
explore_share = 0.05
[features]
columns = ["*"]
special_categories = []
legal_basis_special = ""
"""
TABLES = """
[tables.messages]
source = "s"
licence = "l"
permitted_use = "p"
[[tables.messages.rows]]
message_id = "a"
issue = "jobs"
text = "Text"
sponsor = "S"
disclaimer = "Paid for by S"
discloses = "none"
[tables.designs]
source = "s"
licence = "l"
permitted_use = "p"
[[tables.designs.rows]]
experiment_id = "e"
message_id = "control"
channel = "none"
probability = 0.5
[[tables.designs.rows]]
experiment_id = "e"
message_id = "a"
channel = "mail"
probability = 0.5
[tables.deliveries]
path = "test.csv"
source = "s"
licence = "l"
permitted_use = "p"
[tables.deliveries.columns]
voter_id = "voter_id"
experiment_id = { value = "e" }
message_id = "message_id"
channel = "channel"
sent_on = { value = 2026-02-01 }
randomised_by = { value = "person" }
[tables.responses]
path = "test.csv"
source = "s"
licence = "l"
permitted_use = "p"
[tables.responses.columns]
voter_id = "voter_id"
experiment_id = { value = "e" }
outcome = { value = "support" }
value = "value"
observed_at = { value = 2026-02-15 }
[tables.costs]
source = "s"
licence = "l"
permitted_use = "p"
[[tables.costs.rows]]
message_id = "*"
channel = "mail"
cost_usd = 0.5
"""


def campaign_text(name: str, voters: str) -> str:
    """The whole declaration.

    Args:
        name: Of the campaign.
        voters: Its [tables.voters].
    """
    return TITLE.replace('"field"', f'"{name}"') + voters + TABLES


def answers_text(voter_ids: list[str]) -> str:
    """`test.csv`: every second voter was sent the message.

    Args:
        voter_ids: Who was in the test.
    """
    arms = ("a,mail", "control,none")
    tested = [f"{v},{arms[k % 2]},{k // 2 % 2}" for k, v in enumerate(voter_ids)]
    return "\n".join(["voter_id,message_id,channel,value", *tested, ""])
