"""Consumer of reactions from a message broker: acknowledges what is on disk.

A message is one event or a batch, as JSON, as `POST /reactions` takes it. From Redis a
stream is read by a consumer group in batches; what a consumer took and did not
acknowledge before it died is claimed by the next one. What is no event is quarantined
and acknowledged: it would come back for ever.
"""

import asyncio
import importlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from hustings.serving.bodies import RequestError
from hustings.serving.reactions.http import Intake, batch_of, utc_now

GROUP = "hustings"
STREAM = "reactions"
MAX_RECORDS = 1_000
"""Messages in one transaction."""
POLL_MS = 200
CLAIM_AFTER_MS = 10_000
"""A message that its consumer has had for so long without an answer is taken over."""
_DATA_FIELD = b"data"
"""Of an entry that was not written by FastStream."""

_log = logging.getLogger(__name__)

_BROKERS = {
    "redis": ("redis", "RedisBroker"),
    "rediss": ("redis", "RedisBroker"),
    "unix": ("redis", "RedisBroker"),
    "kafka": ("kafka", "KafkaBroker"),
    "nats": ("nats", "NatsBroker"),
    "amqp": ("rabbit", "RabbitBroker"),
    "amqps": ("rabbit", "RabbitBroker"),
}
"""Scheme of an address → FastStream's module, which is its extra, too, and class."""
_OPTIONS: dict[str, dict[str, Any]] = {
    "kafka": {"group_id": GROUP},
    "nats": {"stream": GROUP, "durable": GROUP},
}
"""What makes a subscription outlive its process, by module; Redis has its own."""


def consume(intake: Intake, broker: str, *, stream: str = STREAM) -> None:
    """Take reactions from a broker until SIGINT or SIGTERM.

    Args:
        intake: The way into the store.
        broker: Address, such as `redis://localhost:6379`.
        stream: Stream, topic, subject or queue.

    Raises:
        ValueError: If the address is of no known broker.
        ModuleNotFoundError: If the broker's client is not installed.
    """
    asyncio.run(_run(intake, broker, stream))


async def _run(intake: Intake, address: str, stream: str) -> None:
    module, kind = broker_class(address)
    from faststream import AckPolicy, FastStream

    url = address.removeprefix("kafka://") if module == "kafka" else address
    broker = kind(url, logger=_log)
    if module == "redis":
        await _make_group(address, stream)
        _subscribe_redis(broker, intake, stream)
    else:

        async def undecoded(message: Any) -> bytes:
            return bytes(message.body)

        async def take_one(body: bytes) -> None:
            await asyncio.to_thread(take, intake, [body])

        broker.subscriber(
            stream,
            decoder=undecoded,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            **_OPTIONS.get(module, {}),
        )(take_one)
    await FastStream(broker, logger=_log).run()


def broker_class(address: str) -> tuple[str, Any]:
    """FastStream's module and class for an address.

    Raises:
        ValueError: If the address is of no known broker.
        ModuleNotFoundError: If the broker's client is not installed.
    """
    scheme = address.partition("://")[0]
    if scheme not in _BROKERS or "://" not in address:
        raise ValueError(
            f"expected a broker's address that begins with one of "
            f"{', '.join(f'{name}://' for name in _BROKERS)}, got {scheme}"
        )
    extra, name = _BROKERS[scheme]
    try:
        module = importlib.import_module(f"faststream.{extra}")
    except ImportError:
        raise ModuleNotFoundError(
            f"a broker at {scheme}:// needs pip install 'faststream[{extra}]'"
        ) from None
    return extra, getattr(module, name)


def take(intake: Intake, bodies: Sequence[bytes]) -> None:
    """Keep what some messages hold; they may be acknowledged once this returns.

    Args:
        intake: The way into the store.
        bodies: JSON of an event or a batch, each.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: If the store could not keep them.
        payload.KeyMissing: If an event names a person and there is no key.
    """
    now = utc_now()
    events: list[Any] = []
    for body in bodies:
        try:
            events += batch_of(body)
        except RequestError as refusal:
            reason = refusal.faults[0].message
            receipt = intake.set_aside(reason, len(body), received_at=now)
            _log.warning("quarantined %d message that is no event", receipt.quarantined)
    if events:
        intake.receive(events, received_at=now)


# --- Redis ----------------------------------------------------------------------------


async def _make_group(address: str, stream: str) -> None:
    """The group, from the stream's beginning: what came before us is ours, too."""
    from redis.asyncio import Redis
    from redis.exceptions import ResponseError

    async with Redis.from_url(address) as client:
        try:
            await client.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except ResponseError as failure:
            if "BUSYGROUP" not in str(failure):
                raise


def _subscribe_redis(broker: Any, intake: Intake, stream: str) -> None:
    """New messages in batches, and those that another consumer left behind."""
    from faststream import AckPolicy
    from faststream.redis import StreamSub

    async def take_entries(entries: list[Any]) -> None:
        bodies = [_entry_body(broker, entry) for entry in entries]
        # beside the event loop: it keeps the connection alive
        await asyncio.to_thread(take, intake, bodies)

    name = f"{socket.gethostname()}-{os.getpid()}"
    new = StreamSub(
        stream, group=GROUP, consumer=name, batch=True, polling_interval=POLL_MS,
        max_records=MAX_RECORDS,
    )  # fmt: skip
    left = StreamSub(
        stream, group=GROUP, consumer=f"{name}-claims", batch=True,
        polling_interval=POLL_MS, min_idle_time=CLAIM_AFTER_MS,
    )  # fmt: skip
    for source in (new, left):
        broker.subscriber(
            stream=source,
            parser=_unparsed,
            decoder=_undecoded,
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )(take_entries)


async def _unparsed(
    message: dict[str, Any], parse: Callable[[Any], Awaitable[Any]]
) -> Any:
    """FastStream's own parser stumbles over what is no text: we read the entries."""
    parsed = await parse({**message, "data": []})
    parsed.raw_message = message
    return parsed


async def _undecoded(message: Any) -> Any:
    return message.raw_message["data"]


def _entry_body(broker: Any, entry: dict[bytes, bytes]) -> bytes:
    """JSON of an entry, by FastStream's own field or by `data`."""
    enveloped = entry.get(b"__data__")
    if enveloped is None:
        return entry.get(_DATA_FIELD, b"")
    body, _ = broker.message_format.parse(enveloped)
    return bytes(body)
