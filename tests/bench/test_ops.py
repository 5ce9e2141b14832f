"""What a step dispatches: bounded, and no more for many rows than for one."""

import pytest
import torch

from llada_exp.bench import engine as bench
from llada_exp.bench.models import bench_model
from llada_exp.bench.ops import step_ops
from tests.toys import toy_block_causal, toy_model


@pytest.mark.parametrize(("mixed", "bound"), [(False, 16), (True, 22)])
@pytest.mark.parametrize("model", [toy_model(), toy_block_causal()], ids=["full", "block_causal"])
def test_a_step_of_the_device_path_dispatches_the_same_for_every_number_of_rows(model, mixed, bound):
    """Prevents two small copies a row and layer (1,024 kernels in a step of 16 rows of an 8B), and a call for
    each length that whole rows have."""
    one, few, many = (step_ops(model, n, exact=False, mixed=mixed) for n in (2 if mixed else 1, 8, 64))
    assert few == many
    for ops in (one, many):
        assert ops.layer.total() <= bound, ops.layer
        assert ops.outside.total() <= 60, ops.outside


def test_norms_of_queries_and_keys_cost_two_more():
    model = bench_model("random_31m_sdar", torch.device("cpu"), torch.float32)
    assert step_ops(model, 8, exact=False, mixed=False).layer.total() <= 16 + 2


def test_they_are_printed_in_the_place_of_speed(capsys):
    assert bench.main(["--count-ops", "--models", "tiny", "--batch-sizes", "2", "16"]) is None
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["model", "exact", "step", "rows", "ops/layer", "other", "ops"]
    assert [line.split()[1:4] for line in lines] == [
        [exact, step, rows]
        for exact in ("true", "false")
        for step in ("block", "mixed")
        for rows in ("2", "16")
    ]
