"""The directions of the house, held: which layer may import which."""

import ast
import graphlib
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "llada_exp"
SERVING = {"litserve", "fastapi", "starlette", "uvicorn", "pydantic"}
HARNESS = {"hydra", "omegaconf", "wandb", "submitit"}

# folder or file -> the project's layers it may import (besides itself)
MAY_IMPORT = {
    "fields.py": set(),
    "types.py": {"fields"},
    "decoding.py": {"fields", "types"},
    "extras.py": set(),
    "help.py": set(),
    "decoding_keys.py": {"decoding", "fields", "help", "types"},
    "text.py": set(),
    "text_stream.py": {"text"},
    "token_text.py": {"text", "types"},
    "scoring.py": set(),  # right or wrong: texts alone
    "verifier.py": set(),
    "jsonl.py": set(),
    "clients": set(),  # HTTP and the key; asked by all that talk to a server
    "problems.py": {"jsonl"},
    "tables.py": set(),
    "models": {"types"},
    "rules": {"types", "models"},
    "caches": {"types", "models"},
    "engine": {"fields", "types", "models", "rules", "caches"},
    "checkpoints": {"models", "text"},
    "tiny": {"models", "programs", "checkpoints", "offline", "scoring"},
    "offline.py": {"decoding", "engine", "checkpoints", "text", "text_stream", "types"},
    "bench/engine.py": {"programs", "tables", "decoding", "engine", "models", "checkpoints", "types"},
    "bench/engine_arrivals.py": {"bench", "programs", "tables", "engine", "models", "types"},
    "bench/gpu.py": {"programs", "decoding", "engine", "models", "checkpoints", "types"},
    "bench/gpu_measures.py": {"engine", "models", "types"},
    "bench/gpu_kernels.py": {"models"},
    "bench/gpu_rows.py": set(),
    "bench/models.py": {"engine", "models", "checkpoints", "types"},
    "runs": {"clients", "signals", "decoding_keys", "help", "jsonl", "settings", "tables", "types", "jobs",
             "validation"},
    "bench": {"cli", "programs", "clients", "decoding_keys", "scoring", "jsonl", "problems", "settings",
              "signals", "decoding", "types", "runs", "jobs", "tiny", "engine", "models", "checkpoints",
              "tables", "validation"},
    "validation.py": {"types", "decoding_keys"},
    "settings.py": {"types", "decoding_keys", "help", "validation"},
    "signals.py": set(),  # how a process ends
    "programs.py": {"signals"},
    "command_line.py": {"settings", "validation"},
    "cli.py": {"command_line", "programs", "settings", "validation"},
    "server": {"clients", "settings", "signals", "validation", "decoding", "fields", "engine", "checkpoints",
               "text", "text_stream", "token_text", "types"},
    "jobs": {"clients", "programs", "server", "settings", "signals", "tables"},
    "serve.py": {"checkpoints", "cli", "decoding_keys", "settings", "server", "engine", "jobs", "tables"},
    "self_host.py": {"settings", "checkpoints"},
    "check.py": {"clients", "programs", "tables"},  # a client: over HTTP only
    # the server over HTTP only
    "evals": {"cli", "programs", "clients", "scoring", "jsonl", "problems", "decoding_keys", "decoding",
              "help", "settings", "signals", "types", "runs", "jobs", "tiny", "offline", "engine",
              "checkpoints", "tables", "validation"},
    "animation": {"bench", "clients", "jsonl", "programs", "types"},
    "gate": {"programs", "clients", "signals", "checkpoints", "cli", "decoding", "decoding_keys", "jsonl",
             "offline", "runs", "scoring", "settings", "tables", "tiny", "types", "validation"},
}  # fmt: skip
HARNESSED = {
    "animation",
    "cli.py",
    "command_line.py",
    "serve.py",
    "server",
    "jobs",
    "runs",
    "evals",
    "bench",
    "gate",
    "validation.py",
}
NO_HARNESS = [part for part in MAY_IMPORT if part not in HARNESSED]


def imports(path: Path) -> set[str]:
    """Modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files(part: str) -> list[Path]:
    path = PACKAGE / part
    found = [path] if path.suffix else sorted(path.rglob("*.py"))
    assert found, f"{part} has no files"
    return found


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_layer_imports_only_what_lies_below_it(part):
    own = part.split("/")[0].removesuffix(".py")
    for path in files(part):
        for name in imports(path):
            if name.startswith("llada_exp."):
                layer = name.split(".")[1]
                assert layer in MAY_IMPORT[part] | {own}, f"{path.name} imports {name}"


@pytest.mark.parametrize("part", NO_HARNESS)
def test_what_runs_on_a_bare_gpu_machine_needs_no_server_and_no_harness(part):
    for path in files(part):
        tops = {name.split(".")[0] for name in imports(path)}
        assert not tops & (SERVING | HARNESS), f"{path.name} imports {tops & (SERVING | HARNESS)}"


def test_the_engine_knows_no_tokenizer():
    for part in ("engine", "rules", "caches", "models"):
        for path in files(part):
            tops = {name.split(".")[0] for name in imports(path)}
            assert not tops & {"transformers", "tokenizers"}, path.name


def test_remote_code_and_pickle_stay_out():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "trust_remote_code" not in text, path
        assert "torch.load(" not in text, path


def test_no_token_id_of_a_checkpoint_is_written_into_code():
    for path in PACKAGE.rglob("*.py"):
        numbers = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not numbers & {126336, 126081, 126080, 126348}, path


def test_only_its_trainer_names_a_family():
    """Prevents a second family that works in models/ and nowhere else."""
    inside = {PACKAGE / "models", PACKAGE / "tiny"}
    for path in PACKAGE.rglob("*.py"):
        if not inside & set(path.parents):
            named = [name for name in imports(path) if name.startswith("llada_exp.models.llada")]
            assert not named, f"{path.name} imports {named}"


def module(path: Path) -> str:
    """llada_exp/server/__init__.py -> llada_exp.server"""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_circle_of_imports_not_even_inside_a_folder():
    """Prevents rooms that can only be understood together. Imports inside functions and those of types alone
    count, too: they hide a circle and leave it standing."""
    paths = {module(path): path for path in PACKAGE.rglob("*.py")}
    graph = {}
    for name, path in paths.items():
        targets = {target if target in paths else target.rpartition(".")[0] for target in imports(path)}
        graph[name] = (targets & set(paths)) - {name}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        raise AssertionError(f"a circle: {' <- '.join(error.args[1])}") from None


def test_a_class_name_exists_once():
    """Prevents three `Endpoint`s, of which a reader must know which one is meant."""
    names = Counter(
        node.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    )
    assert not {name for name, times in names.items() if times > 1}


def test_no_file_is_longer_than_a_reader_can_hold():
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "tests").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path


VAGUE = {"own", "told", "found", "said", "known", "asked", "given", "seen", "wanted", "kept", "taken"}
"""Participles that say nothing of what a thing is: in one file `own` was a target, a mapping and a dict."""


def names_made(path: Path) -> set[str]:
    """Names that a file gives: variables, attributes, parameters, functions and classes."""
    made = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            made.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            made.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            made.add(node.name)
        elif isinstance(node, ast.arg):
            made.add(node.arg)
    return made


def test_names_are_nouns_of_the_thing():
    for path in PACKAGE.rglob("*.py"):
        vague = {name for name in names_made(path) if set(name.lower().strip("_").split("_")) & VAGUE}
        assert not vague, f"{path}: {sorted(vague)}"
