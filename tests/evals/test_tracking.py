"""W&B mirrors an evaluation: scores and verdicts; texts only where they are asked for."""

import json
from functools import partial

from llada_exp.evals import answers
from llada_exp.evals.schema import complete
from llada_exp.evals.tracking import content as logged
from llada_exp.runs.settings import Tracking
from llada_exp.runs.tracking import mirror
from tests.evals.samples import answer
from tests.wandb_log import content


def tracked(folder, log_text=False, **row):
    folder.mkdir(parents=True)
    own = [answer(i, question="SECRET QUESTION", response="SECRET TEXT", nfe=3) for i in range(4)]
    answers.write(folder / answers.FILE, own)
    told = {"sweep": "a-sweep", "point": folder.name, "benchmark": "b", "accuracy": 0.5, "failed": 0, **row}
    rows = [complete(told)]
    (folder / "row.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    mirror(Tracking("offline", "project", None, log_text), folder, rows[0], "eval", {"seed": 0},
           partial(logged, folder, rows, log_text))  # fmt: skip
    return content(folder, b"/accuracy")


def test_scores_are_there_and_texts_are_not(tmp_path):
    kept = tracked(tmp_path / "one")
    for word in (b"a-sweep", b"eval", b"b/accuracy", b"answers"):
        assert word in kept, word
    assert b"SECRET" not in kept
    (table,) = (tmp_path / "one").glob("wandb/offline-run-*/files/media/table/*.json")
    assert "verdict" in json.loads(table.read_text())["columns"]


def test_texts_are_there_where_they_are_asked_for(tmp_path):
    assert b"SECRET QUESTION" in tracked(tmp_path / "one", log_text=True)


def test_a_checkpoint_comes_with_the_curve_so_far(tmp_path):
    tracked(tmp_path / "step_1", checkpoint_step=1)
    tracked(tmp_path / "step_2", checkpoint_step=2)
    assert list((tmp_path / "step_2").glob("wandb/offline-run-*/files/media/images/accuracy_by_step*.png"))
