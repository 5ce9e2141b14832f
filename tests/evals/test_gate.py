"""The gate's own bookkeeping; what it measures is in faults.py and in the embedded model's tests."""

import json
from dataclasses import asdict

import pytest

from llada_exp.evals import gate
from llada_exp.evals.stats import proportion


def outcome(setting, correct=(True, False)):
    return gate.Outcome(
        setting=setting, kind="short", accuracy=proportion(correct), versus=None, agreement=1.0, nfe=2.0,
        tpf=1.0, positions_per_token=3.0, output_throughput=4.0, correct=correct, texts=("a", "b"),
    )  # fmt: skip


def test_a_resumed_gate_decodes_only_what_is_missing(tmp_path, monkeypatch):
    """Prevents an interrupted run of an hour from starting over, and a row compared with another
    run's vanilla."""
    vanilla, dual = outcome(gate.VANILLA), gate.against(outcome(gate.VANILLA), outcome("dual"))
    path = tmp_path / "outcomes.jsonl"
    path.write_text("".join(json.dumps(asdict(x)) + "\n" for x in (vanilla, dual)))
    decoded = []

    def measure(engine, kind, problems, setting, params):
        decoded.append(setting)
        return outcome(setting, (False, True))

    monkeypatch.setattr(gate, "measure", measure)
    known = gate.known_outcomes(path, 2)
    settings = {"dual": {"cache": "dual"}, "prefix": {"cache": "prefix"}}
    found = gate.run(None, ["short"], settings, 2, known=known)
    assert decoded == ["prefix"]
    assert found[:2] == [vanilla, dual]
    assert (found[2].versus.gained, found[2].versus.lost) == (1, 1)
    assert gate.known_outcomes(path, 3) == {}, "another number of problems is another measurement"


def test_a_wrong_file_is_named(tmp_path):
    (tmp_path / "x").write_text("{}")
    with pytest.raises(ValueError, match=r"resume is .*x"):
        gate.known_outcomes(tmp_path / "x", 2)
