"""The soak's short form, and that its verdict can be bad."""

import argparse
import asyncio
import json

import pytest

from benchmarks import client, soak


def test_a_short_soak_of_the_tiny_model_loses_nothing(capsys):
    words = ["--requests", "400", "--concurrency", "32", "--kill-every", "200", "--distinct", "10"]
    code = soak.main([*words, "--no-memory"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "lost 0, hung 0" in told
    assert "2 workers killed" in told, "however fast the server is"


OPTIONS = {"requests": 10, "batch_size": 2, "kill_every": 0, "leaving": 0, "malformed": 0, "no_memory": True}


def options(**changes):
    return argparse.Namespace(**{**OPTIONS, **changes})


@pytest.mark.parametrize("outcome", ["lost", "hung", "wrong"])
def test_one_bad_outcome_is_a_failure(outcome):
    own = soak.Soak()
    own.outcomes["ok"] = 9
    own.note(outcome, "why")
    assert soak.judge(own, options()) == [f"1 {outcome}"]


def test_more_503_than_kills_explain_a_missing_outcome_and_growth_are_failures():
    own = soak.Soak(kills=1)
    own.outcomes["killed"] = 3
    own.memory["server", 1] = [100.0] * 100 + [106.0] * 100
    own.memory["worker", 2] = [100.0] * 100 + [104.0] * 100
    wrong = soak.judge(own, options(no_memory=False, leaving=1))
    assert len(wrong) == 4
    assert "no request hung up" in wrong
    assert "3 outcomes for 10 requests" in wrong
    assert any("memory of server 1 grew by 6.0%" in w for w in wrong)


@pytest.mark.parametrize(
    ("changes", "missing", "words"),
    [
        ({"kill_every": 20}, "", "no worker was killed: 10 requests are fewer than --kill-every"),
        ({"kill_every": 5}, "kill", "1 of 2 kills were made"),
        ({"kill_every": 5}, "killed", "no request met a killed worker"),
        ({"leaving": 0.2}, "left", "no request hung up"),
        ({"malformed": 0.1}, "refused", "no request was malformed"),
        ({}, "ok", "no request was answered"),
        ({"no_memory": False}, "", "memory of no server could be judged"),
        ({"no_memory": False}, "", "memory of no worker could be judged"),
    ],
)
def test_what_was_asked_for_and_not_judged_is_a_failure(changes, missing, words):
    """Prevents "passed" after 24 s without a kill, of which no process lived long enough to judge."""
    asked = options(**changes)
    planned = asked.requests // asked.kill_every if asked.kill_every else 0
    own = soak.Soak(planned_kills=planned, kills=max(0, planned - (missing == "kill")))
    own.outcomes.update({"ok": 7, "left": 1, "refused": 1, "killed": 1})
    own.outcomes["hole" if missing else "ok"] += own.outcomes.pop(missing, 0)
    own.kills = own.kills or 1
    own.memory["server", 1] = own.memory["worker", 2] = [100.0] * 30
    own.memory["other", 3] = [100.0] * 100
    assert any(words in line for line in soak.judge(own, asked))


def test_one_worker_that_lived_long_enough_and_all_that_was_asked_for_is_a_pass():
    own = soak.Soak(planned_kills=2, kills=2)
    own.outcomes.update({"ok": 7, "left": 1, "refused": 1, "killed": 1})
    own.memory.update({("server", 1): [100.0] * 80, ("worker", 2): [9.0] * 5, ("worker", 3): [9.0] * 40})
    assert soak.judge(own, options(kill_every=5, leaving=0.1, malformed=0.1, no_memory=False)) == []


def served(answer):
    """What `one` makes of a server that gives this raw answer to everything."""

    async def play():
        async def reply(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        server = await asyncio.start_server(reply, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        own = soak.Soak()
        async with server:
            await soak.one(url, {"stream": True}, {0: "text"}, own)
        return dict(own.outcomes)

    return asyncio.run(play())


def chunked(*events, end=True):
    parts = "".join(f"data: {e}\n\n" for e in events)
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return (head + f"{len(parts):x}\r\n{parts}\r\n" + "0\r\n\r\n" * end).encode()


def piece(text):
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})


def test_outcomes_are_told_apart():
    assert served(chunked(piece("te"), piece("xt"), "[DONE]")) == {"ok": 1}
    assert served(chunked(piece("te"), "[DONE]")) == {"wrong": 1}
    assert served(chunked(piece("text"))) == {"lost": 1}, "a stream without its end"
    assert served(chunked(piece("text"), "[DONE]", end=False)) == {"lost": 1}, "cut off"
    assert served(b"") == {"lost": 1}
    assert served(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") == {"lost": 1}, "an empty 200"
    error = b'{"error": {"message": "the worker that decoded this request died"}}'
    assert served(b"HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n%s" % (len(error), error)) == {"killed": 1}
    assert served(b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}") == {"lost": 1}


def test_an_answer_is_whole_or_not():
    assert client.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").whole
    assert not client.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}").whole
    assert client.parse(b"").status == 0
