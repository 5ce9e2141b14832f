"""What of a prompt must be left once its start is cut off, so that it is still a question.

lm-eval's own models drop the start of what is too long: of many examples the first ones, which is a score of
fewer examples. Less than the question is a score of nothing. Knows texts; no model and no lm-eval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class PromptQuestion:
    """Which question a prompt holds. place: for messages; question: its text without examples, as the task
    writes it; None: the prompt's last paragraph."""

    place: str = "a prompt"
    question: Callable[[], str | None] = lambda: None

    def least(self, encode: Encode, prompt: str) -> int:
        """Tokens from the question's start to the prompt's end."""
        text = (self.question() or "").strip()
        start = prompt.rfind(text) if text else -1
        if start < 0:
            start = prompt.rstrip().rfind("\n\n") + 2 if "\n\n" in prompt.rstrip() else 0
        return len(encode(prompt)) - len(encode(prompt[:start]))

    def check(self, encode: Encode, prompt: str, room: int, num_answer: int) -> None:
        """room: tokens that a row holds beside its answer of `num_answer`. Raises ValueError where the
        question is longer."""
        least = self.least(encode, prompt)
        if least > room:
            raise ValueError(
                f"{self.place}: its question has {least} tokens and its answer {num_answer}, but a row holds"
                f" {room + num_answer}: expected a shorter answer (decoding.max_tokens), an engine.max_length"
                f" of {least + num_answer} or more where the model has it, or another task"
            )
