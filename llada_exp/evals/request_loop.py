"""Many requests at once through a pool: each asked once, its response handed on, and an early end where
going on is of no use.

Knows OpenAI's protocol and what our server adds to it; no problems and no scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from llada_exp.clients.http import KEY_VARIABLE
from llada_exp.clients.pool import Pool, PoolResponse, ServersGone
from llada_exp.evals.decoding_check import difference

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
NUM_REFUSED = 8
"""So many requests refused before any was answered are no accident of their problems."""
Item = TypeVar("Item")
Request = tuple[str, dict[str, Any]]
"""Path and body."""


class Refused(RuntimeError):
    """The endpoint will answer none of the requests as they are meant; the message says why."""


class EarlyStop:
    """Whether going on is of any use. asked: decoding fields of every request, which the server must use."""

    def __init__(self, asked: Mapping[str, Any] | None = None) -> None:
        self.asked = asked or {}
        self.num_answered = self.num_refused = 0

    def check(self, exchange: PoolResponse) -> None:
        """Raises Refused."""
        if exchange.status in (401, 403):
            raise Refused(
                f"{exchange.url} refuses the key ({message(exchange)}); it comes from {KEY_VARIABLE}"
            )
        if exchange.status == 200:
            self.num_answered += 1
            used = (exchange.body.get("llada") or {}).get("decoding")
            if used and (found := difference(self.asked, [used])) is not None:
                raise Refused(found)
        elif 400 <= exchange.status < 500:
            self.num_refused += 1
        if not self.num_answered and self.num_refused >= NUM_REFUSED:
            raise Refused(
                f"{exchange.url} refused the first {self.num_refused} requests; the last with "
                f"{exchange.status}: {message(exchange)}"
            )


async def ask_all(
    pool: Pool,
    items: Sequence[Item],
    concurrency: int,
    request: Callable[[Item], Request],
    done: Callable[[Item, Mapping[str, Any], PoolResponse], Awaitable[None]],
    seen: EarlyStop,
) -> None:
    """Each item's request once; done: gets its body and what became of it, as they come.

    Raises ServersGone where no server answers any more, Refused where none will.
    """
    waiting = iter(items)  # shared: each client takes the next one

    async def client(own: Pool, waiting: Iterator[Item]) -> None:
        for item in waiting:
            path, body = request(item)
            exchange = await own.post(path, body)
            seen.check(exchange)
            await done(item, body, exchange)

    try:
        async with pool as own, asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(items))):
                group.create_task(client(own, waiting))
    except* (ServersGone, Refused) as errors:
        reason: BaseException = errors
        while isinstance(reason, BaseExceptionGroup):
            reason = reason.exceptions[0]
    else:
        return
    raise reason


def read_answer(exchange: PoolResponse) -> dict[str, Any] | None:
    """The fields of an Answer that a response gives; None where it is of another shape than OpenAI's."""
    tree = exchange.body
    try:
        choice = tree["choices"][0]
        response = choice["message"]["content"] if "message" in choice else choice["text"]
    except (KeyError, IndexError, TypeError):
        return None
    own, usage = tree.get("llada") or {}, tree.get("usage") or {}
    cost = (own.get("choices") or [{}])[0]
    return {
        "response": response or "",
        "finish_reason": choice.get("finish_reason"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        "nfe": cost.get("nfe"),
        "num_positions": cost.get("num_positions"),
        "decoding": {k: v for k, v in (own.get("decoding") or {}).items() if k != "seed"},
    }


def message(exchange: PoolResponse) -> str:
    """What an error's body says."""
    error = exchange.body.get("error")
    text = error.get("message") if isinstance(error, dict) else error
    return str(text or exchange.body)[:500]
