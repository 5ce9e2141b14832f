"""Settings that must stand before torch is imported, and how tests are shared out by `pytest -n 2`."""

import os

import pytest

# Threads that spin at a barrier make every small step ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """By files, whose fixtures hold servers, in the order of their names; tests on SLURM one after the other,
    for they count the jobs of one cluster."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "tests/slurm" if nodeid.startswith("tests/slurm/") else nodeid.split("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)
