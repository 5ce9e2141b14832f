"""The builtin harness: every question is asked once, whatever becomes of some of them."""

import json
import time

import pytest

from llada_exp.clients.pool import ServersGone
from llada_exp.evals import answers
from llada_exp.evals.builtin import questions
from llada_exp.evals.request_loop import Refused
from llada_exp.evals.target import Target
from tests.evals.endpoint import completion, endpoint, failure
from tests.evals.samples import settings


@pytest.fixture
def twelve(tmp_path):
    """Problems q0 .. q11, whose answers are 0 .. 11."""
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"problem": f"q{i}", "expected_answer": i}) + "\n" for i in range(12)))
    return path


def right(body):
    return completion(f"\\boxed{{{body['messages'][0]['content'][1:]}}}")


def ask(own, file, folder, *overrides):
    folder.mkdir(exist_ok=True)
    told = settings(f"benchmark='{file}'", f"url={own.url}", "max_retries=1", "patience=0.3", *overrides)
    return questions.ask(told, Target(told.urls, "toy"), folder, questions.load(told))


def test_every_sample_is_asked_once_with_its_seed_and_fields(twelve, tmp_path):
    with endpoint(right) as own:
        found, num_before = ask(
            own, f"{twelve}:2", tmp_path / "a", "seed=5", "decoding.steps=8", "concurrency=3"
        )
        assert sorted(own.questions()) == sorted((f"q{i}", seed) for i in range(12) for seed in (5, 6))
        assert own.most <= 3
        assert {body["steps"] for body in own.bodies} == {8}
        assert {body["model"] for body in own.bodies} == {"toy"}
    assert num_before == 0
    assert [(a.problem, a.sample) for a in found] == [(str(i), s) for i in range(12) for s in range(2)]
    assert all(a.correct and a.output_tokens == 5 and a.url == own.url for a in found)
    assert answers.read(tmp_path / "a" / answers.FILE) == found


def test_without_a_chat_template_the_prompt_goes_as_it_is(twelve, tmp_path):
    def reply(body):
        assert "messages" not in body
        return 200, {"choices": [{"text": f"\\boxed{{{body['prompt'][3:]}}}", "finish_reason": "stop"}]}

    with endpoint(reply) as own:
        found, _ = ask(own, twelve, tmp_path / "a", "chat_template=false", "builtin.prompt='Q:{problem}'")
        assert set(own.paths) == {"/v1/completions"}
    assert all(a.correct and a.output_tokens is None for a in found)


def test_one_bad_problem_is_told_of_and_the_others_are_answered(twelve, tmp_path):
    """Prevents a prompt that is too long from ending a night's run."""

    def reply(body):
        return failure(400, "too long") if body["messages"][0]["content"] == "q3" else right(body)

    with endpoint(reply) as own:
        found, _ = ask(own, twelve, tmp_path / "a")
        assert len(own.bodies) == 12, "a 400 is not asked again"
    (bad,) = [a for a in found if a.verdict == answers.FAILED]
    assert (bad.problem, bad.error) == ("3", "400: too long")


def test_answers_of_another_shape_are_failures_not_crashes(twelve, tmp_path):
    with endpoint(lambda body: (200, {"choices": []})) as own:
        found, _ = ask(own, twelve, tmp_path / "a")
    assert {a.verdict for a in found} == {answers.FAILED}


def test_a_mistake_in_every_request_ends_the_run_early(twelve, tmp_path):
    with endpoint(lambda body: failure(400, "threshold contradicts steps")) as own:
        with pytest.raises(Refused, match="refused the first 8 requests; the last with 400: thresh"):
            ask(own, twelve, tmp_path / "a", "concurrency=1")
        assert len(own.bodies) == 8
    with (
        endpoint(lambda body: failure(401, "bad key")) as own,
        pytest.raises(Refused, match=r"refuses the key \(bad key\); it comes from LLADA_API_KEY"),
    ):
        ask(own, twelve, tmp_path / "b")


def test_a_parameter_that_the_server_did_not_use_ends_the_run(twelve, tmp_path):
    """Prevents a score under `steps=8` of answers that another rule decoded."""

    def reply(body):
        status, tree = right(body)
        return status, {**tree, "llada": {"decoding": {"steps": None, "threshold": 0.9}}}

    with endpoint(reply) as own:
        with pytest.raises(Refused, match="steps was asked as 8, but the server used None"):
            ask(own, twelve, tmp_path / "a", "decoding.steps=8")
        found, _ = ask(own, twelve, tmp_path / "b", "decoding.threshold=0.9", "extra_body={new: 1}")
    assert len(found) == 12


def test_a_server_that_goes_ends_the_run_and_resuming_asks_the_rest_only(twelve, tmp_path):
    """Prevents a restart of the server from costing what was answered before."""
    stopped = []

    def reply(body):
        if len(stopped) >= 5:
            time.sleep(30)
        stopped.append(body)
        return right(body)

    folder = tmp_path / "a"
    with endpoint(reply) as own:
        began = time.monotonic()
        told = settings(f"benchmark='{twelve}'", f"url={own.url}", "concurrency=1", "patience=60")
        folder.mkdir()
        gone = Target(told.urls, "toy")
        object.__setattr__(gone, "alive", lambda: "its process ended" if len(stopped) >= 5 else None)
        with pytest.raises(ServersGone, match="its process ended"):
            questions.ask(told, gone, folder, questions.load(told))
        assert time.monotonic() - began < 20, "noticed while a request was in flight"
    kept = answers.read(folder / answers.FILE)
    assert len(kept) == 5
    with endpoint(right) as own:
        found, num_before = ask(own, twelve, folder)
        assert sorted(q for q, _ in own.questions()) == sorted(f"q{i}" for i in range(5, 12))
    assert num_before == 5
    assert all(a.correct for a in found)
    assert [a.problem for a in found] == [str(i) for i in range(12)]


def test_failures_are_asked_again_when_one_resumes(twelve, tmp_path):
    folder = tmp_path / "a"
    with endpoint(lambda b: failure(500) if b["messages"][0]["content"] == "q3" else right(b)) as own:
        found, _ = ask(own, twelve, folder, "max_retries=0")
    assert [a.problem for a in found if a.verdict == answers.FAILED] == ["3"]
    with endpoint(right) as own:
        found, num_before = ask(own, twelve, folder)
        assert [q for q, _ in own.questions()] == ["q3"]
    assert num_before == 11
    assert all(a.correct for a in found)
