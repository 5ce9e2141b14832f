"""The values that cross a seam of the project: frozen, standard library only.

Knows no tensor, no tokenizer and no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llada_exp.fields import DecodingError, choice, declarations, flag, ids, integer, number, texts

Remasking = Literal["low_confidence", "topk_margin", "entropy", "random"]
EosConfidence = Literal["allow", "last", "forbid"]
Canvas = Literal["whole", "grow"]
FinishReason = Literal["stop", "length"]

RULES = (
    "fixed", "threshold", "factor", "frechet", "credit", "hierarchical", "entropy", "klass", "linear",
    "dynamic", "sequential", "edit",
)  # fmt: skip
CACHES = ("none", "prefix", "dual")  # the first keeps nothing
REFRESH = ("every_block", "window", "prompt_every")
REMASKING = ("low_confidence", "topk_margin", "entropy", "random")
EOS_CONFIDENCE = ("allow", "last", "forbid")
CANVAS = ("whole", "grow")
MAX_SEED = 2**63 - 1
MAX_COUNT = 2**31 - 1
"""No count of tokens, steps or positions is larger: tensors hold it, and so do sums of several."""
MAX_LOGPROBS = 20
MAX_LINEAR_STEPS = 2**14
"""Of rule `linear`, whose steps are passes even where they commit nothing: a client must not buy hours with a
number."""


_BY_STEPS = ("fixed", "linear", "dynamic", "sequential", "edit")
PUBLISHED_RULES = ("dynamic", "sequential", "edit")
"""Rules that are how a family is published to be decoded: over a preset of such a rule, its parameters and
schedule change it, where others imply a rule."""


@dataclass(frozen=True)
class DecodingParams:
    """How one request is decoded. The defaults are exact: one token a step, no cache, greedy.

    Every field is declared here and nowhere else, see `llada_exp.fields`; a new one needs its line and the
    code that obeys it. Which of them a request gets that names only some is `llada_exp.decoding`'s business.

    Raises DecodingError, a ValueError that names the field and what is allowed.
    """

    max_tokens: int = integer(128, 1, None, "answer tokens at most")
    block_length: int | None = integer(
        None, 1, MAX_COUNT,
        "positions decoded together, blocks left to right; null = the checkpoint's own, else 32",
    )  # fmt: skip
    canvas: Canvas = choice(
        "whole", CANVAS, "whole: all masks of the answer are there; grow: none beyond the current block"
    )
    rule: str = choice("fixed", RULES, "which candidates of a step become tokens")
    steps: int | None = integer(
        None, 1, MAX_COUNT, "denoising steps over the whole canvas", rules=_BY_STEPS, yields=True
    )
    steps_per_block: int | None = integer(
        None, 1, MAX_COUNT, "denoising steps over each block", rules=_BY_STEPS, yields=True
    )
    tokens_per_step: int | None = integer(
        None,
        1,
        MAX_COUNT,
        "tokens committed in each step, of rule edit at least",
        rules=("fixed", "edit"),
        yields=True,
    )
    threshold: float = number(
        0.9, 0.0, 1.0, "a candidate of at least this confidence is committed",
        rules=("threshold", "credit", "hierarchical", "klass", "dynamic", "edit"),
    )  # fmt: skip
    editing_threshold: float = number(
        0.9,
        0.0,
        1.0,
        "a token of the block is overwritten by a candidate above this confidence",
        rules=("edit",),
    )
    max_post_steps: int = integer(
        16, 0, 1024, "passes over a block without masks that may yet overwrite its tokens", rules=("edit",)
    )
    factor: float = number(1.0, 0.0, 1000.0, "how sure candidates must be together", rules=("factor",))
    delta: float = number(0.25, -1.0, 1.0, "least bound on the joint confidence", rules=("frechet",))
    low_threshold: float = number(
        0.6, 0.0, 1.0, "least confidence of the best candidate of a masked run", rules=("hierarchical",)
    )
    kl_threshold: float = number(
        0.01, 0.0, 1000.0, "largest KL divergence between steps of a stable candidate", rules=("klass",)
    )
    history: int = integer(2, 1, 64, "steps over which a candidate was stable", rules=("klass",))
    gamma: float = number(
        0.1, 0.0, 1000.0, "largest sum of entropies of a step, their maximum left out", rules=("entropy",)
    )
    cache: str = choice("none", CACHES, "which keys and values are kept between steps")
    refresh: str = choice(
        "every_block",
        REFRESH,
        "what a cached block's first pass recomputes: the row, a window, all but the prompt",
        beside=("cache", CACHES[1:]),
    )
    refresh_window: int = integer(
        32, 0, MAX_COUNT, "of refresh=window: positions around the block", beside=("refresh", ("window",))
    )
    refresh_interval: int = integer(
        2, 1, MAX_COUNT, "of refresh=prompt_every: blocks between two passes that recompute the prompt, too",
        beside=("refresh", ("prompt_every",)),
    )  # fmt: skip
    suffix_window: int | None = integer(
        None, 0, MAX_COUNT, "forward the row only so far beyond the block; null = all of it"
    )
    remasking: Remasking = choice(
        "low_confidence",
        REMASKING,
        "confidence of a candidate: its probability, its lead, its position's certainty, or chance",
    )
    temperature: float = number(0.0, 0.0, 100.0, "of sampling; 0 is greedy")
    top_p: float = number(1.0, 0.0, 1.0, "sample from the likeliest tokens of this mass", open_low=True)
    top_k: int = integer(0, 0, MAX_COUNT, "sample from so many likeliest tokens; 0 and -1 are off", off=-1)
    cfg_scale: float = number(0.0, 0.0, 1000.0, "classifier-free guidance; above 0 a request takes two rows")
    seed: int | None = integer(
        None, 0, MAX_SEED, "of the request's own random numbers; null: each answer gets one of its own",
        preset=False,
    )  # fmt: skip
    stop: tuple[str, ...] = texts(64, 1024, "strings that end the answer and are cut from it", preset=False)
    stop_token_ids: tuple[int, ...] = ids(
        64,
        MAX_COUNT,
        "ids that end the answer, beside the model's own and whatever ignore_eos is",
        preset=False,
    )
    ignore_eos: bool = flag(False, "the model's own ends of text end nothing", preset=False)
    early_eos: bool = flag(
        True, "finish inside a block once all before its first end of text is committed (same text)"
    )
    eos_confidence: EosConfidence = choice(
        "allow", EOS_CONFIDENCE, "last: commit the end of text only when nothing else is left; forbid: never"
    )
    ban_ids: bool = flag(
        True, "never emit the mask or ids without text; false reproduces reference vectors",
        preset=False, request=False,
    )  # fmt: skip
    logprobs: int | None = integer(
        None, 0, MAX_LOGPROBS,
        "log-probabilities of the answer's tokens when they were committed, with so many alternatives",
        preset=False, request=False,
    )  # fmt: skip
    trace: bool = flag(False, "the commits of every step, in the response's llada object", preset=False)

    def __post_init__(self) -> None:
        for name, declaration in DECLARATIONS.items():
            object.__setattr__(self, name, declaration.check(name, getattr(self, name)))
        schedule = [name for name in SCHEDULE if getattr(self, name) is not None]
        if len(schedule) > 1:
            names = " and ".join(schedule)
            message = f"{names} contradict each other: give one of them"
            raise DecodingError(message, schedule[-1], "contradiction")
        for name in ("steps", "steps_per_block"):
            count = getattr(self, name)
            if self.rule == "linear" and count is not None and count > MAX_LINEAR_STEPS:
                message = f"{name} is {count}; of rule linear at most {MAX_LINEAR_STEPS}"
                raise DecodingError(message, name)
        if self.canvas == "grow" and self.suffix_window:
            message = (
                f"suffix_window is {self.suffix_window}, but canvas is 'grow': nothing is beyond the block"
            )
            raise DecodingError(message, "suffix_window", "contradiction")

    @property
    def num_rows(self) -> int:
        """Rows of the batch that the request occupies."""
        return 2 if self.cfg_scale > 0 else 1


DECLARATIONS = declarations(DecodingParams)
DECODING_FIELDS = tuple(DECLARATIONS)
PRESET_FIELDS = tuple(n for n, d in DECLARATIONS.items() if d.preset)
"""Decoding fields that a server may have a default for; the others make sense for one request alone."""
REQUEST_FIELDS = tuple(n for n, d in DECLARATIONS.items() if d.request)
"""Decoding fields that a client may name."""
SCHEDULE = tuple(n for n, d in DECLARATIONS.items() if d.yields)
"""Fields that say how many tokens a step commits, whatever they are: one of them at most."""
RULES_WITH = {n: d.rules for n, d in DECLARATIONS.items() if d.rules and not d.yields}
"""A rule's parameter: the rules that have it, the one that it implies alone first."""


@dataclass(frozen=True)
class BlockCommit:
    """What one step committed for one request; nothing, where its rule let the pass go by.

    positions: indices into the answer (0 = first generated position), ascending. One that an earlier step
               committed, too, is overwritten: only by a rule that revises, inside its block.
    token_ids, confidences: one per position; confidence is the candidate's probability.
    step: the request's own step number (its NFE before this step).
    remasked:  indices, ascending, of tokens that such a rule took back: masks again after this step.
    """

    request_id: str
    step: int
    positions: tuple[int, ...]
    token_ids: tuple[int, ...]
    confidences: tuple[float, ...]
    remasked: tuple[int, ...] = ()


@dataclass(frozen=True)
class TokenLogprob:
    """A token of an answer, as it stood when it was committed.

    logprob: the natural logarithm of its probability in that pass: see `llada_exp.engine.logprobs`.
    top:     (id, logprob) of the likeliest tokens then, likeliest first; the token itself may be among them.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class RequestOutput:
    """A finished request.

    token_ids: the answer up to and including EOS or the token that completed a stop string;
               never the prompt, padding or what stands after EOS.
    text:      decoded by the text layer; "" as it leaves the engine, which knows no tokenizer.
    nfe:       denoising passes in which the request took part (a guided pair counts once).
    store_passes: forward passes over finished positions alone, which only wrote keys and values, or said a
               block's first token; no nfe.
    num_positions: positions forwarded for it, over all its passes.
    queue_ms, ttft_ms, e2el_ms: from add_request to first pass, first committed text, finish.
    trace:     the commits of every step, where `DecodingParams.trace` asked for them.
    seed:      of its random numbers.
    logprobs:  one per token of token_ids, where `DecodingParams.logprobs` asked for them.
    """

    request_id: str
    prompt_tokens: int
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    nfe: int
    num_positions: int
    queue_ms: float
    ttft_ms: float | None
    e2el_ms: float
    text: str = ""
    trace: tuple[BlockCommit, ...] = ()
    seed: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()
    store_passes: int = 0

    @property
    def tpf(self) -> float:
        """Tokens per forward."""
        return len(self.token_ids) / max(self.nfe, 1)


@dataclass(frozen=True)
class Progress:
    """What a step changed for one request.

    token_ids: answer ids released by this step: the committed prefix, as far as it grew. Their
               concatenation over a request's life is `RequestOutput.token_ids`.
    output:    set on the last one.
    logprobs:  one per token of token_ids, where they are asked for.
    """

    request_id: str
    token_ids: tuple[int, ...]
    output: RequestOutput | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
