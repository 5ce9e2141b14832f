"""Whatever bytes come: never a 5xx, never a dead worker, and always OpenAI's error shape.

Made from our own OpenAPI description (schemathesis), and by hand from what breaks parsers. The engine is
real: what passes the schema is decoded.
"""

import json

import hypothesis.strategies as st
import pytest
import schemathesis
from hypothesis import HealthCheck, example, given, settings

from llada_exp.decoding import ALIASES
from llada_exp.server.routes.fields import NEUTRAL
from llada_exp.types import MAX_COUNT, REQUEST_FIELDS
from tests.server.breakable import CHAT, wait_for
from tests.server.conftest import say

TEXT = "/v1/completions"
FUZZ = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    max_examples=60,
    print_blob=False,
)


@pytest.fixture(scope="module")
def described(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.fixture(scope="module", autouse=True)
def the_same_workers_afterwards(server):
    """No worker died, and nothing stays behind."""
    import httpx

    with httpx.Client(base_url=server.url, timeout=60) as http:
        pids = [w["pid"] for w in http.get("/batch/stats").json()["workers"]]
        yield

        def idle():
            stats = http.get("/batch/stats").json()
            return (
                stats["pending_requests"] == stats["currently_processing"] == stats["response_buffers"] == 0
            )

        assert wait_for(idle, 120)
        stats = http.get("/batch/stats").json()
        assert [w["pid"] for w in stats["workers"]] == pids
        assert http.get("/health").json()["status"] == "ready"


def test_whatever_the_description_allows(described):
    called = set()
    for result in described.get_all_operations():
        operation = result.ok()

        @settings(FUZZ, max_examples=80)
        @given(case=operation.as_strategy(), plain=st.booleans())
        def every(case, plain):
            small(case.body)
            if plain:
                known(case.body)
            response = case.call(timeout=120)
            called.add((case.method, case.path, response.status_code))
            assert response.status_code < 500, (case.body, response.text)

        every()
    assert {("POST", CHAT, 200), ("POST", TEXT, 200), ("GET", "/health", 200)} <= called, called


def known(body):
    """Without what nothing is named, and with a text in each message: nearly every case ends at these first
    checks otherwise, and which few do not hangs on the modules that Hypothesis takes constants from."""
    if not isinstance(body, dict):
        return
    for name in [name for name in body if not name.isidentifier() or not name.isascii()]:
        del body[name]
    if isinstance(body.get("messages"), list):
        body["messages"] = [{"role": "user", "content": "2 + 3"} for _ in body["messages"]]


def small(body):
    """Long answers cost time and find nothing; the longest is of requests that name no length."""
    if isinstance(body, dict):
        if not {"max_tokens", "max_completion_tokens"} & set(body):
            body["max_tokens"] = 4
        for name in ("max_tokens", "max_completion_tokens", "n"):
            if isinstance(body.get(name), int):
                body[name] = min(body[name], 4)


ODD = [10**400, -(2**63), 2**64, 1e308, "\x00", "\ud800", "<|mdm_mask|>", "<|eot_id|>", "🙂", ""]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.sampled_from(
    [*REQUEST_FIELDS, *ALIASES, *NEUTRAL, "model", "n", "stream", "stream_options", "messages", "prompt",
     "max_time", "unknown", "\ud83d", "skip_special_tokens", "add_special_tokens"]
)  # fmt: skip


def posted(http, path, body):
    """The status; body: bytes, or a tree (lone surrogates and NaN go out as JSON allows them to be said)."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http.post(path, content=data)
    assert answer.status_code < 500, (data[:300], answer.text[:300])
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return answer.status_code


@FUZZ
@given(st.dictionaries(FIELDS, JSON, max_size=3), st.sampled_from([CHAT, TEXT]))
def test_wrong_types_and_values_in_known_fields(http, fields, path):
    base = say("x", max_tokens=4) if path == CHAT else {"prompt": "x", "max_tokens": 4}
    posted(http, path, {**base, **fields})


@FUZZ
@given(st.text(max_size=200), st.text(min_size=1, max_size=20), st.lists(st.text(min_size=1), max_size=3))
def test_any_text_is_a_message(http, content, role, stop):
    body = say(content, max_tokens=4, stop=stop)
    body["messages"][0]["role"] = role
    posted(http, CHAT, body)


@FUZZ
@given(st.binary(max_size=200))
@example(b"")
@example(b"\x00")
@example(b"\xff\xfe\x00")
@example(b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}')
def test_any_bytes_are_a_bad_request(http, body):
    assert posted(http, CHAT, body) == 400


DEEP = 100_000
BIG = "x" * (10 * 2**20)
ENDS = "<|eot_id|>" * 2**20


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * DEEP + b"]" * DEEP,
        b'{"messages": ' + b"[" * DEEP + b"]" * DEEP + b', "prompt": "x"}',
        b'{"prompt": "x", "messages": [], "metadata": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        b'{"prompt": "x", "messages": [], "seed": 1' + b"0" * 10_000 + b"}",
        b'{"prompt": "x", "messages": [], "temperature": NaN}',
        b'{"prompt": "x", "messages": [], "temperature": 1e999}',
        b'{"prompt": "\\ud800", "messages": [{"role": "user", "content": "\\udfff"}]}',
        b'{"prompt": ["x", null], "messages": [null]}',
        b'{"prompt": [[0.5]], "messages": {"role": "user"}}',
        b'{"prompt": [1e3], "messages": [[]]}',
        b'{"prompt": [-1], "messages": [{"role": "user"}]}',
        b'{"prompt": [99999999999999999999], "messages": [{"content": "x"}]}',
        json.dumps({"prompt": BIG, "messages": [{"role": "user", "content": BIG}]}).encode(),
        json.dumps({"prompt": ENDS, "messages": [{"role": "user", "content": ENDS}]}).encode(),
        json.dumps({"prompt": [5] * 10**6, "messages": [{"role": "user", "content": "x"}] * 5000}).encode(),
    ],
    ids=lambda body: repr(body[:30]),
)  # fmt: skip
def test_what_breaks_parsers_is_a_bad_request(http, path, body):
    assert posted(http, path, body) == 400


COUNTS = {
    "top_k": {"temperature": 1.0},
    "steps": {},
    "steps_per_block": {},
    "tokens_per_step": {},
    "suffix_window": {},
    "refresh_window": {"cache": "dual", "refresh": "window"},
    "refresh_interval": {"cache": "dual", "refresh": "prompt_every"},
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_largest_count_is_decoded_and_a_larger_one_refused(http, name):
    """One top_k beyond what a tensor holds failed every step that it was in, its neighbours, and after ten
    workers the server."""
    most = {**say("What is 4 + 3?"), "max_tokens": 40, "seed": 0, **COUNTS[name], name: MAX_COUNT}
    assert posted(http, CHAT, most) == 200
    for value in (MAX_COUNT + 1, 2**63 - 1, 2**63, 2**64, 10**30):
        assert posted(http, CHAT, {**most, name: value}) == 400


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "block_length"])
@pytest.mark.parametrize("value", [2**31, 2**63, 2**64, 10**30])
def test_a_length_beyond_any_row_is_refused(http, name, value):
    assert posted(http, CHAT, {**say("What is 4 + 3?"), name: value}) == 400


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_null_byte_is_text(http, path):
    fields = {"prompt": "a\x00b"} if path == TEXT else say("a\x00b")
    assert posted(http, path, {**fields, "max_tokens": 4}) == 200
