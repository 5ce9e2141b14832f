"""The values that cross a seam of the project: frozen, standard library only.

Knows no tensor, no tokenizer and no HTTP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

Remasking = Literal["low_confidence", "random"]
EosConfidence = Literal["allow", "last", "forbid"]
FinishReason = Literal["stop", "length", "abort"]

RULES = ("fixed", "threshold", "factor", "frechet", "credit", "hierarchical")
CACHES = ("none", "prefix", "dual")
REFRESH = ("every_block", "window", "prompt_every")
REMASKING = ("low_confidence", "random")
EOS_CONFIDENCE = ("allow", "last", "forbid")
MAX_SEED = 2**63 - 1
MAX_COUNT = 2**31 - 1
"""No count of tokens, steps or positions is larger: tensors hold it, and so do sums of several."""


@dataclass(frozen=True)
class DecodingParams:
    """How one request is decoded. The defaults are exact: one token a step, no cache, greedy.

    max_tokens:     answer tokens at most; the canvas is this, rounded up to whole blocks.
    block_length:   positions of a block; blocks are decoded left to right.
    rule:           which candidates become tokens in a step, see `llada_exp.rules`.
    steps:          `fixed`: denoising steps over the whole canvas; None = one token a step.
    tokens_per_step: `fixed`: tokens committed in each step, instead of `steps`.
    threshold:      `threshold`, `credit`, `hierarchical`: a candidate of at least this confidence
                    is committed.
    factor, delta, low_threshold: of the rules `factor`, `frechet` and `hierarchical`.
    cache:          which K/V are kept between steps, see `llada_exp.caches`.
    refresh:        what a cached block's first pass recomputes: the whole row (`every_block`),
                    positions within `refresh_window` of the block (`window`), or all but the
                    prompt, which only every `refresh_interval` blocks (`prompt_every`).
    suffix_window:  forward the row only so far beyond the block; None = all of it.
    remasking:      confidence of a candidate: its probability, or a uniform number.
    temperature, top_p, top_k: sampling of candidates; temperature 0 is greedy, top_k 0 is off.
    cfg_scale:      classifier-free guidance; above 0 the request costs two rows.
    seed:           of this request's own random numbers.
    stop:           strings that end the answer and are cut from it.
    ignore_eos:     decode the whole canvas whatever it holds (benchmarks of fixed length).
    early_eos:      finish inside a block once all before its first EOS is committed (same text).
    eos_confidence: `last` commits EOS only when nothing else is left, `forbid` never.
    ban_ids:        never emit the mask or ids without text; False reproduces reference vectors.
    trace:          keep the commits of every step on the output.

    Raises ValueError that names the field and what is allowed.
    """

    max_tokens: int = 128
    block_length: int | None = 32
    rule: str = "fixed"
    steps: int | None = None
    steps_per_block: int | None = None
    tokens_per_step: int | None = None
    canvas: str = "fixed"
    threshold: float = 0.9
    factor: float = 1.0
    delta: float = 0.25
    low_threshold: float = 0.6
    gamma: float = 0.1
    kl_threshold: float = 0.01
    history: int = 2
    cache: str = "none"
    refresh: str = "every_block"
    refresh_window: int = 32
    refresh_interval: int = 2
    suffix_window: int | None = None
    remasking: Remasking = "low_confidence"
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    cfg_scale: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    early_eos: bool = True
    eos_confidence: EosConfidence = "allow"
    ban_ids: bool = True
    trace: bool = False

    def __post_init__(self) -> None:
        _integer(self, "max_tokens", 1)
        _integer(self, "block_length", 1, optional=True)
        _integer(self, "steps", 1, MAX_COUNT, optional=True)
        _integer(self, "tokens_per_step", 1, MAX_COUNT, optional=True)
        _integer(self, "top_k", 0, MAX_COUNT)
        _integer(self, "seed", 0, MAX_SEED)
        _integer(self, "refresh_window", 0, MAX_COUNT)
        _integer(self, "refresh_interval", 1, MAX_COUNT)
        _integer(self, "suffix_window", 0, MAX_COUNT, optional=True)
        _number(self, "threshold", 0.0, 1.0)
        _number(self, "factor", 0.0, 1000.0)
        _number(self, "delta", -1.0, 1.0)
        _number(self, "low_threshold", 0.0, 1.0)
        _number(self, "gamma", 0.0, 1000.0)
        _number(self, "kl_threshold", 0.0, 1000.0)
        _integer(self, "history", 1, MAX_COUNT)
        _number(self, "temperature", 0.0, 100.0)
        _number(self, "top_p", 0.0, 1.0, open_low=True)
        _number(self, "cfg_scale", 0.0, 1000.0)
        _one_of(self, "rule", RULES)
        _one_of(self, "cache", CACHES)
        _one_of(self, "refresh", REFRESH)
        _one_of(self, "remasking", REMASKING)
        _one_of(self, "eos_confidence", EOS_CONFIDENCE)
        for name in ("ignore_eos", "early_eos", "ban_ids", "trace"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected true or false")
        if self.steps is not None and self.tokens_per_step is not None:
            raise ValueError("steps and tokens_per_step contradict each other: give one of them")
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise ValueError(f"stop is {self.stop!r}; expected non-empty strings")
        object.__setattr__(self, "stop", tuple(self.stop))

    @property
    def canvas_length(self) -> int:
        """G: generated positions, whole blocks."""
        return self.num_blocks * (self.block_length or 32)

    @property
    def num_blocks(self) -> int:
        """K."""
        return -(-self.max_tokens // (self.block_length or 32))

    @property
    def num_rows(self) -> int:
        """Rows of the batch that the request occupies."""
        return 2 if self.cfg_scale > 0 else 1


def _integer(obj: Any, name: str, low: int, high: int | None = None, optional: bool = False) -> None:
    value = getattr(obj, name)
    if value is None and optional:
        return
    bounds = f">= {low}" if high is None else f"from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high and value > high):
        raise ValueError(f"{name} is {value!r}; expected an integer {bounds}")


def _number(obj: Any, name: str, low: float, high: float, open_low: bool = False) -> None:
    value = getattr(obj, name)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high or (open_low and value == low):
        above = "above" if open_low else "from"
        raise ValueError(f"{name} is {value!r}; expected a number {above} {low:g} to {high:g}")


def _one_of(obj: Any, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(obj, name)
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(allowed)}")


DECODING_FIELDS = tuple(f.name for f in fields(DecodingParams))


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
class RequestOutput:
    """A finished request.

    token_ids: the answer up to and including EOS or the token that completed a stop string;
               never the prompt, padding or what stands after EOS.
    text:      decoded by the text layer; "" as it leaves the engine, which knows no tokenizer.
    nfe:       forward passes in which the request took part (a guided pair counts once).
    num_positions: positions forwarded for it, over all its passes.
    queue_ms, ttft_ms, e2el_ms: from add_request to first pass, first committed text, finish.
    trace:     the commits of every step, where `DecodingParams.trace` asked for them.
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
    """

    request_id: str
    token_ids: tuple[int, ...]
    output: RequestOutput | None = None
