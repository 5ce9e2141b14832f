"""The documents say what is true: keys, fields, endpoints, commands, and tests that exist."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.jobs import running_server
from llada_exp.jobs.__main__ import _parser
from llada_exp.server.routes.schema import ChatRequest, CompletionRequest
from llada_exp.settings import REPLICAS, conf_dir, serve_keys
from llada_exp.types import REQUEST_FIELDS
from tests import programs
from tests.server.conftest import composed, say

ROOT = Path(__file__).parents[1]
DOCS = {
    name: (ROOT / "docs" / name).read_text() for name in ("serving.md", "troubleshooting.md", "extending.md")
}
DESIGN = (ROOT / "docs" / "design.md").read_text()
BLOCK = re.compile(r"<!-- (?P<mark>[^>]+) -->\n```\w*\n(?P<code>.*?)^```$", re.S | re.M)
CHAT = "/v1/chat/completions"


def lines(mark):
    found = [
        line
        for text in DOCS.values()
        for block in BLOCK.finditer(text)
        if block["mark"] == mark
        for line in block["code"].strip().splitlines()
    ]
    assert found, mark
    return found


def table(name):
    """Rows of a marked table of serving.md, as lists of cells."""
    after = DOCS["serving.md"].partition(f"<!-- table: {name} -->\n")[2]
    assert after, name
    rows = after.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def tiny(tiny_server):
    return tiny_server


def test_the_scrape_configurations_are_yaml():
    blocks = [block["code"] for block in BLOCK.finditer(DOCS["serving.md"]) if block["mark"] == "yaml"]
    (one,), (several,) = (yaml.safe_load(block)["scrape_configs"] for block in blocks)
    assert one["static_configs"][0]["targets"] == ["127.0.0.1:8000"]
    assert several["file_sd_configs"][0]["files"]


def test_the_dashboard_tells_servers_apart():
    tree = json.loads((ROOT / "monitoring" / "grafana.json").read_text())
    chosen = {one["name"]: one for one in tree["templating"]["list"]}["instance"]
    assert chosen["multi"]
    for panel in tree["panels"]:
        for target in panel["targets"]:
            names = re.findall(r"llada_\w+(\{[^}]*\})?", target["expr"]) or [target["expr"]]
            assert all('instance=~"$instance"' in name for name in names), target["expr"]
            one_line = re.match(r"(sum|histogram_quantile)\b", target["expr"])
            assert one_line or "{{instance}}" in target["legendFormat"], "two servers' lines of one name"


def test_the_lines_of_the_router_are_commands(tmp_path):
    """It runs in tests/clients; here: its command lines are understood, the launched server's composes."""
    install, serve, *routers = lines("router")
    assert install == "pip install vllm-router"
    words = shlex.split(serve)[1:]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/nowhere"}
    done = programs.run(*words[1:], "hydra.launcher.dry_run=true", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "--array=0-3%4" in done.stdout
    for line in routers:
        assert shlex.split(line)[:3] == ["python", "-m", "llada_exp.jobs"]
        assert _parser().parse_args(shlex.split(line)[3:])


def test_every_block_says_how_it_is_tested():
    for text in DOCS.values():
        assert text.count("```") == 2 * len(BLOCK.findall(text))


def test_the_table_of_keys_has_every_key_and_its_default():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = compose("serve")
    told = {names(key)[0]: names(default)[0] for key, default, _ in table("keys")}
    groups = {key.split(".")[0] for key in serve_keys() if "." in key}
    assert set(told) == {REPLICAS} | {
        k for k in serve_keys() if k not in groups and not k.startswith(("decoding.", "preset."))
    }
    for key, default in told.items():
        assert yaml.safe_load(default) == OmegaConf.select(tree, key), key


def test_the_tables_of_fields_have_every_field():
    """Those of decoding.md are made from their declarations (test_tables.py); OpenAI's, and the predecessor's
    names, are written by hand."""
    openai = {n for row in table("OpenAI's fields") for n in names(row[0])}
    old = {"use_cache", "use_dual_cache", "generation_algorithm"}
    body = set(ChatRequest.model_fields) | set(CompletionRequest.model_fields)
    assert openai | old | set(REQUEST_FIELDS) >= body
    assert openai | old <= body
    migrating = (ROOT / "docs" / "migrating.md").read_text()
    assert all(f"`{name}`" in migrating for name in old)


def test_the_table_of_endpoints_has_every_endpoint(tiny):
    tree = httpx.get(f"{tiny.url}/openapi.json").json()
    real = {f"{method.upper()} {path}" for path, own in tree["paths"].items() for method in own}
    assert {n for row in table("endpoints") for n in names(row[0])} == real


@pytest.mark.parametrize("command", lines("compose"))
def test_commands_compose(command):
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "llada_exp.serve"]
    composed(*words[3:])


@pytest.mark.parametrize("command", lines("run"))
def test_commands_run(command):
    done = programs.run(*shlex.split(command)[2:])
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("command", sorted(set(lines("server"))))
def test_commands_at_a_server_are_answered(tiny, command):
    words = shlex.split(command.replace("http://127.0.0.1:8000", tiny.url))
    if words[:2] == ["python", "-m"]:
        done = programs.run(*words[2:])
    else:
        words = [sys.executable, *words[1:]] if words[0] == "python" else words
        done = subprocess.run(words, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    assert '"error":{' not in done.stdout


def ask(tiny, **fields):
    body = say("What is 47 + 8?", max_tokens=64, seed=0, **fields)
    answer = httpx.post(tiny.url + CHAT, json=body, timeout=120).json()
    assert answer["choices"][0]["message"]["content"].endswith("#### 55")
    return answer["llada"]


def test_remedies_for_a_slow_answer_cost_less(tiny):
    exact, fast = ask(tiny, rule="fixed", cache="none"), ask(tiny)
    assert fast["nfe"] < exact["nfe"] / 4
    cached = ask(tiny, rule="fixed", cache="dual")
    assert cached["choices"][0]["num_positions"] < exact["choices"][0]["num_positions"] / 2


def test_the_plan_says_what_helps_against_a_lack_of_memory():
    def largest(*overrides):
        done = programs.run("llada_exp.serve", "--plan", *overrides)
        return int(re.search(r"largest batch_size +(\d+)", done.stdout)[1])

    assert largest("engine.max_length=128") > largest()


def test_extra_fields_can_be_ignored():
    body = say("x", max_tokens=8, stpes=3)
    with running_server(["server.extra_fields=ignore"]) as server:
        assert httpx.post(server.url + CHAT, json=body, timeout=60).status_code == 200


def test_a_default_that_is_told_in_words_is_the_settings():
    assert f"`decoding.max_tokens` ({composed().decoding.max_tokens})" in DOCS["serving.md"]


def test_the_design_has_every_module_and_none_that_is_gone():
    """Prevents a map that newcomers search in vain."""
    picture = next(b for b in DESIGN.split("```") if "llada_exp/" in b)
    paths = [p.relative_to(ROOT / "llada_exp") for p in (ROOT / "llada_exp").rglob("[!_]*.py")]
    open_rooms = {"rules", "caches", "models"}  # a plug-in of one's own needs no line here
    names = set(re.findall(r"\w+\.py", picture))
    assert names <= {path.name for path in paths}
    assert (
        not {path.name for path in paths if path.parts[0] not in open_rooms and len(path.parts) < 3} - names
    )
    assert not {path.name for path in paths if path.parts[0] == "server"} - names


def test_the_design_tells_of_files_that_exist():
    tops = (ROOT, ROOT / "llada_exp", ROOT / "llada_exp" / "server")
    files = re.findall(r"`([\w/]+\.py)`", DESIGN)
    assert len(files) > 60
    for file in files:
        assert any((top / file).is_file() for top in tops), file


DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("slurm/**/*.md")]


def commands_told(text):
    """Lines of shell blocks, and what stands in the prose that a shell would be given."""
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M):
        if language in ("bash", "sh"):
            yield from code.splitlines()
    for code in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)):
        word = " ".join(code.split())
        if re.match(
            r"(\w+=\S+ )*(python|pip|uv|curl|sbatch|wandb|serve|bench|evals|gate)\b|'?[\w.+/]+=\S", word
        ):
            yield word


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_are_quoted_for_zsh(path):
    """There an unquoted bracket is a pattern, and a pattern that nothing fits ends the command."""
    for line in commands_told(path.read_text()):
        bare = re.sub(r"\\.|'[^']*'|\"(\\.|[^\"\\])*\"", "", line)
        assert not re.search(r"[\[\]?]", bare), line


def test_the_helps_examples_are_quoted_for_zsh():
    for name in ("serve", "bench", "eval", "gate"):
        for line in (conf_dir() / f"{name}.yaml").read_text().splitlines():
            if line.strip().startswith("python -m") and not re.search(r" \[(key=value|hydra)", line):
                assert not re.search(r"[\[\]?]", re.sub(r"'[^']*'", "", line)), line
