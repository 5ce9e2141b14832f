"""The measurement for a GPU: every line of it runs on a CPU, and what it loses is never a row that it had."""

import json
import subprocess
import sys

import torch

from llada_exp.bench.gpu_rows import GPURows

BARE = """
import sys

missing = "hydra omegaconf litserve fastapi uvicorn pydantic wandb pandas pyarrow aiohttp submitit datasets"
sys.modules.update(dict.fromkeys(missing.split()))
from llada_exp.bench import gpu
gpu.main(sys.argv[1:])
"""


def test_a_bare_machine_measures_everything(tmp_path):
    path = tmp_path / "new" / "gpu.jsonl"
    argv = [sys.executable, "-c", BARE, "--small", "--device", "cpu", "--out", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    failed = [row for row in rows if "error" in row]
    assert all(row["measure"] == "attention" and row["backend"] == "varlen" for row in failed), failed
    by_name = {name: [row for row in rows if row["measure"] == name] for name in {r["measure"] for r in rows}}
    assert {"machine", "model", "step", "answers", "attention", "drift", "likelihood"} == set(by_name)
    blocks = [row for row in by_name["step"] if row["cache"] == "dual"]
    assert [row["tokens"] for row in blocks] == [32, 64], "steps of blocks alone, all rows in each"
    assert all(
        row["whole"] and row["passes_each"] == 16 for row in by_name["answers"] if row["cache"] == "dual"
    )
    assert all(row["passes_each"] >= 2 for row in by_name["answers"])
    assert by_name["drift"][0]["equal_ids"] == 1.0, "float32 on the CPU"
    assert all(0 < row["mfu"] < 1.5 for name in ("step", "answers", "likelihood") for row in by_name[name])


def test_a_want_of_memory_and_of_time_are_rows_like_others(tmp_path):
    rows = GPURows(tmp_path / "gpu.jsonl", seconds=60)

    def fails():
        yield {"rows": 1}
        raise torch.OutOfMemoryError("CUDA out of memory")

    rows.run("answers", fails)
    rows.run("answers", lambda: [{"rows": 2}], at_least=100)
    rows.run("answers", lambda: [{"rows": 3}])
    written = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert [row.get("rows") for row in written] == [1, None, None, 3]
    assert "out of memory" in written[1]["error"]
    assert written[2]["error"] == "no time left"
