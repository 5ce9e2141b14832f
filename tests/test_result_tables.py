"""Tables for people: they fit, and no two rows look alike."""

import pytest

from llada_exp.tables import Table, TableColumn, fold, number

NAMES = [f"{i:03d}_batch_size=8,rate=4,decoding.threshold=0.9,benchmark=gsm8k" for i in range(2)]
ROWS = [{"name": name, "a": 1.25, "b": None, "share": 0.5, "note": "[96.1, 99.0]"} for name in NAMES]
COLUMNS = (
    TableColumn("point", lambda row: row["name"], left=True),
    number("tok/s", "a", "{:.1f}"),
    number("ttft_ms", "b", "{:.1f}", rank=1),
    *(number(f"share_of_{i}_%", "share", "{:.1%}", rank=2 + i) for i in range(5)),
    TableColumn("interval", lambda row: row["note"]),
)
TABLE = Table(COLUMNS, ROWS)


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_fits_and_keeps_names_whole(width):
    """Prevents names that are cut at 36 characters, so that points cannot be told apart."""
    lines = TABLE.text(width).splitlines()
    assert max(map(len, lines)) <= width
    per_row = (len(lines) - 1) // 2
    for i, name in enumerate(NAMES):
        parts = lines[1 + i * per_row : 1 + (i + 1) * per_row]
        assert "".join(part.split(" ")[0] for part in parts) == name
    assert "[96.1, 99.0]" in lines[1], "brackets are no markup"


def test_the_highest_rank_goes_first_and_what_has_no_value_before_it():
    head, first, *_ = TABLE.text(100).splitlines()
    assert "ttft_ms" not in head
    assert "share_of_0_%" in head
    assert "share_of_4_%" not in head
    assert " 50.0 " in first


def test_all_of_it_stands_in_the_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    TABLE.show(tmp_path / "all.txt")
    head, *rows = (tmp_path / "all.txt").read_text().splitlines()
    assert head.split() == [column.heading for column in COLUMNS]
    assert [row.split()[0] for row in rows] == NAMES
    shown = capsys.readouterr().out
    assert "\x1b" not in shown, "a log has no colours"
    assert "no room for ttft_ms, share_of_2_%" in " ".join(shown.split())
    assert str(tmp_path / "all.txt") in shown


def test_numbers_stand_right_and_nothing_is_a_dash():
    head, line, _ = TABLE.text().splitlines()
    assert line.index("1.2") + 3 == head.index("tok/s") + 5
    assert line[head.index("ttft_ms") : head.index("share_of_0")].strip() == "-"


@pytest.mark.parametrize(
    ("name", "lines"),
    [("a=1,b=2,c=3", ["a=1,b=2,", "c=3"]), ("abcdefghijk", ["abcdefgh", "ijk"]), ("", [])],
)
def test_a_name_is_folded_after_a_comma_where_it_can(name, lines):
    assert fold(name, 8) == lines
