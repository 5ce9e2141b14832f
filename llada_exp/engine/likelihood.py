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

Where blocks see nothing beyond themselves, the chain rule holds over them: the estimate is the sum over the
answer's blocks of the block's own, given all before it whole (BD3-LM, arXiv 2503.09573).

Letters: P prompt, L answer length, T = P + L, S samples, s distinct masks, m masked positions of a pass.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from llada_exp.engine.batch import round_up
from llada_exp.engine.budget import step_positions
from llada_exp.engine.engine import EngineCore
from llada_exp.engine.errors import NotFiniteError
from llada_exp.engine.estimate import LikelihoodEstimate, Part, add
from llada_exp.engine.halves import all_in_halves
from llada_exp.engine.layout import Layout
from llada_exp.models.attention import row_attention
from llada_exp.models.base import Attend, Model
from llada_exp.types import DecodingParams, RequestOutput

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt (may be empty) and of its answer."""

NUM_SAMPLES = 128
_HEAD_ROWS = 512  # logits held at once; a multiple of the padding


_MaskedRow = tuple[Part, int]
"""A part, and which of its masks."""


class Likelihood:
    """Estimates of a model.

    num_samples:   masks drawn for each request. seed: of all draws.
    cfg_scale:     classifier-free guidance, as in decoding; above 0 every mask costs two rows.
    block_length:  of a model whose blocks see nothing beyond themselves; None = the checkpoint's own.
    max_positions: forwarded in one pass, at most (a row that alone exceeds it goes alone); None = as suits
                   the device.
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
        block_length: int | None = None,
        max_positions: int | None = None,
        max_length: int | None = None,
    ) -> None:
        max_positions = step_positions(max_positions, model.device)
        for name, value in (("num_samples", num_samples), ("max_positions", max_positions)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected an integer >= 1")
        DecodingParams(seed=seed, cfg_scale=cfg_scale, block_length=block_length)  # its checks
        limit = model.shape.max_length
        if max_length is not None and not 1 <= max_length <= limit:
            raise ValueError(f"max_length is {max_length}; expected 1 to {limit}, the model's limit")
        self.model = model
        self.num_samples, self.seed, self.cfg_scale = num_samples, seed, cfg_scale
        self.max_positions, self.max_length = max_positions, max_length or limit
        self.block_length = model.visibility.blocks_of(block_length)

    def estimate(
        self,
        pairs: Sequence[Pair],
        report: Callable[[int, LikelihoodEstimate], None] = lambda index, estimate: None,
        greedy: bool = False,
    ) -> list[LikelihoodEstimate]:
        """Estimates in the order of the pairs.

        report: called with a pair's place and its estimate as soon as that is whole (longest first).
        greedy: also say whether greedy decoding gives the answer: one token a step, the most confident
                first, from a whole masked answer; as many passes as the answer has tokens.
        Raises ValueError naming the pair, before anything is computed, for an empty answer, one longer
        than a row, and ids out of range; while computing, NotFiniteError, a ValueError, for a model whose
        output is NaN.
        """
        wholes = [self._whole(i, *pair) for i, pair in enumerate(pairs)]
        greedy_outputs = self._greedy(wholes) if greedy else {}
        parts = [part for whole in wholes for part in self._parts(whole)]
        num_left = Counter(part.index for part in parts)
        sums: dict[int, LikelihoodEstimate] = {}
        rows_each = 2 if self.cfg_scale > 0 else 1
        for rows in self._passes(sorted(parts, key=lambda part: -part.length)):
            for (part, number), value in zip(
                rows, all_in_halves(self._weighted, rows, self.model.device), strict=True
            ):
                part.values[number] = value
                part.num_open -= 1
                if part.num_open:
                    continue
                index, estimate = part.index, part.estimate(rows_each)
                part.masks = part.masks[:0]  # many parts' would fill the memory
                sums[index] = add(sums[index], estimate) if index in sums else estimate
                num_left[index] -= 1
                if not num_left[index]:
                    sums[index] = _with_greedy(sums[index], wholes[index], greedy_outputs)
                    report(index, sums[index])
        return [sums[i] for i in range(len(pairs))]

    def _parts(self, whole: Part) -> list[Part]:
        """The answer's blocks, each given what stands before it; the answer itself where they see one
        another."""
        visibility = self.model.visibility
        if visibility.sees_suffix:
            return [whole]
        layout = Layout(len(whole.prompt), len(whole.answer), self.block_length, visibility)
        row = np.concatenate([whole.prompt, whole.answer])
        parts = []
        for block in range(layout.num_blocks):
            start, stop = layout.bounds(block)
            start, stop = max(start, len(whole.prompt)), min(stop, len(row))
            parts.append(Part(whole.index, row[:start], row[start:stop], whole.num_cut, len(whole.prompt)))
        return parts

    def _whole(self, index: int, prompt: Sequence[int], answer: Sequence[int]) -> Part:
        context, target = (np.asarray(ids, dtype=np.int64).reshape(-1) for ids in (prompt, answer))
        vocab = self.model.shape.vocab_size
        if not len(target):
            raise ValueError(f"pair {index}: the answer is empty; expected at least one token")
        if len(target) > self.max_length:
            raise ValueError(
                f"pair {index}: the answer has {len(target)} tokens; a row holds {self.max_length}"
            )
        if any(len(ids) and (ids.min() < 0 or ids.max() >= vocab) for ids in (context, target)):
            raise ValueError(f"pair {index}: token ids must be from 0 to {vocab - 1}")
        num_cut = max(0, len(context) + len(target) - self.max_length)
        context = context[num_cut:]
        return Part(index, context, target, num_cut, len(context))

    def _passes(self, parts: Iterable[Part]) -> Iterator[list[_MaskedRow]]:
        """Rows of one pass at a time, as many as the budget holds."""
        rows: list[_MaskedRow] = []
        budget = self.max_positions // (2 if self.cfg_scale > 0 else 1)
        num_positions = 0
        for part in parts:
            part.draw(self.num_samples, self.seed)
            for number in range(len(part.masks)):
                if rows and num_positions + part.length > budget:
                    yield rows
                    rows, num_positions = [], 0
                rows.append((part, number))
                num_positions += part.length
        if rows:
            yield rows

    @torch.inference_mode()
    def _weighted(self, rows: Sequence[_MaskedRow]) -> list[float]:
        """(L / l) * sum of log p over each row's masked positions."""
        masks = [part.masks[number] for part, number in rows]
        starts = np.cumsum([0, *(part.length for part, _ in rows)])
        shift = self.model.shift
        places = np.concatenate(
            [
                start + np.maximum(len(part.prompt) + np.flatnonzero(m) - shift, 0)
                for (part, _), m, start in zip(rows, masks, starts, strict=False)
            ]
        )
        targets = np.concatenate([r.answer[m] for (r, _), m in zip(rows, masks, strict=True)])
        logs = self._log_probabilities(rows, places, targets)
        if np.isnan(logs).any():
            raise NotFiniteError(self.model.dtype)
        sizes = np.array([m.sum() for m in masks])
        sums = np.bincount(np.repeat(np.arange(len(rows)), sizes), weights=logs, minlength=len(rows))
        return (sums * np.array([len(m) for m in masks]) / sizes).tolist()

    def _log_probabilities(
        self, rows: Sequence[_MaskedRow], places: np.ndarray, targets: np.ndarray
    ) -> np.ndarray:
        """float64 [m] of the targets at packed places [m] of the rows."""
        twins = (False, True) if self.cfg_scale > 0 else (False,)
        mask_id = self.model.special.mask
        ids = np.concatenate([r.ids(n, mask_id, blind) for blind in twins for r, n in rows])
        sizes = [(r.length, len(r.prompt), r.request_prompt) for _ in twins for r, _ in rows]
        positions = np.concatenate([np.arange(length) for length, *_ in sizes])
        padded = round_up(len(places))
        places = np.pad(places, (0, padded - len(places)), mode="edge")
        whole = np.concatenate([places + i * len(ids) // len(twins) for i in range(len(twins))])
        hidden = self.model.hidden(
            self._tensor(np.pad(ids, (0, round_up(len(ids)) - len(ids)), constant_values=mask_id)),
            self._tensor(np.pad(positions, (0, round_up(len(ids)) - len(ids)))),
            self._attention(sizes),
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
        logits = self.model.head(hidden[0])
        if len(hidden) == 1:
            return logits
        blind = self.model.head(hidden[1])
        return blind + (self.cfg_scale + 1) * (logits - blind)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.model.device)

    def _attention(self, sizes: Sequence[tuple[int, int, int]]) -> Attend:
        """Of packed rows by (T, P, the request's own P); neighbours that are alike share a call."""
        visibility, device = self.model.visibility, self.model.device
        if visibility.sees_suffix:  # alike whatever their prompt
            sizes = [(length, 0, 0) for length, *_ in sizes]
        elif visibility.kind != "block_context":  # that alone sees the request's prompt as one block
            sizes = [(length, start, 0) for length, start, _ in sizes]
        calls = []
        for (length, block_start, prompt), same in itertools.groupby(sizes):
            count = sum(1 for _ in same)
            call = row_attention(count, length, visibility, self.block_length, device, block_start, prompt)
            calls.append((length * count, call))

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out = torch.zeros_like(q)
            start = 0
            for num_tokens, call in calls:
                rows = slice(start, start := start + num_tokens)
                out[rows] = call(layer, q[rows], k[rows], v[rows])
            return out

        return attend

    def _greedy(self, wholes: Sequence[Part]) -> dict[int, RequestOutput]:
        """By place: what greedy decoding gives."""
        rows = max(2, self.max_positions // max((whole.length for whole in wholes), default=1))
        by_block = not self.model.visibility.sees_suffix
        engine = EngineCore(self.model, batch_size=min(rows, 256), max_positions=self.max_positions)
        for whole in wholes:
            length = len(whole.answer)
            params = DecodingParams(
                max_tokens=length, block_length=self.block_length if by_block else length,
                cfg_scale=self.cfg_scale, ignore_eos=True, early_eos=False, ban_ids=False,
            )  # fmt: skip
            engine.add_request(whole.prompt.tolist(), params, request_id=str(whole.index))
        outputs: dict[int, RequestOutput] = {}
        while engine.has_work():
            outputs |= {int(p.request_id): p.output for p in engine.step() if p.output}
        return outputs


def _with_greedy(
    estimate: LikelihoodEstimate, whole: Part, outputs: Mapping[int, RequestOutput]
) -> LikelihoodEstimate:
    if not outputs:
        return estimate
    output = outputs[whole.index]
    is_greedy = output.token_ids == tuple(whole.answer.tolist())
    return replace(estimate, is_greedy=is_greedy, nfe=estimate.nfe + output.nfe)
