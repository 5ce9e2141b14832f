"""The gate's rows as a table: what holds, and what does not."""

import json
from dataclasses import asdict, replace

import pytest

from llada_exp.gate import report, table
from llada_exp.gate.exactness import Exactness
from llada_exp.gate.outcome import Outcome
from llada_exp.runs.statistics import Paired, Proportion

LIMITS = table.Limits()


def row(kind, setting, low, cost=10.0, agreement=1.0):
    versus = None if low is None else Paired(low / 2, low, 0.0, p_value=0.5, gained=0, lost=1)
    return Outcome(
        setting=setting, kind=kind, accuracy=Proportion(90, 100, 0.6, 0.98), versus=versus,
        agreement=agreement, nfe=2.0, tpf=3.0, positions_per_token=cost, output_throughput=100.0,
        correct=(), texts=(), canvas=64,
    )  # fmt: skip


def test_a_setting_must_pass_on_every_kind():
    """Prevents a preset chosen on the kind of problem where nothing can go wrong."""
    rows = [
        row("short", "vanilla", None), row("long", "vanilla", None),
        row("short", "cheap", -0.01, 5.0), row("long", "cheap", -0.03, 5.0),
        row("short", "dear", -0.01, 20.0), row("long", "dear", -0.019, 20.0),
        row("short", "fair", -0.01, 9.0), row("long", "fair", 0.0, 9.0),
        row("short", "other", 0.0, 2.0), row("long", "other", 0.0, 2.0, agreement=0.5),
        row("short", "untried", 0.0, 1.0),
    ]  # fmt: skip
    assert table.passing(rows, LIMITS) == ["fair", "dear"]
    assert table.passing(rows, table.Limits(margin=5.0)) == ["cheap", "fair", "dear"]


def test_later_rows_take_the_place_of_earlier_ones(tmp_path, capsys):
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text(json.dumps(asdict(row("short", "dual", -0.5))) + "\n")
    second.write_text(json.dumps(asdict(row("short", "dual", -0.01))) + "\n")
    table.main([str(first), str(second)])
    out = capsys.readouterr().out
    assert out.count("| dual |") == 1
    assert "-0.5 [-1.0, +0.0]" in out
    assert "| pass |" in out
    assert out.endswith("cheapest first: dual (canvas 64; points within 2: short)\n")


def test_a_wrong_file_is_named(tmp_path, capsys):
    (tmp_path / "x.jsonl").write_text("no json")
    with pytest.raises(SystemExit):
        table.main([str(tmp_path / "x.jsonl")])
    assert "x.jsonl" in capsys.readouterr().err


def test_speed_comes_from_the_quiet_run():
    """Prevents tokens/s of a busy machine beside accuracies of a long run."""
    quiet = [replace(row("short", "dual", 0.0), output_throughput=777.0)]
    fast, unknown = table.with_speed([row("short", "dual", 0.0), row("long", "dual", 0.0)], quiet)
    assert table.line(fast, LIMITS).endswith("| 777 | pass |")
    assert table.line(unknown, LIMITS).endswith("| - | pass |")


def test_a_setting_must_pass_at_every_canvas_and_each_kind_has_its_margin():
    """Prevents a preset chosen at a canvas that nobody is served, and a point lost of plain sums."""
    rows = [
        row("sums", "cheap", -0.005), replace(row("sums", "cheap", -0.015), canvas=256),
        row("sums", "dear", -0.005), replace(row("sums", "dear", -0.005), canvas=256),
    ]  # fmt: skip
    assert table.passing(rows, LIMITS) == ["dear"]
    assert table.passing(rows, table.Limits(margin=2)) == ["cheap", "dear"]
    assert table.passing([replace(o, margin=2.0) for o in rows], LIMITS) == ["cheap", "dear"], (
        "as judged then"
    )


def test_accuracy_against_the_canvas(tmp_path, capsys):
    vanilla, dual = row("sums", "vanilla", None), row("sums", "dual", -0.01)
    wide = [replace(o, canvas=256, accuracy=Proportion(80, 100, 0.7, 0.9)) for o in (vanilla, dual)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(asdict(o)) + "\n" for o in (vanilla, dual, *wide)))
    table.main([str(path), "--canvas"])
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert head == "| kind | setting | n | 64 | 256 |"
    assert first == "| sums | vanilla | 100 | 90.0 | 80.0 |"
    assert second == "| sums | dual | 100 | 90.0 (-1 +0), 2.0 passes | 80.0 (-1 +0), 2.0 passes |"


NAMES = [f"low_confidence_prefix_cache_threshold_0.9_block_{n}" for n in (8, 16)]


@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_table_that_grows_fits_the_terminal_and_stands_whole_in_the_file(
    columns, monkeypatch, capsys, tmp_path
):
    """Every line is printed before the next is measured, and none is wider than the head made room for."""
    monkeypatch.setenv("COLUMNS", columns)
    path = tmp_path / "outcomes.txt"
    live = report.LiveTable(["vanilla", *NAMES], ["short", "long"], LIMITS, path)
    live.add(row("short", "vanilla", None))
    assert len(capsys.readouterr().out.splitlines()) == 2
    wide = replace(row("long", NAMES[0], -0.99), accuracy=Proportion(5000, 5000, 1.0, 1.0))
    live.add(replace(wide, versus=Paired(-0.999, -0.999, 0.999, 0, 5000, p_value=0.0)))
    live.add(row("long", NAMES[1], -0.01))
    live.end()
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines() if str(path) not in line) <= int(columns)
    assert out.splitlines()[0].split()[-1] == "undecided"
    assert f"see {path}" in " ".join(out.split())
    head, *rows = path.read_text().splitlines()
    assert [line.split()[0] for line in rows] == ["vanilla", *NAMES]
    for heading in report.figures(wide):
        assert heading in head
    assert "<1e-300" in rows[1], "no probability is 0"


@pytest.mark.parametrize("columns", ["80", "120"])
def test_exactness_is_a_table_that_fits_and_says_what_has_no_oracle(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    exact = [Exactness(name, "long", 8, 8, 400, 2) for name in NAMES]
    exact.append(Exactness("random_remasking", "long", 0, 0, 0, 0, undefined="it " + "revises " * 30))
    report.exact_table(exact).show()
    print(*report.without_oracle(exact, int(columns)), sep="\n")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert lines[1].split() == [NAMES[0], "long", "8", "8", "400", "2"]
    assert ["random_remasking", "long", "-", "-", "-", "-"] in [line.split() for line in lines]
    assert "no oracle (it revises" in " ".join(lines)
