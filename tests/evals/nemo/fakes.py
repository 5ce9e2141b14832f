"""An environment with NeMo-Skills in it that is none, and an endpoint that records as the relay does."""

import json
import re
import shutil
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROBLEMS = [
    {"problem": "What is 2 + 3?", "expected_answer": "5", "id": "sum"},
    {"problem": "What is 4 + 4?", "expected_answer": "8"},
    {"problem": "What is 1 + 9?", "expected_answer": "11"},
    {"problem": "Say nothing.", "expected_answer": "0"},
]
DECODING = {"rule": "fixed", "steps": 64, "block_length": 32, "cache": "none", "threshold": 0.9, "top_k": 0}


def fake_venv(folder: Path, version: str = "0.7.0") -> Path:
    """Its `ns`: fake_ns.py beside this file, run by a Python that finds a package of that name."""
    bin_, lib = folder / "bin", folder / "lib"
    data = lib / "nemo_skills" / "dataset" / "gsm8k"
    meta = lib / f"nemo_skills-{version}.dist-info"
    for place in (bin_, data, meta):
        place.mkdir(parents=True)
    (lib / "nemo_skills" / "__init__.py").touch()
    (data / "test.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nemo_skills\nVersion: {version}\n")
    script(bin_ / "python", f'#!/bin/sh\nPYTHONPATH={lib} exec {sys.executable} "$@"\n')
    script(bin_ / "curl", "#!/bin/sh\n")
    source = Path(__file__).with_name("fake_ns.py").read_text()
    script(bin_ / "ns", f"#!{bin_ / 'python'}\n{source}")
    return bin_ / "ns"


def script(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def response(body: dict, **decoding) -> dict:
    """What a server of ours says to a sum."""
    content = body["messages"][-1]["content"]
    numbers = re.search(r"(\d+) \+ (\d+)", content)
    text = f"It is \\boxed{{{int(numbers[1]) + int(numbers[2])}}}" if numbers else "No."
    named = {name: body[name] for name in DECODING if name in body}
    used = DECODING | {k: body[k] for k in ("temperature", "top_p")} | {"max_tokens": body["max_tokens"]}
    cost = {"index": 0, "seed": body["seed"], "nfe": 64, "tpf": 0.1, "num_positions": 4096, "e2el_ms": 12.5}
    return {
        "choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 7},
        "llada": {"seed": body["seed"], "decoding": used | named | decoding, "nfe": 64, "choices": [cost]},
    }


def recorded(body: dict, told: dict, url: str = "http://a:1") -> dict:
    """A line of the relay's record."""
    return {
        "body": body,
        "texts": [c["message"]["content"] if "message" in c else c["text"] for c in told["choices"]],
        "finish_reasons": [choice["finish_reason"] for choice in told["choices"]],
        "usage": told["usage"],
        "llada": told.get("llada"),
        "url": url,
        "attempts": 2,
        "seconds": 0.1,
    }


@contextmanager
def endpoint(record: Path, answer: Callable[[dict], dict] | None = None):
    """Answers sums, or what `answer` says to a body, and writes the record."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told = (answer or response)(body)
            with lock, record.open("a") as file:
                file.write(json.dumps(recorded(body, told)) + "\n")
            self.reply(told)

        def do_PUT(self):
            self.reply({})

        def reply(self, told):
            data = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def without_ns(monkeypatch) -> None:
    """No NeMo-Skills of this machine's owner is found."""
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **more: None if name == "ns" else real(name, **more))
