"""Live commands: the scoring endpoint, and the stream and replay of reactions."""

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hustings.experiments.cli.common import (
    DEFAULT_DATA,
    DEFAULT_STORE,
    CampaignName,
    DataFolder,
    Debug,
    MlflowServer,
    StoreFolder,
    address_of,
    alone,
    console,
    errors_reported,
    home_of,
    make_run,
)

if TYPE_CHECKING:
    pass

app = typer.Typer()
BECAME = ("accepted", "duplicate", "quarantined")
"""Counts of a receipt."""


@app.command()
def serve(
    campaign: CampaignName,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 3000,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """The scoring endpoint of a campaign's champion, on loopback; needs a key.

    HUSTINGS_API_KEY holds the key that every request but health must carry.
    """
    with errors_reported(debug=debug):
        from hustings.serving.decided import SERVING
        from hustings.serving.service import serve_bundle

        serve_bundle(home_of(campaign, data) / SERVING, host=host, port=port)


@app.command()
def web(
    campaign: CampaignName,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 3000,
    idle_minutes: Annotated[
        int,
        typer.Option(
            "--idle-minutes", min=1, help="A session without a request ends then."
        ),
    ] = 30,
    data: DataFolder = DEFAULT_DATA,
    store: StoreFolder = DEFAULT_STORE,
    mlflow: MlflowServer = "",
    debug: Debug = False,
) -> None:
    """The staff's pages of a campaign's day, beside the scoring endpoint; needs a key.

    Each person signs in with a key of their own, which HUSTINGS_KEYS lists with its
    roles; HUSTINGS_API_KEY is the operator's, which may look and signs nothing.
    """
    with errors_reported(debug=debug):
        import logging

        import pandas as pd
        import uvicorn

        from hustings.experiments.web.scoring import Scoring
        from hustings.experiments.web.sessions import Sessions
        from hustings.experiments.web.site import StaffSite
        from hustings.serving.keys import Keys

        logging.basicConfig(format="%(levelname)s: %(name)s: %(message)s")
        keys, home = Keys.of_environment(), home_of(campaign, data)
        scoring = Scoring(home, keys)
        scoring.refresh()

        site = StaffSite(
            address=address_of(campaign, data),
            # what a killed command left is finished by the next one, or by a form
            open_run=lambda: make_run(campaign, data, store, mlflow),
            alone=lambda folder, command, at: alone(folder, command, at=at),
            sessions=Sessions(keys, pd.Timedelta(minutes=idle_minutes)),
            scoring=scoring,
        )
        # paths of forms hold no voter, and yet nobody needs a line for every request
        uvicorn.run(
            site.app, host=host, port=port, access_log=False, server_header=False,
            ws="none",
            timeout_graceful_shutdown=5,
        )  # fmt: skip


@app.command()
def components(debug: Debug = False) -> None:
    """The libraries of this installation with their licences, as CycloneDX JSON."""
    with errors_reported(debug=debug):
        import json
        from importlib.metadata import distributions

        from hustings.serving.components import bill_of_materials

        names = {library.metadata["Name"] for library in distributions()}
        typer.echo(json.dumps(bill_of_materials(names), indent=1))


@app.command()
def consume(
    campaign: CampaignName,
    broker: Annotated[
        str, typer.Option("--broker", help="Address, such as redis://localhost:6379.")
    ] = "redis://localhost:6379",
    stream: Annotated[
        str, typer.Option("--stream", help="Stream, topic, subject or queue.")
    ] = "reactions",
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Reactions from a broker into the campaign's store, until it is stopped."""
    with errors_reported(debug=debug):
        from hustings.experiments.declaration import load_campaign
        from hustings.experiments.stages.reactions import open_intake
        from hustings.serving.reactions.broker import consume as consume_stream

        declared = load_campaign(campaign)
        intake = open_intake(declared, data / declared.campaign.name)
        consume_stream(intake, broker, stream=stream)


@app.command()
def replay(
    campaign: CampaignName,
    file: Annotated[Path, typer.Argument(help="Posts with totals by kind.")],
    speed: Annotated[str, typer.Option("--speed", help="3600x, or max.")] = "3600x",
    url: Annotated[
        str, typer.Option("--url", help="Service to send to; the store without.")
    ] = "",
    since: Annotated[str, typer.Option("--from", help="First time.")] = "",
    until: Annotated[str, typer.Option("--to", help="Time after the last.")] = "",
    half_life_h: Annotated[
        float,
        typer.Option(
            "--half-life-h",
            min=0.01,
            help="Hours in which half of a post's reactions come.",
        ),
    ] = 3.0,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 2016,
    data: DataFolder = DEFAULT_DATA,
    debug: Debug = False,
) -> None:
    """Play real posts and their reactions in time order."""
    with errors_reported(debug=debug):
        from hustings.experiments.declaration import load_campaign
        from hustings.experiments.replay import (
            Decay,
            in_order,
            moment,
            n_unreadable,
            play,
            posts_of,
            speed_of,
            to_endpoint,
        )
        from hustings.experiments.stages.reactions import export_format, open_intake
        from hustings.features.insights import read_insights
        from hustings.serving.reactions.http import receipt_json, utc_now

        declared, pace = load_campaign(campaign), speed_of(speed)
        insights = read_insights(file, export_format(declared.reactions, ""))
        posts = posts_of(insights, since=moment(since), until=moment(until))
        n_received: Counter[str] = Counter()
        if url:
            post = to_endpoint(url, os.environ.get("HUSTINGS_API_KEY", ""))
        else:
            intake = open_intake(declared, data / declared.campaign.name)

            def post(batch: list[dict[str, Any]]) -> dict[str, Any]:
                return receipt_json(intake.receive(batch, received_at=utc_now()))

        def send(batch: list[dict[str, Any]]) -> None:
            receipt = post(batch)
            n_received.update({name: receipt[name] for name in BECAME})

        events = in_order(posts, Decay(half_life_h), seed)
        with console.status("playing") as status:
            n = play(
                events, send, speed=pace,
                tell=lambda at, n: status.update(f"{at:%Y-%m-%d %H:%M}  {n:,} events"),
            )  # fmt: skip
        n_accepted, n_duplicate, n_quarantined = (n_received[name] for name in BECAME)
        typer.echo(
            f"Played {n:,} events of {len(posts):,} posts: kept {n_accepted:,}, "
            f"known already {n_duplicate:,}, quarantined {n_quarantined:,}."
        )
        if lost := n_unreadable(insights):
            typer.echo(
                f"Left out {lost:,} rows without a post's id or a readable time."
            )
