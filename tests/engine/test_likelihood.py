"""The Monte Carlo likelihood is what the formula says, and depends on the request alone."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llada_exp.bench.models import bench_model
from llada_exp.engine.likelihood import Likelihood
from llada_exp.engine.masks import draw_masks, request_seed
from tests.toys import BOS, MASK, toy_model

MODEL = toy_model()
PROMPT, ANSWER = [BOS, 3, 9, 14], [5, 7, 21]
QUICK = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
ids = st.lists(st.integers(0, 59), min_size=1, max_size=30)


def log_probs(prompt, answer, cfg_scale=0.0):
    """float32 [L, V] by the plain forward, with the reference's guidance."""
    rows = [prompt, [MASK] * len(prompt)]
    own, blind = (MODEL.logits(torch.tensor([row + answer]))[0, len(prompt) :] for row in rows)
    return (blind + (cfg_scale + 1) * (own - blind)).log_softmax(-1)


def of_mask(prompt, answer, mask, cfg_scale=0.0):
    """L / l * sum of log p over one mask."""
    hidden = [MASK if m else a for a, m in zip(answer, mask, strict=True)]
    logs = log_probs(prompt, hidden, cfg_scale)
    return len(answer) / sum(mask) * sum(float(logs[i, a]) for i, a in enumerate(answer) if mask[i])


def all_masks(length):
    return [m for m in itertools.product([False, True], repeat=length) if any(m)]


def expectation(prompt, answer):
    """Over l uniform in 1..L and every subset of that size."""
    length = len(answer)
    return sum(
        of_mask(prompt, answer, mask) / math.comb(length, sum(mask)) / length for mask in all_masks(length)
    )


def one(prompt=PROMPT, answer=ANSWER, greedy=False, model=MODEL, **options):
    return Likelihood(model, **options).estimate([(prompt, answer)], greedy=greedy)[0]


@pytest.mark.parametrize("cfg_scale", [0.0, 1.5])
def test_an_estimate_is_the_mean_over_its_own_masks(cfg_scale):
    """Exactly, so that a wrong position, target or weight shows without statistics."""
    masks, counts = draw_masks(3, 9, request_seed(4, np.array(PROMPT)))
    values = [of_mask(PROMPT, ANSWER, mask, cfg_scale) for mask in masks.tolist()]
    own = one(num_samples=9, seed=4, cfg_scale=cfg_scale)
    assert own.value == pytest.approx(np.dot(values, counts) / 9, abs=1e-4)
    assert own.nfe == len(masks) <= 7
    assert own.num_positions == own.nfe * 7 * (2 if cfg_scale else 1)


def test_the_mean_over_seeds_is_the_expectation():
    """A start that favours some l, or weights that are off by one, move it by many errors."""
    values = [one(num_samples=2, seed=seed).value for seed in range(500)]
    error = np.std(values) / 500**0.5
    assert abs(np.mean(values) - expectation(PROMPT, ANSWER)) < 4 * error
    assert error < 0.05


def test_many_samples_come_close():
    own = one(num_samples=4000)
    assert abs(own.value - expectation(PROMPT, ANSWER)) < 4 * own.stderr < 0.2


def test_every_size_is_drawn_equally_often_and_every_subset_too():
    masks, counts = draw_masks(4, 4 * 300, seed=1)
    assert masks.shape == (15, 4)
    by_size = np.bincount(masks.sum(1), weights=counts)
    assert by_size.tolist() == [0, 300, 300, 300, 300], "stratified: no size is left to chance"
    expected = np.array([300 / math.comb(4, m.sum()) for m in masks])
    assert ((counts - expected) ** 2 / expected).sum() < 32, "chi square, 11 degrees of freedom, p > 0.001"


def test_the_first_size_is_uniform_when_samples_are_few():
    sizes = [int(draw_masks(5, 1, seed)[0].sum()) for seed in range(2000)]
    assert all(abs(sizes.count(size) - 400) < 4 * 18 for size in range(1, 6))


def test_variance_shrinks_with_the_number_of_samples():
    answer = [5, 7, 21, 8, 30, 2, 40, 17]
    few, many = (
        np.std([one(answer=answer, num_samples=n, seed=s).value for s in range(30)]) for n in (4, 64)
    )
    assert many < few / 2.5


def test_a_seed_is_reproduced_and_another_differs():
    assert one(num_samples=4, seed=3) == one(num_samples=4, seed=3)
    assert one(num_samples=4, seed=3).value != one(num_samples=4, seed=4).value


def test_choices_of_a_question_share_their_draws_and_questions_do_not():
    a, b = (request_seed(0, np.array(prompt)) for prompt in ([BOS, 1], [BOS, 2]))
    assert a != b
    assert not np.array_equal(draw_masks(20, 4, a)[0], draw_masks(20, 4, b)[0])


def test_a_one_token_answer_takes_one_pass():
    own = one(answer=[5], num_samples=128)
    assert own.value == pytest.approx(float(log_probs(PROMPT, [MASK])[0, 5]), abs=1e-5)
    assert (own.nfe, own.stderr) == (1, 0.0)


@QUICK
@given(
    st.lists(st.tuples(ids, ids), min_size=2, max_size=6), st.integers(20, 400), st.sampled_from([0.0, 1.0])
)
def test_estimates_are_bit_equal_alone_and_in_any_company(pairs, budget, cfg_scale):
    options = {"num_samples": 5, "cfg_scale": cfg_scale}
    together = Likelihood(MODEL, max_positions=budget, **options).estimate(pairs)
    for pair, own in zip(pairs, together, strict=True):
        assert one(*pair, **options) == own


def test_estimates_of_a_wider_model_are_bit_equal_too():
    """A toy model's small products would not show that a host's kernels depend on the company."""
    model = bench_model("random_31m", torch.device("cpu"), torch.float32)
    generator = torch.Generator().manual_seed(0)
    pairs = [(torch.randint(0, 4000, (n,), generator=generator).tolist(), [7, 8, 9, 10]) for n in (3, 3, 60)]
    together = Likelihood(model, num_samples=6, max_positions=300).estimate(pairs)
    assert [one(*pair, model=model, num_samples=6) for pair in pairs] == together


def test_each_is_reported_once_with_its_place():
    pairs = [([BOS] * n, [4] * n) for n in (1, 5, 3)]
    seen = []
    found = Likelihood(MODEL, num_samples=4).estimate(pairs, lambda *told: seen.append(told))
    assert sorted(seen, key=lambda told: told[0]) == list(enumerate(found))


def test_a_prompt_that_does_not_fit_loses_its_start():
    cut = one([9] * 50 + PROMPT, ANSWER, max_length=7, num_samples=4)
    assert (cut.num_cut, cut.prompt_tokens) == (50, 4)
    assert cut.value == one(num_samples=4).value


def test_an_empty_prompt_is_allowed():
    assert one([], ANSWER, num_samples=4).prompt_tokens == 0


def reference_greedy(length, cfg_scale):
    """The authors' check: whole masked, the most confident token becomes its argmax, one a pass."""
    answer = [MASK] * length
    for _ in range(length):
        probs = log_probs(PROMPT, answer, cfg_scale).exp()
        top, token = probs.max(-1)
        place = max((i for i in range(length) if answer[i] == MASK), key=lambda i: float(top[i]))
        answer[place] = int(token[place])
    return answer


@pytest.mark.parametrize("cfg_scale", [0.0, 1.0])
def test_greedy_is_what_unmasking_one_by_one_gives(cfg_scale):
    answer = reference_greedy(6, cfg_scale)
    other = [*answer[:-1], (answer[-1] + 1) % 60]
    pairs = [(PROMPT, answer), (PROMPT, other), (PROMPT, answer[:1])]
    fits = Likelihood(MODEL, num_samples=2, cfg_scale=cfg_scale).estimate(pairs, greedy=True)
    assert [own.is_greedy for own in fits][:2] == [True, False]
    assert fits[2].is_greedy == (reference_greedy(1, cfg_scale) == answer[:1])
    assert one(num_samples=2).is_greedy is None


def test_out_of_memory_is_met_by_smaller_passes():
    class Small:
        def __getattr__(self, name):
            return getattr(MODEL, name)

        def hidden(self, ids, *rest):
            if len(ids) > 48:
                raise torch.OutOfMemoryError("too many")
            return MODEL.hidden(ids, *rest)

    assert one(model=Small(), num_samples=30) == one(num_samples=30)
    with pytest.raises(torch.OutOfMemoryError):
        one([1] * 60, model=Small(), num_samples=2)


@pytest.mark.parametrize(
    ("pair", "options", "words"),
    [
        ((PROMPT, []), {}, "pair 0: the answer is empty"),
        ((PROMPT, [1] * 9), {"max_length": 8}, "9 tokens; a row holds 8"),
        ((PROMPT, [72]), {}, "token ids must be from 0 to 71"),
        ((PROMPT, ANSWER), {"num_samples": 0}, "num_samples is 0"),
        ((PROMPT, ANSWER), {"max_length": 600}, "expected 1 to 512"),
        ((PROMPT, ANSWER), {"cfg_scale": -1.0}, "cfg_scale is -1.0"),
    ],
)
def test_errors_name_what_is_wrong(pair, options, words):
    with pytest.raises(ValueError, match=words):
        one(*pair, **options)
