"""A live server and rows on disk give the same frames."""

import nbclient
import nbformat
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llada_exp.animation import ask, frames, read_rows, traced
from llada_exp.animation.__main__ import main
from llada_exp.animation.traced import label_of, setting_of
from llada_exp.jobs import running_server
from tests.notebooks.test_notebooks import FOLDER

QUESTION = "What is 47 + 8?"
FAST = {"max_tokens": 40, "rule": "threshold", "threshold": 0.9, "cache": "dual"}


@pytest.fixture(scope="module")
def url():
    with running_server() as server:
        yield server.url


def test_a_live_server_and_its_rows_give_the_same_frames(url, tmp_path):
    live = ask(url, QUESTION, FAST)
    pq.write_table(pa.Table.from_pylist(live), tmp_path / "commits.parquet")
    read = read_rows(tmp_path / "commits.parquet")
    assert frames(traced(read)) == frames(traced(live))
    answer = traced(live)
    assert answer.text.endswith("#### 55")
    assert "".join(cell.token for cell in frames(answer)[-1]) == answer.text, "the end of text has no text"
    assert (answer.question, answer.length, answer.label) == (QUESTION, 40, "rule threshold")
    named = "rule=threshold  threshold=0.9  cache=dual  refresh=every_block  suffix_window=32"
    assert answer.setting == named


def test_the_command_asks_a_server_twice_and_writes_both_forms(url, tmp_path, capsys):
    words = [str(tmp_path / "a.html"), str(tmp_path / "a.gif"), "--url", url, "--question", QUESTION]
    assert main([*words, "--max-tokens", "32"]) == 0
    assert "<h2>vanilla</h2>" in (tmp_path / "a.html").read_text()
    assert "<h2>as served</h2>" in (tmp_path / "a.html").read_text()
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF89a")
    assert capsys.readouterr().out.count("kB") == 2


def test_the_notebook_asks_a_server(url, monkeypatch):
    monkeypatch.setenv("LLADA_SERVER_URL", url)
    monkeypatch.setenv("LLADA_QUESTION", QUESTION)
    monkeypatch.setenv("LLADA_SETTINGS", "rule=threshold threshold=0.5;")
    notebook = nbformat.read(FOLDER / "denoising.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    shown = [o["data"] for cell in notebook.cells for o in cell.get("outputs", ()) if "data" in o]
    film = next(data["text/html"] for data in shown if "text/html" in data)
    assert "rule=threshold  threshold=0.5" in film
    assert QUESTION in film
    assert any("image/png" in data for data in shown)


def test_rows_of_another_make_are_refused_in_words():
    with pytest.raises(ValueError, match=r"no passes, token, revoked.*measure them again"):
        traced([dict.fromkeys(("step", "position", "confidence", "decoding", "question", "answer"))])
    with pytest.raises(ValueError, match="no row"):
        traced([])


def test_settings_are_told_as_a_request_would_name_them():
    base = {"rule": "fixed", "cache": "none", "refresh": "every_block", "threshold": 0.9, "steps": None}
    assert (label_of(base), setting_of(base)) == ("vanilla", "rule=fixed  cache=none")
    stepped = base | {"steps": 16, "cache": "prefix", "refresh": "window", "refresh_window": 8}
    assert label_of(stepped) == "rule fixed"
    assert setting_of(stepped) == "rule=fixed  steps=16  cache=prefix  refresh=window  refresh_window=8"
    seldom = base | {"cache": "prefix", "refresh": "prompt_every", "refresh_interval": 3, "suffix_window": 0}
    told = "rule=fixed  cache=prefix  refresh=prompt_every  refresh_interval=3  suffix_window=0"
    assert setting_of(seldom) == told
    assert label_of(base | {"suffix_window": 32}) == "rule fixed"  # vanilla sees all of the row
