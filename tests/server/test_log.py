"""The log on stderr: for people on a terminal, an object a line for programs; no client's text in either."""

import io
import json
import logging
import os
import re
import subprocess

import httpx
import pytest

from llada_exp.jobs.local import stop
from llada_exp.server.log import JsonLine, TextLine, set_up
from llada_exp.server.routes.errors import ApiError, bad_request
from llada_exp.server.state.request_facts import RequestFacts
from tests.server.conftest import FAKE, say

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
TIME = r"\d\d:\d\d:\d\d "


@pytest.fixture
def on_a_terminal(tmp_path):
    """The fake server with a terminal as its stderr; (URL, a function that stops it and gives its lines)."""
    ours, theirs = os.openpty()
    words = ["port=0", "batch_size=4", f"hydra.run.dir={tmp_path}"]
    server = subprocess.Popen([*FAKE, *words], stdout=subprocess.PIPE, stderr=theirs, start_new_session=True)
    os.close(theirs)

    def lines():
        stop(server)
        text = b""
        while True:
            try:
                text += os.read(ours, 65536)
            except OSError:  # the last of its processes has closed it
                return text.decode().splitlines()

    try:
        yield re.search(rb"http://\S+", server.stdout.readline())[0].decode(), lines
    finally:
        stop(server)
        server.stdout.close()
        os.close(ours)


def test_on_a_terminal_a_request_is_a_short_line_and_a_mistake_has_no_traceback(on_a_terminal):
    url, lines = on_a_terminal
    with httpx.Client(base_url=url, timeout=20) as client:
        client.post(TEXT, json={"prompt": "hello", "n": 2, "seed": 1}, headers={"x-request-id": "mine"})
        client.post(CHAT, json={"messages": "a private matter"})
        client.post(CHAT, json=say("a private matter", max_tokens=0))
        client.post(CHAT, content=b"{")
        client.post("/chat/completions", json={})
        client.post(TEXT + "%0a12:00:00 error: forged%1b[31m", json={})
        client.get("/health")
        with client.stream("POST", TEXT, json={"prompt": "slow " + 60 * "so ", "stream": True}) as answer:
            next(answer.iter_text())
        client.post(TEXT, json={"prompt": "crash"})
    said = lines()
    assert not [line for line in said if line.startswith("{")]
    assert "private matter" not in "\n".join(said)
    requests = [line for line in said if re.match(TIME + r"[A-Z]+ /", line)]
    expected = [
        TEXT + r" 200, 31 tokens of 2 answers in [\d.]+ s, [\d.]+ tokens/s, id mine",
        CHAT + r" 400: messages: expected a non-empty list of messages, [\d.]+ s",
        CHAT + r" 400: max_tokens is 0; expected an integer >= 1, [\d.]+ s",
        CHAT + r" 400: the body is not JSON: .*, [\d.]+ s",
        r"/chat/completions 404: Not Found, [\d.]+ s",
        TEXT + r"\\n12:00:00 error: forged\\x1b\[31m 404: Not Found, [\d.]+ s",
        TEXT + r" 200 cancelled: the client closed the connection, .*",
        TEXT + r" 500: the model failed while decoding \(RuntimeError\), .*",
    ]
    for line, pattern in zip(requests, expected, strict=True):
        assert re.fullmatch(f"{TIME}POST {pattern}", line), (line, pattern)
    assert said.count("RuntimeError: a kernel failed") == 1, "a fault of ours has its traceback"
    assert re.fullmatch(TIME + "error: a step failed; the requests in it are given up",
                        next(line for line in said if "a step failed" in line))  # fmt: skip


@pytest.mark.parametrize(
    ("log_format", "is_terminal", "formatter"),
    [
        ("auto", True, TextLine),
        ("auto", False, JsonLine),
        ("text", False, TextLine),
        ("json", True, JsonLine),
    ],
)
def test_the_form_is_the_configured_one_or_by_the_terminal(monkeypatch, log_format, is_terminal, formatter):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(logging, "captureWarnings", lambda _: None)
    set_up("info", log_format)
    assert [type(handler.formatter) for handler in root.handlers] == [formatter]


@pytest.mark.parametrize("form", [TextLine(), JsonLine()])
def test_a_line_stays_one_whatever_was_sent(form):
    """Half of a character, too, which no terminal or file could take."""
    record = logging.LogRecord("x", logging.INFO, "f", 1, "a\nb\u2028c\x1b[2J\ud83d %s", ("d\r",), None)
    line = form.format(record)
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line
    line.encode(errors="backslashreplace")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (bad_request("messages[0].content is {'a secret': 1}; expected a text", "messages[0].content"),
         "messages[0].content: expected a text"),
        (bad_request("prompt is 'a secret; expected x'; expected ids", "prompt"), "prompt: expected ids"),
        (bad_request("prompt[1]: a secret", "prompt[1]", "invalid_value"), "prompt[1]: invalid value"),
        (bad_request("suffix is 'a secret', which is not supported: at its end alone; only ''", "suffix",
                     "unsupported_value"), "suffix: unsupported value"),
        (bad_request("the maximum is 40 tokens; you have 60", "messages", "context_length_exceeded"),
         "the maximum is 40 tokens; you have 60"),
        (bad_request("seed is 'x'; expected an integer", "seed"), "seed is 'x'; expected an integer"),
        (ApiError(503, "the server is starting"), "the server is starting"),
    ],
)  # fmt: skip
def test_an_error_is_logged_in_words_that_hold_no_text_of_a_client(error, words):
    assert error.logged() == words


def test_a_request_in_words_and_as_an_object():
    facts = RequestFacts("abc", TEXT, status=500, error="x" * 1000, e2el_s=2.0, outcome="failed")
    assert len(facts.words()) < 260
    assert facts.line()["error"] == "x" * 1000
    done = RequestFacts("abc", TEXT, status=200, outcome="ok", output_tokens=9, num_choices=1, e2el_s=3.0)
    assert done.words() == f"POST {TEXT} 200, 9 tokens in 3.00 s, 3.0 tokens/s"
    assert json.loads(json.dumps(done.line()))["error"] is None
