"""Training batches for the embedded model: rows of one length, what is masked, and how much it weighs.

An answer row is a chat prompt, the answer, end of turn, and EOS up to the canvas' end. Masks mix what LLaDA
trains on (each answer token with probability t) with what block decoding really shows (all before a cut
visible, all after the block masked, some of the block). A head row ends where a line's operands, the last
line or the decision to refuse are read off: wordings, densely. Drill rows (`drills.py`) hold facts and lines
without a prompt.

It knows the task texts and the tokenizer, and nothing of the model or the optimizer.

Letters: N rows, T row length.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from llada_exp.tiny import conversations, drills, tasks
from llada_exp.tiny.tasks import TinyProblem
from llada_exp.tiny.tokenizer import BOS, EOS, EOT, MASK, chat_prompt, token_id
from llada_exp.tiny.weighing import HEAD, Chars, weigh

KINDS = ("facts", "lines", "heads", "steps", "short", "long")
"""Of batches: drills, heads of one line and of several, answers of one operation and of several."""
BLOCK = 32
LONG_CANVAS = 256
_ROUND = 16  # row lengths are rounded up to it, so that rows of one length are easily found
_TAIL_SHARE = 0.2  # of the tail's places that are asked, in place of all: they cost time
_DRILL_CHARS, _DRILL_TOKENS = 200, 118
_END_WEIGHT, _TAIL_WEIGHT = 2.0, 0.05
# What stands further than a line behind the cut cannot be known yet: digits, their number, and so where all
# else stands. It weighs less, for it would drown what can be, but not so little (0.1) that later lines stand
# early and wrong, as in some answers of `long`. It depends on the masks alone, so confidences stay honest.
_NEAR_PLACES, _FAR_DIGIT, _FAR_FORM, _BEYOND_WEIGHT = 20, 0.4, 0.7, 0.1
_USUAL_TOKENS = {"heads": 50, "steps": 100, "short": 80, "long": 180}
_TALK_SHARE, _MANY_SHARE, _SYSTEM_SHARE = 0.25, 0.12, 0.5
"""Of batches with turns before the question, of those with many, and of system prompts before turns."""
_TALK_TOKENS = (0, 100, 900)  # before the question: of none, a few, many turns
_PARTS = {
    "heads": {"sums": 28, "differences": 27, "near": 3, "products": 18, "refusals": 21, "too_many": 3},
    "steps": {"chains": 43, "stories": 28, "long": 24, "too_many": 5},
    "short": {"sums": 26, "differences": 26, "near": 9, "products": 17, "stories": 10, "refusals": 10,
              "too_many": 2},
    "long": {"chains": 50, "stories": 15, "long": 35},
}  # fmt: skip
_RAW_SHARE = 0.08
_CAPITALS_SHARE = 0.25
"""Of rows with a prompt, beside what the wordings have: capitals are many tokens, rare, and learned last."""


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


@dataclass(frozen=True)
class _Text:
    """A prompt's and a reply's ids, the reply's weights by token, and its text."""

    prompt: list[int]
    reply: list[int]
    weights: np.ndarray
    text: str
    starts: list[int]


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

    def batch(self, number: int, mix: dict[str, float]) -> TrainingBatch:
        """Batch `number` of one kind of KINDS, drawn with the weights of `mix`.

        Rows of about equal length are drawn first and cut to the batch's size afterwards.
        """
        rng = random.Random(f"{self.seed} {number}")
        noise = np.random.default_rng((self.seed, number))
        kind = rng.choices(list(mix), list(mix.values()))[0]
        rows = self._drills(kind, rng) if kind in ("facts", "lines") else self._chats(kind, rng, noise)
        targets = np.stack([row.targets for row in rows])
        masked = np.stack([row.masked for row in rows])
        ids = np.where(masked, self._mask, targets)
        weights = (np.stack([row.weights for row in rows]) * masked).astype(np.float32)
        return TrainingBatch(kind, *(torch.from_numpy(array) for array in (ids, targets, weights)))

    def _drills(self, kind: str, rng: random.Random) -> list[_TrainingRow]:
        num_rows = max(1, round(self.tokens_per_batch / _DRILL_TOKENS))
        texts = [drills.row(kind, rng, _DRILL_CHARS) for _ in range(num_rows)]
        encodings = self.tokenizer.encode_batch([text.text for text in texts])
        length = min(len(encoding.ids) for encoding in encodings)
        rows = []
        for text, encoding in zip(texts, encodings, strict=True):
            masked = _by_token(encoding, text.hidden)[:length] > 0
            weights = np.where(masked, _by_token(encoding, text.weights)[:length], 0.0)
            rows.append(_TrainingRow(np.array(encoding.ids[:length]), masked, weights))
        return rows

    def _chats(self, kind: str, rng: random.Random, noise: np.random.Generator) -> list[_TrainingRow]:
        """Rows of about the length that the first drawn row has, with canvases stretched to fit."""
        talk = 0 if rng.random() >= _TALK_SHARE else 1 if rng.random() >= _MANY_SHARE else 2
        num_rows = max(2, self.tokens_per_batch // (_USUAL_TOKENS[kind] + _TALK_TOKENS[talk]))
        count = num_rows + num_rows // 2 + 1
        is_head = kind in ("heads", "steps")
        texts = self._texts(_PARTS[kind], count, rng, talk)
        cuts = [self._head_of(text, rng) if is_head else (0, len(text.reply)) for text in texts]
        order = sorted(range(count), key=lambda row: len(texts[row].prompt) + cuts[row][1])
        first = rng.randrange(count - num_rows + 1)
        order = order[first : first + num_rows]
        longest = max(len(texts[row].prompt) + cuts[row][1] + 2 for row in order)
        draw = rng.random()
        length = longest + rng.randrange(4)
        if not is_head:
            extra = rng.randrange(64) if draw < 0.3 else 0
            length = -(-(longest + extra) // _ROUND) * _ROUND
        if not is_head and draw < 0.12:
            length = max(length, max(len(texts[row].prompt) for row in order) + LONG_CANVAS)
        rng.shuffle(order)
        order = order[: max(1, round(self.tokens_per_batch / length))]
        if is_head:
            return [self._head_row(texts[row], *cuts[row], length, noise) for row in order]
        return [self._answer_row(texts[row], length, noise) for row in order]

    def _texts(self, parts: dict[str, int], count: int, rng: random.Random, talk: int) -> list[_Text]:
        """`count` fresh problems in the frames that harnesses use, as ids. talk: after none, a few, many."""
        prompts: list[str] = []
        replies: list[str] = []
        for part in rng.choices(list(parts), list(parts.values()), k=count):
            problem = tasks.sample(part, rng)
            if rng.random() < _CAPITALS_SHARE:
                problem = replace(problem, question=problem.question.upper())
            style = "boxed" if rng.random() < 0.16 else "hash"
            framed = style == "boxed" or rng.random() < 0.2
            turns = conversations.earlier(rng, style, many=talk == 2) if talk else []
            prompts.append(_prompt(problem, style, rng.randrange(40) if framed else 0, rng, turns))
            replies.append(tasks.reply_text(problem, style))
        encode = self.tokenizer.encode_batch
        return [
            _Text(
                prompt.ids,
                reply.ids,
                _by_token(reply, weigh(text)),
                text,
                [start for start, _ in reply.offsets],
            )
            for prompt, reply, text in zip(encode(prompts), encode(replies), replies, strict=True)
        ]

    @staticmethod
    def _head_of(text: _Text, rng: random.Random) -> tuple[int, int]:
        """From which reply token to before which: a line's operands, the last line, or the first words."""
        lines = text.text.split("\n")
        if len(lines) == 1:  # its first words decide, and the others have to hold to them
            cut = 0 if rng.random() < 0.6 else rng.randrange(len(text.reply) - 12)
            return cut, cut + 12
        number = rng.randrange(len(lines))
        if number == len(lines) - 1 and rng.random() < 0.5:
            number = 0
        start = sum(len(line) + 1 for line in lines[:number])
        cut = next(place for place, at in enumerate(text.starts) if at >= start)
        if number == len(lines) - 1:
            return cut, len(text.reply)
        stop = start + lines[number].rindex(": ")
        return cut, next(place for place, at in enumerate(text.starts) if at >= stop) + 1

    def _head_row(
        self, text: _Text, cut: int, stop: int, length: int, noise: np.random.Generator
    ) -> _TrainingRow:
        """Masked from `cut` on; in half of the rows, some of what comes before `stop` is there already."""
        targets, weights, start, _ = self._laid_out(text, length)
        places = np.arange(length)
        masked = places >= start + cut
        if noise.random() < 0.5:
            masked &= (places >= start + stop) | (noise.random(length) < noise.uniform(0.2, 1.0))
            masked[start + noise.integers(cut, stop)] = True  # something is asked of every row
        whole = stop == len(text.reply)
        weights[start + stop + whole :] = 0.0
        return _TrainingRow(targets, masked, weights)

    def _laid_out(self, text: _Text, length: int) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Targets, weights, and where the reply begins and ends."""
        start, end = len(text.prompt), len(text.prompt) + len(text.reply)
        targets = np.full(max(length, end + 1), self._eos)
        targets[:start], targets[start:end], targets[end] = text.prompt, text.reply, self._eot
        weights = np.full(len(targets), _TAIL_WEIGHT)
        weights[:start], weights[start:end], weights[end : end + 2] = 0.0, text.weights, _END_WEIGHT
        return targets[:length], weights[:length], start, end

    def _answer_row(self, text: _Text, length: int, noise: np.random.Generator) -> _TrainingRow:
        targets, weights, start, end = self._laid_out(text, length)
        digit = np.isin(targets, self._digits)
        digit[:start] = False
        near = stop = length
        if noise.random() < 0.15:
            masked = self._mask_steps(text, start, length, noise)
            weights[start:end] *= np.where(text.weights == HEAD, 1.0, 0.05)  # the next line shows the results
        else:
            masked, near, stop = self._mask_answer(start, end, digit, noise)
        far = np.where(digit, _FAR_DIGIT, _FAR_FORM)
        far[stop:] = _BEYOND_WEIGHT
        weights[near:] = np.minimum(weights, far)[near:]
        weights[end + 2 :] *= (noise.random(max(0, length - end - 2)) < _TAIL_SHARE) / _TAIL_SHARE
        if not weights[masked].any():  # of the tail, most places weigh nothing
            masked[start + noise.integers(end - start)] = True
        return _TrainingRow(targets, masked, weights)

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
        if noise.random() < 0.25:  # a block's first forward, whose confidences `threshold` trusts most
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

    @staticmethod
    def _mask_steps(text: _Text, start: int, length: int, noise: np.random.Generator) -> np.ndarray:
        """Most lines from their sign to their end: what is to be found in the prompt, at every line."""
        masked = np.zeros(length, dtype=bool)
        hidden = [False] * len(text.text)
        at = 0
        for line in text.text.split("\n"):
            sign = next(
                (place for place in range(len(line)) if line[place : place + 3] in (" + ", " - ")), None
            )
            if sign is not None and noise.random() < 0.8:
                hidden[at + sign : at + len(line)] = [True] * (len(line) - sign)
            at += len(line) + 1
        masked[start : start + len(text.reply)] = [hidden[min(at, len(hidden) - 1)] for at in text.starts]
        return masked


def _by_token(encoding: Encoding, chars: Chars) -> np.ndarray:
    """Values of a text's characters as its tokens': each token's largest."""
    return np.array([max(chars[first:last], default=0.0) for first, last in encoding.offsets])


def _prompt(
    problem: TinyProblem, style: str, variant: int, rng: random.Random, turns: conversations.Turns
) -> str:
    """A chat's, or a text's of `/v1/completions`, which begins with BOS alone."""
    system = conversations.system(rng) if rng.random() < (_SYSTEM_SHARE if turns else 0.08) else None
    if system and rng.random() < 0.4:
        turns = []
    raw = system is None and rng.random() < _RAW_SHARE
    if turns and style == "hash" and rng.random() < (1.0 if raw else 0.25):
        text, turns = conversations.as_examples(turns, problem.question), []
    else:
        text = tasks.prompt_text(problem, style, rng.randrange(40) if raw and rng.random() < 0.5 else variant)
    return BOS + text if raw and not turns else chat_prompt(text, system, turns)
