"""What the text layer raises ends its own request: not the step, the worker, nor its neighbours."""

import pytest

from llada_exp.text import Tokenizer
from llada_exp.types import Progress, RequestOutput, TokenLogprob
from tests.server.conftest import REFERENCE
from tests.server.fakes import FakeTokenizer
from tests.server.test_worker import Wire


class PanicException(BaseException):
    """As of a tokenizer's Rust: no Exception."""


class Brittle(FakeTokenizer):
    """Raises once an answer holds a tilde, or a prompt a bang."""

    def __init__(self, error):
        self.error = error

    def decode(self, ids, keep_special=False):
        if ord("~") in ids:
            raise self.error
        return super().decode(ids)

    def encode_prompt(self, text):
        if "!" in text:
            raise self.error
        return super().encode_prompt(text)


ERRORS = [TypeError("no text"), MemoryError(), RecursionError(), PanicException("index out of bounds")]


def brittle(error):
    return Wire(tokenizer=Brittle(error))


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    "options", [{}, {"stream": True}, {"stop": ("zzz",)}, {"stop": ("zzz",), "stream": True}]
)
def test_a_piece_that_cannot_be_made_fails_its_request_alone(error, options):
    wire = brittle(error)
    wire.put("bad", "a long answer ~ that breaks", **options)
    wire.put("good", "a long answer that does not", **options)
    wire.run()
    assert wire.kinds("good")[-1] == "done"
    assert wire.of("bad")[-1]["status"] == 500
    assert wire.kinds("bad").count("failed") == 1
    assert "text" in wire.of("bad")[-1]["message"]
    assert type(error).__name__ in wire.of("bad")[-1]["message"]
    assert not wire.engine.rows, "its row is free"
    assert wire.worker.num_failed_steps == 0
    wire.put("next")
    assert wire.run().kinds("next") == ["admitted", "done"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_prompt_that_cannot_be_encoded_fails_alone(error):
    wire = brittle(error)
    wire.put("bad", "oh!")
    wire.put("good")
    wire.run()
    assert wire.kinds("good") == ["admitted", "done"]
    assert [m["status"] for m in wire.of("bad")] == [500]
    assert type(error).__name__ in wire.of("bad")[0]["message"]


def test_the_end_of_the_process_is_no_fault_of_a_request():
    wire = brittle(KeyboardInterrupt())
    wire.put("bad", "~")
    with pytest.raises(KeyboardInterrupt):
        wire.run()


class Says:
    """An engine that answers with ids, then ends at its length."""

    def __init__(self, *steps):
        self.steps, self.uid = list(steps), None

    def add_request(self, prompt, params, *, request_id, find_stop):
        self.uid, self.find_stop = request_id, find_stop
        return request_id

    def step(self, on_failure=None):
        ids = tuple(self.steps.pop(0))
        every = tuple(i for step in [ids] for i in step)
        output = None
        if not self.steps:
            output = RequestOutput(self.uid, 1, every, "length", 1, 1, 0.0, 0.0, 0.0)
            self.uid = None
        return [Progress("a", ids, output, tuple(TokenLogprob(i, -1.0, ((i, -1.0),)) for i in ids))]

    def abort_all(self):
        return []

    def has_work(self):
        return self.uid is not None

    def has_capacity(self, num_rows=1):
        return self.uid is None

    def stats(self):
        return {}


TOKENIZER = Tokenizer(REFERENCE)


def spoken(*steps, **options):
    wire = Wire(engine=Says(*steps), tokenizer=TOKENIZER, end_ids=(TOKENIZER.token_id("<|eot_id|>"),))
    wire.put("a", **options)
    return wire.run().of("a")


def test_a_stop_that_is_complete_only_with_a_broken_character_is_a_stop():
    """Its last characters are text only once no more ids can come."""
    first = TOKENIZER.encode_text("\u00e9")[:1]
    if TOKENIZER.decode(first) != "\ufffd":
        first = [i for i in range(300) if TOKENIZER.decode([i]) == "\ufffd"][:1]
    steps = [TOKENIZER.encode_text("ab"), [*TOKENIZER.encode_text("c"), *first]]
    for stream in (False, True):
        done = spoken(*steps, stop=("bc\ufffd",), stream=stream)[-1]
        assert done["finish_reason"] == "stop"
    assert "".join(m.get("text", "") for m in spoken(*steps, stop=("bc\ufffd",), stream=True)) == "a"
    assert spoken(*steps, stop=("x",))[-1]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_come_with_their_text_and_the_end_is_none_of_them(stream):
    end = TOKENIZER.token_id("<|eot_id|>")
    steps = [TOKENIZER.encode_text("one \u00e9"), TOKENIZER.encode_text(" two three"), [end]]
    for stops, text in (((), "one \u00e9 two three"), (("two",), "one \u00e9 "), (("wo",), "one \u00e9 t")):
        messages = spoken(*steps, stream=stream, logprobs=1, stop=stops)[1:]
        tokens = [t for m in messages for t in m["tokens"]]
        joined = b"".join(bytes(t["bytes"]) for t in tokens).decode()
        assert joined.startswith(text)
        assert all(t["offset"] < len(text) for t in tokens)
        if not stops:
            assert joined == text
        assert all(t["top"][0]["token"] == t["token"] for t in tokens)
    assert all("tokens" not in m for m in spoken(*steps, stream=stream))
