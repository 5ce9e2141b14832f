"""Requests -> tokens. Knows torch; nothing of tokenizers, HTTP, Hydra or W&B."""

from llada_exp.engine.engine import EngineCore

__all__ = ["EngineCore"]
