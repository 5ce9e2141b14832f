"""Animate one answer, some settings side by side, as a page or a GIF.

    python -m llada_exp.animation answer.html answer.gif --rows outputs/bench/NAME/*/commits.parquet
    python -m llada_exp.animation answer.html --url http://127.0.0.1:8000 --question 'What is 53 + 18?'

Rows are those that a point of `python -m llada_exp.bench decoding.trace=true` writes. A server is asked once
for each --setting, fields of a request; '' is the server's own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from llada_exp.animation.page import page
from llada_exp.animation.picture import gif
from llada_exp.animation.sources import VANILLA, ask, fields, read_rows
from llada_exp.animation.traced import TracedAnswer, traced
from llada_exp.clients.http import KEY_VARIABLE
from llada_exp.programs import run_program

WRONG = 2
ENDS = (".html", ".gif")


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        _check(args)
        for path, content in _contents(args.out, _answers(args)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            print(f"{path}: {len(content) / 1000:.0f} kB")
    except (ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llada_exp.animation", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("out", nargs="+", type=Path, help="files to write, each .html or .gif")
    parser.add_argument(
        "--rows", nargs="+", type=Path, default=[], help="commits.parquet or .jsonl, one a setting"
    )
    parser.add_argument("--url", help=f"of a server, which is asked; {KEY_VARIABLE} holds its key")
    parser.add_argument("--question", help="what the server is asked")
    parser.add_argument(
        "--setting", nargs="+", default=[VANILLA, ""],
        help=f"how it is asked, '' as it is served (default: '{VANILLA}' and '')",
    )  # fmt: skip
    parser.add_argument("--max-tokens", type=int, default=128, help="of a question (%(default)d)")
    parser.add_argument("--label", nargs="+", default=[], help="what each setting is called")
    return parser


def _check(args: argparse.Namespace) -> None:
    if odd := [str(path) for path in args.out if path.suffix not in ENDS]:
        raise ValueError(f"{odd[0]}: a page is .html, a picture .gif")
    if bool(args.rows) == bool(args.url):
        raise ValueError("give --rows or --url, one of them")
    if args.url and not args.question:
        raise ValueError("--url needs --question")
    count = len(args.rows or args.setting)
    if args.label and len(args.label) != count:
        raise ValueError(f"--label names {len(args.label)} settings, there are {count}")


def _answers(args: argparse.Namespace) -> list[TracedAnswer]:
    labels = args.label or [None] * len(args.rows or args.setting)
    if args.rows:
        return [traced(read_rows(path), label) for path, label in zip(args.rows, labels, strict=True)]
    each = [{"max_tokens": args.max_tokens, **fields(words)} for words in args.setting]
    return [
        traced(ask(args.url, args.question, one), label or (None if words else "as served"))
        for one, words, label in zip(each, args.setting, labels, strict=True)
    ]


def _contents(paths: Sequence[Path], answers: Sequence[TracedAnswer]) -> list[tuple[Path, bytes]]:
    """All of them, before the first is written."""
    return [(path, gif(answers) if path.suffix == ".gif" else page(answers).encode()) for path in paths]


if __name__ == "__main__":
    run_program(main)
