"""A job's prompt in a worker: its tokens, the room of its answer, and words that help where it has none."""

import pytest

from llada_exp.checkpoints import load_model
from llada_exp.engine import EngineCore
from llada_exp.fields import ContextLengthError
from llada_exp.server.processes import prompt_reader
from llada_exp.server.processes.fair_queue import FairQueue
from llada_exp.server.processes.prompt_reader import PromptReader
from llada_exp.server.processes.worker import Backend, Worker
from llada_exp.types import DecodingParams, Progress, RequestOutput
from tests.server.conftest import REFERENCE

LIMIT = 64
LOADED = load_model(source="hf", path=str(REFERENCE))
TOKENIZER = LOADED.tokenizer
ENDS = tuple(LOADED.model.special.ends)
CHAT = [{"role": "user", "content": "hi"}]


def worker(**settings):
    engine = EngineCore(LOADED.model, batch_size=4, max_length=LIMIT)
    return Worker(Backend(engine, TOKENIZER, end_ids=ENDS, **settings), worker_id=0)


def sent(kind, prompt, *, settings=None, params=None, **options):
    """The first message of a job."""
    one = worker(**(settings or {}))
    one.add(
        "a",
        {
            "kind": kind,
            "prompt": prompt,
            "params": DecodingParams(**params or {}),
            "stream": False,
            **options,
        },
    )
    return one.outbox[0]


@pytest.mark.parametrize(("kind", "prompt"), [("text", "abc"), ("ids", [5, 6, 7]), ("chat", CHAT)])
def test_where_no_length_is_named_the_answer_has_what_is_left(kind, prompt):
    message = sent(kind, prompt, params={"max_tokens": 256}, fits=True)
    assert message["kind"] == "admitted"
    assert message["max_tokens"] == LIMIT - message["prompt_tokens"]
    assert sent(kind, prompt, params={"max_tokens": 9}, fits=True)["max_tokens"] == 9, "up to the default"
    assert sent(kind, prompt, params={"max_tokens": 256})["code"] == "context_length_exceeded"


def test_a_prompt_without_room_for_an_answer_is_refused_for_its_own_length():
    message = sent("ids", [5] * LIMIT, params={"max_tokens": 256}, fits=True)
    assert message["message"] == (
        f"This model's maximum context length is {LIMIT} tokens. However, your request has {LIMIT} input "
        "tokens. Please reduce the length of the prompt."
    ), "of 256 tokens the client said nothing"
    assert message["param"] == "prompt"
    assert sent("ids", [5] * (LIMIT - 1), params={"max_tokens": 256}, fits=True)["max_tokens"] == 1


@pytest.mark.parametrize(
    ("prompt", "block_length", "advice"),
    [(9, 4096, "lower block_length"), (62, 10, "lower block_length"), (64, 9, "reduce the length of the p")],
)
def test_where_blocks_take_the_room_the_advice_is_about_them(prompt, block_length, advice):
    blocks = -(-(prompt + 256) // block_length) * block_length
    message = ContextLengthError(LIMIT, prompt, 256, block_length, blocks).words("p", fits=True)
    assert "256" not in message
    assert f"({LIMIT - LIMIT % block_length} in whole blocks of {block_length})" in message
    assert message.endswith(f"Please {advice}.")


def test_the_advice_names_what_the_client_wrote():
    message = sent("chat", CHAT, params={"max_tokens": 256}, names={"max_tokens": "max_completion_tokens"})
    assert message["message"].endswith("Please reduce the length of the messages or max_completion_tokens.")
    assert message["param"] == "messages"


def test_a_limit_of_prompts_is_said_as_set():
    message = sent("text", "a" * 30, settings={"max_prompt_tokens": 8}, fits=True)
    assert "context length is 8 tokens for a prompt, as set" in message["message"]


@pytest.mark.parametrize(("ids", "place"), [([5, 320], "prompt[2][1]"), ([293], "prompt[2][0]")])
def test_a_token_at_fault_is_named_by_its_place(ids, place):
    message = sent("ids", ids, place="prompt[2]")
    assert (message["status"], message["param"], message["code"]) == (400, place, "invalid_value")
    assert message["message"].startswith(f"{place} is ")


def test_a_text_at_fault_is_named_by_its_place():
    message = sent("text", "a<|mdm_mask|>", place="prompt[2]")
    assert message["message"].startswith("prompt[2]: token 2 of the prompt is 293")


def test_a_text_prompt_gets_its_bos_unless_it_is_left_out():
    flags = ({"add_special_tokens": True}, {"add_special_tokens": False}, {})
    counts = [sent("text", "abc", fits=True, **flag)["prompt_tokens"] for flag in flags]
    assert counts[0] == counts[1] + 1 == counts[2]
    assert sent("text", "", add_special_tokens=False)["message"].endswith("expected at least one token")


class Scripted:
    """An engine that answers with what it is told to, some ids a step."""

    def __init__(self, ids, size):
        self.left, self.ids, self.size = list(ids), tuple(ids), size

    def add_request(self, prompt_ids, params, **named):
        pass

    def step(self, on_failure=None):
        fresh, self.left = tuple(self.left[: self.size]), self.left[self.size :]
        output = None if self.left else RequestOutput("a", 1, self.ids, "stop", 1, 1, 0.0, 0.0, 0.0)
        return [Progress("a", fresh, output)]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("end", ENDS)
def test_special_tokens_are_text_where_that_is_asked_for_and_the_end_is_cut(end, size, stream):
    header = TOKENIZER.token_id("<|start_header_id|>")
    ids = [*TOKENIZER.encode_text("ab"), header, *TOKENIZER.encode_text("é🙂"), end]

    def text(**options):
        one = Worker(Backend(Scripted(ids, size), TOKENIZER, end_ids=ENDS), 0)
        params = DecodingParams(**options.pop("params", {}))
        one.add("a", {"kind": "text", "prompt": "x", "params": params, "stream": stream, **options})
        while one.engine.left:
            one.step()
        assert one.outbox[-1]["completion_tokens"] == len(ids)
        return "".join(message.get("text", "") for message in one.outbox)

    special = TOKENIZER.decode([end], keep_special=True)
    assert text() == text(skip_special_tokens=True) == "abé🙂"
    assert text(skip_special_tokens=False) == "ab<|start_header_id|>é🙂"
    assert text(skip_special_tokens=False, params={"stop": ("<|start",)}) == "ab"
    assert text(params={"stop": ("<|start",)}) == "abé🙂"
    whole = text(skip_special_tokens=False, params={"ignore_eos": True})
    assert whole == f"ab<|start_header_id|>é🙂{special}", "whoever sees no end cuts none"


class SharedInOneProcess:
    def __init__(self):
        self.prompts = FairQueue()
        self.cancelled = set()

    def take_cancelled(self, uids):
        return uids & self.cancelled


def list_of(*prompts):
    return [
        {
            "kind": kind,
            "prompt": prompt,
            "params": DecodingParams(max_tokens=50),
            "fits": True,
            "place": f"prompt[{i}]",
        }
        for i, (kind, prompt) in enumerate(prompts)
    ]


def messages_of_a_list(*prompts):
    one, out, shared = worker(max_prompt_tokens=20), [], SharedInOneProcess()
    shared.prompts.put(("u", 0.0, list_of(*prompts)), "request")
    PromptReader(one.prompts, one.engine.check, shared, out.append).run_one()
    assert out[0]["kind"] == "reading"
    assert not one.engine.has_work()
    return out[1:]


def test_a_long_list_gives_way_to_a_short_one_and_ends_where_its_client_goes(monkeypatch):
    """Prevents what there was: one client's texts were made into tokens while all others waited."""
    monkeypatch.setattr(prompt_reader, "TURN_S", -1.0)  # a prompt a turn
    one, out, shared = worker(), [], SharedInOneProcess()
    for name, count in (("long", 9), ("short", 2), ("gone", 9)):
        shared.prompts.put((name, 0.0, list_of(*[("text", "a")] * count)), name)
    reader = PromptReader(one.prompts, one.engine.check, shared, out.append)
    reader.run_one()
    assert [(m["kind"], m["uid"]) for m in out] == [("reading", name) for name in ("long", "short", "gone")]
    shared.cancelled.add("gone")
    while reader._readings:
        reader.run_one()
    assert [(m["kind"], m["uid"]) for m in out[3:]] == [("read", "short"), ("read", "long")]
    assert [list(ids) for ids in out[-1]["prompts"]] == [TOKENIZER.encode_prompt("a")] * 9


def test_a_list_is_read_as_a_whole():
    (message,) = messages_of_a_list(("text", "abc"), ("ids", [5, 6]))
    assert message["kind"] == "read"
    assert [list(ids) for ids in message["prompts"]] == [TOKENIZER.encode_prompt("abc"), [5, 6]]


@pytest.mark.parametrize(
    ("bad", "param"),
    [(("text", "a" * 99), "prompt[1]"), (("ids", [5] * 21), "prompt[1]"), (("ids", [5, 999]), "prompt[1][1]"),
     (("text", "<|mdm_mask|>"), "prompt[1]")],
)  # fmt: skip
def test_a_list_with_a_fault_says_where_it_is(bad, param):
    (message,) = messages_of_a_list(("text", "abc"), bad, ("text", "abc"))
    assert (message["kind"], message["status"], message["param"]) == ("failed", 400, param)
    assert message["message"].startswith(param)


def test_a_reader_that_stumbles_says_so_and_goes_on(monkeypatch):
    monkeypatch.setattr(TOKENIZER, "encode_prompt", None)
    (message,) = messages_of_a_list(("text", "abc"))
    assert message["status"] == 500
