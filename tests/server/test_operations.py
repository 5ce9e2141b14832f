"""What an operator looks at: metrics and their dashboard, figures, /info, the log, limits, deadlines."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llada_exp.jobs import running_server
from tests.server.conftest import FAKE, ROOT, say

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
DASHBOARD = ROOT / "monitoring" / "grafana.json"


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """The real server around the fake engine, with narrow limits."""
    limits = ["batch_size=2", "server.max_queue=4", "server.max_body_mb=1", "server.max_headers=20",
              "server.max_messages=3", "max_wait_time=0"]  # fmt: skip
    with running_server(limits, command=FAKE, folder=tmp_path_factory.mktemp("limited")) as handle:
        yield handle


@pytest.fixture
def own_http(limited):
    with httpx.Client(base_url=limited.url, timeout=30) as client:
        yield client


def samples(http):
    """{(name, sorted labels): value} of /metrics."""
    families = text_string_to_metric_families(http.get("/metrics").text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def grown(http, act):
    before = samples(http)
    act()
    after = samples(http)
    return {
        key: value - before.get(key, 0.0) for key, value in after.items() if value != before.get(key, 0.0)
    }


def outcome(name, path=CHAT):
    return ("llada_requests_total", (("endpoint", path), ("outcome", name)))


def error(response, status):
    assert response.status_code == status, response.text
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return response.json()["error"]


def test_metrics_count_what_happened(http):
    """Real decoding: the figures must be those of the responses, not other ones."""
    told = []

    def act():
        body = say("hi", max_tokens=32, ignore_eos=True, seed=0)
        told.append(http.post(CHAT, json=body).json())
        http.post(CHAT, json=body | {"stream": True})
        http.post(CHAT, json=body | {"temperature": -1})
        http.get("/v1/models")

    change = grown(http, act)
    usage, cost = told[0]["usage"], told[0]["llada"]
    assert change[outcome("ok")] == 2
    assert change[outcome("invalid")] == 1
    assert change[("llada_output_tokens_total", ())] == 2 * usage["completion_tokens"] == 64
    assert change[("llada_prompt_tokens_total", ())] == 2 * usage["prompt_tokens"]
    assert change[("llada_answer_nfe_sum", ())] == 2 * cost["nfe"]
    assert change[("llada_answer_tpf_count", ())] == 2
    worker = (("worker", "0"),)
    assert change[("llada_nfe_total", worker)] == 2 * cost["nfe"]
    assert change[("llada_positions_total", worker)] >= 2 * cost["choices"][0]["num_positions"], "and padding"
    assert change[("llada_batch_size_count", worker)] == change[("llada_steps_total", worker)]
    assert change[("llada_batch_size_sum", worker)] == change[("llada_nfe_total", worker)]
    by_path = (("endpoint", CHAT),)
    assert change[("llada_e2el_seconds_count", by_path)] == 2
    assert change[("llada_ttft_seconds_count", by_path)] == 1, "only a stream has a first text"
    now = samples(http)
    assert now[("llada_queue_depth", ())] == now[("llada_rows_in_flight", worker)] == 0
    assert now[("llada_worker_up", worker)] == 1
    assert 0 < now[("llada_useful_position_ratio", worker)] <= 1


def test_every_way_a_request_ends_has_its_outcome(own_http):
    def act():
        own_http.post(CHAT, json=say("crash"))
        own_http.post(CHAT, json=say("hang", max_time=0.3))
        own_http.post(TEXT, json={"prompt": 3})
        with pytest.raises(httpx.ReadTimeout):
            own_http.post(CHAT, json=say("hang"), timeout=0.5)
        with own_http.stream("POST", CHAT, json=say("slow " + "text " * 100, stream=True)) as answer:
            next(answer.iter_lines())
        own_http.get("/nowhere")
        time.sleep(1)

    change = grown(own_http, act)
    ended = {key[1]: value for key, value in change.items() if key[0] == "llada_requests_total"}
    assert ended == {
        outcome("failed")[1]: 1,
        outcome("deadline")[1]: 1,
        outcome("invalid", TEXT)[1]: 1,
        outcome("cancelled")[1]: 2,
    }


def test_the_dashboard_asks_for_names_that_exist(http):
    exposed = {name for name, _ in samples(http)}
    tree = json.loads(DASHBOARD.read_text())
    asked = {
        name
        for panel in tree["panels"]
        for target in panel["targets"]
        for name in re.findall(r"llada_\w+", target["expr"])
    }
    assert len(asked) > 15
    assert asked <= exposed
    unseen = {
        re.sub(r"_(total|bucket|sum|count|created|info)$", "", n) for n in exposed if n.startswith("llada_")
    }
    drawn = {re.sub(r"_(total|bucket|sum|count)$", "", n) for n in asked}
    assert unseen - drawn == {"llada_server"}, "a figure that nobody draws"
    assert len({p["id"] for p in tree["panels"]}) == len(tree["panels"])


def test_figures_of_the_predecessor_and_more(http):
    stats = http.get("/stats").json()
    assert (stats["status"], stats["num_workers"]) == ("ready", 1)
    assert stats["requests"]["submitted"] >= stats["requests"]["completed"]
    (worker,) = http.get("/worker-status").json()["workers"]
    assert (worker["worker"], worker["state"], worker["error"]) == (0, "ready", None)
    assert worker["pid"] > 0
    assert worker["rows_in_flight"] == 0


def test_info_tells_versions_model_and_configuration(http, server):
    info = http.get("/info").json()
    assert info["instance_id"] == server.info["instance_id"]
    assert info["versions"]["litserve"] == "0.2.19"
    assert info["config"]["batch_size"] == 8
    assert info["config"]["decoding"]["rule"] == "credit"
    assert info["api_key"] is False
    about = info["workers"]["0"]
    assert about["device"] == "cpu"
    assert about["num_parameters"] > 10_000
    assert (about["attention"], about["capture"]) == ("exact", "none")
    assert about["block_length"] == 32
    assert about["caches"] == ["none", "prefix", "dual"]
    assert info["decoding"]["block_length"] == 16, "what the configuration names"
    assert about["memory"]["total"] >= about["memory"]["weights"] > 0


def test_the_ready_line_has_url_model_mode_and_memory(server):
    ready = next(line for line in server.log.read_text().splitlines() if line.startswith("ready: "))
    assert re.fullmatch(
        rf"ready: {server.url} model=llada-8b-instruct mode=batch batch_size=8 memory per worker: "
        r"\d+ \+ K/V \d+ \+ step \d+ = \d+ of \d+ MiB",
        ready,
    )


def test_the_api_describes_itself(http):
    tree = http.get("/openapi.json").json()
    body = tree["paths"][CHAT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    fields = tree["components"]["schemas"][body["$ref"].rpartition("/")[2]]["properties"]
    assert {"messages", "max_completion_tokens", "threshold", "cache", "max_time", "use_dual_cache"} <= set(
        fields
    )
    assert "429" in tree["paths"][CHAT]["post"]["responses"]
    for path in ("/health", "/metrics", "/info", "/stats", "/worker-status", "/batch/stats", TEXT,
                 "/v1/models", "/generation/algorithms"):  # fmt: skip
        assert path in tree["paths"]
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(tree)))
    assert names <= set(tree["components"]["schemas"]), "a reference to nothing"
    assert "swagger" in http.get("/docs").text


def test_a_deadline_is_a_408_and_frees_the_row(own_http):
    told = error(own_http.post(CHAT, json=say("hang", max_time=0.3)), 408)
    assert told["code"] == "deadline_exceeded"
    assert "0.3 s" in told["message"]
    error(own_http.post(CHAT, json=say("hang", max_time=0.3, stream=True)), 408)
    until = time.monotonic() + 5
    while own_http.get("/worker-status").json()["workers"][0]["rows_in_flight"] and time.monotonic() < until:
        time.sleep(0.05)
    assert own_http.get("/worker-status").json()["workers"][0]["rows_in_flight"] == 0
    error(own_http.post(CHAT, json=say("x", max_time=0)), 400)
    assert own_http.post(CHAT, json=say("x", max_time=60)).status_code == 200


def test_a_deadline_amid_a_stream_is_its_last_event(own_http):
    answer = own_http.post(CHAT, json=say("slow " + "text " * 100, stream=True, max_time=0.6))
    assert answer.status_code == 200
    last = json.loads(answer.text.strip().rpartition("data: ")[2])
    assert last["error"]["code"] == "deadline_exceeded"
    assert "content" in answer.text


def test_a_full_queue_is_429_with_retry_after_and_those_in_it_are_answered(own_http):
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(own_http.post, CHAT, json=say("slow text " * 4)) for _ in range(16)]
        answers = [w.result() for w in waiting]
    refused = [a for a in answers if a.status_code == 429]
    assert refused, "16 at once with 2 rows and a queue of 4"
    assert len(answers) - len(refused) >= 4
    assert {a.status_code for a in answers} == {200, 429}
    assert error(refused[0], 429)["code"] == "queue_full"
    assert int(refused[0].headers["retry-after"]) >= 1
    assert own_http.post(CHAT, json=say("later")).status_code == 200


def test_limits_of_size_and_count(own_http):
    error(own_http.post(CHAT, json=say("x" * 2**20)), 413)
    error(own_http.get("/v1/models", headers={f"x-{i}": "y" for i in range(30)}), 431)
    history = [{"role": "user", "content": "x"}] * 4
    assert error(own_http.post(CHAT, json={"messages": history}), 400)["param"] == "messages"
    assert own_http.post(CHAT, json={"messages": history[:3]}).status_code == 200


def test_a_body_without_a_length_has_the_same_limit(own_http):
    def chunks():
        for _ in range(40):
            yield b" " * 2**15

    error(own_http.post(CHAT, content=chunks()), 413)


def test_the_log_has_one_line_a_request_and_no_text(limited, own_http):
    name = "my-request-1"
    own_http.post(CHAT, json=say("a private matter", seed=5), headers={"x-request-id": name})
    own_http.post(CHAT, json=say("another private matter", temperature=-1), headers={"x-request-id": "bad-1"})
    lines = [json.loads(line) for line in limited.log.read_text().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line.get("id") == name]
    assert (line["level"], line["message"], line["path"], line["status"]) == ("info", "request", CHAT, 200)
    assert (line["model"], line["outcome"], line["seed"]) == ("llada-tiny", "ok", 5)
    assert line["prompt_tokens"] == len("a private matter")
    assert line["output_tokens"] == len("a private matter @5")
    assert line["nfe"] >= 1
    assert line["e2el_ms"] > 0
    assert [line["outcome"] for line in lines if line.get("id") == "bad-1"] == ["invalid"]
    assert "private matter" not in limited.log.read_text()
    assert not any(line.get("path") == "/health" for line in lines), "probes would drown the rest"


def test_prompts_are_logged_where_asked_for_and_the_level_is_heeded(tmp_path):
    with running_server(["server.log_prompts=true"], command=FAKE, folder=tmp_path / "a") as server:
        httpx.post(server.url + CHAT, json=say("in the open"))
        assert "in the open" in server.log.read_text()
    with running_server(["log_level=warning"], command=FAKE, folder=tmp_path / "b") as server:
        httpx.post(server.url + CHAT, json=say("quiet"))
        httpx.post(server.url + CHAT, json=say("crash"))
        lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
        assert [line["level"] for line in lines] == ["error"]
        assert "a kernel failed" in lines[0]["exception"]


def test_a_longer_prompt_than_allowed_is_refused_as_vllm_words_it(tmp_path):
    overrides = ["server.max_prompt_tokens=40"]
    with running_server(overrides, folder=tmp_path) as server:
        told = error(httpx.post(server.url + CHAT, json=say("1 " * 60), timeout=60), 400)
        assert told["code"] == "context_length_exceeded"
        assert re.match(
            r"This model's maximum context length is 40 tokens.*has \d+ input tokens", told["message"]
        )
        short = httpx.post(server.url + CHAT, json=say("What is 1 + 1?", max_tokens=8), timeout=60)
        assert short.status_code == 200


def test_every_worker_has_its_own_figures(tmp_path):
    overrides = ["workers=2", "batch_size=2"]
    with running_server(overrides, command=FAKE, folder=tmp_path) as server, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(httpx.post, server.url + CHAT, json=say(f"slow text {i}")) for i in range(4)]
        assert {a.result().status_code for a in asked} == {200}
        with httpx.Client(base_url=server.url, timeout=30) as http:
            now = samples(http)
            workers = http.get("/worker-status").json()["workers"]
            assert set(http.get("/info").json()["workers"]) == {"0", "1"}
    assert [w["worker"] for w in workers] == [0, 1]
    assert len({w["pid"] for w in workers}) == 2
    for worker in ("0", "1"):
        assert now[("llada_worker_up", (("worker", worker),))] == 1
        assert now[("llada_batch_size_count", (("worker", worker),))] > 0
