"""`rules`: the campaign's rules, and signatures of texts about voting."""

from typing import Annotated

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    CampaignName,
    DataFolder,
    Debug,
    changing,
    errors_reported,
    known_run,
    make_run,
)

app = typer.Typer()


@app.command()
def sign(
    campaign: CampaignName,
    message: Annotated[str, typer.Argument(help="The message whose text is signed.")],
    by: Annotated[str, typer.Option("--by", help="Who answers for it, by name.")],
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Sign a text that says when, where or how to vote; anew when it changes."""
    with errors_reported(debug=debug), changing(campaign, data, "sign"):
        from hustings.experiments.plans.signing import sign_text
        from hustings.serving.voting_text import voting_words

        run = known_run(make_run(campaign, data, DEFAULT_STORE, ""), campaign)
        messages = run.table("messages")
        head = sign_text(run.home, messages, message, by=by, at=run.at)
        text = messages.set_index("message_id").at[message, "text"]
        for kind, words in voting_words(str(text)).items():
            typer.echo(f"{kind}: {words!r}")
        typer.echo(f"Signed by {by}; ledger entry {head.seq}.")


@app.command()
def rules(
    campaign: CampaignName,
    debug: Debug = False,
) -> None:
    """The rules that a campaign keeps, with their sources."""
    with errors_reported(debug=debug):
        from hustings.experiments.declaration import load_campaign
        from hustings.serving.rules import rule_set

        campaign_rules = rule_set(load_campaign(campaign).campaign.rule_set)
        typer.echo(f"{campaign_rules.name}: {campaign_rules.about}")
        for rule in campaign_rules.rules:
            where = f" ({', '.join(rule.channels)})" if rule.channels else ""
            typer.echo(f"  {rule.code}{where}: {rule.digest}\n      {rule.source}")
