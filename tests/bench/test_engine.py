"""The engine benchmark: it counts what it says, and needs no server."""

import json
import subprocess
import sys

import pytest

from llada_exp.bench import engine as bench
from llada_exp.bench.models import SHAPES, bench_model
from llada_exp.models.base import ModelShape


def test_one_table_and_one_row_a_repeat(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setitem(bench.WORKLOADS, "mixed", (3, 4, 20, 32, 32))
    path = tmp_path / "rows.jsonl"
    argv = "--models tiny --caches none dual --batch-sizes 1 2 --repeats 2 --tokens-per-step 8"
    rows = bench.main([*argv.split(), "--rows", str(path)])
    assert len(rows) == len(path.read_text().splitlines()) == 8
    assert {r["cache"] for r in map(json.loads, path.read_text().splitlines())} == {"none", "dual"}
    for row in rows:
        assert row.output_tokens == 3 * 32
        assert row.nfe == 3 * 4, "fixed tokens per step: the same work for every setting"
        assert row.packing_efficiency > 0.8
    none = next(r for r in rows if r.cache == "none")
    dual = next(r for r in rows if r.cache == "dual")
    assert dual.positions_per_token < none.positions_per_token
    assert capsys.readouterr().out.count("\n") == 1 + 4


def test_a_cache_that_a_model_rules_out_is_left_out_in_words(capsys, monkeypatch):
    """Prevents a run of several models that ends at the first of them whose blocks see no further."""
    monkeypatch.setitem(bench.WORKLOADS, "mixed", (2, 4, 40, 32, 32))
    argv = "--models random_31m_sdar --caches prefix dual --batch-sizes 2 --repeats 1 --tokens-per-step 16"
    assert [row.cache for row in bench.main(argv.split())] == ["prefix"]
    assert "cache is 'dual'; this model's blocks see nothing beyond" in capsys.readouterr().out


def test_flops_of_a_known_pass():
    shape = ModelShape(
        2,
        n_layers=2,
        n_heads=1,
        n_kv_heads=1,
        head_dim=2,
        mlp_hidden=3,
        vocab_size=5,
        max_length=8,
        num_parameters=0,
    )
    stats = {"num_tokens_forwarded": 1, "num_attention_pairs": 0, "num_logit_rows": 0}
    inner, qkv, out_and_mlp, head = 4 * 4 + 3 * 6, 3 * 4, 4 + 3 * 6, 10
    assert bench.num_flops(shape, stats) == 2 * (inner + qkv), "the last layer stops at what is wanted"
    assert bench.num_flops(shape, {**stats, "num_attention_pairs": 10}) == 2 * (inner + qkv + 2 * 2 * 2 * 10)
    assert bench.num_flops(shape, {**stats, "num_logit_rows": 1}) == 2 * (inner + qkv + out_and_mlp + head)


def test_flops_of_grouped_key_heads():
    """Prevents products counted by d_model where heads are H * D wide, and key heads fewer."""
    shape = ModelShape(
        d_model=2,
        n_layers=1,
        n_heads=4,
        n_kv_heads=2,
        head_dim=3,
        mlp_hidden=0,
        vocab_size=5,
        max_length=8,
        num_parameters=0,
    )
    stats = {"num_tokens_forwarded": 1, "num_attention_pairs": 1, "num_logit_rows": 1}
    qkv, pair, out, head = 2 * (12 + 2 * 6), 2 * 12, 12 * 2, 2 * 5
    assert bench.num_flops(shape, stats) == 2 * (qkv + pair + out + head)


def test_the_8b_shape_is_the_published_one():
    # 8,015,581,184 parameters: a wrong shape would make every figure another model's.
    shape = SHAPES["random_8b"]
    d, mlp, vocab, layers = shape["d_model"], shape["mlp_hidden_size"], shape["vocab_size"], shape["n_layers"]
    assert 2 * d * vocab + layers * (4 * d * d + 3 * d * mlp + 2 * d) + d == 8_015_581_184


def test_an_unknown_model_is_named():
    with pytest.raises(ValueError, match="model is 'huge'; expected one of tiny"):
        bench_model("huge", None, None)


def test_it_imports_neither_server_nor_harness():
    code = (
        "import sys, llada_exp.bench.engine as b; "
        "print([m for m in ('litserve', 'hydra', 'wandb', 'fastapi', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
