"""`ns` for the tests: takes the documented words of NeMo-Skills 0.7, asks in the shapes that were recorded of
it, and writes the files that it writes. What its author keeps in FAKE_NS makes it misbehave:

    fail    end with an exit code          quiet   end well, having written nothing
    dashes  show its options as newer versions of typer do
    hang    start a job in a session of its own, then wait    old    the names of an older version
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

PROMPT = (
    "Solve the following math problem. Make sure to put the answer (and only answer) inside \\boxed{}.\n\n"
)


def options(words):
    """(--name=value, ++key=value), read as the shell and Hydra would, once each."""
    pairs = [word.split("=", 1) for word in words]
    named = {name[2:]: value for name, value in pairs if name.startswith("--")}
    hydra = {name[2:]: literal(value) for name, value in pairs if name.startswith("++")}
    assert len(named) + len(hydra) == len(words), words
    return named, hydra


def literal(value):
    value = value.strip("'")
    try:
        return json.loads(value.replace("True", "true"))
    except ValueError:
        return value


def ask(address, body, method="POST"):
    request = urllib.request.Request(
        address, method=method, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def request(named, hydra, problem, seed):
    """What server_type=vllm sends: extra_body at the top level."""
    own = {
        key.removeprefix("inference."): value for key, value in hydra.items() if key.startswith("inference.")
    }
    body = {
        "model": named["model"],
        "messages": [{"role": "user", "content": PROMPT + problem}],
        "max_tokens": own.get("tokens_to_generate"),
        "temperature": own.get("temperature", 0.7),
        "top_p": own.get("top_p", 0.95),
        "seed": seed,
        "n": 1,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "logprobs": False,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "spaces_between_special_tokens": False,
    }
    extra = {key.removeprefix("extra_body."): v for key, v in own.items() if key.startswith("extra_body.")}
    return body | extra


def answer(named, hydra, problem, seed, old):
    try:
        told = ask(
            f"{named['server_address']}/chat/completions", request(named, hydra, problem["problem"], seed)
        )
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        if not hydra.get("server.enable_soft_fail") or "maximum context length" not in text:
            raise  # the whole run
        empty = {"generation": "", "num_generated_tokens": 0, "error": "context_window_exceeded"}
        return {
            **empty,
            "detailed_error": text,
            **problem,
            "predicted_answer": None,
            "symbolic_correct": False,
        }
    text = told["choices"][0]["message"]["content"]
    boxed = re.search(r"\\boxed\{(.*)\}", text)
    predicted = boxed[1] if boxed else None
    score = {"is_correct" if old else "symbolic_correct": predicted == problem["expected_answer"]}
    tokens = {"num_generated_tokens": told["usage"]["completion_tokens"]}
    return {"generation": text, **tokens, **problem, "predicted_answer": predicted, **score}


def generate(path, questions):
    """As NeMo-Skills: into a file in pieces, which is put in order at the end."""
    part, done = path.with_name(path.name + "-async"), path.with_name(path.name + ".done")
    if not path.is_file():
        filled = {}
        if part.is_file():
            filled = {line.pop("_async_position"): line for line in map(json.loads, part.open())}
        with part.open("a", buffering=1) as file:
            for place in reversed([i for i in range(len(questions)) if i not in filled]):
                filled[place] = questions[place]()
                file.write(json.dumps({**filled[place], "_async_position": place}) + "\n")
        path.write_text("".join(json.dumps(filled[i]) + "\n" for i in range(len(filled))))
        part.unlink()
    done.touch()


def evaluate(named, hydra):
    old = os.environ.get("FAKE_NS") == "old"
    for benchmark, samples in (part.split(":") for part in named["benchmarks"].split(",")):
        lines = Path("nemo_skills/dataset", benchmark, "test.jsonl").read_text().splitlines()
        problems = [json.loads(line) for line in lines][: hydra.get("max_samples")]
        folder = Path(named["output_dir"], "eval-results", benchmark)
        folder.mkdir(parents=True, exist_ok=True)
        for sample in range(max(int(samples), 1)):
            seed = int(named["starting_seed"]) + sample if int(samples) else 0
            path = folder / (f"output-rs{seed}.jsonl" if int(samples) else "output.jsonl")
            if not path.with_name(path.name + ".done").is_file():
                generate(path, [partial(answer, named, hydra, p, seed, old) for p in problems])
        summary = {benchmark: {"pass@1": {"num_entries": len(problems)}}}
        (folder.parent if old else folder).joinpath("metrics.json").write_text(json.dumps(summary))


def main():
    kind = os.environ.get("FAKE_NS")
    assert sys.argv[1] == "eval", sys.argv
    if sys.argv[2:] == ["--help"]:
        sys.exit(
            print("--output-dir TEXT" if kind == "dashes" else "Options: --output_dir TEXT  Where to store")
        )
    if kind == "fail":
        sys.exit(
            "ValueError: Data file test.jsonl does not exist locally. Did you forget to run prepare data?"
        )
    if kind == "hang":
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        job = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        Path(os.environ["FAKE_NS_PIDS"]).write_text(f"{os.getpid()} {job.pid}")
        time.sleep(600)
    if kind != "quiet":
        evaluate(*options(sys.argv[2:]))


if __name__ == "__main__":
    main()
