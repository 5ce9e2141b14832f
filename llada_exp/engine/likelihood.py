"""LLaDA's Monte Carlo estimate of log p(answer | prompt), batched (arXiv 2502.09992, algorithm 3).

A masked-diffusion model has no chain of next-token probabilities. Its likelihood is estimated: mask l
of the answer's L tokens, l uniform in 1..L, take L / l times the sum of log p at the masked positions,
and average over samples. As in the authors' code, the samples of one request share a random start and
spread l evenly from there (stratified); unlike there, in integers, so that every l is exactly as likely.

A request's estimate depends on its prompt, answer, seed and number of samples alone: random numbers
are a hash of (seed, prompt), and on the CPU a row's bits do not depend on its company (the padding of
engine/batch.py; tests/engine). Answers to one prompt, a question's choices, see the same draws where
they are equally long. Masks drawn twice are computed once: a one-token answer costs one pass, whatever
the number of samples. Knows no tokenizer.

Letters: P prompt, L answer length, T = P + L, S samples, s distinct masks, m masked positions of a pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.batch import round_up
from llada_exp.engine.engine import Engine
from llada_exp.engine.masks import draw_masks, request_seed
from llada_exp.models.base import Attend, Model
from llada_exp.models.llada import uniform_attention
from llada_exp.types import DecodingParams

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt (may be empty) and of its answer."""

NUM_SAMPLES = 128
_HEAD_ROWS = 512  # logits held at once; a multiple of the padding


@dataclass(frozen=True)
class Estimate:
    """log p(answer | prompt), natural logarithm.

    value:  the estimate. stderr: its standard error as if samples were independent; stratified as they
            are, an upper estimate; 0 where every sample is the same.
    nfe:    forward passes: distinct masks (a guided pair counts once), and those of the greedy check.
    num_positions: forwarded for them, without padding.
    prompt_tokens, answer_tokens: scored. num_cut: prompt tokens left out, the first ones, because the
            model's rows do not hold them.
    is_greedy: whether greedy decoding gives the answer; None where that was not asked.
    """

    value: float
    stderr: float
    nfe: int
    num_positions: int
    prompt_tokens: int
    answer_tokens: int
    num_cut: int
    is_greedy: bool | None = None


@dataclass(eq=False)
class _Request:
    """prompt int64 [P], answer int64 [L]; masks and counts once its turn comes; values float64 [s] as
    passes fill them, `num_open` still to come."""

    index: int
    prompt: np.ndarray
    answer: np.ndarray
    num_cut: int
    masks: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    num_open: int = 0

    @property
    def length(self) -> int:
        """T."""
        return len(self.prompt) + len(self.answer)

    def draw(self, num_samples: int, seed: int) -> None:
        own = request_seed(seed, self.prompt)
        self.masks, self.counts = draw_masks(len(self.answer), num_samples, own)
        self.values = np.zeros(len(self.masks))
        self.num_open = len(self.masks)

    def ids(self, number: int, mask_id: int, blind: bool) -> np.ndarray:
        """int64 [T]: one row, masked; blind: the prompt too."""
        prompt = np.full_like(self.prompt, mask_id) if blind else self.prompt
        return np.concatenate([prompt, np.where(self.masks[number], mask_id, self.answer)])

    def estimate(self, rows_each: int) -> Estimate:
        num_samples = int(self.counts.sum())
        value = float((self.counts * self.values).sum() / num_samples)
        spread = float((self.counts * (self.values - value) ** 2).sum())
        error = (spread / max(num_samples - 1, 1) / num_samples) ** 0.5
        positions = len(self.masks) * self.length * rows_each
        sizes = (len(self.prompt), len(self.answer), self.num_cut)
        return Estimate(value, error, len(self.masks), positions, *sizes)


_Row = tuple[_Request, int]
"""A request, and which of its masks."""


class Likelihood:
    """Estimates of a model.

    num_samples:   masks drawn for each request. seed: of all draws.
    cfg_scale:     classifier-free guidance, as in decoding; above 0 every mask costs two rows.
    max_positions: forwarded in one pass, at most (a row that alone exceeds it goes alone).
    max_length:    longest row; None = the model's own limit.

    Raises ValueError naming what is out of range.
    """

    def __init__(
        self,
        model: Model,
        *,
        num_samples: int = NUM_SAMPLES,
        seed: int = 0,
        cfg_scale: float = 0.0,
        max_positions: int = 8192,
        max_length: int | None = None,
    ) -> None:
        for name, value in (("num_samples", num_samples), ("max_positions", max_positions)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected an integer >= 1")
        DecodingParams(seed=seed, cfg_scale=cfg_scale)  # its checks
        limit = model.shape.max_length
        if max_length is not None and not 1 <= max_length <= limit:
            raise ValueError(f"max_length is {max_length}; expected 1 to {limit}, the model's limit")
        self.model = model
        self.num_samples, self.seed, self.cfg_scale = num_samples, seed, cfg_scale
        self.max_positions, self.max_length = max_positions, max_length or limit

    def estimate(
        self,
        pairs: Sequence[Pair],
        report: Callable[[int, Estimate], None] = lambda index, estimate: None,
        greedy: bool = False,
    ) -> list[Estimate]:
        """Estimates in the order of the pairs.

        report: called with a pair's place and its estimate as soon as that is whole (longest first).
        greedy: also say whether greedy decoding gives the answer: one token a step, the most confident
                first, from a whole masked answer; as many passes as the answer has tokens.
        Raises ValueError naming the pair, before anything is computed, for an empty answer, one longer
        than a row, and ids out of range.
        """
        requests = [self._request(i, *pair) for i, pair in enumerate(pairs)]
        found: dict[int, Estimate] = {}
        fits = self._greedy(requests) if greedy else {}
        rows_each = 2 if self.cfg_scale > 0 else 1
        for rows in self._passes(sorted(requests, key=lambda r: -r.length)):
            for (request, number), value in zip(rows, self._run(rows), strict=True):
                request.values[number] = value
                request.num_open -= 1
                if not request.num_open:
                    found[request.index] = own = _with_greedy(
                        request.estimate(rows_each), fits, request.index
                    )
                    request.masks = request.masks[:0]  # many requests' would fill the memory
                    report(request.index, own)
        return [found[i] for i in range(len(pairs))]

    def _request(self, index: int, prompt: Sequence[int], answer: Sequence[int]) -> _Request:
        own = [np.asarray(ids, dtype=np.int64).reshape(-1) for ids in (prompt, answer)]
        vocab = self.model.shape.vocab_size
        if not len(own[1]):
            raise ValueError(f"pair {index}: the answer is empty; expected at least one token")
        if len(own[1]) > self.max_length:
            raise ValueError(
                f"pair {index}: the answer has {len(own[1])} tokens; a row holds {self.max_length}"
            )
        if any(len(ids) and (ids.min() < 0 or ids.max() >= vocab) for ids in own):
            raise ValueError(f"pair {index}: token ids must be from 0 to {vocab - 1}")
        num_cut = max(0, len(own[0]) + len(own[1]) - self.max_length)
        return _Request(index, own[0][num_cut:], own[1], num_cut)

    def _passes(self, requests: Iterable[_Request]) -> Iterator[list[_Row]]:
        """Rows of one pass at a time, as many as the budget holds."""
        rows: list[_Row] = []
        budget = self.max_positions // (2 if self.cfg_scale > 0 else 1)
        taken = 0
        for request in requests:
            request.draw(self.num_samples, self.seed)
            for number in range(len(request.masks)):
                if rows and taken + request.length > budget:
                    yield rows
                    rows, taken = [], 0
                rows.append((request, number))
                taken += request.length
        if rows:
            yield rows

    def _run(self, rows: list[_Row]) -> np.ndarray:
        """float64 [rows]: (L / l) * sum of log p over each row's masked positions. Out of device memory:
        the same in two halves."""
        try:
            return self._weighted(rows)
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            middle = len(rows) // 2
            return np.concatenate([self._run(rows[:middle]), self._run(rows[middle:])])

    @torch.inference_mode()
    def _weighted(self, rows: list[_Row]) -> np.ndarray:
        masks = [request.masks[number] for request, number in rows]
        starts = np.cumsum([0, *(request.length for request, _ in rows)])
        wanted = np.concatenate(
            [
                start + len(r.prompt) + np.flatnonzero(m)
                for (r, _), m, start in zip(rows, masks, starts, strict=False)
            ]
        )
        targets = np.concatenate([r.answer[m] for (r, _), m in zip(rows, masks, strict=True)])
        logs = self._log_probabilities(rows, wanted, targets)
        sizes = np.array([m.sum() for m in masks])
        sums = np.bincount(np.repeat(np.arange(len(rows)), sizes), weights=logs, minlength=len(rows))
        return sums * np.array([len(m) for m in masks]) / sizes

    def _log_probabilities(self, rows: list[_Row], wanted: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64 [m] of the targets at packed places `wanted` of the rows."""
        twins = (False, True) if self.cfg_scale > 0 else (False,)
        mask_id = self.model.special.mask
        ids = np.concatenate([r.ids(n, mask_id, blind) for blind in twins for r, n in rows])
        lengths = [r.length for _ in twins for r, _ in rows]
        positions = np.concatenate([np.arange(length) for length in lengths])
        padded = round_up(len(wanted))
        places = np.pad(wanted, (0, padded - len(wanted)), mode="edge")
        whole = np.concatenate([places + i * len(ids) // len(twins) for i in range(len(twins))])
        hidden = self.model.hidden(
            self._tensor(np.pad(ids, (0, round_up(len(ids)) - len(ids)), constant_values=mask_id)),
            self._tensor(np.pad(positions, (0, round_up(len(ids)) - len(ids)))),
            rows_attention(lengths),
            self._tensor(whole),
        ).unflatten(0, (len(twins), padded))
        wants = self._tensor(np.pad(targets, (0, padded - len(targets)))).unsqueeze(1)
        parts = [
            self._logits(hidden[:, i : i + _HEAD_ROWS]).log_softmax(-1).gather(1, wants[i : i + _HEAD_ROWS])
            for i in range(0, padded, _HEAD_ROWS)
        ]
        return torch.cat(parts).squeeze(1).double().cpu().numpy()[: len(targets)]

    def _logits(self, hidden: Tensor) -> Tensor:
        """hidden [1 or 2, n, d], the row's own and its blind twin's -> logits float32 [n, V]."""
        own = self.model.head(hidden[0])
        if len(hidden) == 1:
            return own
        blind = self.model.head(hidden[1])
        return blind + (self.cfg_scale + 1) * (own - blind)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.model.device)

    def _greedy(self, requests: Sequence[_Request]) -> dict[int, bool]:
        """By place: whether greedy decoding gives the answer."""
        rows = max(2, self.max_positions // max((r.length for r in requests), default=1))
        engine = Engine(self.model, batch_size=min(rows, 256), max_positions=self.max_positions)
        for request in requests:
            length = len(request.answer)
            params = DecodingParams(
                max_tokens=length, block_length=length, cfg_scale=self.cfg_scale,
                ignore_eos=True, early_eos=False, ban_ids=False,
            )  # fmt: skip
            engine.add_request(request.prompt.tolist(), params, request_id=str(request.index))
        outputs: dict[str, tuple[int, ...]] = {}
        while engine.has_work():
            outputs |= {p.request_id: p.output.token_ids for p in engine.step() if p.output}
        return {r.index: outputs[str(r.index)] == tuple(r.answer.tolist()) for r in requests}


def _with_greedy(own: Estimate, fits: dict[int, bool], index: int) -> Estimate:
    if not fits:
        return own
    return replace(own, is_greedy=fits[index], nfe=own.nfe + own.answer_tokens)


def rows_attention(lengths: Sequence[int]) -> Attend:
    """Full attention within each of the packed rows; neighbours of one length share a call."""
    groups = [(length, sum(1 for _ in same)) for length, same in itertools.groupby(lengths)]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.zeros_like(q)
        start = 0
        for length, count in groups:
            rows = slice(start, start := start + length * count)
            out[rows] = uniform_attention(count)(layer, q[rows], k[rows], v[rows])
        return out

    return attend
