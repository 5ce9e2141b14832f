"""Is an answer right? Reading it out of a response, comparing it, and the same verdict at every door."""

import time
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from llada_exp.bench.client import judge, run_load
from llada_exp.bench.settings import Load
from llada_exp.bench.workload import Prompt
from llada_exp.clients.pool import PoolResponse
from llada_exp.evals.builtin import questions
from llada_exp.evals.builtin.benchmarks import Problem
from llada_exp.gate import measure as gate
from llada_exp.scoring import Scorer, decide, decide_response, extract, plain, vote
from llada_exp.tiny import tasks
from llada_exp.types import DecodingParams
from llada_exp.verifier import equal
from tests.bench import fakes


@pytest.fixture(scope="module")
def scorer():
    with Scorer("math_verify", timeout_s=5.0) as own:
        yield own


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so \\boxed{12}", "12"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("#### 55\n", "55"),
        ("1 + 1\n#### 07", "07"),
        ("\\boxed{3}, no: \\boxed{4}", "4"),
        ("\\boxed{3} #### 4", "4"),
        ("#### 3 ... #### 12", "12"),
        ("#### 4, that is \\boxed{5}", "5"),
        ("#### 5 and \\boxed{ 6 }", "6"),
        ("#### 10 apples\nThat is all.", "10 apples"),
        ("#### The answer is \\boxed{5}.", "5"),
        ("#### 5\n####", "5"),
        ("\\boxed{5}. I put it into \\boxed{}.", "5"),
        ("\\boxed{\\boxed{7}}", "7"),
        ("\\boxed{5 #### 6}", "5 #### 6"),
        ("##### 5", None),
        ("\\boxed{", None),
        ("\\boxed{}", None),
        ("####", None),
        ("it is 5", None),
        ("", None),
    ],
)
def test_the_last_marked_answer_counts_and_an_unmarked_one_does_not(text, answer):
    assert extract(text) == answer


def test_a_model_that_repeats_itself_is_read_in_no_time():
    began = time.monotonic()
    assert extract("\\boxed{" * 20_000 + "3}") == "3"
    decide("-" + " " * 20_000 + "x", "$" * 20_000)
    assert decide("x" + "</s>" * 100_000, "5") is False  # took minutes
    assert vote("-" + " " * 20_000 + "x").startswith("-")
    assert decide("x" * 100_000, "x" * 100_000)
    assert time.monotonic() - began < 5


CASES = [
    # response, expected, verdict
    ("#### 10 apples", "10", "correct"),  # was wrong in evals
    ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", "correct"),  # was wrong in bench: braces inside
    ("\\boxed{\\frac{1}{2}}", "0.5", "correct"),
    ("\\boxed{\\dfrac{1}{2}}", "1/2", "correct"),
    ("07 + 8 = 15, 55\n#### 55", "55", "correct"),
    ("#### 54\nno: #### 55", "55", "correct"),
    ("#### 55", "55.0", "correct"),
    ("#### 07", "7", "correct"),
    ("#### **55**.", "55", "correct"),
    ("#### 55<|eot_id|>", "55", "correct"),
    ("so \\boxed{1,234}.", "1234", "correct"),
    ("\\boxed{1{,}234}", "1234", "correct"),
    ("\\boxed{$1,000$}", "1000", "correct"),
    ("\\boxed{.50}", "0.5", "correct"),
    ("#### -5", "-5", "correct"),
    ("#### \u22125", "-5", "correct"),
    ("#### $18 per day", "18", "correct"),
    ("#### 18", "$18", "correct"),
    ("\\boxed{10\\text{ cm}}", "10", "correct"),
    ("\\boxed{50\\%}", "50", "correct"),
    ("\\boxed{50\\%}", "0.5", "correct"),
    ("#### 3 million", "3000000", "correct"),
    ("\\boxed{\\text{Tom}}", "Tom", "correct"),
    ("\\boxed{x+1}", "x+1", "correct"),
    ("\\boxed{x+1}", "1+x", "correct"),
    ("\\boxed{x=10}", "10", "correct"),
    ("\\boxed{\\{1,2\\}}", "\\{2,1\\}", "correct"),
    ("\\boxed{1,2}", "12", "wrong"),  # was right: every comma was dropped
    ("\\boxed{10x}", "10", "wrong"),
    ("#### 5", "55", "wrong"),
    ("#### 5 5", "55", "wrong"),
    ("#### 5!", "5", "wrong"),
    ("\\boxed{5}", "-5", "wrong"),
    ("\\boxed{100000000000000000001}", "100000000000000000000", "wrong"),
    ("\\boxed{1/0}", "1", "wrong"),
    ("\\boxed{\\frac{1}{}", "3", "no_answer"),
    ("\\boxed{\\frac{1}{}}", "3", "wrong"),
    ("#### Tom", "Anna", "wrong"),
    ("55", "55", "no_answer"),
    ("", "3", "no_answer"),
]


@pytest.mark.parametrize(("response", "expected", "verdict"), CASES)
def test_verdicts(scorer, response, expected, verdict):
    assert scorer.verdict(extract(response), expected) == verdict
    assert scorer.is_right(response, expected) == (verdict == "correct")


LOAD = Load(concurrency=4, rate=None, arrival="poisson", burst_size=4, num_requests=1, duration=None,
            warmup=0, repeats=1, stream=False, timeout=30)  # fmt: skip


def by_bench(cases, scorer):
    responses = {f"q{number}": response for number, (response, _, _) in enumerate(cases)}
    prompts = [
        Prompt(({"role": "user", "content": f"q{number}"},), expected=expected)
        for number, (_, expected, _) in enumerate(cases)
    ]

    async def reply(request, body):
        return await fakes.answer(responses[body["messages"][0]["content"]])(request, body)

    with fakes.served() as endpoint:
        endpoint.handler = reply
        records = run_load(endpoint.url, iter(prompts), LOAD, {}, seed=0).records
    judge(records, scorer)
    return [record.correct for record in records]


def by_evals(cases, scorer):
    answers = []
    for response, expected, _ in cases:
        question = questions.Question(Problem("b", "0", "q", expected), 0)
        body = {"choices": [{"message": {"content": response}}]}
        answers.append(
            questions.judged(question, {"seed": 0}, PoolResponse(200, body, "http://a:1", 1, 0.0), scorer)
        )
    return [answer.correct for answer in answers]


def by_gate(cases, scorer):
    outputs = [
        SimpleNamespace(text=response, token_ids=[1], nfe=1, num_positions=1) for response, _, _ in cases
    ]
    engine = SimpleNamespace(chat=lambda chats, params, progress: outputs)
    problems = [tasks.TinyProblem("short", "q", "work", expected) for _, expected, _ in cases]
    return list(gate.measure(engine, "short", problems, "vanilla", DecodingParams()).correct)


@pytest.mark.parametrize("door", [by_bench, by_evals, by_gate])
def test_bench_evals_and_gate_judge_alike(door, scorer):
    """Prevents one answer from being right in a benchmark and wrong in an evaluation."""
    verdicts = dict(zip(CASES, door(CASES, scorer), strict=True))
    assert verdicts == {case: case[2] == "correct" for case in CASES}


WHOLE = st.integers(-(10**6), 10**6).map(Fraction)
PARTS = st.builds(Fraction, st.integers(-200, 200), st.integers(1, 40))
CENTS = st.integers(-(10**5), 10**5).map(lambda n: Fraction(n, 100))
VALUES = WHOLE | PARTS | CENTS


@st.composite
def spelled(draw, values=VALUES):
    """A number, and one of the ways to write it."""
    value = draw(values)
    up, down = value.numerator, value.denominator
    ways = [f"{up}/{down}", f"\\frac{{{up}}}{{{down}}}" if up >= 0 else f"-\\frac{{{-up}}}{{{down}}}"]
    if 100 % down == 0:
        ways += [f"{float(value):.2f}", f"{float(value):,.2f}"]
    if down == 1:
        ways += [f"{up}", f"{up:,}", f"{up}.", f"{up}.0"]
        ways += [f"{'-' * (up < 0)}{abs(up):04d}"]
    text = draw(st.sampled_from(ways))
    return value, draw(st.sampled_from(["{}", "${}$", " {} ", "**{}**"])).format(text)


UNITS = st.sampled_from(["", " apples", " km/h", " dollars per day", "\\text{ cm}", " Äpfel"])
FRAMES = st.sampled_from(["#### {}", "####{}", "#### {}\n", "\\boxed{{{}}}", "$\\boxed{{ {} }}$."])
BEFORE = st.sampled_from(["", "07 + 8 = 15\n", "#### 12\nno: ", "\\boxed{12}, no: ", "\\boxed{} holds it: "])
AFTER = st.sampled_from(["", "\nAnd so on, 13 times.", "\n**Done**", "\nput it in \\boxed{}"])


@given(spelled(), UNITS, FRAMES, BEFORE, AFTER, spelled())
def test_a_number_is_read_whatever_stands_around_it(answer, unit, frame, before, after, other):
    """By value, in microseconds: no frame of a plain number may need math-verify."""
    (value, text), (same, expected) = answer, other
    response = before + frame.format(text + unit) + after
    assert decide_response(response, str(value)) is True
    assert decide_response(response, expected) is (abs(value - same) <= max(abs(value), abs(same)) / 10**9)
    assert vote(extract(response)) == vote(str(value))


@settings(max_examples=60, deadline=None)
@given(spelled(), spelled() | spelled(st.just(Fraction(1, 2))))
@example((Fraction(1, 2), "1/2"), (Fraction(1, 2), "0.50"))
@example((Fraction(1234), "1,234"), (Fraction(1234), "1234"))
def test_the_quick_way_and_math_verify_say_the_same(one, other):
    """Prevents a verdict that depends on which of the two gave it."""
    assume(abs(one[0] - other[0]) > Fraction(1, 10**4) or one[0] == other[0])  # it rounds to six digits
    left, right = plain(one[1]), plain(other[1])
    assert decide(left, right) is equal(left, right)


@given(st.text(alphabet="0123456789.,-+/$%\\{}#fracboxedtext ^*=x", max_size=60), st.text(max_size=10))
def test_any_text_is_judged_and_is_the_same_as_itself(text, expected):
    decide_response(text, expected)
    assert decide(text, expected) == decide(expected, text)
    assert decide(text, text) is True
    assert vote(text) == vote(f" {text} ")


def test_exact_match_needs_no_mathematics():
    with Scorer("exact") as own:
        assert own.verdict("55", "55.0") == "correct"
        assert own.verdict("1/2", "0.5") == "correct"
        assert own.verdict("x+1", "1+x") == "wrong"
        assert own._child is None


def test_what_the_quick_way_decides_starts_no_process():
    """Prevents a benchmark of sums from starting math-verify beside the server that it measures."""
    with Scorer() as own:
        for expected in ("55", "54"):
            own.is_right("#### 55 apples", expected)
        assert own._child is None


def test_an_expression_without_end_is_wrong_and_the_next_one_is_still_read():
    """Prevents one answer of a model from stopping an evaluation for ever."""
    with Scorer("math_verify", timeout_s=1.0) as own:
        assert own.verdict("10^{10^{10}}", "3") == "wrong"
        assert own.verdict("x+1", "1+x") == "correct"
        began = time.monotonic()
        assert own.verdict("10^{10^{10}}", "3") == "wrong"
        assert time.monotonic() - began < 0.5, "a pair is asked once"
