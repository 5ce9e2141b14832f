"""A stopped lm-eval run goes on where it stood, and asks nothing twice."""

import pytest

from llada_exp.evals.lm.records import Records, RequestPlace, fingerprint
from llada_exp.evals.result import RequestCounts

A, B = RequestPlace("t", 0, 0, 0), RequestPlace("t", 0, 1, 0)


def test_what_was_kept_is_found_by_a_later_run(tmp_path):
    path = tmp_path / "lm_eval" / "records.jsonl"
    first = Records(path)
    first.put(A, "a", {"value": 1.5})
    later = Records(path)
    assert later.get(A, "a") == {"value": 1.5}
    assert later.get(B, "b") is None
    assert later.num_before == 1
    assert later.of("t", 0) == [{"value": 1.5}]


def test_a_failure_is_asked_again(tmp_path):
    Records(tmp_path / "r").put(A, "a", {"response": "", "error": "500: no"})
    assert Records(tmp_path / "r").get(A, "a") is None


def test_a_line_that_was_cut_off_is_dropped_and_others_are_refused(tmp_path):
    """Else the next record would be glued to half a line, and the run after it could not go on."""
    path = tmp_path / "r"
    Records(path).put(A, "a", {"value": 1})
    path.write_text(path.read_text() + '{"key": "b", "val')
    Records(path).put(B, "b", {"value": 2})
    assert [Records(path).get(p, k) for p, k in ((A, "a"), (B, "b"))] == [{"value": 1}, {"value": 2}]
    path.write_text("1\n")
    with pytest.raises(ValueError, match=":1: "):
        Records(path)


def test_a_documents_records_come_in_the_order_of_its_choices():
    own = Records()
    own.put(B, "b", {"value": 2})
    own.put(A, "a", {"value": 1})
    own.put(RequestPlace("t", 1, 0, 0), "c", {"value": 3, "num_cut": 4})
    assert [r["value"] for r in own.of("t", 0)] == [1, 2]
    assert own.counts("t") == RequestCounts(3, 0, 1)


def test_a_fingerprint_tells_settings_apart():
    assert fingerprint("x", {"b": 1, "a": 2}) == fingerprint("x", {"a": 2, "b": 1})
    assert fingerprint("x", {"a": 1}) != fingerprint("x", {"a": 2})
