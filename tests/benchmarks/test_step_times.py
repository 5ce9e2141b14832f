"""The command that a machine with a GPU is measured by works, seen on the CPU: there it cannot be tried."""

from benchmarks.step_times import main


def test_both_tables_have_a_line_for_each_size(capsys):
    main(["--model", "tiny", "--device", "cpu", "--tokens", "64", "600", "--rows", "2", "--steps", "1"])
    head, tokens, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("tiny float32 on cpu")
    assert tokens.split() == ["tokens", "rows", "ms", "[min,", "max]"]
    assert [line.split()[0] for line in lines] == ["64", "600", "cache", "dual", "none"]
    assert all(float(line.split()[-1]) > 0 for line in lines[3:])
