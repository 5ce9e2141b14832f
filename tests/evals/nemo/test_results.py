"""What NeMo-Skills' files and the relay's record say of a run."""

import json

import pytest

from llada_exp.evals.nemo.results import (
    first_look,
    read_results,
    verify_parameters,
)
from tests.evals.nemo.fakes import recorded, response
from tests.evals.nemo.test_command import plan


def lines(record, *bodies, **decoding):
    told = [(body, response(body, **decoding)) for body in bodies]
    record.write_text("".join(json.dumps(recorded(*pair)) + "\n" for pair in told))


BODY = {"messages": [{"content": "2 + 3"}], "seed": 0, "max_tokens": 9, "temperature": 0.7, "top_p": 0.95}


def test_a_parameter_that_did_not_arrive_is_an_error_that_counts(record):
    """What a wrapper whose extra_body is dropped would report as a score with 64 steps."""
    lines(record, BODY, BODY | {"steps": 32})
    with pytest.raises(
        RuntimeError, match=r"steps was asked as 32, but the server used 64 in 1 of 2 responses"
    ):
        verify_parameters({"steps": 32}, record)
    assert "steps was asked as 32" in first_look({"steps": 32}, record)()


def test_parameters_that_are_the_same_in_other_words_are_the_same(record):
    lines(record, BODY, rule="threshold", steps=None)
    asked = {
        "user": "me",
        "temperature": 0.7,
        "top_k": -1,
        "threshold": 0.90000000000000002,
        "max_tokens": 9.0,
    }
    assert verify_parameters(asked, record) is None
    assert first_look(asked, record)() is None


def test_another_make_of_server_is_not_verified_and_said_so(record):
    told = response(BODY)
    del told["llada"]
    record.write_text(json.dumps(recorded(BODY, told)) + "\n")
    assert "1 of 1 responses do not say" in verify_parameters({"steps": 32}, record)
    assert first_look({"steps": 32}, record)() is None


def test_a_record_with_failures_and_cut_off_is_read_for_its_responses(record):
    failed = {
        "status": 400,
        "body": None,
        "llada": None,
        "texts": [],
        "usage": None,
        "error": {"message": "no"},
    }
    lines(record, BODY)
    with record.open("a") as file:
        file.write(json.dumps(failed) + '\n{"body": {"se')
    assert verify_parameters({"steps": 64}, record) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({}, r"output-rs0.jsonl:1: has nothing; expected generation, predicted_answer"),
        (
            {"problem": "p", "generation": "g"},
            r"has generation, problem; expected .* one of symbolic_correct",
        ),
        ("{", r"output-rs0.jsonl:1: not JSON"),
    ],
)
def test_a_shape_that_is_not_known_is_an_error_that_names_it(tmp_path, line, message):
    own = plan(tmp_path, benchmarks={"gsm8k": 1})
    path = own.outputs()["gsm8k", 0]
    path.parent.mkdir(parents=True)
    path.write_text(line if isinstance(line, str) else json.dumps(line) + "\n")
    with pytest.raises(RuntimeError, match=message):
        read_results(own)


@pytest.mark.parametrize("said", [{}, {"nfe": 3}, {"decoding": None}, {"decoding": []}, "fast"])
def test_a_response_that_says_nothing_of_its_decoding_is_silent_and_no_other_decoding(tmp_path, said):
    """Prevents "max_tokens was asked as 512, but the server used None" of a server that does not say."""
    good = {"body": {}, "texts": ["1"], "llada": {"decoding": {"max_tokens": 512}}}
    record = tmp_path / "relay.jsonl"
    record.write_text("".join(json.dumps(line) + "\n" for line in (good, {**good, "llada": said})))
    assert "1 of 2 responses do not say" in verify_parameters({"max_tokens": 512}, record)
