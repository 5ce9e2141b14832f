"""Which extra of `pyproject.toml` each part of the package needs, and the one line where it is not installed.

What is not listed needs the core alone: the engine with its models, rules, caches and checkpoints. Imports
nothing, so that it can speak wherever something is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

EXTRAS = {
    "hydra_plugins": "serve",
    "llada_exp.cli": "serve",
    "llada_exp.command_line": "serve",
    "llada_exp.jobs": "serve",
    "llada_exp.serve": "serve",
    "llada_exp.self_host": "serve",
    "llada_exp.server": "serve",
    "llada_exp.settings": "serve",
    "llada_exp.validation": "serve",
    "llada_exp.animation": "bench",
    "llada_exp.bench": "bench",
    "llada_exp.bench.engine": "",  # runs where there is only a GPU and the core
    "llada_exp.bench.engine_arrivals": "",
    "llada_exp.bench.gpu": "",
    "llada_exp.bench.gpu_kernels": "",
    "llada_exp.bench.gpu_measures": "",
    "llada_exp.bench.gpu_rows": "",
    "llada_exp.bench.models": "",
    "llada_exp.clients": "bench",
    "llada_exp.clients.http": "",  # the standard library alone, for llada_exp.check
    "llada_exp.runs": "bench",
    "llada_exp.verifier": "bench",
    "llada_exp.evals": "eval",
    "llada_exp.gate": "eval",
    "notebooks": "notebook",
}
"""Module, with all that is inside it -> its extra; the longest name holds, "" is the core."""
PACKAGES = ("llada_exp", "hydra_plugins")


def extra_of(module: str) -> str:
    """The extra that `module` needs, "" where it needs none."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((EXTRAS[name] for name in names if name in EXTRAS), "")


def missing_line(part: str, extra: str, module: str) -> str:
    return f"{part} needs {module}, which is not installed: pip install 'llada_exp[{extra}]'"


@contextmanager
def imports_of(part: str) -> Iterator[None]:
    """Around imports of `part`, a name of EXTRAS: raises ImportError that says which extra is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        line = missing_line(part, extra_of(part), error.name or "a module")
        raise ImportError(line, name=error.name) from None


def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """`sys.excepthook` of our programs: where an import of ours needs an extra, one line says so."""
    line = _line(error, traceback) if isinstance(error, ModuleNotFoundError) else None
    if line is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        print(line, file=sys.stderr)


def _program() -> str:
    """The module of ours that `python -m` runs; "" for another. `__main__` is not it yet while its package is
    imported."""
    words = sys.orig_argv[1:]
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    return module.removesuffix(".__main__") if module.split(".")[0] in PACKAGES else ""


def _line(error: ModuleNotFoundError, traceback: TracebackType | None) -> str | None:
    """None where the missing module is ours, or another package misses it."""
    program = importer = _program()
    while traceback is not None:
        importer = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    if importer == "__main__":
        importer = program
    module = (error.name or "").split(".")[0]
    extra = extra_of(program) or extra_of(importer)
    if importer.split(".")[0] not in PACKAGES or module in ("llada_exp", "") or not extra:
        return None
    return missing_line(program or importer, extra, module)
