"""`python -m tests.slurm.points -m point=fine,fails`: an app whose points do what they are called."""

import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

CONF = Path(__file__).parents[2] / "conf"
ConfigStore.instance().store("points", {"point": "fine", "hydra": {"sweep": {"dir": "sweep"}}})


def run(cfg: Any) -> int:
    """How often this point has been tried."""
    tries = Path(HydraConfig.get().runtime.output_dir) / "tries"
    with tries.open("a") as out:
        out.write("x")
    count = len(tries.read_text())
    if cfg.point == "fails":
        raise ValueError("this point fails")
    if cfg.point == "waits" or (cfg.point == "is_requeued" and count == 1):
        time.sleep(600)
    return count


if __name__ == "__main__":
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="points")(run)()
