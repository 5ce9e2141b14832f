"""Texts for lm-eval's generation tasks: from an engine in this process, or from endpoints over HTTP.

Turns lm-eval's generation arguments into decoding fields; what is neither is refused by name. Which decoding
they come to is said by `llada_exp.decoding`, here or in the server. Does not import lm-eval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llada_exp.checkpoints import LoadedModel
from llada_exp.clients.pool import Pool, PoolResponse
from llada_exp.decoding import describe, resolve
from llada_exp.evals.lm.fit import PromptQuestion
from llada_exp.evals.request_loop import CHAT, COMPLETION, EarlyStop, ask_all, read_answer
from llada_exp.offline import Engine
from llada_exp.signals import run_in_loop
from llada_exp.types import DECLARATIONS, REQUEST_FIELDS, DecodingParams, RequestOutput
from llada_exp.validation import nearest

DEFAULT_MAX_TOKENS = 256  # lm-eval's own
_MAX_TOKENS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_SPECIAL = 16
_CHUNK = 32  # batches; what a stopped run may lose


@dataclass(frozen=True)
class Ask:
    """One request. prompt: raw text, or a chat's messages; fields: of decoding, by the server's names;
    question: the one in it; continues: the answer goes on with the chat's last message."""

    prompt: str | tuple[Mapping[str, Any], ...]
    fields: Mapping[str, Any]
    question: PromptQuestion = field(default_factory=PromptQuestion)
    continues: bool = False


@dataclass(frozen=True)
class GeneratedText:
    """What came. error: why nothing did; decoding: the parameters used. Other fields are an Answer's."""

    response: str
    error: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    nfe: int | None = None
    num_positions: int | None = None
    num_cut: int = 0
    seed: int | None = None
    e2el_ms: float | None = None
    url: str | None = None
    attempts: int = 1
    decoding: Mapping[str, Any] = field(default_factory=dict)


Report = Callable[[int, GeneratedText], None]


class Generator(Protocol):
    """`answer` calls `report` once for each ask, with its place, as replies come."""

    def answer(self, asks: Sequence[Ask], report: Report) -> None: ...


def decoding_fields(
    arguments: Mapping[str, Any], user: Mapping[str, Any], sample: int, seed: int = 0
) -> dict[str, Any]:
    """A task's generation arguments as fields of a request; `user`'s take their place.

    do_sample false is temperature 0, whatever temperature stands beside it; true without a temperature is
    1. Sample i of a document gets the seed + i; `seed` is the evaluation's, where neither names one. Raises
    ValueError for an argument that is no field.
    """
    task = dict(arguments)
    lengths = [v for name in _MAX_TOKENS if (v := task.pop(name, None)) is not None]
    stops, samples = task.pop("until", None), task.pop("do_sample", None)
    unknown = [name for name in task if name not in REQUEST_FIELDS]
    if unknown:
        guess = nearest(unknown[0], [*REQUEST_FIELDS, "until", "max_gen_toks", "do_sample"])
        raise ValueError(
            f"gen_kwargs.{unknown[0]} is {task[unknown[0]]!r}; expected until, max_gen_toks, do_sample or a "
            "decoding field" + (f": did you mean {guess}?" if guess else f" ({', '.join(REQUEST_FIELDS)})")
        )
    fields = {"max_tokens": int(lengths[0]) if lengths else DEFAULT_MAX_TOKENS, "temperature": 0.0, **task}
    if samples is False:
        fields["temperature"] = 0.0
    elif samples and not task.get("temperature"):
        fields["temperature"] = 1.0
    if texts := [stops] if isinstance(stops, str) else [s for s in stops or () if s]:
        fields["stop"] = texts
    fields |= user
    first = seed if fields.get("seed") is None else fields["seed"]
    return fields | {"seed": DECLARATIONS["seed"].check("seed", first) + sample}


class InProcess:
    """An engine of our own. batch_size: rows in flight; encode: raw text -> ids; preset: the decoding of an
    ask that names nothing; required: decoding fields of all, none of which may go unused.

    A prompt too long for a row and its canvas loses its start, as in lm-eval's own models; `num_cut`
    says how much. What is left must hold the question.
    """

    def __init__(
        self,
        model: LoadedModel,
        encode: Callable[[str], Sequence[int]],
        batch_size: int,
        max_positions: int | None = None,
        max_length: int | None = None,
        preset: DecodingParams = DecodingParams(),
        required: Mapping[str, Any] | None = None,
    ) -> None:
        self._engine = Engine(
            model, batch_size=batch_size, max_positions=max_positions, max_length=max_length
        )
        self._preset = preset
        self._required = required or {}
        self._encode = encode
        self._chunk = _CHUNK * batch_size

    def answer(self, asks: Sequence[Ask], report: Report) -> None:
        """Raises ValueError naming a field, or a prompt whose question does not fit, before anything is
        decoded."""
        params = [self.params(ask.fields) for ask in asks]
        for ask, decoding in zip(asks, params, strict=True):
            self._check_fits(ask, decoding)
        for first in range(0, len(asks), self._chunk):
            places = range(first, min(first + self._chunk, len(asks)))
            prompts = [self._prompt(asks[i], params[i]) for i in places]
            outputs = self._engine.generate([ids for ids, _ in prompts], [params[i] for i in places])
            for i, output, (_, num_cut) in zip(places, outputs, prompts, strict=True):
                report(i, _from_output(output, params[i], num_cut))

    def params(self, fields: Mapping[str, Any]) -> DecodingParams:
        """What an ask's fields come to. Raises ValueError naming one, also where one of `required` plays no
        part: as for servers' answers, a score under it would be another setting's."""
        decoding = resolve(fields, self._preset)
        if missed := [text for name, text in decoding.unused.items() if name in self._required]:
            raise ValueError("; ".join(missed))
        return self._engine.effective(decoding.params)

    def _check_fits(self, ask: Ask, params: DecodingParams) -> None:
        """Early, and cheaply: no text has more tokens than bytes, but for a few special ones."""
        assert isinstance(ask.prompt, str), "chats are text by now"
        if len(ask.prompt.encode()) + _SPECIAL > self._engine.longest_prompt(params):
            self._prompt(ask, params)

    def _prompt(self, ask: Ask, params: DecodingParams) -> tuple[Sequence[int], int]:
        """Its ids as a row takes them, and how many were cut off. Raises ValueError where what is left would
        be less than the question."""
        assert isinstance(ask.prompt, str), "chats are text by now"
        ids, room = self._encode(ask.prompt), self._engine.longest_prompt(params)
        num_cut = max(0, len(ids) - max(room, 0))
        if num_cut:
            ask.question.check(self._encode, ask.prompt, room, params.max_tokens)
        return ids[num_cut:], num_cut


def _from_output(output: RequestOutput, params: DecodingParams, num_cut: int) -> GeneratedText:
    return GeneratedText(
        response=output.text,
        finish_reason=output.finish_reason,
        prompt_tokens=output.prompt_tokens,
        output_tokens=len(output.token_ids),
        nfe=output.nfe,
        num_positions=output.num_positions,
        num_cut=num_cut,
        seed=params.seed,
        e2el_ms=round(output.e2el_ms, 3),
        decoding={name: value for name, value in describe(params).items() if name != "seed"},
    )


class OverHttp:
    """Endpoints that serve `model_name`. pool: makes one for a call; concurrency: requests in flight;
    required: decoding fields of all, which the servers must use."""

    def __init__(
        self,
        pool: Callable[[], Pool],
        model_name: str,
        concurrency: int = 64,
        required: Mapping[str, Any] | None = None,
    ) -> None:
        self._pool = pool
        self._model_name = model_name
        self._concurrency = concurrency
        self._required = required

    def answer(self, asks: Sequence[Ask], report: Report) -> None:
        """A request that fails is a reply with an error. Raises ServersGone where no server answers any
        more, Refused where none will."""
        if asks:
            run_in_loop(self._all(asks, report))

    async def _all(self, asks: Sequence[Ask], report: Report) -> None:
        async def done(item: tuple[int, Ask], body: Mapping[str, Any], response: PoolResponse) -> None:
            report(item[0], _from_response(response, item[1]))

        def request(item: tuple[int, Ask]) -> tuple[str, dict[str, Any]]:
            return self._request(item[1])

        await ask_all(
            self._pool(), list(enumerate(asks)), self._concurrency, request, done, EarlyStop(self._required)
        )

    def _request(self, ask: Ask) -> tuple[str, dict[str, Any]]:
        is_text = isinstance(ask.prompt, str)
        content: dict[str, Any] = {"prompt": ask.prompt} if is_text else {"messages": list(ask.prompt)}
        if ask.continues:
            content |= {"continue_final_message": True, "add_generation_prompt": False}
        return (COMPLETION if is_text else CHAT), {"model": self._model_name, **content, **ask.fields}


def _from_response(response: PoolResponse, ask: Ask) -> GeneratedText:
    return GeneratedText(seed=ask.fields.get("seed"), **read_answer(response))
