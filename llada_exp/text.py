"""Text to token ids and back: chat template, raw prompts.

The only module that knows the tokenizer. Knows no torch, no model and no HTTP; the engine knows
nothing of it, and is handed token ids.

One law holds here: what a person writes never becomes a control id. The text `<|eot_id|>` inside a
message is spelled out in ordinary tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

_SENTINEL_BASE = 0xF0000  # a private-use plane, whose characters carry no meaning of their own
_MAX_SHRINKING = 4
"""How many times shorter a normaliser may make a text: three bytes a letter, composed of three letters."""
_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + i): byte for i, byte in enumerate(byte for byte in range(256) if byte not in _PRINTABLE)
}
"""The characters by which byte-level tokenizers write bytes, GPT-2's."""
_QUESTION, _ANSWER = "first words", "last words"  # to see what a template puts behind an answer


ChatEnd = Literal["header", "open", "none"]
"""What a chat ends with: the header of an answer that begins; the last message, an assistant's, as it is
written and without its end, so that the answer goes on with it; the last message and its end."""


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

    def max_bytes(self, num_tokens: int) -> int | None:
        """Bytes of UTF-8 that so many tokens spell at most; None where one token may stand for any text."""
        if type(self._backend.model).__name__ not in ("BPE", "Unigram"):
            return None
        longest = max(len(token.encode()) for token in self._backend.get_vocab(with_added_tokens=True))
        shrinking = 1 if self._backend.normalizer is None else _MAX_SHRINKING
        return num_tokens * longest * shrinking

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
            turn = self._fast.apply_chat_template([question], tokenize=False)
            prompt = self._fast.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
            closed = self._fast.apply_chat_template([question, answer], tokenize=False)
        except Exception:  # whatever a template's own code raises: it does not take an answer
            return None
        if _QUESTION not in turn or _ANSWER not in closed:
            return None
        header = prompt.removeprefix(turn) or turn.partition(_QUESTION)[0]
        tail = closed.rpartition(_ANSWER)[2].lstrip()
        token = next((token for token in self._control if tail.startswith(token)), None)
        return None if token is None or token in header else self.token_id(token)

    @property
    def has_chat_template(self) -> bool:
        return bool(self._fast.chat_template)

    def token_id(self, token: str) -> int | None:
        """The id of exactly this token, or None."""
        return self._backend.token_to_id(token)

    def decode(self, ids: Sequence[int], keep_special: bool = False) -> str:
        """Text of `ids`, of special tokens only where it is asked for; ids without text are left out."""
        return self._backend.decode(list(ids), skip_special_tokens=not keep_special)

    def spells_special(self, text: str) -> bool:
        """Whether the text of a special token stands in it."""
        return any(token in text for token in self._control)

    def token_name(self, token_id: int) -> str:
        """As the vocabulary has it; "" for ids without text."""
        return self._backend.id_to_token(token_id) or ""

    def token_bytes(self, token_id: int, keep_special: bool = False) -> bytes | None:
        """What the token adds to a text, which may be a part of a character; None for ids without text, and
        for special tokens unless they are text."""
        name = self._backend.id_to_token(token_id)
        if name is None or (token_id in self._control_ids and not keep_special):
            return None
        if token_id in self._added_ids:
            return name.encode("utf-8")
        if self._is_byte_level:
            return bytes(_BYTES[c] for c in name) if all(c in _BYTES for c in name) else name.encode("utf-8")
        if self._falls_back_to_bytes and (byte := re.fullmatch(r"<0x([0-9A-F]{2})>", name)):
            return bytes.fromhex(byte[1])
        # Behind itself, for decoders take a text's first space away.
        return self.decode([token_id, token_id])[len(self.decode([token_id])) :].encode("utf-8")

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

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], end: ChatEnd = "header") -> list[int]:
        """The chat template over `messages` (role, and content as text or as a list of text parts).

        Raises ValueError for a tokenizer without a template, a message of another shape, what the template
        itself refuses, and a last message that cannot be continued.
        """
        plain = self._plain(messages)
        if not any(token in text for m in plain for text in m.values() for token in self._control):
            return list(self._backend.encode(self._render(plain, end), add_special_tokens=False).ids)
        return self._encode_guarded(plain, end)

    def chat_text(self, messages: Sequence[Mapping[str, Any]], end: ChatEnd = "header") -> str:
        """The chat template over `messages` as text, for harnesses that want a string: what a message
        spells as a special token becomes one. Raises as `encode_chat`.
        """
        return self._render(self._plain(messages), end)

    def _plain(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        if not self.has_chat_template:
            raise ValueError(
                "this model's tokenizer has no chat template; send the prompt as raw text (completions)"
            )
        plain = [_plain_message(message, index) for index, message in enumerate(messages)]
        if not plain:
            raise ValueError("messages is empty; expected at least one message")
        return plain

    def _render(self, messages: list[dict[str, str]], end: ChatEnd) -> str:
        if end == "open":
            return self._render_open(messages)
        try:
            header = end == "header"
            text = self._fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=header)
        except Exception as error:  # jinja's errors, and whatever a template's own code raises
            raise ValueError(f"the chat template refuses these messages: {error}") from error
        assert isinstance(text, str)
        return text

    def _render_open(self, messages: list[dict[str, str]]) -> str:
        """Up to the end of the last message, of which a template that trims takes nothing away: it stands
        between two marks."""
        *others, last = messages
        if last["role"] != "assistant":
            raise ValueError(
                f"the last message is of {last['role']!r}; only one of 'assistant' can be continued"
            )
        begin, stop = islice(_free_characters(messages), 2)
        closed = self._render([*others, {**last, "content": begin + last["content"] + stop}], "none")
        if stop not in closed:
            raise ValueError("the chat template leaves the last message out, so it cannot be continued")
        return closed[: closed.rindex(stop)].replace(begin, "")

    @cached_property
    def _control(self) -> tuple[str, ...]:
        """Texts of the special tokens, longest first, so that none hides inside another."""
        tokens = self._backend.get_added_tokens_decoder().values()
        return tuple(sorted((t.content for t in tokens if t.special), key=len, reverse=True))

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        return frozenset(i for i, t in self._backend.get_added_tokens_decoder().items() if t.special)

    @cached_property
    def _added_ids(self) -> frozenset[int]:
        return frozenset(self._backend.get_added_tokens_decoder())

    @cached_property
    def _decoders(self) -> frozenset[str]:
        """Kinds of the decoder's steps."""
        decoder = json.loads(self._backend.to_str())["decoder"] or {}
        return frozenset(part["type"] for part in (decoder, *decoder.get("decoders", ())) if part)

    @property
    def _is_byte_level(self) -> bool:
        return "ByteLevel" in self._decoders

    @property
    def _falls_back_to_bytes(self) -> bool:
        return "ByteFallback" in self._decoders

    @cached_property
    def _literal(self) -> Any:
        """A twin of the backend that reads special tokens as ordinary text."""
        from tokenizers import Tokenizer as Backend

        twin = Backend.from_str(self._backend.to_str())
        twin.encode_special_tokens = True
        return twin

    def _encode_guarded(self, messages: list[dict[str, str]], end: ChatEnd = "header") -> list[int]:
        """As `encode_chat`, for messages that spell special tokens.

        They go through the template as private characters; the rendered text is split at the
        template's own special tokens; each piece between gets its spelling back and is tokenised as
        ordinary text, just as the tokenizer treats the pieces between special tokens.
        """
        spelled = dict(zip(_free_characters(messages), self._control, strict=False))
        hide = {token: char for char, token in spelled.items()}
        hidden = [{key: _replace_all(text, hide) for key, text in m.items()} for m in messages]
        rendered = self._render(hidden, end)
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


def _free_characters(messages: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Private ones that no message holds."""
    everything = "".join(text for m in messages for text in m.values())
    return (chr(c) for c in range(_SENTINEL_BASE, _SENTINEL_BASE + 0xFFFE) if chr(c) not in everything)


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
