"""lm-eval over chat and over completions of token ids, on a local task: what it scores is what we said."""

import json
import re

import pytest

from tests.clients.conftest import HERE, WEIGHTS, run
from tests.clients.environments import environment

TASK = """\
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {problems}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["</s>"], max_gen_toks: 64}}
filter_list:
  - name: last
    filter:
      - {{function: regex, regex_pattern: "#### (-?[0-9]+)"}}
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""


@pytest.mark.parametrize(
    ("kind", "path", "extra", "arguments"),
    [
        ("local-chat-completions", "/v1/chat/completions", "num_concurrent=4", []),
        ("local-completions", "/v1/completions", f"tokenizer={WEIGHTS}", ["--batch_size", "3"]),
    ],
)
def test_lm_eval(tiny, tmp_path, kind, path, extra, arguments):
    problems = HERE / "lm_eval_task" / "sums.jsonl"
    (tmp_path / "sums.yaml").write_text(TASK.format(problems=problems))
    run(
        environment("lm_eval") / "lm_eval", "--model", kind,
        "--tasks", "sums", "--include_path", str(tmp_path),
        "--model_args", f"model=llada-tiny,base_url={tiny.url}{path},max_retries=1,{extra}",
        "--apply_chat_template", "--gen_kwargs", "steps=64,block_length=32", "--log_samples",
        "--output_path", str(tmp_path / "out"), *arguments, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hf"),
    )  # fmt: skip
    (results,) = (tmp_path / "out").rglob("results_*.json")
    (samples,) = (tmp_path / "out").rglob("samples_sums_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    assert len(rows) == len(problems.read_text().splitlines())
    right = [f"#### {row['target']}" in row["resps"][0][0] for row in rows]
    score = json.loads(results.read_text())["results"]["sums"]["exact_match,last"]
    assert score == sum(right) / len(right)
    assert score > 0.8, "one token a step answers sums of this size"
    assert all(re.search(r"#### -?\d+$", row["resps"][0][0]) for row in rows)
