"""A bare HTTP/1.1 client for load: one connection a request, little CPU of its own.

Knows sockets and OpenAI's answers; keeps no statistics.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from llada_exp.clients.http import bearer, environment_key

CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Answer:
    """status 0: the connection ended without an answer. whole: nothing of the body is missing."""

    status: int
    body: bytes
    whole: bool

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """Of a stream: its objects, and the string "[DONE]"."""
        lines = [line[6:] for line in self.body.decode().split("\n\n") if line.startswith("data: ")]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    def texts(self) -> dict[int, str]:
        """Choice -> text, of a whole or a streamed chat answer."""
        if not self.body.startswith(b"data: "):
            return {c["index"]: c["message"]["content"] for c in self.json()["choices"]}
        texts: dict[int, str] = {}
        for event in self.events():
            for choice in event["choices"] if isinstance(event, dict) else ():
                index = choice["index"]
                texts[index] = texts.get(index, "") + choice["delta"].get("content", "")
        return texts


async def send(url: str, body: bytes, path: str = CHAT) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Post, and leave the answer to be read. Closing the writer is hanging up."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**24)
    head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in bearer(environment_key()).items())
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


async def post(url: str, body: Any, path: str = CHAT) -> Answer:
    """body: bytes as they are, anything else as JSON. Raises OSError where nobody listens."""
    reader, writer = await send(url, body if isinstance(body, bytes) else json.dumps(body).encode(), path)
    try:
        return parse(await reader.read())
    except ConnectionError:
        return Answer(0, b"", False)
    finally:
        writer.close()


def parse(raw: bytes) -> Answer:
    """An answer as it came over the wire until the end of the connection."""
    head, complete, body = raw.partition(b"\r\n\r\n")
    if not complete:
        return Answer(0, b"", False)
    status = int(head.split(b" ", 2)[1])
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if headers.get(b"transfer-encoding") == b"chunked":
        return Answer(status, *_unchunk(body))
    return Answer(status, body, len(body) == int(headers.get(b"content-length", b"-1")))


def _unchunk(raw: bytes) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    while True:
        size, complete, rest = raw.partition(b"\r\n")
        if not complete:
            return b"".join(parts), False
        if not (length := int(size, 16)):
            return b"".join(parts), True
        parts.append(rest[:length])
        raw = rest[length + 2 :]
