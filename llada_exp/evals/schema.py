"""The columns of an evaluation's rows: one row a benchmark. docs/data/columns.csv lists them.

VERSION changes when a column changes its name, type or meaning; a new column alone is no change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llada_exp.runs import decoding_columns, files
from llada_exp.runs.files import columns

VERSION = 1

_SCORED = columns(
    ("schema_version", "integer", "version of these columns"),
    ("sweep", "text", "the key expname: the folder under output_dir"),
    ("point", "text", "folder of the evaluation inside the sweep; the sweep's name for a single one"),
    ("config_hash", "text", "of every key that changes an answer"),
    ("harness", "text", "that asked and scored"),
    ("harness_version", "text", "of a harness that is installed apart; null for builtin"),
    ("benchmark", "text", "its name; a file's own"),
    ("metric", "text", "what accuracy is: pass@1, or lm-eval's name of it"),
    ("model", "text", "name of the served model"),
    ("model_path", "text", "folder or hub id of its weights; null for the embedded model and endpoints"),
    ("checkpoint_step", "integer", "of a training run's checkpoint"),
    ("num_urls", "integer", "endpoints that the problems were split over; 0: an own server"),
    ("num_problems", "integer", "problems asked"),
    ("num_samples", "integer", "answers to each"),
    ("accuracy", "number", "mean over problems of the share of right answers, 0 to 1"),
    ("accuracy_low", "number", "of its 95 % interval"),
    ("accuracy_high", "number", "of its 95 % interval"),
    ("majority", "number", "share of problems whose most frequent answer is right; null with one sample"),
    ("majority_low", "number", "of its 95 % interval"),
    ("majority_high", "number", "of its 95 % interval"),
    ("pass_k", "number", "share of problems with a right answer among num_samples; null with one sample"),
    ("pass_k_low", "number", "of its 95 % interval"),
    ("pass_k_high", "number", "of its 95 % interval"),
    ("cut_off", "number", "share of answers that ended at the length limit"),
    ("no_answer", "number", "share of answers that nothing could be read out of"),
    ("failed", "integer", "answers that never came; they count as wrong"),
    ("cut_to_fit", "integer", "answers whose prompt, or room for the answer, was cut to fit the model"),
    ("mean_output_tokens", "number", "of an answer"),
    ("mean_nfe", "number", "forward passes of an answer"),
    ("tpf", "number", "tokens per forward pass"),
    ("total_output_tokens", "integer", "of all answers that came"),
    ("duration", "number", "seconds from the first question to the last answer, of this start alone"),
    ("resumed", "integer", "answers that an earlier start had brought"),
)  # fmt: skip
_ORIGIN = columns(
    ("seed", "integer", "of sample 0"),
    ("prompt", "text", "of the builtin harness"),
    ("chat_template", "flag", "asked as a chat"),
    ("dtype", "text", "as configured; null for other endpoints"),
    ("batch_size", "integer", "rows decoded together, at most; null for other endpoints"),
    ("command", "text", "that makes the row again"),
    ("commit", "text", "of the repository"),
    ("dirty", "flag", "whether files differed from the commit"),
    ("host", "text", "where the evaluation ran"),
    ("device_name", "text", "of the own server"),
    ("python_version", "text", ""),
    ("llada_exp_version", "text", "of the own server"),
    ("torch_version", "text", "of the own server"),
    ("transformers_version", "text", "of the own server"),
    ("litserve_version", "text", "of the own server"),
    ("started", "text", "UTC"),
    ("ended", "text", "UTC"),
)  # fmt: skip

ROW = (*_SCORED, *decoding_columns.COLUMNS, *_ORIGIN)


def complete(row: Mapping[str, Any]) -> dict[str, Any]:
    return files.complete(row, ROW, VERSION)
