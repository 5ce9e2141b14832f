"""Which positions of an answer are masked in a likelihood's samples (engine/likelihood.py says why).

Knows ids and random numbers, no model.

Letters: L answer length, S samples, s distinct masks.
"""

from __future__ import annotations

import hashlib

import numpy as np

from llada_exp.rules.base import uniforms
from llada_exp.types import MAX_SEED

_START_STREAM, _MASK_STREAM = 2, 3  # beside those of rules/base.py


def draw_masks(length: int, num_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct masks bool [s, L], and how many of the S samples drew each, int64 [s]."""
    if length == 1:
        return np.ones((1, 1), dtype=bool), np.array([num_samples])
    start = int(uniforms(seed, np.zeros(1, dtype=np.int64), 0, _START_STREAM)[0] * length)
    sizes = (start + np.arange(num_samples) * length // num_samples) % length + 1
    noise = uniforms(seed, np.arange(num_samples * length), 0, _MASK_STREAM).reshape(num_samples, length)
    ranks = noise.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return np.unique(ranks < sizes[:, None], axis=0, return_counts=True)


def request_seed(seed: int, prompt: np.ndarray) -> int:
    """The seed of a prompt's draws: choices of one question share theirs, questions do not."""
    data = seed.to_bytes(8, "little") + prompt.astype("<i8").tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") & MAX_SEED
