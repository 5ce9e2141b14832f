"""Is a prompt too long for any row? Said from its length alone, before it is sent anywhere or made into
tokens: a token has a longest text.

Only what is far too long is refused here; a worker counts the rest to the token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llada_exp.server.routes.errors import ApiError, bad_request
from llada_exp.server.routes.schema import ChatRequest, CompletionRequest, Generation

SHORT_BYTES, SHORT_IDS = 2**16, 2**14
"""What is no longer than these costs a worker little, whatever its rows hold."""


@dataclass(frozen=True)
class PromptRoom:
    """max_tokens: of a row; max_bytes: of the longest text of so many tokens, None: not known."""

    max_tokens: int
    max_bytes: int | None

    def check(self, request: Generation) -> None:
        """Raises a 400 ApiError."""
        if isinstance(request, ChatRequest):
            self._check_texts([message.content for message in request.messages], "messages", "messages")
        elif isinstance(request, CompletionRequest):
            prompts = request.prompts()
            for index, prompt in enumerate(prompts):
                place = "prompt" if len(prompts) == 1 else f"prompt[{index}]"
                if isinstance(prompt, str):
                    self._check_texts([prompt], "prompt", place)
                elif len(prompt) > max(self.max_tokens, SHORT_IDS):
                    raise self._too_long(f"{len(prompt)} input tokens", "prompt", place)

    def _check_texts(self, texts: Sequence[str], name: str, place: str) -> None:
        if self.max_bytes is None:
            return
        limit, num_characters = max(self.max_bytes, SHORT_BYTES), sum(map(len, texts))
        if 4 * num_characters <= limit:
            return
        if (num_bytes := sum(len(text.encode()) for text in texts)) > limit:
            size = f"more than {self.max_tokens} input tokens ({num_bytes} bytes of text)"
            raise self._too_long(size, name, place)

    def _too_long(self, size: str, name: str, place: str) -> ApiError:
        at = "" if place == name else f"{place}: "
        return bad_request(
            f"{at}This model's maximum context length is {self.max_tokens} tokens. However, your request has "
            f"{size}. Please reduce the length of the {name}.",
            place,
            "context_length_exceeded",
        )
