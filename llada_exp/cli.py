"""What the command-line entry points share: compose with Hydra, check, and say errors in one line.

Knows Hydra, and nothing of what is run.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from llada_exp.programs import FULL_ERROR, run_program, wants_tracebacks
from llada_exp.settings import conf_dir
from llada_exp.validation import unknown_key_message

USAGE_ERROR = 2


def run_app(
    task: Callable[[Any], int],
    config_name: str,
    keys: Iterable[str],
    moved: Mapping[str, str] | None = None,
    names: Collection[str] = (),
) -> NoReturn:
    """Compose `conf/<config_name>.yaml` with the command line, call `task(cfg)`, exit with its code.

    keys: those that there are, dotted; moved: old spelling of a key -> the new one; names: keys of this
    program alone whose value is a text or null.

    A user's mistake (a ValueError, or Hydra's own refusal) is one line on stderr and exit code 2, and a
    signal or what the system refuses a line, too; HYDRA_FULL_ERROR=1 shows the traceback of a mistake.
    """
    run_program(lambda: _app(task, config_name, list(keys), moved or {}, names))


def _app(
    task: Callable[[Any], int],
    config_name: str,
    keys: Sequence[str],
    moved: Mapping[str, str],
    names: Collection[str],
) -> int:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    from llada_exp.command_line import hydra_words

    full = wants_tracebacks()
    os.environ[FULL_ERROR] = "1"  # or Hydra prints and exits by itself
    result: list[int | BaseException] = []

    def remember(cfg: Any) -> int | None:
        # hydra.job.chdir means where a job's files go, and ours go there anyway: paths are the user's.
        at = HydraConfig.get().runtime.cwd if HydraConfig.get().job.chdir else "."
        try:
            with contextlib.chdir(at):
                result.append(task(cfg))
        except Exception as error:  # past Hydra, which would print a line of its own
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # this may be another process: the launcher carries it home
            result.append(error)
            return None
        return result[-1]  # type: ignore[return-value]

    try:
        sys.argv = [sys.argv[0], *hydra_words(sys.argv[1:], keys, names)]
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(remember)()
        return _outcome(result)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if full:
            raise
        print(f"error: {explain(error, keys, moved)}", file=sys.stderr)
        return USAGE_ERROR


def _outcome(result: list[int | BaseException]) -> int:
    """The task's exit code, or its exception. Nothing: Hydra only showed something, as for --cfg."""
    last = result[-1] if result else 0
    if isinstance(last, BaseException):
        raise last
    return last


def _of_another_choice(key: str) -> str:
    """Of a key that a group's other choices have."""
    group, _, name = key.rpartition(".")
    return f"{key}: the chosen {group} has no {name}; another {group}=NAME has"


def explain(error: Exception, keys: Iterable[str], moved: Mapping[str, str]) -> str:
    """One line that names the key, the value and what is allowed."""
    from llada_exp.command_line import ambiguous, unreadable

    missing, options = getattr(error, "missing_cfg_file", None), getattr(error, "options", None)
    if missing and options:
        group, _, choice = missing.rpartition("/")
        return f"{group} is {choice!r}; expected one of {', '.join(sorted(options))}"
    text = str(error) or str(error.__cause__)
    if text.startswith("Config group override must be"):
        return "a group (decoding=, model=, mode= ...) is null or a number; expected a name of its choices"
    if type(error).__name__ == "OverrideParseException":
        return unreadable(str(getattr(error, "override", "")))
    if several := re.match(r"Ambiguous value for argument '(.*)'$", text.splitlines()[0]):
        return ambiguous(several[1])
    unknown = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", text)
    if unknown and not unknown.group(1).startswith("hydra."):
        inside = re.search(r"full_key: (\S+)", f"{text} {error.__cause__}")  # of key={a: 1}, the one inside
        key = unknown.group(1).split("@")[0]
        if inside and inside.group(1).startswith(f"{key}."):
            key = inside.group(1)
        if text.startswith("Could not override") and "@" not in unknown.group(1) and key in keys:
            return _of_another_choice(key)
        return unknown_key_message(key, keys, moved)
    return " ".join(line.strip() for line in text.splitlines()[:2] if line.strip())
