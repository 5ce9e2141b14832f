"""A likelihood by blocks: each block given all before it whole, and seen as the model's visibility says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llada_exp.engine.likelihood import Likelihood
from llada_exp.engine.masks import draw_masks, request_seed
from llada_exp.models.attention import sdpa
from llada_exp.models.base import Visibility
from tests.toys import BOS, MASK, toy_block_causal, toy_causal_context

LENGTH = 4
PROMPT, ANSWER = [BOS, 5, 6, 11, 3, 2], [7, 8, 9, 10, 4, 1, 30, 31, 2]
MODELS = {
    "block_causal": toy_block_causal(),
    "causal_context": toy_causal_context(),
    "block_context": replace(toy_causal_context(), visibility=Visibility("block_context", LENGTH)),
}


def sees(kind, query, key, prompt, start):
    """Whether a position sees another while the block at `start` is masked, said case by case."""
    if kind == "block_causal":
        return key // LENGTH <= query // LENGTH
    if kind == "causal_context":
        return key <= query or query >= start
    if query < prompt:
        return key < prompt
    return key < prompt or (key - prompt) // LENGTH <= (query - prompt) // LENGTH


def log_probs(model, row, prompt, start):
    """float32 [T, V] of a plain forward under an attention written out."""
    kind = model.visibility.kind
    size = len(row)
    mask = torch.tensor([[sees(kind, i, j, prompt, start) for j in range(size)] for i in range(size)])

    def attend(layer, q, k, v):
        q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
        return sdpa(q, k, v, mask).squeeze(0).transpose(0, 1)

    return model.head(model.hidden(torch.tensor(row), torch.arange(size), attend)).log_softmax(-1)


def expected(model, prompt, answer, bounds, num_samples, seed):
    row, total = prompt + answer, 0.0
    for start, stop in bounds:
        length = stop - start
        masks, counts = draw_masks(length, num_samples, request_seed(seed, np.array(row[:start])))
        values = []
        for mask in masks:
            masked = [start + i for i in range(length) if mask[i]]
            ids = [MASK if i in masked else token for i, token in enumerate(row[:stop])]
            logs = log_probs(model, ids, len(prompt), start)
            values.append(length / len(masked) * sum(float(logs[i, row[i]]) for i in masked))
        total += np.dot(values, counts) / num_samples
    return total


@pytest.mark.parametrize("kind", MODELS)
def test_an_estimate_is_the_sum_over_blocks_of_the_mean_over_their_masks(kind):
    """Prevents a block that begins at the wrong place (an anchored grid's first holds the prompt's end), and
    blocks of the answer that are taken for a part of the prompt."""
    model = MODELS[kind]
    anchored = [(6, 8), (8, 12), (12, 15)]
    bounds = anchored if model.visibility.anchored else [(6, 10), (10, 14), (14, 15)]
    own = Likelihood(model, num_samples=5, seed=3, block_length=LENGTH)
    estimate = own.estimate([(PROMPT, ANSWER), (PROMPT[:3], ANSWER[:2])])[0]
    assert estimate.value == pytest.approx(expected(model, PROMPT, ANSWER, bounds, 5, 3), abs=1e-4)
    assert (estimate.prompt_tokens, estimate.answer_tokens) == (len(PROMPT), len(ANSWER))


@pytest.mark.parametrize("kind", MODELS)
def test_an_answer_of_several_blocks_has_the_same_bits_in_any_company(kind):
    pairs = [(PROMPT, ANSWER), (PROMPT[:2], ANSWER), (PROMPT, ANSWER[:5])]
    together = Likelihood(MODELS[kind], num_samples=4, block_length=LENGTH).estimate(pairs)
    for pair, estimate in zip(pairs, together, strict=True):
        alone = Likelihood(MODELS[kind], num_samples=4, block_length=LENGTH, max_positions=16)
        assert alone.estimate([pair])[0] == estimate
