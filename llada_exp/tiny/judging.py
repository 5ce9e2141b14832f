"""Whether a reply to a problem of the embedded model's is right: its number, or the sentence that refuses."""

from __future__ import annotations

from llada_exp.domain import REFUSAL
from llada_exp.scoring import Scorer
from llada_exp.tiny.tasks import TinyProblem


def is_right(scorer: Scorer, problem: TinyProblem, text: str) -> bool:
    """text: the whole reply. To refuse what can be answered is wrong, and so is the reverse."""
    return text.strip() == REFUSAL if problem.refused else scorer.is_right(text, problem.answer)
