"""Notebooks run headless, from rows alone, and keep no outputs in git."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_it_runs_and_draws(path, tmp_path, monkeypatch):
    figure = tmp_path / "figure.png"
    monkeypatch.setenv("LLADA_FIGURE", str(figure))
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert figure.stat().st_size > 10_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_outputs_are_stripped(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_the_reader_sees_figures_and_not_how_they_are_drawn(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and cell.source.count("\n") > 12:
            assert cell.metadata["jupyter"]["source_hidden"], cell.source[:80]


def test_the_gates_table_has_verdicts_and_no_p_of_zero(monkeypatch):
    monkeypatch.delenv("LLADA_ROWS", raising=False)
    notebook = nbformat.read(FOLDER / "gate.ipynb", as_version=4)
    notebook.cells = notebook.cells[:2]
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    shown = notebook.cells[1].outputs[0]["data"]["text/html"]
    assert {"pass", "fail", "undecided"} <= set(re.findall(r"<td>(\w+)</td>", shown))
    assert "&lt; 0.001" in shown
    assert "0.000" not in shown
