"""LLaDA as a model of lm-eval: likelihoods by the Monte Carlo estimate, texts by an engine or endpoints.

    from llada_exp.evals.lm.model import LLaDALM
    lm_eval.simple_evaluate(LLaDALM(load_model("hf", "GSAI-ML/LLaDA-8B-Base")), tasks=["arc_easy"])

Texts become ids as in lm-eval's Hugging Face class: context and continuation are encoded together and
split, spaces at the context's end belong to the continuation, no BOS is added (`add_bos` does), and an
empty context is BOS (EOS where there is none). Special tokens that a text spells become such tokens, as
there. Importing this module imports lm-eval and registers the class as `llada`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from llada_exp.checkpoints import LoadedModel, load_model
from llada_exp.decoding import describe
from llada_exp.engine.likelihood import Likelihood, LikelihoodEstimate, Pair
from llada_exp.evals.lm.fit import PromptQuestion
from llada_exp.evals.lm.generate import Ask, Generator, InProcess, decoding_fields
from llada_exp.evals.lm.records import Records, RequestPlace, TaskRecord, fingerprint
from llada_exp.types import DecodingParams


class ChatJson(str):
    """A chat as JSON, where the endpoint applies its own template: its messages, and whether the answer goes
    on with the last of them (a task's gen_prefix)."""


@register_model("llada")
class LLaDALM(LM):
    """model: a loaded one, or a source for `load_model` beside path, base, device and dtype; None: texts
                 alone, from `generator`.
    generator:   of texts; None = an engine of the model in this process.
    num_mc, mc_seed, cfg_scale: of likelihoods, see engine/likelihood.py; cfg_scale holds for texts too
                 (None: the preset's), and so does mc_seed where nothing else names a seed.
    check_greedy: also say whether greedy decoding gives the continuation. What needs it is accuracy on
                 single continuations (LAMBADA); it costs a pass for every token. False: never greedy.
    batch_size:  rows of texts decoded together. max_positions: forwarded in a pass. max_length: of a row.
    add_bos:     raw texts start with BOS. The authors' evaluation has none, so it is off.
    question:    a task's name and document -> its question without examples, None where it is not known;
                 a prompt that is too long loses its start, but never that.
    records:     where outcomes are kept and found again.
    preset:      of texts from an engine in this process: the decoding of what names nothing.
    decoding:    fields that take the place of the tasks' generation arguments: steps=64, cache="dual".

    Raises ValueError naming the argument and what is allowed.
    """

    def __init__(
        self,
        model: LoadedModel | str | None = None,
        *,
        path: str | None = None,
        base: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        generator: Generator | None = None,
        name: str | None = None,
        num_mc: int = 128,
        mc_seed: int = 0,
        cfg_scale: float | None = None,
        check_greedy: bool = False,
        batch_size: int = 16,
        max_batch_size: int | None = None,  # lm-eval's way to make models; nothing here
        max_positions: int | None = None,
        max_length: int | None = None,
        add_bos: bool = False,
        records: Records | None = None,
        question: Callable[[Any, Any], str | None] = lambda task, doc: None,
        preset: DecodingParams = DecodingParams(),
        **decoding: Any,
    ) -> None:
        super().__init__()
        if isinstance(model, str) or (model is None and generator is None):
            model = load_model(model or "tiny", path, base, device or "auto", dtype)
        self.model = model
        self.check_greedy, self.add_bos = check_greedy, add_bos
        self.records = records or Records()
        self._question = question
        self.decoding = dict(decoding) | ({} if cfg_scale is None else {"cfg_scale": cfg_scale})
        cfg_scale = preset.cfg_scale if cfg_scale is None else cfg_scale
        self._name = name or (model.name if model else "llada")
        self._seed = mc_seed
        self._generator = generator
        self._likelihood: Likelihood | None = None
        self.mc: dict[str, Any] = {"num_mc": num_mc, "mc_seed": mc_seed, "cfg_scale": cfg_scale}
        if model is not None:
            sizes: dict[str, Any] = {"max_positions": max_positions, "max_length": max_length}
            self._likelihood = Likelihood(
                model.model, num_samples=num_mc, seed=mc_seed, cfg_scale=cfg_scale, **sizes
            )
            self._generator = generator or InProcess(
                model, self._encode, int(batch_size), preset=preset, required=self.decoding, **sizes
            )
        self._identity = [self._name, model and model.path, max_length, add_bos, model and describe(preset)]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        self._check_model()
        pairs = [[self._fitting_pair(request)] for request in requests]
        records = self._score("loglikelihood", requests, pairs, self.check_greedy)
        return [(record["value"], bool(record["is_greedy"])) for record in records]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Each text in windows of the model's length, every token scored once; a window sees one token
        before it, the last one as many as fit."""
        self._check_model()
        records = self._score("rolling", requests, [self._windows(r.args[0]) for r in requests], False)
        return [record["value"] for record in records]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        assert self._generator is not None
        samples = _samples(requests)
        asks = [
            _ask(
                r.args[0],
                decoding_fields(r.args[1], self.decoding, sample, self._seed),
                self._question_of(r),
            )
            for r, sample in zip(requests, samples, strict=True)
        ]
        keys = [
            fingerprint("text", self._identity, ask.prompt, ask.fields, *[True] * ask.continues)
            for ask in asks
        ]

        def work(todo: list[int], done: Callable[[int, TaskRecord], None]) -> None:
            assert self._generator is not None
            self._generator.answer([asks[i] for i in todo], lambda i, reply: done(todo[i], asdict(reply)))

        return [record["response"] for record in self._records(requests, samples, keys, work, "text")]

    def _score(
        self, kind: str, requests: list[Instance], pairs: list[list[Pair]], greedy: bool
    ) -> list[TaskRecord]:
        likelihood = self._likelihood
        assert likelihood is not None
        keys = [fingerprint(kind, self._identity, self.mc, greedy, parts) for parts in pairs]

        def work(todo: list[int], done: Callable[[int, TaskRecord], None]) -> None:
            flat = [(i, pair) for i in todo for pair in pairs[i]]
            parts: dict[int, list[LikelihoodEstimate]] = {i: [] for i in todo}

            def report(place: int, estimate: LikelihoodEstimate) -> None:
                owner = flat[place][0]
                parts[owner].append(estimate)
                if len(parts[owner]) == len(pairs[owner]):
                    done(owner, _sum(parts[owner]))

            for i in [i for i in todo if not pairs[i]]:
                done(i, _sum([]))
            likelihood.estimate([pair for _, pair in flat], report, greedy)

        return self._records(requests, _samples(requests), keys, work, kind)

    def _records(
        self,
        requests: list[Instance],
        samples: list[int],
        keys: list[str],
        work: Callable[[list[int], Callable[[int, TaskRecord], None]], None],
        what: str,
    ) -> list[TaskRecord]:
        """Every request's record: what an earlier run had, then what `work` brings."""
        places = [
            RequestPlace(r.task_name, r.doc_id, r.idx, s) for r, s in zip(requests, samples, strict=True)
        ]
        records = {i: r for i in range(len(keys)) if (r := self.records.get(places[i], keys[i])) is not None}
        with tqdm(total=len(keys), initial=len(records), desc=what, disable=not sys.stderr.isatty()) as bar:

            def done(i: int, record: TaskRecord) -> None:
                records[i] = record
                self.records.put(places[i], keys[i], record)
                bar.update()

            if todo := [i for i in range(len(keys)) if i not in records]:
                work(todo, done)
        return [records[i] for i in range(len(keys))]

    def _check_model(self) -> None:
        if self.model is None:
            raise ValueError("likelihoods need a model in this process; endpoints give none")

    def _encode(self, text: str) -> list[int]:
        assert self.model is not None
        tokenizer = self.model.tokenizer
        return tokenizer.encode_prompt(text) if self.add_bos else tokenizer.encode_text(text)

    def _pair(self, context: str, continuation: str) -> Pair:
        if not context:
            assert self.model is not None
            return [self._prefix], self.model.tokenizer.encode_text(continuation)
        start, whole = self._encode(context.rstrip()), self._encode(context + continuation)
        return start, whole[len(start) :]

    def _fitting_pair(self, request: Instance) -> Pair:
        """Raises ValueError where the start that a row has no room for is more than the examples."""
        assert self._likelihood is not None
        context, answer = self._pair(*request.args)
        room = self._likelihood.max_length - len(answer)
        if answer and len(context) > room:
            self._question_of(request).check(self._encode, request.args[0].rstrip(), room, len(answer))
        return context, answer

    def _question_of(self, request: Instance) -> PromptQuestion:
        place = f"task {request.task_name}, document {request.doc_id}"
        return PromptQuestion(place, lambda: self._question(request.task_name, request.doc))

    def _windows(self, text: str) -> list[Pair]:
        assert self.model is not None
        assert self._likelihood is not None
        ids = self.model.tokenizer.encode_text(text)
        windows = get_rolling_token_windows(ids, self._prefix, self._likelihood.max_length - 1, 1)
        return [make_disjoint_window(window) for window in windows]

    @property
    def _prefix(self) -> int:
        assert self.model is not None
        special = self.model.special
        return special.ends[0] if special.bos is None else special.bos

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        if self.model is not None:
            return self.model.tokenizer.chat_text(
                chat_history, end="header" if add_generation_prompt else "open"
            )
        return ChatJson(json.dumps({"messages": chat_history, "continues": not add_generation_prompt}))

    @property
    def tokenizer_name(self) -> str:
        return self._name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        return self.model.tokenizer.chat_template if self.model and chat_template else ""

    def get_model_info(self) -> dict[str, Any]:
        """For lm-eval's results file."""
        return {"name": self._name, **self.mc, "add_bos": self.add_bos, "decoding": self.decoding}


def _ask(text: str, fields: Mapping[str, Any], question: PromptQuestion) -> Ask:
    if not isinstance(text, ChatJson):
        return Ask(text, fields, question)
    chat = json.loads(text)
    return Ask(tuple(chat["messages"]), fields, question, chat["continues"])


def _samples(requests: Sequence[Instance]) -> list[int]:
    """How often the very request came before: lm-eval repeats those that want several samples."""
    counts: Counter[str] = Counter()
    samples = []
    for request in requests:
        key = fingerprint(request.task_name, request.doc_id, request.idx, request.args)
        samples.append(counts[key])
        counts[key] += 1
    return samples


def _sum(parts: Sequence[LikelihoodEstimate]) -> TaskRecord:
    """One record of a request's windows; errors add as independent."""
    first = parts[0] if parts else None
    return {
        "value": float(sum(p.value for p in parts)),
        "stderr": float(sum(p.stderr**2 for p in parts) ** 0.5),
        "nfe": sum(p.nfe for p in parts),
        "num_positions": sum(p.num_positions for p in parts),
        "prompt_tokens": first.prompt_tokens if first else 0,
        "answer_tokens": sum(p.answer_tokens for p in parts),
        "num_cut": sum(p.num_cut for p in parts),
        "is_greedy": first.is_greedy if first and len(parts) == 1 else None,
    }
