"""JSON lines as people and programs write them: one reader, whatever is inside of the texts."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llada_exp import jsonl
from llada_exp.bench.workload import build
from llada_exp.evals.builtin import benchmarks
from llada_exp.problems import read_problems

BREAKS = "a\u2028b\u2029c\u0085d\x0be\x1cf"
"""Characters at which str.splitlines breaks a line."""


@pytest.fixture
def write(tmp_path):
    def write(data):
        path = tmp_path / "file.jsonl"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def bench(path):
    workload = {"kind": "jsonl", "path": str(path), "seed": 0}
    return sorted((p.text, p.expected) for p in build(workload, len(jsonl.read(path))))


def evals(path):
    return sorted((p.question, p.expected) for p in benchmarks.load(str(path)))


@pytest.mark.parametrize("reader", [bench, evals])
@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n  \n"])
def test_benchmarks_and_evaluations_read_one_file_alike(reader, head, end, last, write):
    """Prevents a problem from being cut in two at a U+2028, and a BOM from being a bad first line."""
    lines = [
        json.dumps({"problem": f"{BREAKS}{n}", "expected_answer": n}, ensure_ascii=False) for n in (1, 2)
    ]
    path = write(head + (end.join([lines[0], "", lines[1]]) + last).encode())
    assert reader(path) == [(f"{BREAKS}1", "1"), (f"{BREAKS}2", "2")]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(st.dictionaries(TEXTS, TEXTS | st.integers() | st.none(), max_size=3), max_size=4), st.booleans()
)
def test_what_is_written_is_read(tmp_path_factory, rows, ascii_only):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows), "utf-8", newline=""
    )
    assert jsonl.read(path) == rows
    assert [line.place for line in jsonl.lines(path)] == [f"{path}:{n}" for n in range(1, len(rows) + 1)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            b"{nonsense",
            "not JSON (Expecting property name enclosed in double quotes at character 1 of the line)",
        ),
        (b'{"a":', "not JSON (Expecting value at character 5 of the line)"),  # said: line 2
        (b"[" * 100_000, "not JSON"),
        (b'{"a": 1} {"a": 2}', "not JSON"),
        (b'{"a": "\xff"}', "not UTF-8 (invalid start byte at byte 7 of the line)"),
        (b"[1]", "a JSON array; expected an object: {...}"),
        (b"3.5", "a JSON number; expected an object"),
        (b"null", "a JSON literal; expected an object"),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_at_fault_is_named_by_file_and_line(line, words, end, write):
    path = write(b'{"a": 0}\n\n' + line + end)
    with pytest.raises(ValueError, match=re.escape(f"{path}:3: {words}")):
        jsonl.read(path)
    assert jsonl.read(path, jsonl.ANY) == [{"a": 0}]
    if not end:
        assert jsonl.read(path, jsonl.LAST) == [{"a": 0}]
    else:
        with pytest.raises(ValueError, match=":3: "):
            jsonl.read(path, jsonl.LAST)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"text": "x"}, '"problem" (or "question", "prompt", "messages") is missing; found text'),
        ({}, "is missing; found nothing"),
        ({"prompt": ["x"]}, "\"prompt\" is ['x']; expected a text"),
        ({"messages": "x"}, '"messages" is \'x\'; expected [{"role": ..., "content": ...}, ...]'),
        ({"messages": [{"role": "user"}]}, '"messages" is '),
        ({"problem": "x", "max_tokens": True}, '"max_tokens" is True; expected an integer >= 1'),
        ({"problem": "x", "expected_answer": {}}, '"expected_answer" is {}; expected a text or a number'),
        (
            {"problem": "x", "expected_answer": " "},
            "\"expected_answer\" is ' '; expected a text or",
        ),  # no right one
        ({"problem": "x", "expected_answer": True}, '"expected_answer" is True; expected a text or'),
        ({"problem": "x", "expected_answer": float("inf")}, '"expected_answer" is inf; expected a text or'),
        ({"problem": "x", "id": {"a": 1}}, "\"id\" is {'a': 1}; expected a text or a number"),
    ],
)
def test_a_field_at_fault_is_named_with_what_is_allowed(line, words, write):
    path = write(f'{{"prompt": "one"}}\n{json.dumps(line)}\n')
    with pytest.raises(ValueError, match=re.escape(f"{path}:2: ") + ".*" + re.escape(words)):
        list(read_problems(path))


def test_no_reader_of_ours_splits_a_file_of_json_lines_by_itself():
    """Prevents a second reader, which would break texts at a U+2028."""
    from tests.test_layers import PACKAGE

    for path in PACKAGE.rglob("*.py"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not ("json.loads" in line and "splitlines" in line), f"{path}:{number}"
