"""What was typed, as Hydra's words: flags anywhere, and names and paths as the text that they are.

Hydra reads `name=1e3` as a number and `model.path=/runs/lr=3` not at all: a key that holds a text gets it in
quotes. Knows Hydra's grammar, and no program.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Sequence

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from llada_exp.settings import override_value
from llada_exp.validation import nearest

NAMES = frozenset((
    "name", "expname", "output_dir", "benchmark", "host", "model.name", "tracking.project",
    "checkpoint_pattern", "workload.path", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir",
))  # fmt: skip
"""Keys whose value is a text, whatever it looks like."""
NAMES_OR_NULL = frozenset((
    "url", "server_info", "api_key_file", "endpoint", "model.path", "model.base", "tracking.entity",
    "checkpoints", *(f"hydra.launcher.{k}" for k in ("account", "partition", "gres", "mem", "time", "name")),
))  # fmt: skip
"""Likewise, but for null, which leaves them unset."""
_HAS_COMMA = frozenset(
    k for k in NAMES | NAMES_OR_NULL if k.endswith((".path", ".base", "_file", "dir", "_info"))
)
"""Paths: one text outside of a sweep, commas and all."""
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|int|float|str|bool|json_str)\(")


def hydra_words(words: Sequence[str], keys: Iterable[str], names: Collection[str] = ()) -> list[str]:
    """Hydra's command line for what was typed. keys: those that there are; names: more keys, of this program,
    whose value is a text or null. Raises ValueError for a flag that is none, with what to write."""
    flags, overrides = _parted(words, list(keys))
    several = any(flag in ("-m", "--multirun") for flag in flags)
    return [*flags, *(_as_text(word, several, names) for word in overrides)]


def _parted(words: Sequence[str], keys: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags, with their values, and all other words."""
    options = {option: action for action in get_args_parser()._actions for option in action.option_strings}
    flags: list[str] = []
    overrides: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        option, _, value = word.partition("=")
        action = options.get(option)
        if action is None:
            following = waiting[0] if waiting and not waiting[0].startswith("-") else ""
            raise ValueError(_no_flag(option, value or following, keys))
        flags.append(word)
        choices = action.choices
        if action.nargs != 0 and not value and waiting and (choices is None or waiting[0] in choices):
            flags.append(waiting.pop(0))
    return flags, overrides


def _no_flag(option: str, value: str, keys: Sequence[str]) -> str:
    name = option.lstrip("-").replace("-", "_")
    key = name if name in keys else nearest(name, keys)
    if key is None or " or " in key:
        return f"there is no flag {option}: write key=value, and see --help for the keys"
    return f"there is no flag {option}: write {_shell_word(key, value or 'VALUE')}"


def _as_text(word: str, several: bool, names: Collection[str]) -> str:
    match = re.fullmatch(r"(\+{0,2})([\w./@-]+)=(.+)", word, re.S)
    if match is None or match[2] not in {*NAMES, *NAMES_OR_NULL, *names} or _FUNCTION.match(match[3]):
        return word
    key, value = match[2], match[3]
    pieces = value.split(",") if several and not re.search(r"['\"\[\]{}()]", value) else [value]
    if not several and key in _HAS_COMMA and "," in value and value[0] not in "'\"[{":
        return f"{match[1]}{key}={override_value(value)}"
    return f"{match[1]}{key}=" + ",".join(_quoted(piece, may_be_null=key not in NAMES) for piece in pieces)


def _quoted(text: str, may_be_null: bool) -> str:
    """In quotes, where Hydra would take it for something else, or could not read it."""
    try:
        value = _parsed(f"k={text}").value()
    except HydraException:
        return override_value(text)
    is_other = (value is None and not may_be_null) or isinstance(value, bool | int | float)
    return override_value(text) if is_other and not isinstance(value, QuotedString) else text


def _parsed(word: str) -> Override:
    return OverridesParser.create().parse_override(word)


def unreadable(word: str) -> str:
    """What to write instead of a word that Hydra cannot read."""
    key, equals, value = word.partition("=")
    if equals and key and value and _is_readable(f"{key}={override_value(value)}"):
        return f"cannot read {word!r}; in quotes it is a text: {_shell_word(key, value, quotes=True)}"
    return f"cannot read {word!r}; write key=value"


def ambiguous(word: str) -> str:
    """Of a word with a comma, where there is no sweep."""
    key, _, value = word.partition("=")
    return (
        f"{word} is several values: -m sweeps over them, {_shell_word(key, f'[{value}]')} is a list of them,"
        f" and {_shell_word(key, value, quotes=True)} one text"
    )


def _is_readable(word: str) -> bool:
    try:
        _parsed(word)
    except HydraException:
        return False
    return True


def _shell_word(key: str, value: str, quotes: bool = False) -> str:
    """As it is to be typed in bash and zsh. quotes: those of Hydra, around the value."""
    if quotes and not re.search(r"['\"\\]", value):
        return f"'{key}=\"{value}\"'"
    return shlex.quote(f"{key}={override_value(value) if quotes else value}")
