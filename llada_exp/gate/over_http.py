"""Does the server answer as the engine does? A sample of the gate's problems, asked as a user would.

What the gate measures, it decodes in this process. Here a server is started with the same model and preset,
asked over HTTP by requests that name nothing but their messages (and `max_tokens`, for a canvas that is not
the preset's own), many at once, and its texts and passes are held against this engine's: equal.

Knows HTTP, the preset and the engine; judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from llada_exp.clients.http import open_url, read_json
from llada_exp.decoding import resolve
from llada_exp.gate.outcome import HttpSample
from llada_exp.gate.strata import problems
from llada_exp.offline import Engine
from llada_exp.runs.servers import Endpoint, endpoint
from llada_exp.settings import read_decoding
from llada_exp.tiny.tasks import TinyProblem, messages

NUM_AT_ONCE = 16
TIMEOUT_S = 600.0
OF_SERVER = ("model", "preset", "decoding", "batch_size", "device", "dtype")
"""Keys of the gate that are the server's, too."""


def sample(kinds: Sequence[str], num: int) -> list[TinyProblem]:
    """`num` problems, the first of each kind, then the second ones, and so on. Raises ValueError as
    `strata.problems`."""
    each = [problems(kind, -(-num // len(kinds))) for kind in kinds]
    return [problem for row in zip(*each, strict=True) for problem in row][:num]


def compare_http(
    engine: Engine, tree: Mapping[str, Any], canvases: Sequence[int], num: int, folder: Path
) -> list[HttpSample]:
    """One sample a canvas, of `tree["kinds"]`. tree: of the gate, whose model and preset the server has;
    folder: where its log goes. Raises RuntimeError where it does not start or refuses a request."""
    _, served = read_decoding(tree)
    drawn = sample(tree["kinds"], num)
    chats = list(map(messages, drawn))
    rows: list[HttpSample] = []
    with endpoint(None, {key: tree[key] for key in OF_SERVER}, folder) as server:
        for canvas in canvases:
            fields = {} if canvas == served.max_tokens else {"max_tokens": canvas}
            with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
                theirs = list(pool.map(partial(_ask, server, fields), chats))
            ours = [(o.text, o.nfe) for o in engine.chat(chats, resolve(fields, served).params)]
            rows.append(_row(canvas, [problem.question for problem in drawn], ours, theirs))
    return rows


def _ask(server: Endpoint, fields: Mapping[str, Any], chat: list[dict[str, str]]) -> tuple[str, int]:
    """Text and passes."""
    url = f"{server.url}/v1/chat/completions"
    body = {"messages": chat, **fields}
    with open_url(url, key=server.key, body=body, timeout_s=TIMEOUT_S) as response:
        tree = read_json(response, url, TIMEOUT_S)
    return tree["choices"][0]["message"]["content"], tree["llada"]["nfe"]


def _row(
    canvas: int,
    questions: Sequence[str],
    ours: Sequence[tuple[str, int]],
    theirs: Sequence[tuple[str, int]],
) -> HttpSample:
    apart = [number for number, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
    difference = None
    if apart:
        first = apart[0]
        (text, passes), (other, others) = ours[first], theirs[first]
        difference = (
            f"{questions[first]!r}: the server's answer is {other!r} in {others} passes, "
            f"the engine's {text!r} in {passes}"
        )
    return HttpSample(canvas, len(questions), len(questions) - len(apart), difference)
