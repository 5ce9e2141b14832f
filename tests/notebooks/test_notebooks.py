"""Notebooks run headless, from rows alone, and keep no outputs in git."""

import re
from pathlib import Path

import nbclient
import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Of a notebook, run once: its cells with their outputs, and its figure."""
    done = {}

    def execute(path):
        if path not in done:
            figure = tmp_path_factory.mktemp("figure") / "figure.png"
            notebook = nbformat.read(path, as_version=4)
            client = nbclient.NotebookClient(
                notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}
            )
            with pytest.MonkeyPatch.context() as patch:
                patch.delenv("LLADA_ROWS", raising=False)
                patch.setenv("LLADA_FIGURE", str(figure))
                client.execute()
            done[path] = notebook.cells, figure
        return done[path]

    return execute


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_it_runs_and_draws(path, executed):
    _, figure = executed(path)
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


def test_the_gates_table_has_verdicts_and_no_p_of_zero(executed):
    cells, _ = executed(FOLDER / "gate.ipynb")
    shown = cells[1].outputs[0]["data"]["text/html"]
    assert {"pass", "fail", "undecided"} <= set(re.findall(r"<td>(\w+)</td>", shown))
    assert "&lt; 0.001" in shown
    assert "0.000" not in shown
