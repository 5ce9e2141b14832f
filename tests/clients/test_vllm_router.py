"""vllm-router over two servers, as `python -m llada_exp.jobs router` starts it; one is killed under load."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import pytest

from llada_exp.jobs import running_server
from tests.clients.environments import environment
from tests.server.conftest import ROOT

NUM_REQUESTS, AT_ONCE, KILL_AFTER = 300, 16, 100
KEY = "sesame"


@dataclass(frozen=True)
class Asked:
    """One request, and what came of it. text: as far as it came; whole: with an end, and not an error."""

    number: int
    began: float
    text: str
    whole: bool


def body_of(number):
    """Its path and fields. Every fourth is the same question in another form, with the same seed."""
    which = number // 4
    question = f"What is {17 + 3 * which} + {8 + 5 * which}?"
    fields = {"max_tokens": 48, "seed": which, "temperature": 0.7 * (which % 2), "threshold": 0.9}
    if number % 2:
        return "/v1/completions", {"prompt": question, **fields}
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": question}], **fields}


def is_streamed(number):
    return number % 4 >= 2


def ask(client, url, number, stream):
    path, body = body_of(number)
    began, text, whole = time.monotonic(), "", False
    try:
        with client.stream("POST", f"{url}{path}", json={**body, "stream": stream}) as answer:
            if not stream:
                answer.read()
                text, whole = (text_of(answer.json()), True) if answer.status_code == 200 else ("", False)
            else:
                for line in answer.iter_lines():
                    whole = whole or line == "data: [DONE]"
                    if line.startswith("data: {"):
                        text += text_of(json.loads(line[6:]))
    except httpx.TransportError:
        whole = False
    return Asked(number, began, text, whole)


def text_of(answer):
    choice = answer["choices"][0]
    return choice.get("text") or (choice.get("message") or choice.get("delta") or {}).get("content") or ""


@contextmanager
def router(*urls):
    """The router as one is told to start it; its URL."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(str(free.getsockname()[1]))
    words = ["router", *urls, "--port", ports[0], "--metrics-port", ports[1], "--start"]
    path = f"{environment('vllm_router')}:{os.environ['PATH']}"
    env = {
        **os.environ,
        "PATH": path,
        "LLADA_API_KEY": KEY,
        "PYTHONPATH": str(ROOT),
        "http_proxy": "http://a.b:1",
    }
    process = subprocess.Popen([sys.executable, "-m", "llada_exp.jobs", *words], env=env)
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            try:
                if httpx.get(f"{url}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def two_servers(tmp_path):
    (tmp_path / "key").write_text(KEY)
    words = [
        "batch_size=8",
        "decoding=fast",
        "server.extra_fields=ignore",
        f"api_key_file={tmp_path / 'key'}",
    ]
    with ExitStack() as stack:
        yield [stack.enter_context(running_server(words)) for _ in range(2)]


def test_a_killed_server_costs_what_was_streamed_from_it_and_nothing_else(two_servers):
    kept, killed = two_servers
    with httpx.Client(headers={"Authorization": f"Bearer {KEY}"}, timeout=120, trust_env=False) as client:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            forms = [n for n in range(NUM_REQUESTS) if not is_streamed(n)]
            lone = threads.map(lambda n: ask(client, kept.url, n, False), forms)
            alone = {one.number: one.text for one in lone}
        assert len(set(alone.values())) > 50, "answers differ, or nothing could be mixed up"
        done, killed_at = itertools.count(1), threading.Event()
        times = []

        def one(number):
            asked = ask(client, url, number, is_streamed(number))
            if next(done) == KILL_AFTER:
                times.append(num_completed(client, killed.url))
                os.kill(killed.pid, signal.SIGKILL)
                times.append(time.monotonic())
                killed_at.set()
            return asked

        with router(kept.url, killed.url) as url:
            assert httpx.get(f"{url}/v1/models").status_code == 401, "the router has no key of its own"
            with ThreadPoolExecutor(AT_ONCE) as threads:
                answers = list(threads.map(one, range(NUM_REQUESTS)))
            again = [ask(client, url, n, is_streamed(n)) for n in range(16)]
    served, when = times
    assert served > KILL_AFTER / 4, "both had their share"
    expected = {n: alone[n - 2 if is_streamed(n) else n] for n in range(NUM_REQUESTS)}
    for asked in [*answers, *again]:
        assert asked.text == expected[asked.number] or not asked.whole
        assert expected[asked.number].startswith(asked.text), "what came of a broken stream is right"
    lost = [asked for asked in answers if not asked.whole]
    assert all(is_streamed(asked.number) for asked in lost), "what was not streamed is asked for elsewhere"
    assert all(asked.began < when for asked in lost), "only what was in flight there"
    assert len(lost) <= AT_ONCE
    assert all(asked.whole for asked in again)


def num_completed(client, url):
    return client.get(f"{url}/stats").json()["requests"]["completed"]
