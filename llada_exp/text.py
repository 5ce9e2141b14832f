"""Text to token ids and back: chat template, raw prompts, incremental text, stop strings.

The only module that knows the tokenizer. Knows no torch, no model and no HTTP; the engine knows
nothing of it, and is handed token ids and a `StopStrings`.

Two laws hold here. What a person writes never becomes a control id: the text `<|eot_id|>` inside a
message is spelled out in ordinary tokens. And streamed pieces, joined, are the decoded answer cut at
the first stop string, however the ids arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

_UNFINISHED = "\ufffd"  # what a decoder shows for bytes that are not (yet) a character
_SENTINEL_BASE = 0xF0000  # a private-use plane, whose characters carry no meaning of their own
_MAX_WINDOW = 64
_QUESTION, _ANSWER = "first words", "last words"  # to see what a template puts behind an answer


class Tokenizer:
    """A fast tokenizer read from `folder` (tokenizer.json and its companions; no remote code, and
    config.json is not looked at).

    Raises ValueError naming the folder where it holds no readable tokenizer. A missing chat template
    is no error until `encode_chat` is called.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "tokenizer.json").is_file():
            raise ValueError(f"{self.folder}: no tokenizer.json there; a fast tokenizer is expected")
        from transformers import PreTrainedTokenizerFast

        try:
            self._fast = PreTrainedTokenizerFast.from_pretrained(str(self.folder), local_files_only=True)
        except Exception as error:  # transformers and tokenizers raise bare Exceptions here
            raise ValueError(f"{self.folder}: the tokenizer cannot be read: {error}") from error
        self._backend = self._fast.backend_tokenizer

    @property
    def num_tokens(self) -> int:
        """Tokens with a text; a model's embedding may have more rows."""
        return len(self._fast)

    @property
    def bos_id(self) -> int | None:
        return self._fast.bos_token_id

    @property
    def eos_id(self) -> int | None:
        return self._fast.eos_token_id

    @cached_property
    def turn_end_id(self) -> int | None:
        """The special token with which the chat template closes an assistant's turn, right behind its text;
        None where there is no template, or none that closes so.

        A template that appends the next header whatever it is asked begins that one there, too: what begins
        a turn never ends one.
        """
        if not self.has_chat_template:
            return None
        question, answer = (
            {"role": r, "content": t} for r, t in (("user", _QUESTION), ("assistant", _ANSWER))
        )
        try:
            asked = self._fast.apply_chat_template([question], tokenize=False)
            prompt = self._fast.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
            closed = self._fast.apply_chat_template([question, answer], tokenize=False)
        except Exception:  # whatever a template's own code raises: it does not take an answer
            return None
        if _QUESTION not in asked or _ANSWER not in closed:
            return None
        header = prompt.removeprefix(asked) or asked.partition(_QUESTION)[0]
        tail = closed.rpartition(_ANSWER)[2].lstrip()
        token = next((token for token in self._control if tail.startswith(token)), None)
        return None if token is None or token in header else self.token_id(token)

    @property
    def has_chat_template(self) -> bool:
        return bool(self._fast.chat_template)

    def token_id(self, token: str) -> int | None:
        """The id of exactly this token, or None."""
        return self._backend.token_to_id(token)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without special tokens; ids without text are left out."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    @property
    def chat_template(self) -> str | None:
        """Its source, where there is one."""
        template = self._fast.chat_template
        return template if isinstance(template, str) else None

    def encode_text(self, text: str) -> list[int]:
        """Raw text: special tokens in it are parsed, and nothing is added."""
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def encode_prompt(self, text: str) -> list[int]:
        """Raw text: special tokens in it are parsed, and it starts with one BOS where there is one."""
        ids = self.encode_text(text)
        if self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def encode_chat(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """The chat template over `messages` (role, and content as text or as a list of text parts),
        ending with the assistant's header.

        Raises ValueError for a tokenizer without a template, a message of another shape, and what
        the template itself refuses.
        """
        plain = self._plain(messages)
        if not any(token in text for m in plain for text in m.values() for token in self._control):
            return list(self._backend.encode(self._render(plain), add_special_tokens=False).ids)
        return self._encode_guarded(plain)

    def chat_text(self, messages: Sequence[Mapping[str, Any]], continue_last: bool = False) -> str:
        """The chat template over `messages` as text, for harnesses that want a string: what a message
        spells as a special token becomes one. continue_last: end inside the last message, not with the
        assistant's header. Raises as `encode_chat`.
        """
        return self._render(self._plain(messages), continue_last)

    def _plain(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        if not self.has_chat_template:
            raise ValueError(
                "this model's tokenizer has no chat template; send the prompt as raw text (completions)"
            )
        plain = [_plain_message(message, index) for index, message in enumerate(messages)]
        if not plain:
            raise ValueError("messages is empty; expected at least one message")
        return plain

    def _render(self, messages: list[dict[str, str]], continue_last: bool = False) -> str:
        try:
            ends = {"add_generation_prompt": not continue_last, "continue_final_message": continue_last}
            text = self._fast.apply_chat_template(messages, tokenize=False, **ends)
        except Exception as error:  # jinja's errors, and whatever a template's own code raises
            raise ValueError(f"the chat template refuses these messages: {error}") from error
        assert isinstance(text, str)
        return text

    @cached_property
    def _control(self) -> tuple[str, ...]:
        """Texts of the special tokens, longest first, so that none hides inside another."""
        tokens = self._backend.get_added_tokens_decoder().values()
        return tuple(sorted((t.content for t in tokens if t.special), key=len, reverse=True))

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        return frozenset(i for i, t in self._backend.get_added_tokens_decoder().items() if t.special)

    @cached_property
    def _literal(self) -> Any:
        """A twin of the backend that reads special tokens as ordinary text."""
        from tokenizers import Tokenizer as Backend

        twin = Backend.from_str(self._backend.to_str())
        twin.encode_special_tokens = True
        return twin

    def _encode_guarded(self, messages: list[dict[str, str]]) -> list[int]:
        """As `encode_chat`, for messages that spell special tokens.

        They go through the template as private characters; the rendered text is split at the
        template's own special tokens; each piece between gets its spelling back and is tokenised as
        ordinary text, just as the tokenizer treats the pieces between special tokens.
        """
        everything = "".join(text for m in messages for text in m.values())
        free = (chr(c) for c in range(_SENTINEL_BASE, _SENTINEL_BASE + 0xFFFE) if chr(c) not in everything)
        spelled = dict(zip(free, self._control, strict=False))
        hide = {token: char for char, token in spelled.items()}
        hidden = [{key: _replace_all(text, hide) for key, text in m.items()} for m in messages]
        rendered = self._render(hidden)
        ids: list[int] = []
        start = 0
        encoding = self._backend.encode(rendered, add_special_tokens=False)
        for token, (left, right) in zip(encoding.ids, encoding.offsets, strict=True):
            if token in self._control_ids:
                ids += self._literal_ids(_replace_all(rendered[start:left], spelled))
                ids.append(token)
                start = right
        return ids + self._literal_ids(_replace_all(rendered[start:], spelled))

    def _literal_ids(self, text: str) -> list[int]:
        return list(self._literal.encode(text, add_special_tokens=False).ids) if text else []


def _replace_all(text: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        text = text.replace(old, new)
    return text


def _plain_message(message: Mapping[str, Any], index: int) -> dict[str, str]:
    """{role, content} with the text parts of a list joined. Raises ValueError naming the message."""
    where = f"messages[{index}]"
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(f"{where}: expected an object with a role and a content")
    content = message.get("content")
    if isinstance(content, str):
        return {"role": message["role"], "content": content}
    if not isinstance(content, Sequence):
        raise ValueError(f"{where}.content: expected a string or a list of text parts")
    texts = []
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else part
        if kind != "text" or not isinstance(part.get("text"), str):
            raise ValueError(f"{where}.content[{place}]: only {{'type': 'text', 'text': ...}} is supported")
        texts.append(part["text"])
    return {"role": message["role"], "content": "".join(texts)}


class _Pieces:
    """Ids to text, incrementally: each push gives the text that no later id can change.

    Keeps the ids since the last character boundary, so that the work does not grow with the answer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._given = 0  # characters of the window's text that are out already

    def push(self, ids: Iterable[int]) -> str:
        self._window.extend(ids)
        text = self._tokenizer.decode(self._window)
        unfinished = text.endswith(_UNFINISHED)
        piece = text[self._given : len(text) - unfinished]
        self._given += len(piece)
        if not unfinished:
            self._window, self._given = [], 0
        elif len(self._window) > _MAX_WINDOW:
            self._shorten()
        return piece

    def finish(self) -> str:
        """What was held back: bytes that never became a character."""
        piece = self._tokenizer.decode(self._window)[self._given :]
        self._window, self._given = [], 0
        return piece

    def _shorten(self) -> None:
        """Drop the front of a long run of broken bytes, where it is decided whatever follows: both
        sides decode apart as they do together, and the kept side is longer than any character."""
        front, back = self._window[: -_MAX_WINDOW // 2], self._window[-_MAX_WINDOW // 2 :]
        head, tail = self._tokenizer.decode(front), self._tokenizer.decode(back)
        if len(tail) > 4 and len(head) <= self._given and head + tail == self._tokenizer.decode(self._window):
            self._window, self._given = back, self._given - len(head)


class _StopScan:
    """Finds the stop string that is complete first (the longest, where several end together)."""

    def __init__(self, stops: Sequence[str]) -> None:
        if isinstance(stops, str) or not all(isinstance(s, str) and s for s in stops):
            raise ValueError(f"stop is {stops!r}; expected non-empty strings")
        self._stops = tuple(stops)
        self._reach = max(map(len, self._stops), default=1) - 1

    def find(self, text: str) -> tuple[int, int] | None:
        """(start, end) in `text`, or None."""
        places = ((start + len(s), start) for s in self._stops if (start := text.find(s)) >= 0)
        found = min(places, default=None)
        return found and (found[1], found[0])

    def num_open(self, text: str) -> int:
        """Characters at the end of `text` that may be the start of a stop string."""
        for length in range(min(self._reach, len(text)), 0, -1):
            tail = text[-length:]
            if any(len(s) > length and s.startswith(tail) for s in self._stops):
                return length
        return 0


class StopStrings:
    """Called with an answer's ids: how many of them run up to and including the token that completes
    the earliest stop string in the decoded text, or None.

    Made for one answer that grows: each call looks only at the ids that are new since the last.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._scan = _StopScan(stops)
        self._pieces = _Pieces(tokenizer)
        self._open = ""
        self._num_seen = 0
        self._found: int | None = None

    def __call__(self, answer_ids: Sequence[int]) -> int | None:
        assert len(answer_ids) >= self._num_seen, "one StopStrings follows one growing answer"
        while self._found is None and self._num_seen < len(answer_ids):
            self._open += self._pieces.push([answer_ids[self._num_seen]])
            self._num_seen += 1
            if self._scan.find(self._open):
                self._found = self._num_seen
            num_open = self._scan.num_open(self._open)
            self._open = self._open[len(self._open) - num_open :]
        return self._found


class TextStream:
    """Incremental text of one answer, cut at the first stop string.

    `push` gives what is safe to send: no half character, and nothing that may turn out to be the
    start of a stop string. All pieces, `finish()` included, join to the answer's text.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        self._scan = _StopScan(stops)
        self._pieces = _Pieces(tokenizer)
        self._open = ""
        self.stopped = False

    def push(self, ids: Iterable[int]) -> str:
        """Text that became safe with these ids; "" after a stop string."""
        return "" if self.stopped else self._release(self._pieces.push(ids), keep=True)

    def finish(self) -> str:
        """The rest, once no more ids come."""
        return "" if self.stopped else self._release(self._pieces.finish(), keep=False)

    def _release(self, piece: str, keep: bool) -> str:
        text = self._open + piece
        found = self._scan.find(text)
        if found:
            self.stopped = True
            self._open = ""
            return text[: found[0]]
        num_open = self._scan.num_open(text) if keep else 0
        self._open = text[len(text) - num_open :]
        return text[: len(text) - num_open]
