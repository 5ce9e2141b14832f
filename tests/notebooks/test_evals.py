"""The notebook of checkpoint scores, over rows of other shapes than its example's."""

import json
import re

import nbclient
import nbformat

from tests.evals.test_curve import row, unknown
from tests.notebooks.test_notebooks import FOLDER


def run(monkeypatch, tmp_path, **paths):
    """The outputs of every code cell, as one text, and how many figures were drawn."""
    monkeypatch.delenv("LLADA_RUNS", raising=False)
    for name, value in paths.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LLADA_FIGURE", str(tmp_path / "figure.png"))
    notebook = nbformat.read(FOLDER / "evals.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    data = [o.get("data", {}) for o in outputs]
    text = "\n".join([o.get("text", "") for o in outputs] + [d.get("text/plain", "") for d in data])
    return text, sum("image/png" in d for d in data)


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def answer(problem, verdict, sample=0):
    texts = {"question": f"Q {problem}", "expected": "1", "response": "", "predicted": None}
    return {"benchmark": "gsm8k", "problem": problem, "sample": sample, "verdict": verdict, **texts}


def test_it_compares_two_evaluations_on_their_common_problems(monkeypatch, tmp_path):
    """Prevents a comparison that pairs answers of different problems."""
    rows = write(tmp_path / "rows.jsonl", [row(10, 0.2), unknown(20), row(30, 0.5)])
    earlier = [answer(str(n), "wrong") for n in range(10)]
    later = [answer(str(n), "correct" if n < 6 else "no_answer") for n in (11, *reversed(range(10)))]
    for name, answers in (("a", earlier), ("b", later)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "answers.jsonl", answers)
    text, num_figures = run(monkeypatch, tmp_path, LLADA_ROWS=rows, LLADA_RUNS=f"{tmp_path}/a:{tmp_path}/b")
    assert num_figures == 2
    assert "gsm8k: 10 problems: 0.0 % -> 60.0 %" in text
    assert "p = 0.031 (McNemar, exact); 6 gained, 0 lost" in text
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_it_reads_several_files_of_either_form(monkeypatch, tmp_path):
    import pandas as pd

    frames = [pd.DataFrame([row(10, 0.2), unknown(20)]), pd.DataFrame([row(10, 0.3, sweep="t", tpf=None)])]
    paths = [str(tmp_path / name) for name in ("0.jsonl", "1.parquet")]
    frames[0].to_json(paths[0], orient="records", lines=True)
    frames[1].to_parquet(paths[1])
    text, num_figures = run(monkeypatch, tmp_path, LLADA_ROWS=":".join(paths))
    assert num_figures == 2
    assert len(re.findall(r"^ +[12]0 .*gsm8k", text, re.MULTILINE)) == 3
    assert "LLADA_RUNS names no two evaluations" in text
