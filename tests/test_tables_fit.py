"""Every table of the house, with values as long as they come: no line is wider than the terminal, every
number is whole, and heads say the unit."""

import re
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_dir

from llada_exp import check, serve
from llada_exp.bench import engine as bench_engine
from llada_exp.bench import report as bench_report
from llada_exp.bench.schema import ROW as BENCH_ROW
from llada_exp.engine import memory
from llada_exp.evals import compare
from llada_exp.evals import report as evals_report
from llada_exp.evals.schema import ROW as EVALS_ROW
from llada_exp.gate import report as gate_report
from llada_exp.gate.exactness import Exactness
from llada_exp.gate.outcome import Outcome
from llada_exp.gate.verdict import Limits, unjudged, verdicts
from llada_exp.jobs.__main__ import table as jobs_table
from llada_exp.jobs.operate import JobRow
from llada_exp.models.base import ModelShape
from llada_exp.runs.statistics import Paired, Proportion
from llada_exp.settings import conf_dir
from llada_exp.types import DecodingParams

NAME = "007_batch_size=64,decoding.threshold=0.95,benchmark=gsm8k,rate=1e-05,model=GSAI-ML-LLaDA-8B-Instruct"
SETTING = "low_confidence_prefix_cache_threshold_0.9125_block_128"
KIND = "word_problems_of_four_digits"


def bench_row(point):
    numbers = {column.name: 123456.789 for column in BENCH_ROW}
    return numbers | {"point": point, "accuracy": 0.98765, "completed": 1234567, "failed": 1234567,
                      "overlapped": True, "generator_late": True}  # fmt: skip


def evals_row(point):
    numbers = {column.name: 0.98765 for column in EVALS_ROW}
    return numbers | {"point": point, "benchmark": "mmlu_pro_computer_science", "num_samples": 1024,
                      "num_problems": 1234567, "failed": 123456, "checkpoint_step": 1234567,
                      "cut_to_fit": 12345, "mean_output_tokens": 12345.6, "mean_nfe": 12345.6,
                      "tpf": 123.45}  # fmt: skip


def engine_rows(cache):
    values = dict.fromkeys(bench_engine.EngineRow.__dataclass_fields__, 0.98765)
    words = {"model": "random_llada_moe_7b", "workload": "short_answer_128", "cache": cache}
    sizes = {
        "batch_size": 4096,
        "nfe": 1234567,
        "output_throughput": 123456.7,
        "positions_per_token": 12345.6,
    }
    row = bench_engine.EngineRow(**values | words | sizes | {"peak_memory_mb": 123456.7})
    return [row, replace(row, output_throughput=98765.4)]


def outcome(setting, kind=KIND):
    return Outcome(
        setting=setting, kind=kind, accuracy=Proportion(9999, 9999, 1.0, 1.0), agreement=0.4321, nfe=999.9,
        versus=Paired(-0.0123, -0.0456, 0.0789, 0, 0, p_value=1.234e-123), tpf=99.99,
        positions_per_token=999.9, output_throughput=99999.0, correct=(), texts=(), canvas=4096,
    )  # fmt: skip


def exactness(setting, **more):
    return Exactness(setting, KIND, 12345, 12344, 1234567, 12345, **more)


LIMITS = Limits()
JOBS = [
    JobRow("1234567_12", "OUT_OF_MEMORY", "another server", "gpu-node-1234.cluster", url, "GSAI-ML/LLaDA-8B")
    for url in ("http://gpu-node-1234.cluster:43803", "http://10.1.2.3:43804")
]
TABLES = {
    "bench": bench_report.table([bench_row(NAME), bench_row(f"{NAME},x=1")]),
    "evals": evals_report.table([evals_row(NAME), evals_row(f"{NAME},x=1")]),
    "bench.engine": bench_engine.Table(bench_engine.COLUMNS, [engine_rows("prefix"), engine_rows("dual")]),
    "gate": gate_report.table([outcome(SETTING), outcome("vanilla")], LIMITS),
    "gate's exactness": gate_report.exact_table([exactness(SETTING), exactness("vanilla")]),
    "jobs": jobs_table(JOBS),
}
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?")
COUNTS = {"ok", "failed", "n", "step", "NFE", "TPF", "batch", "rows", "exact", "of", "passes", "ties",
          "cut to fit", "McNemar p", "canvas"}  # fmt: skip
UNIT = re.compile(r"%|/s|_ms$|MiB$|pos/tok|tok/answer|points")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_no_wider_and_takes_no_number_apart(name, width):
    table = TABLES[name]
    layout = table.layout(width)
    for row in table.rows:
        lines = layout.line(row).splitlines()
        assert max(map(len, [*lines, *layout.head().splitlines()])) <= width
        text = "\n".join(lines)
        for column in layout.columns:
            for number in NUMBER.findall(column.text(row) or ""):
                assert number in text, f"{column.heading}: {number}"
            assert column.folds or (column.text(row) or "-") in text, column.heading
    assert len(layout.hint(None)) == 0 or max(map(len, layout.hint(None).splitlines())) <= width
    assert {column.heading for column in table.columns} == {
        *layout.left_out, *(column.heading for column in layout.columns)
    }  # fmt: skip
    assert not [c for c in layout.columns if c.heading not in layout.head().replace("\n", " ")]


@pytest.mark.parametrize("name", TABLES)
def test_every_number_has_its_unit_in_the_head(name):
    bare = [column.heading for column in TABLES[name].columns if not column.left]
    assert not [heading for heading in bare if heading not in COUNTS and not UNIT.search(heading)]


@pytest.fixture(params=[80, 120])
def terminal(request, monkeypatch, capsys):
    """Asserts of what was printed that it fits, and is these words, and returns it as one line."""
    monkeypatch.setenv("COLUMNS", str(request.param))

    def fits():
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= request.param, out
        return " ".join(out.split())

    return fits


def test_the_gates_verdicts_fit(terminal):
    """A line of 240 characters each."""
    undefined = exactness("random", undefined="its remasking draws from a generator of its own, every pass")
    inexact = exactness(SETTING, difference="answer 12, pass 345: position 67 is 8901, expected 2345; " * 3)
    judged = verdicts([outcome(SETTING)], [inexact], LIMITS)
    assert gate_report.conclude(judged, "fail", True, unjudged([], [undefined])) == 1
    text = terminal()
    assert f"fail: {SETTING}, {KIND}, canvas 4096: accuracy -1.2 points [-4.56, +7.89]" in text
    assert f"fail: {SETTING}, {KIND}: not exact, 12344 of 12345 answers are the oracle's" in text
    assert text.endswith("gate: 2 of 2 verdicts do not pass")


def test_a_plan_fits(terminal, monkeypatch):
    files = "12345 tensors, whole by their headers, in /home/ada/checkpoints/run/model.safetensors.index.json"
    monkeypatch.setattr("llada_exp.server.processes.memory_plan.check_files", lambda settings: files)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert serve.plan(compose("serve")) == 0
    assert f"files {files}" in terminal()
    shape = ModelShape(2048, 16, 16, 16, 128, 8192, 157184, 8192, 7_356_880_896, 5_900_000_000)
    plan = memory.MemoryPlan(shape, torch.bfloat16, DecodingParams(), 4096, 8192, 8192, 80 * 2**30)
    print(memory.table(plan))
    assert "(a token passes 1.46 of 7.36 billion parameters)" in terminal()


def test_a_comparison_a_harness_metrics_flags_and_a_check_fit(terminal, monkeypatch):
    one = compare.Comparison("mmlu_pro_computer_science", 1234, 64, 0.9, 0.8, -0.1, -0.15, -0.05, 123, 456,
                             1e-9, "sign flips", 0.98)  # fmt: skip
    monkeypatch.setattr(compare, "compare", lambda *runs: [one])
    monkeypatch.setattr(compare, "read_run", lambda path: [])
    assert compare.main(["vanilla", "dual"]) == 0
    print(
        *evals_report.metric_lines(
            {"gsm8k": {f"metric_{i}": {"value": 0.5, "stderr": 0.1} for i in range(9)}}
        )
    )
    print(*bench_report.flag_notes([bench_row(NAME)]), sep="\n")
    assert check.run(check.CheckedEndpoint("http://127.0.0.1:9/" + 60 * "x", None, 5, 8), 4) == 5
    text = terminal()
    assert "p = 1e-09 (sign flips); 123 gained, 456 lost, 98 % of texts the same" in text
    assert "metric_8 0.5 +- 0.1" in text


def test_what_does_not_fit_stands_whole_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    rows = tmp_path / "more" / "rows.jsonl"
    bench_engine.main(["--models", "tiny", "--caches", "none", "dual", "--batch-sizes", "16", "--repeats",
                       "1", "--workloads", "short_answer_128", "--tokens-per-step", "64", "--fill",
                       "--rows", str(rows)])  # fmt: skip
    assert f"see {rows.with_suffix('.txt')}" in " ".join(capsys.readouterr().out.split())
    head, *lines = rows.with_suffix(".txt").read_text().splitlines()
    assert len(lines) == 2
    assert not [column.heading for column in bench_engine.COLUMNS if column.heading not in head]
