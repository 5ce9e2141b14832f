"""From the body of a request to its decoding: `llada_exp.decoding` decides, its errors become 400s.

And the seeds of choices, which are HTTP's own matter: a request has one seed and several answers.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from llada_exp import decoding
from llada_exp.decoding import ALGORITHMS, ALIASES, Decoding, DecodingError
from llada_exp.server.routes.errors import bad_request
from llada_exp.server.routes.schema import Generation
from llada_exp.types import DECLARATIONS, REQUEST_FIELDS, DecodingParams

MAX_SEED_SENT = 2**53
"""Seeds that a response names and no client chose are below, so that JavaScript reads them exactly, too."""


def resolve(request: Generation, preset: DecodingParams, seed: int) -> Decoding:
    """The decoding of choice 0. seed: where the request names none. Raises a 400 ApiError."""
    fields = {name: request.value_of(name) for name in (*REQUEST_FIELDS, *ALIASES)}
    fields["logprobs"] = request.num_logprobs
    try:
        return decoding.resolve(fields, replace(preset, seed=seed))
    except DecodingError as error:
        raise bad_request(str(error), error.field, error.code) from None


def for_choices(params: DecodingParams, num_prompts: int, n: int, is_fresh: bool) -> list[DecodingParams]:
    """Of n choices for each prompt, prompt after prompt.

    A seed that the client named is every prompt's, as in vLLM: a prompt's answers are the same alone and in a
    list. Choice 0 has the seed itself, choice i one derived from it and i alone. Of a fresh seed the choices
    of all prompts are counted through, so that no two share their random numbers.
    """
    if is_fresh:
        return [_for_choice(params, index) for index in range(num_prompts * n)]
    return [_for_choice(params, index) for index in range(n)] * num_prompts


def _for_choice(params: DecodingParams, index: int) -> DecodingParams:
    if index == 0:
        return params
    return replace(params, seed=Random(f"{params.seed}/{index}").randrange(MAX_SEED_SENT))


def algorithms() -> list[dict[str, Any]]:
    """What /generation/algorithms lists: every old name, what it stands for, and whether that is there."""
    return [
        {
            "name": name,
            "description": algorithm.description,
            "available": all(v in DECLARATIONS[field].choices for field, v in algorithm.fields.items()),
            "stands_for": dict(algorithm.fields),
        }
        for name, algorithm in ALGORITHMS.items()
    ]
