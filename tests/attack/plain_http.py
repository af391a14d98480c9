"""Requests of a connection each, which cost their sender next to nothing."""

import asyncio
import json
from typing import Any, NamedTuple

from tests.serving.conftest import KEY, Server


class PlainAnswer(NamedTuple):
    """Status and body."""

    status: int
    text: str


async def ask(server: Server, route: str, body: Any = None) -> PlainAnswer:
    """Ask a route: with a body by POST, else by GET."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{'GET' if body is None else 'POST'} {route} HTTP/1.1\r\nHost: x\r\n"
        f"X-API-Key: {KEY}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    port = int(server.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + content)
        answer = await reader.read()
    finally:
        writer.close()
    first, _, text = answer.decode().partition("\r\n\r\n")
    return PlainAnswer(int(first.split()[1]), text)
