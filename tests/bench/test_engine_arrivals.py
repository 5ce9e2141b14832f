"""The measure of how requests mix does the same work both ways."""

from llada_exp.bench import engine_arrivals


def test_at_once_and_spread_do_the_same_work_and_both_are_shown(capsys, monkeypatch):
    """Requests that never came, or came all at once both times, would make the ratio meaningless."""
    runs = []
    real = engine_arrivals.run

    def run(*args):
        runs.append(real(*args))
        return runs[-1]

    monkeypatch.setattr(engine_arrivals, "run", run)
    options = ["--models", "tiny", "--requests", "2", "--batch-size", "2", "--tokens-per-step", "32"]
    ratios = engine_arrivals.main([*options, "--repeats", "1"])
    assert set(ratios) == {"tiny"}
    assert [r.tokens for r in runs] == [2 * 128] * 4
    assert [r.arrival for r in runs[2:]] == ["at once", "one in 2 steps"]
    assert [len(r.step_ms) for r in runs[2:]] == [4, 6], "a row that comes two steps later ends two later"
    printed = capsys.readouterr().out
    assert "at once / spread = " in printed
    assert all(heading in printed for heading in ("useful_%", "p95_ms", "one in 2 steps"))
