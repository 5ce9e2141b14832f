"""What docs/ repeat of the code is the code's own words."""

from pathlib import Path

from llada_exp.bench.settings import ARRIVALS, WORKLOADS
from llada_exp.runs.settings import TRACKING

BENCHMARKS = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()


def test_every_workload_arrival_and_way_of_tracking_is_documented():
    for name in WORKLOADS:
        assert f"| `{name}` |" in BENCHMARKS
    for name in ARRIVALS:
        assert name in BENCHMARKS
    for name in TRACKING:
        assert f"tracking={name}" in BENCHMARKS or f"`{name}`" in BENCHMARKS
