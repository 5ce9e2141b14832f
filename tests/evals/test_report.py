"""The table of an evaluation: by name, or by a training run's step."""

from llada_exp.evals.report import table
from tests.evals.test_curve import row, unknown


def test_the_table_is_in_the_order_of_steps_and_names_what_has_no_score():
    """Prevents a damaged checkpoint from vanishing, and step 100 from standing before step 20."""
    head, *lines = table([row(100, 0.5), row(20, 0.25), unknown(60)], [50]).text().splitlines()
    assert [int(line.split()[0]) for line in lines] == [20, 50, 60, 100]
    assert " ".join(lines[0].split()) == "20 gsm8k 200 25.0 [20.0, 35.0] 12.5 2.0 3 80.2 40.0 2.00"
    assert lines[1].split()[1:] == ["(no", "score)", *"--------"]
    assert lines[2].split()[1:] == ["gsm8k", *"--------"]
    for heading in ("accuracy % [95 %]", "cut off %", "no answer %", "failed", "tok/answer", "NFE", "TPF"):
        assert heading in head
    assert len({len(line) for line in (head, *lines)}) == 1


def test_the_table_copes_with_what_a_parquet_makes_of_numbers_and_a_model_without_step():
    lines = table([row(20.0, 0.25, num_samples=4.0, num_problems=200.0), row(None, 0.1)]).text().splitlines()
    assert lines[1].split()[:2] == ["-", "gsm8k"]
    assert lines[2].split()[:3] == ["20", "gsm8k:4", "200"]


def test_settings_of_one_step_can_be_told_apart():
    """Prevents two rows of step 20 that say nothing of what differs."""
    rows = [row(20, 0.25, point=f"step_20_cache-{cache}") for cache in ("none", "dual")]
    text = table(rows).text(80)
    assert "step_20_cache-none" in text
    assert "step_20_cache-dual" in text
    assert max(map(len, text.splitlines())) <= 80
