"""Many requests at once through a pool: each sent once, its response handed on, and an early end where
going on is of no use.

Knows OpenAI's protocol and what our server adds to it; no problems and no scores.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from llada_exp.clients.http import KEY_VARIABLE
from llada_exp.clients.pool import Pool, PoolResponse
from llada_exp.decoding_keys import in_terms_of_keys
from llada_exp.evals.decoding_check import difference

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
NUM_REFUSED = 8
"""So many requests refused before any was answered are no accident of their problems."""
Item = TypeVar("Item")


class Refused(RuntimeError):
    """The endpoint will answer none of the requests as they are meant; the message says why."""


class EarlyStop:
    """Whether going on is of any use. fields: of decoding, of every request, which the server must use."""

    def __init__(self, fields: Mapping[str, Any] | None = None) -> None:
        self.fields = fields or {}
        self.num_answered = self.num_refused = 0

    def check(self, response: PoolResponse) -> None:
        """Raises Refused."""
        if response.status in (401, 403):
            raise Refused(
                f"{response.url} refuses the key ({message(response)}); it comes from {KEY_VARIABLE}"
            )
        if response.status == 200:
            self.num_answered += 1
            used = (response.body.get("llada") or {}).get("decoding")
            if used and (reason := difference(self.fields, [used])) is not None:
                raise Refused(reason)
        elif 400 <= response.status < 500:
            self.num_refused += 1
        if not self.num_answered and self.num_refused >= NUM_REFUSED:
            raise Refused(
                f"{response.url} refused the first {self.num_refused} requests; the last with "
                f"{response.status}: {message(response)}"
            )


async def ask_all(
    pool: Pool,
    items: Sequence[Item],
    concurrency: int,
    request: Callable[[Item], tuple[str, dict[str, Any]]],
    done: Callable[[Item, Mapping[str, Any], PoolResponse], Awaitable[None]],
    stop: EarlyStop,
) -> None:
    """Each item's request once. request: its path and body; done: gets its body and what became of it, as
    they come.

    Raises ServersGone where no server answers any more, Refused where none will.
    """
    waiting = iter(items)  # shared: each client takes the next one

    async def client() -> None:
        for item in waiting:
            path, body = request(item)
            response = await pool.post(path, body)
            stop.check(response)
            await done(item, body, response)

    async with pool:
        clients = [asyncio.create_task(client()) for _ in range(min(concurrency, len(items)))]
        try:
            await asyncio.gather(*clients)
        finally:
            for task in clients:
                task.cancel()
            await asyncio.gather(*clients, return_exceptions=True)


def read_answer(response: PoolResponse) -> dict[str, Any]:
    """The fields of an Answer that a response gives; error: why it is none, None where it is one."""
    sent = {"e2el_ms": round(1000 * response.seconds, 3), "url": response.url, "attempts": response.attempts}
    tree = response.body
    try:
        choice = tree["choices"][0] if response.status == 200 else {}
        text = choice["message"]["content"] if "message" in choice else choice["text"]
    except (KeyError, IndexError, TypeError):
        return {**sent, "response": "", "error": f"{response.status}: {message(response)}"}
    llada, usage = tree.get("llada") or {}, tree.get("usage") or {}
    cost = (llada.get("choices") or [{}])[0]
    return {
        **sent,
        "response": text or "",
        "error": None,
        "finish_reason": choice.get("finish_reason"),
        "prompt_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        "nfe": cost.get("nfe"),
        "num_positions": cost.get("num_positions"),
        "decoding": {k: v for k, v in (llada.get("decoding") or {}).items() if k != "seed"},
    }


def message(response: PoolResponse) -> str:
    """What an error's body says."""
    error = response.body.get("error")
    text = error.get("message") if isinstance(error, dict) else error
    if isinstance(text, str) and isinstance(error, dict):
        text = in_terms_of_keys(text, error.get("param"), error.get("code"))
    return str(text or response.body)[:500]
