"""What makes two measurements the same? The one owner of that question, for bench and evals: the config hash.

A folder is gone on with, and a point counts as finished, where the hash is the same; rows carry it. It is of
every key of the composed configuration but those named here: where things run, are written and are reported.
Of a server that runs already nothing is ours to say: none of the server's keys count, nor does its address.

Values count by what they mean to the configuration: 1 and 1.0 are the same number, "1" and true are others;
the order of keys is no matter, that of lists is. Knows plain mappings; no Hydra.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from llada_exp.decoding_keys import DECODING, PRESET
from llada_exp.runs.servers import SERVER_KEYS
from llada_exp.types import DECLARATIONS

PLACES = ("host", "port", "url", "server_info", "endpoint", "api_key_file", "output_dir")
"""Where the server listens, and where files lie. `model.path` and `workload.path` name what is measured."""
LABELS = ("name", "expname", "model.name")
REPORTING = ("log_level", "log_format", "server.log_prompts", "tracking", "vllm_json")
COURSE = ("resume", "dry_run", "exclusive", "max_retries", "patience", "server.drain_seconds",
          "checkpoints", "checkpoint_pattern", "checkpoint_steps")  # fmt: skip
"""How a run goes along: what is tried again and how long it waits; of which sweep it is."""
NOT_MEASURED = (*PLACES, *LABELS, *REPORTING, *COURSE)
"""Keys, dotted, that change nothing of what is measured, whatever is measured."""
NOT_IN_ANSWERS = ("concurrency", "timeout")
"""Of an evaluation: they change when an answer comes, and a benchmark measures that."""
ALWAYS = ("seed", DECODING)
"""Keys of the server that are a measurement's too: what is sent with each request."""


def config_hash(
    tree: Mapping[str, Any], *, remote: bool, of_answers: bool = False, no_part: Iterable[str] = ()
) -> str:
    """16 hexadecimal digits. tree: the composed configuration; remote: the server runs already, by `url` or
    by the environment; of_answers: answers alone are measured (evals), not how soon they come (bench);
    no_part: more keys that play no part, of harnesses that are not asked."""
    ignored = {*NOT_MEASURED, *(NOT_IN_ANSWERS if of_answers else ()), *no_part}
    if remote:
        ignored |= set(SERVER_KEYS) - set(ALWAYS)
    measured = _without(tree, ignored, "") | {"remote": remote}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]


def _without(tree: Mapping[str, Any], ignored: set[str], place: str) -> dict[str, Any]:
    return {
        str(key): _without(value, ignored, f"{place}{key}.") if isinstance(value, Mapping) else _plain(value)
        for key, value in tree.items()
        if f"{place}{key}" not in ignored and not _is_unsaid(f"{place}{key}", value)
    }


def _is_unsaid(path: str, value: Any) -> bool:
    """Whether it is a field of decoding that says nothing: so one that is declared later changes no
    measurement that was begun before it."""
    group, _, name = path.partition(".")
    if group == DECODING and name:
        return value is None
    if group != PRESET or name not in DECLARATIONS:
        return False
    return json.dumps(_plain(value)) == json.dumps(_plain(DECLARATIONS[name].default))


def _plain(value: Any) -> Any:
    """1.0 as 1, tuples as lists."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
