"""The router's line: whom it names, what it refuses, and how Prometheus finds the servers."""

import json
import shlex

import pytest

from llada_exp.jobs import router
from llada_exp.jobs.__main__ import main
from llada_exp.jobs.router import PROXIES, RoutedServer, command


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in (*PROXIES, "no_proxy", "NO_PROXY", "LLADA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(tmp_path):
    """Three servers of array 12 with one key, and one of job 9."""
    for job_id in ("9", "12_0", "12_1", "12_10"):
        key = tmp_path / f"{job_id.partition('_')[0]}.key"
        key.write_text(f"key of {key.stem}\n")
        info = {"job_id": job_id, "instance_id": "x", "status": "ready", "url": f"http://n{job_id}:80",
                "node": "n", "model": "m", "api_key_file": str(key)}  # fmt: skip
        (tmp_path / f"{job_id}.json").write_text(json.dumps(info))
    return tmp_path


@pytest.fixture
def network(monkeypatch):
    """Sets what a server's /health and /info say; all are ready and alike by default."""
    states, infos, keys = {}, {}, {}

    def get_json(url, key=None):
        keys[url] = key
        info = {"config": {"model": {"name": "m", "source": "hf", "path": "p", "base": None, "settings": {}},
                "dtype": "auto", "engine": {"max_length": None}}, "decoding": {"rule": "fixed"}}  # fmt: skip
        return info | infos.get(url, {})

    monkeypatch.setattr(router, "get_json", get_json)
    monkeypatch.setattr(router, "health", lambda url: {"status": states.get(url, "ready")})
    monkeypatch.setattr(router.PublishedEndpoint, "health", lambda e: states.get(e.info["url"], "ready"))
    return states, infos, keys


def line(place, capsys, *words):
    code = main(["--folder", str(place), "router", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def urls_of(out):
    words = shlex.split(out)
    first = words.index("--worker-urls") + 1
    return words[first : words.index("--policy")]


def test_an_array_is_one_address_with_the_key_of_its_servers(place, network, capsys):
    code, out, err = line(place, capsys, "12", "--port", "8123")
    assert (code, urls_of(out)) == (0, ["http://n12_0:80", "http://n12_1:80", "http://n12_10:80"])
    assert shlex.split(out)[:5] == ["vllm-router", "--host", "127.0.0.1", "--port", "8123"]
    assert "--api-key" not in out, "the router would put it on what comes without one"
    assert "key of 12" not in out + err
    assert f"3 x m as http://127.0.0.1:8123/v1, key: {place / '12.key'}" in err
    assert network[2]["http://n12_1:80/info"] == "key of 12"


def test_what_is_not_ready_is_left_out_and_named(place, network, capsys):
    network[0]["http://n12_1:80"] = "draining"
    code, out, err = line(place, capsys, "12")
    assert (code, urls_of(out)) == (0, ["http://n12_0:80", "http://n12_10:80"])
    assert "left out: job 12_1 (draining)" in err
    network[0].update(dict.fromkeys(("http://n12_0:80", "http://n12_10:80"), "no answer"))
    code, out, err = line(place, capsys, "12")
    assert (code, out, "no server is ready" in err) == (1, "", True)
    assert line(place, capsys, "77")[0] == 2


def test_servers_of_different_keys_or_models_are_no_one_address(place, network, capsys):
    code, out, err = line(place, capsys)
    assert (code, out) == (2, "")
    assert "job 12_0 and job 9 have different keys" in err
    network[1]["http://n12_10:80/info"] = {"decoding": {"rule": "credit"}}
    code, out, err = line(place, capsys, "12")
    assert (code, out) == (2, "")
    assert "decoding.rule is 'fixed' at job 12_0 and 'credit' at job 12_10" in err


def test_urls_are_asked_with_the_key_of_the_environment(place, network, capsys, monkeypatch):
    monkeypatch.setenv("LLADA_API_KEY", "mine")
    code, out, _ = line(place, capsys, "http://a:1/v1", "http://a:1", "http://b:2")
    assert (code, urls_of(out)) == (0, ["http://a:1", "http://b:2"])
    assert network[2]["http://b:2/info"] == "mine"


def test_a_proxy_of_the_environment_is_passed_by():
    servers = [RoutedServer("job 1", "http://n1:80", None)]
    words = command(servers, "127.0.0.1", 1, 2, {"http_proxy": "http://p:1", "no_proxy": "x"})
    assert words[:4] == ["env", "NO_PROXY=x,n1", "no_proxy=x,n1", "vllm-router"]
    assert command(servers, "127.0.0.1", 1, 2, {})[0] == "vllm-router"


def test_where_it_is_not_installed_one_is_told_how(place, network, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    code, out, err = line(place, capsys, "12", "--start")
    assert (code, out) == (1, "")
    assert "pip install vllm-router" in err


def test_prometheus_is_told_of_every_server_that_has_not_stopped(place, capsys):
    info = json.loads((place / "9.json").read_text())
    (place / "9.json").write_text(json.dumps(info | {"status": "stopped"}))
    assert main(["--folder", str(place), "targets"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [one["targets"] for one in shown] == [["n12_0:80"], ["n12_1:80"], ["n12_10:80"]]
    assert shown[0]["labels"] == {"job_id": "12_0", "model": "m"}
