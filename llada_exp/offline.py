"""The offline API: prompts in, texts out, in one process and without a server.

    from llada_exp import DecodingParams, Engine, load_model
    outputs = Engine(load_model(), batch_size=16).generate(["..."], {"max_tokens": 64, "threshold": 0.9})

Joins the engine (token ids) with the text layer (tokenizer, stop strings); knows no HTTP.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from llada_exp import engine
from llada_exp.checkpoints import LoadedModel
from llada_exp.decoding import resolve
from llada_exp.text import ChatEnd
from llada_exp.text_stream import StopStrings, TextStream
from llada_exp.types import DecodingParams, RequestOutput

TextOrIds = str | Sequence[int]
Conversation = Sequence[Mapping[str, object]]
Params = DecodingParams | Mapping[str, Any]


class Engine(engine.EngineCore):
    """An engine with a tokenizer. batch_size: rows in flight; other options as of the base class."""

    def __init__(self, model: LoadedModel, *, batch_size: int = 16, **options: Any) -> None:
        super().__init__(model.model, batch_size=batch_size, **options)
        self.tokenizer = model.tokenizer
        self.preset = DecodingParams(**model.model.decoding)

    def generate(
        self,
        prompts: Sequence[TextOrIds],
        params: Params | Sequence[Params] | None = None,
        *,
        progress: bool = False,
    ) -> list[RequestOutput]:
        """Answers in the order of the prompts; each depends on its own prompt and params alone.

        prompts: raw texts (BOS is added where the tokenizer has one) or lists of token ids.
        params:  one for all, or one per prompt; default: `preset`, exact greedy decoding or what the model's
                 family publishes as its own (`Model.decoding`). A mapping names fields as a request to a
                 server does, over it (llada_exp/decoding.py). A seed that they name is every prompt's; where
                 they name none, prompt i has the seed i.
        progress: show a bar on stderr.
        Raises ValueError as `add_request` does, before anything is decoded.
        """
        if isinstance(prompts, str):
            raise ValueError("prompts is a string; expected a list of prompts")
        ids = [self.tokenizer.encode_prompt(p) if isinstance(p, str) else p for p in prompts]
        return self._decode(ids, params, progress)

    def chat(
        self,
        conversations: Conversation | Sequence[Conversation],
        params: Params | Sequence[Params] | None = None,
        *,
        progress: bool = False,
        continue_last: bool = False,
    ) -> list[RequestOutput]:
        """Like `generate`, for one conversation (a list of {"role", "content"}) or a list of them,
        through the tokenizer's chat template. continue_last: the answer goes on with the last message, which
        is the assistant's."""
        many: Any = conversations
        if conversations and isinstance(conversations[0], Mapping):
            many = [conversations]
        end: ChatEnd = "open" if continue_last else "header"
        return self._decode([self.tokenizer.encode_chat(m, end) for m in many], params, progress)

    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        params: Params | Sequence[Params] | None,
        progress: bool,
    ) -> list[RequestOutput]:
        if self.has_work():
            raise ValueError("the engine is in use: finish or abort its requests first")
        each = _per_prompt(params, len(prompts), self.preset)
        try:
            names = [self._add(prompt, one) for prompt, one in zip(prompts, each, strict=True)]
            outputs = self._drain(len(names), progress)
        finally:
            self.abort_all()
        return [self._with_text(outputs[name], one) for name, one in zip(names, each, strict=True)]

    def _add(self, prompt: Sequence[int], params: DecodingParams) -> str:
        find_stop = StopStrings(self.tokenizer, params.stop) if params.stop else None
        return self.add_request(prompt, params, find_stop=find_stop)

    def _drain(self, total: int, progress: bool) -> dict[str, RequestOutput]:
        outputs: dict[str, RequestOutput] = {}
        with tqdm(total=total, unit="prompt", disable=not progress) as bar:
            while self.has_work():
                for item in self.step():
                    if item.output is not None:
                        outputs[item.request_id] = item.output
                        bar.update()
        return outputs

    def _with_text(self, output: RequestOutput, params: DecodingParams) -> RequestOutput:
        stream = TextStream(self.tokenizer, params.stop)
        is_text = output.token_ids[-1:] == () or output.token_ids[-1] not in params.stop_token_ids
        text = stream.push(output.token_ids if is_text else output.token_ids[:-1]) + stream.finish()
        return replace(output, text=text, finish_reason="stop" if stream.stopped else output.finish_reason)


def as_params(params: Params, preset: DecodingParams = DecodingParams()) -> DecodingParams:
    """Parameters, or what names come to over a preset, the exact one; warns of names that are not used.
    Raises DecodingError, a ValueError."""
    if isinstance(params, DecodingParams):
        return params
    decoding = resolve(params, preset)
    for text in decoding.warnings:
        warnings.warn(text, stacklevel=2)
    return decoding.params


def _per_prompt(
    params: Params | Sequence[Params] | None, count: int, preset: DecodingParams
) -> list[DecodingParams]:
    if params is None or isinstance(params, DecodingParams | Mapping):
        each = [as_params(params or {}, preset)] * count
    elif len(params) != count:
        raise ValueError(f"params has {len(params)} entries; expected one, or one per prompt ({count})")
    else:
        each = [as_params(one, preset) for one in params]
    return [replace(one, seed=i) if one.seed is None else one for i, one in enumerate(each)]
