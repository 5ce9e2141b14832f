"""What is imported is declared where it is needed, and what is missing is named in one line."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from llada_exp.extras import EXTRAS, extra_of, imports_of

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = PROJECT["optional-dependencies"]
DISTRIBUTIONS = metadata.packages_distributions()
OF_TRANSFORMERS = {"tokenizers", "huggingface-hub", "pyyaml"}
"""What transformers cannot be without: the core does not declare them a second time."""
FILES = sorted([*(ROOT / "llada_exp").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")])


def name_of(requirement):
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def declared(extra):
    """The distributions that `pip install llada_exp[extra]` brings by name; "" is the core."""
    names = {name_of(r) for r in PROJECT["dependencies"]} | OF_TRANSFORMERS
    for requirement in OPTIONAL[extra] if extra else ():
        inner = re.fullmatch(r"llada_exp\[(\w+)\]", requirement)
        names |= declared(inner[1]) if inner else {name_of(requirement)}
    return names


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(source):
    """Modules that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def third_party(source):
    for name in imported(source):
        top = name.split(".")[0]
        if name.startswith("hydra_plugins.hydra_submitit_launcher"):
            yield "hydra-submitit-launcher"
        elif top not in sys.stdlib_module_names and top not in ("llada_exp", "hydra_plugins"):
            yield {n.lower().replace("_", "-") for n in DISTRIBUTIONS.get(top, [top])}.pop()


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_import_is_declared_in_the_core_or_in_the_extra_of_its_part(path):
    missing = set(third_party(path.read_text())) - declared(extra_of(module_of(path)))
    assert not missing, f"the extra {extra_of(module_of(path))!r} does not bring {missing}"


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_import_what_their_extra_and_that_of_the_tests_bring(path):
    cells = json.loads(path.read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    needed = set(third_party(source))
    assert {"pandas", "matplotlib"} <= needed
    for extra in ("notebook", "dev"):
        assert needed | {"nbclient", "ipykernel"} <= declared(extra)


def test_the_core_is_the_engine():
    assert sorted(map(name_of, PROJECT["dependencies"])) == [
        "numpy", "safetensors", "torch", "tqdm", "transformers",
    ]  # fmt: skip
    always = {name_of(r) for r in metadata.requires("transformers") if "extra ==" not in r}
    assert always >= OF_TRANSFORMERS
    for part in ("engine", "models", "rules", "caches", "checkpoints", "types", "fields", "decoding", "text"):
        assert extra_of(f"llada_exp.{part}") == ""
    assert extra_of("llada_exp") == extra_of("llada_exp.offline") == ""


def test_the_tests_have_what_the_other_extras_bring():
    """But JupyterLab, which is for people: the tests execute notebooks without it."""
    assert declared("dev") >= set().union(*map(declared, OPTIONAL)) - {"jupyterlab"}


def test_the_lock_file_pins_what_is_declared_and_names_no_place():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {name_of(line) for line in lines if not line.startswith("#")}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if not line.startswith("#"))
    assert pins >= {name_of(r) for r in [*PROJECT["dependencies"], *OPTIONAL["dev"]]} - {"llada-exp"}
    assert pins >= declared("eval")


def test_every_part_that_needs_an_extra_is_there():
    for part, extra in EXTRAS.items():
        assert not extra or extra in OPTIONAL
        place = ROOT.joinpath(*part.split("."))
        assert place.is_dir() or place.with_suffix(".py").is_file(), part


def run(tmp_path, words, installed=""):
    """Python where `installed` is all that there is of the extras, outside of the checkout."""
    blocked = declared("dev") - declared(installed)
    tops = {top for top, names in DISTRIBUTIONS.items() if {name_of(n) for n in names} & blocked}
    tops = sorted(tops - {"hydra_plugins"})  # ours, too
    absent = f"import sys\nsys.modules.update(dict.fromkeys({tops!r}))  # None: an import of it fails\n"
    (tmp_path / "sitecustomize.py").write_text(absent)
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)


def programs(*extras):
    modules = (module_of(path) for path in FILES if '__name__ == "__main__"' in path.read_text())
    names = sorted(module.removesuffix(".__main__") for module in modules)
    return [name for name in names if extra_of(name) in extras]


@pytest.mark.parametrize("program", programs("serve", "bench", "eval"))
def test_a_program_whose_extra_is_missing_says_so_in_one_line(tmp_path, program):
    done = run(tmp_path, ["-m", program, "--help"])
    if done.returncode == 0:  # it needs its extra later, if ever: it reads rows, or asks SLURM
        assert program in LATER
        return
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    wanted = rf"{program} needs \w+, which is not installed: pip install 'llada_exp\[{extra_of(program)}\]'"
    assert re.fullmatch(wanted, lines[0])


LATER = ("llada_exp.gate.table", "llada_exp.evals.compare")


@pytest.mark.parametrize("program", programs(""))
def test_programs_of_the_core_start_without_an_extra(tmp_path, program):
    done = run(tmp_path, ["-m", program, "--help"])
    assert done.returncode == 0, done.stderr


def test_an_extra_that_is_there_is_not_asked_for_by_the_next(tmp_path):
    """Prevents a benchmark that sends its user to `serve`, which is installed."""
    done = run(tmp_path, ["-m", "llada_exp.bench"], installed="serve")
    assert re.fullmatch(r"llada_exp.bench needs \w+, .*'llada_exp\[bench\]'\n", done.stderr), done.stderr
    assert run(tmp_path, ["-m", "llada_exp.serve", "--help"], installed="serve").returncode == 0
    assert run(tmp_path, ["-m", "llada_exp.bench", "--help"], installed="bench").returncode == 0


def test_the_core_imports_and_answers_without_any_extra(tmp_path):
    core = [module_of(path) for path in FILES if not extra_of(module_of(path))]
    code = f"""
import importlib
for name in {[name for name in core if not name.endswith("__main__")]!r}:
    importlib.import_module(name)
from llada_exp import Engine, load_model
chat = [{{"role": "user", "content": "What is 47 + 8?"}}]
print(Engine(load_model()).chat([chat], {{"max_tokens": 64}})[0].text)
"""
    done = run(tmp_path, ["-c", code])
    assert "55" in done.stdout, done.stderr


def test_what_is_missing_elsewhere_keeps_its_traceback(tmp_path):
    """A program of the user's that imports us must not lose where its own import failed."""
    (tmp_path / "theirs.py").write_text("import llada_exp\nimport fastapi\n")
    done = run(tmp_path, ["-m", "theirs"])
    assert "Traceback" in done.stderr
    assert "pip install" not in done.stderr


def test_a_notebook_names_its_extra():
    with (
        pytest.raises(ImportError, match=r"notebooks needs nothing_like_it.*'llada_exp\[notebook\]'"),
        imports_of("notebooks"),
    ):
        import nothing_like_it  # noqa: F401
