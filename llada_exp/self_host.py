"""`python -m llada_exp.self_host --model M --num_gpus G --num_nodes N --port P [ARGS]`: the server, started
with the words that NeMo-Skills starts a server with when it hosts one itself:

    ns eval --server_type=vllm --server_entrypoint="-m llada_exp.self_host" --server_gpus=8 \
        --model=RUN/step_100 --server_args="--base GSAI-ML/LLaDA-8B-Instruct batch_size=32" ...

NeMo-Skills puts `python3` before the entrypoint, and has a client for server_type=vllm: `generic` has none.
M is `tiny`, a hub id or folder of a Hugging Face checkpoint, or a folder of a torch.distributed.checkpoint;
which of them is seen from what is there. The server is known to clients as M, the name that NeMo-Skills asks
for, listens on the loopback address, where NeMo-Skills looks for it (host=0.0.0.0: on every one), and takes
the place of this process. Knows the server's command line, and nothing of the server.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llada_exp.settings import override_value

USAGE_ERROR = 2
TINY = "tiny"
_WHOLE = ("model.safetensors", "model.safetensors.index.json")


def words(arguments: Sequence[str]) -> list[str]:
    """The overrides of `python -m llada_exp.serve`. Raises ValueError for what cannot be served."""
    parser = _Parser(prog="python -m llada_exp.self_host", allow_abbrev=False, description=__doc__,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--model", required=True, help="tiny, a hub id, or a folder")
    parser.add_argument("--num_gpus", type=int, default=1, help="a worker on each; 0: the CPU  (1)")
    parser.add_argument("--num_nodes", type=int, default=1, help="1 alone  (1)")
    parser.add_argument("--port", type=int, default=8000, help="(8000)")
    parser.add_argument("--base", help="of a torch.distributed.checkpoint: where config and tokenizer are")
    options, rest = parser.parse_known_args(arguments)
    if options.num_nodes != 1:
        raise ValueError(
            f"--num_nodes is {options.num_nodes}; a server lives on one node: start one on each, and give the"
            " evaluation all their addresses (url=[...])"
        )
    if options.num_gpus < 0:
        raise ValueError(f"--num_gpus is {options.num_gpus}; expected 0 (the CPU) or more")
    place = [f"devices={options.num_gpus}", "device=cuda"] if options.num_gpus else ["device=cpu"]
    name = f"model.name={override_value(options.model)}"
    return [*_model(options.model, options.base), name, f"port={options.port}", *place, *_overrides(rest)]


def _model(model: str, base: str | None) -> list[str]:
    source = _source(model)
    if base is not None and source != "dcp":
        raise ValueError(f"--base is {base!r}; {model!r} is no torch.distributed.checkpoint and has its own")
    if source == TINY:
        return ["model=tiny"]
    path = f"model.path={override_value(model)}"
    return [f"model={source}", path, *([f"model.base={override_value(base)}"] if base else [])]


def _source(model: str) -> str:
    """tiny, hf or dcp. Raises ValueError for a folder without a whole checkpoint."""
    folder = Path(model).expanduser()
    if not folder.exists():
        if model == TINY:
            return TINY
        if model.startswith((".", "/", "~")) or model.count("/") != 1:
            raise ValueError(f"--model is {model!r}; expected tiny, a hub id (OWNER/NAME) or a folder")
        return "hf"
    if (folder / "config.json").is_file() and any((folder / name).is_file() for name in _WHOLE):
        return "hf"
    from llada_exp.checkpoints.dcp import find_weights  # torch: only where needed

    find_weights(folder)
    return "dcp"


def _overrides(rest: Sequence[str]) -> list[str]:
    """key=value as it is; --key value and --key=value as such."""
    overrides: list[str] = []
    waiting = list(rest)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            key, value = word, None
        else:
            key, _, value = word.removeprefix("--").partition("=")
            if "=" not in word:
                if not waiting or waiting[0].startswith("--"):
                    raise ValueError(f"{word} has no value; write {word} VALUE, or key=value")
                value = waiting.pop(0)
        if value is None and "=" not in key:
            raise ValueError(f"cannot read {word!r}; write key=value, or --key VALUE")
        overrides.append(key if value is None else f"{key}={value}")
    return overrides


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(message)


def main() -> None:
    try:
        overrides = words(sys.argv[1:])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    command = [sys.executable, "-m", "llada_exp.serve", *overrides]
    os.execv(command[0], command)  # signals to us are the server's


if __name__ == "__main__":
    main()
