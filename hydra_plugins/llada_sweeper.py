"""Registers the benchmark's sweeper with Hydra, which takes plugins from this namespace only."""

from hydra.core.config_store import ConfigStore

from llada_exp.bench.sweeper import PointSweeper as _PointSweeper


class PointSweeper(_PointSweeper):
    """Known to Hydra by this place."""


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="points",
    node={"_target_": f"{__name__}.PointSweeper", "params": None, "points": None},
    provider="llada_exp",
)
