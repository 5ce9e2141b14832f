"""Training batches for the embedded model: rows of one length, what is masked, and how much it weighs.

A row is a chat prompt, the answer, end of turn, and EOS up to the canvas' end. Masks mix what LLaDA
trains on (each answer token with probability t) with what block decoding really shows (all before a
cut visible, all after the block masked, some of the block). A drill row holds independent lines
without a prompt, masked after their operands: facts, densely. Chained lines cannot be drilled so, for
a result shows again at the head of the next line.

It knows the task texts and the tokenizer, and nothing of the model or the optimizer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from llada_exp.tiny import tasks
from llada_exp.tiny.tokenizer import EOS, EOT, MASK, chat_prompt, token_id

BLOCK = 32
_ROUND = 16  # row lengths are rounded up to it, so that rows of one length are easily found
_TEXT_WEIGHT, _DIGIT_WEIGHT, _HEAD_WEIGHT, _END_WEIGHT, _TAIL_WEIGHT = 0.6, 1.0, 2.0, 2.0, 0.05
_FACT_WEIGHT = 4.0  # of the digit that is looked up, rather than copied: learned last
_CARRY_WEIGHT = 3.0  # of the carry and the borrow, which hang on one unit more or less
# What stands further than a line behind the cut cannot be known yet; it weighs little, for it would
# drown what can. The weight depends on the masks alone, so confidences stay honest.
_FAR_WEIGHT, _NEAR_PLACES = 0.1, 20

# Numbers below ten lose or gain a padding zero on the way, and are rare among 0..99: drawn more often.
_SMALL_SHARE = 0.25
_GREETINGS = ("Hello! ", "Hi! ", "Please solve. ", "Question: ", "Answer the following question.\n\n")


@dataclass(frozen=True)
class TrainingBatch:
    """ids, targets int64 [N, T]; weights float32 [N, T], 0 where nothing is asked."""

    kind: str
    ids: Tensor
    targets: Tensor
    weights: Tensor


@dataclass(frozen=True)
class _TrainingRow:
    targets: np.ndarray
    masked: np.ndarray
    weights: np.ndarray


class BatchMaker:
    """An endless, seeded stream of batches; its whole state is the seed and the number of batches made.

    Every batch has its own generator, so that a resumed run sees the batches that it would have seen.
    """

    def __init__(self, tokenizer: Tokenizer, seed: int, tokens_per_batch: int) -> None:
        self.tokenizer = tokenizer
        self.seed = seed
        self.tokens_per_batch = tokens_per_batch
        self._mask = token_id(tokenizer, MASK)
        self._eot, self._eos = token_id(tokenizer, EOT), token_id(tokenizer, EOS)
        ids = tokenizer.get_vocab()
        self._digits = np.array([ids[str(digit)] for digit in range(10)])
        self._equals, self._newline, self._colon = ids["Ġ=Ġ"], ids["Ċ"], ids[":Ġ"]
        self._signs, self._comma = (ids["Ġ+Ġ"], ids["Ġ-Ġ"]), ids[",Ġ"]

    def batch(self, number: int, mix: dict[str, float]) -> TrainingBatch:
        """Batch `number` of one kind ("drill", "short" or "long"), drawn with the weights of `mix`.

        Rows of about equal length are drawn first and cut to the batch's size afterwards.
        """
        rng = random.Random(f"{self.seed} {number}")
        noise = np.random.default_rng((self.seed, number))
        kind = rng.choices(list(mix), list(mix.values()))[0]
        if kind == "drill":
            rows = self._drills(rng, noise)
        elif kind == "copy":
            rows = self._copies(rng, noise)
        else:
            rows = self._answers(kind, rng, noise)
        targets = np.stack([row.targets for row in rows])
        masked = np.stack([row.masked for row in rows])
        ids = np.where(masked, self._mask, targets)
        weights = np.stack([row.weights for row in rows]) * masked
        return TrainingBatch(
            kind,
            torch.from_numpy(ids),
            torch.from_numpy(targets),
            torch.from_numpy(weights.astype(np.float32)),
        )

    def _answers(self, kind: str, rng: random.Random, noise: np.random.Generator) -> list[_TrainingRow]:
        """Rows of the length that the first drawn row has, with canvases stretched to fit."""
        count = 2 * max(2, self.tokens_per_batch // (160 if kind == "long" else 80))
        prompt_ids, reply_ids = self._texts(kind, count, rng)
        order = sorted(range(count), key=lambda row: len(prompt_ids[row]) + len(reply_ids[row]))
        first = rng.randrange(count // 2 + 1)
        order = order[first : first + count // 2]
        longest = max(len(prompt_ids[row]) + len(reply_ids[row]) + 2 for row in order)
        draw = rng.random()
        extra = 0 if draw < 0.7 else rng.randrange(64) if draw < 0.95 else rng.randrange(192)
        length = -(-(longest + extra) // _ROUND) * _ROUND
        rng.shuffle(order)
        order = order[: max(1, round(self.tokens_per_batch / length))]
        return [self._answer_row(prompt_ids[row], reply_ids[row], length, noise) for row in order]

    def _texts(
        self, kind: str, count: int, rng: random.Random, small: float = _SMALL_SHARE
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Prompts and replies of `count` fresh problems, as ids."""
        prompts: list[str] = []
        replies: list[str] = []
        for _ in range(count):
            problem = tasks.sample(kind, rng)
            if rng.random() < small:
                drawn = [problem, *(tasks.sample(kind, rng) for _ in range(7))]
                problem = next((p for p in drawn if tasks.has_small_end(p)), problem)
            style = "boxed" if rng.random() < 0.12 else "hash"
            user = tasks.prompt_text(problem, style, rng.randrange(3))
            if rng.random() < 0.06:
                user = rng.choice(_GREETINGS) + user
            prompts.append(chat_prompt(user))
            replies.append(tasks.reply_text(problem, style))
        encode = self.tokenizer.encode_batch
        return [e.ids for e in encode(prompts)], [e.ids for e in encode(replies)]

    def _copies(self, rng: random.Random, noise: np.random.Generator) -> list[_TrainingRow]:
        """Rows that end with a line's head or with the answer: found in the prompt and the line before."""
        kind = "short" if rng.random() < 0.7 else "long"
        count = 2 * max(2, self.tokens_per_batch // (90 if kind == "long" else 42))
        drawn = []
        for prompt, reply in zip(*self._texts(kind, count, rng, small=0.5), strict=True):
            starts = [0] + [place + 1 for place, token in enumerate(reply) if token == self._newline]
            if rng.random() < 0.5:
                cut, stop = starts[-1] + rng.randrange(2), len(reply) + 1
            else:
                start = rng.choice(starts[:-1])
                sign = next(place for place in range(start, len(reply)) if reply[place] in self._signs)
                stop = reply.index(self._colon, sign)
                cut = start if rng.random() < 0.6 else sign
            drawn.append((prompt + [*reply, self._eot][:stop], len(prompt) + cut))
        drawn.sort(key=lambda pair: len(pair[0]))
        first = rng.randrange(count // 2 + 1)
        drawn = drawn[first : first + count // 2]
        length = max(len(ids) for ids, _ in drawn)
        drawn = drawn[: max(1, round(self.tokens_per_batch / length))]
        rows = []
        for ids, cut in drawn:
            targets = np.array(ids + [self._eos] * (length - len(ids)))
            places = np.arange(length)
            masked = places >= cut
            weights = np.where((places >= cut) & (places < len(ids)), 1.0, 0.0)
            rows.append(_TrainingRow(targets, masked, weights))
        return rows

    def _answer_row(
        self, prompt: list[int], reply: list[int], length: int, noise: np.random.Generator
    ) -> _TrainingRow:
        start, end = len(prompt), len(prompt) + len(reply)
        targets = np.full(length, self._eos)
        targets[:start], targets[start:end], targets[end] = prompt, reply, self._eot
        digit = np.isin(targets, self._digits)
        digit[:start] = False
        weights = np.where(digit, _DIGIT_WEIGHT, _TEXT_WEIGHT)
        weights[self._heads(targets, start)] = _HEAD_WEIGHT
        self._weigh_sums(targets, weights)
        last_line = start + len(reply) - reply[::-1].index(self._newline)
        weights[last_line : end + 1] = _END_WEIGHT
        weights[end + 2 :] = _TAIL_WEIGHT
        near = stop = length
        if noise.random() < 0.2:
            masked = self._mask_operations(start, targets, noise)
        else:
            masked, near, stop = self._mask_answer(start, end, digit, noise)
        far = np.where(digit, _FAR_WEIGHT, _TEXT_WEIGHT)  # the form of the block can be known
        far[stop:] = _FAR_WEIGHT
        weights[near:] = np.minimum(weights, far)[near:]
        if not masked.any():
            masked[start + noise.integers(end - start)] = True
        return _TrainingRow(targets, masked, weights)

    def _weigh_sums(self, targets: np.ndarray, weights: np.ndarray) -> None:
        """In each line's `17 + 8 = 25`: the two leading digits, and the last one."""
        equals = np.flatnonzero(targets == self._equals)
        equals = equals[(equals >= 4) & (equals < len(targets) - 2)]
        weights[equals - 4] = weights[equals + 1] = _CARRY_WEIGHT
        weights[equals + 2] = _FACT_WEIGHT

    def _heads(self, targets: np.ndarray, start: int) -> np.ndarray:
        """True from each line's start to its operand: what is copied from the prompt and the line before."""
        head = np.zeros(len(targets), dtype=bool)
        first = True
        for place in range(start, len(targets)):
            token = int(targets[place])
            if first and token in self._signs:
                head[place - 2 : place + 2] = True
                first = False
            first = first or token == self._newline
        return head

    def _results(self, targets: np.ndarray) -> np.ndarray:
        """True from each " = " to its line's end."""
        opened = np.cumsum(targets == self._equals)
        places = np.arange(len(targets))
        last_equals = np.maximum.accumulate(np.where(targets == self._equals, places, -1))
        last_newline = np.maximum.accumulate(np.where(targets == self._newline, places, -1))
        return (opened > 0) & (last_equals > last_newline)

    def _mask_answer(
        self, start: int, end: int, digit: np.ndarray, noise: np.random.Generator
    ) -> tuple[np.ndarray, int, int]:
        """Masked places; from where digits are too far to know; where the block ends."""
        length = len(digit)
        masked = np.zeros(length, dtype=bool)
        if noise.random() < 0.2:  # LLaDA's: every answer token alike
            masked[start:] = noise.random(length - start) < noise.random()
            return masked, length, length
        # As block decoding sees it: a block whose places before a cut are known, and the rest of the
        # canvas masked. In the block, text that is no digit is often known already.
        block = start + BLOCK * int(noise.integers(-(-(end + 1 - start) // BLOCK)))
        stop = min(block + BLOCK, length)
        masked[stop:] = True
        if noise.random() < 0.4:  # a block's first forward, whose confidences `threshold` trusts most
            masked[block:] = True
            return masked, stop, stop
        cut = int(noise.integers(block, min(stop, end + 1)))
        inside = np.zeros(length, dtype=bool)
        inside[cut:stop] = True
        text_share = noise.choice([0.0, 1.0, noise.random()])
        digit_share = noise.choice([0.0, 0.0, noise.random()])
        visible_share = np.where(digit, digit_share, text_share)
        masked |= inside & (noise.random(length) >= visible_share)
        if noise.random() < 0.2:  # a few places before the cut are open still
            masked[block:cut] |= noise.random(cut - block) < 0.15
        return masked, min(cut + _NEAR_PLACES, stop), stop

    def _mask_operations(self, start: int, targets: np.ndarray, noise: np.random.Generator) -> np.ndarray:
        """Most lines from their sign to before their new total: what is to be found in the prompt."""
        masked = np.zeros(len(targets), dtype=bool)
        first = None
        for place in range(start, len(targets)):
            token = int(targets[place])
            if token in self._signs and first is None:
                first = place
            elif token == self._comma and first is not None:
                if noise.random() < 0.8:
                    masked[first:place] = noise.random(place - first) < noise.choice([1.0, 0.6])
                first = None
        return masked

    def _drills(self, rng: random.Random, noise: np.random.Generator) -> list[_TrainingRow]:
        bare = rng.random() < 0.5  # only the sums, twice as dense
        texts = []
        for _ in range(max(2, self.tokens_per_batch // 128)):
            lines = [self._drill_line(rng) for _ in range(16 if bare else 8)]
            texts.append("".join(f"{x.split(': ')[1].split(', ')[0]}\n" if bare else f"{x}\n" for x in lines))
        rows = [np.array(encoding.ids) for encoding in self.tokenizer.encode_batch(texts)]
        length = min(len(row) for row in rows)
        return [self._drill_row(row[:length], noise) for row in rows]

    @staticmethod
    def _drill_line(rng: random.Random) -> str:
        total, sign, size = rng.randint(0, 99), rng.choice((1, -1)), rng.randint(0, 9)
        if rng.random() < 0.3:  # where a carry or a borrow just comes or just does not
            unit = total % 10
            size = rng.choice((10 - unit, 9 - unit) if sign > 0 else (unit, unit + 1))
        step = sign * min(size, 9)
        if not 0 <= total + step <= 99:
            step = -step
        if rng.random() < 0.15 and step:
            tens = step * 10
            return tasks.line(total, tens if 0 <= total + tens <= 99 else step)
        return tasks.line(total, step)

    def _drill_row(self, targets: np.ndarray, noise: np.random.Generator) -> _TrainingRow:
        """Each line masked from its colon, from its equals sign, or only in its new total."""
        digit = np.isin(targets, self._digits)
        line_of = np.cumsum(targets == self._newline) - (targets == self._newline)
        mode = noise.integers(3, size=int(line_of.max()) + 1)[line_of]
        if self._colon not in targets:
            mode[:] = 1
        results = self._results(targets)
        after_colon = np.zeros(len(targets), dtype=bool)
        total = np.zeros(len(targets), dtype=bool)
        for newline in np.flatnonzero(targets == self._newline):
            total[max(0, newline - 2) : newline] = True
        is_after = False
        for place, token in enumerate(targets):
            is_after = token == self._colon or (is_after and token != self._newline)
            after_colon[place] = is_after
        masked = digit & np.where(mode == 0, after_colon, np.where(mode == 1, results, total))
        weights = np.full(len(targets), _DIGIT_WEIGHT)
        self._weigh_sums(targets, weights)
        return _TrainingRow(targets, masked, weights)
