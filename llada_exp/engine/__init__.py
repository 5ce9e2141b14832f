"""Requests -> tokens. Knows torch; nothing of tokenizers, HTTP, Hydra or W&B."""

from llada_exp.engine.engine import Engine

__all__ = ["Engine"]
