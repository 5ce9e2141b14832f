"""The command that a machine with a GPU is measured by works, seen on the CPU: there it cannot be tried."""

from benchmarks.step_times import main


def test_both_tables_have_a_line_for_each_size(capsys):
    main(["--model", "tiny", "--device", "cpu", "--tokens", "64", "600", "--rows", "2", "--steps", "1"])
    head, tokens, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("tiny float32 on cpu")
    assert tokens.split() == ["tokens", "rows", "ms", "[min,", "max]"]
    assert [line.split()[0] for line in lines] == ["64", "600", "cache", "dual", "none"]
    assert all(float(line.split()[-1]) > 0 for line in lines[3:])


def test_the_longest_operations_of_a_step_are_named_with_the_rate_of_products(capsys):
    main(["--model", "tiny", "--device", "cpu", "--tokens", "--rows", "2", "--caches", "dual", "--steps", "1",
          "--operations", "4"])  # fmt: skip
    head, *lines = capsys.readouterr().out.splitlines()[4:]
    assert head.startswith("dual, 2 rows, ")
    assert len(lines) == 6
    times = [float(line.split()[-2]) for line in lines[:4]]
    assert times == sorted(times, reverse=True)
    for kind, line in zip(("products", "attention"), lines[4:], strict=True):
        assert line.startswith(f"{kind}: ")
        assert float(line.split()[1]) > 0
