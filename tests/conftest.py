"""Settings that must stand before torch is imported, and how tests are shared out by `pytest -n 2`."""

import os
from pathlib import Path

import pytest

# Threads that spin at a barrier make every small step ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


QUICK = frozenset((
    "rules", "caches", "models", "runs", "engine/test_layout.py", "engine/test_scheduler.py",
    "engine/test_pages.py", "engine/test_engine.py", "engine/test_memory.py", "engine/test_failing_rows.py",
    "test_text.py", "test_text_stream.py", "test_decoding.py", "test_settings.py", "test_layers.py",
    "test_tables.py", "test_command_line.py", "test_jsonl.py", "test_scoring.py", "server/test_schema.py",
    "server/test_fields.py", "server/test_waiting.py", "server/test_lost_jobs.py", "server/test_worker.py",
    "server/test_job_prompts.py", "server/test_request_decoding.py", "server/test_http.py",
    "gate/test_verdict.py", "checkpoints/test_hf.py",
))  # fmt: skip
"""Files and folders marked quick: what says most about a change in two minutes."""
LONGEST = (
    "slurm", "tiny", "test_readme.py", "evals/test_evaluate.py", "evals/lm/test_harness.py",
    "server/test_fuzz.py", "server/test_fault_process.py", "server/test_fault_workers.py", "notebooks",
    "engine/test_reference.py", "engine/test_families.py", "engine/test_logprobs.py",
    "server/test_faults.py", "test_docs.py",
)  # fmt: skip
"""Files and folders of a minute and more, in the order in which they begin: an idle core waits for one that
begins last."""


@pytest.fixture(scope="session")
def tiny_server():
    """A server of the embedded model, of 16 rows, for tests that only ask it: a start costs 7 s of CPU."""
    from llada_exp.jobs import running_server

    with running_server(["batch_size=16"], start_timeout_s=120) as handle:
        yield handle
        code = handle.process.poll()
        assert code is None, f"it ended by itself, with {code}:\n{handle.log.read_text()[-3000:]}"


def pytest_collection_modifyitems(items):
    tests = Path(__file__).parent
    for item in items:
        path = item.path.relative_to(tests).as_posix()
        if path in QUICK or path.split("/")[0] in QUICK:
            item.add_marker(pytest.mark.quick)
    items.sort(key=lambda item: _turn(item.path.relative_to(tests).as_posix()))  # others stay in their order


def _turn(path):
    return next((LONGEST.index(name) for name in (path, path.split("/")[0]) if name in LONGEST), len(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """By files, whose fixtures hold servers, in the order of `LONGEST` and of their names; tests on SLURM one
    after the other, for they count the jobs of one cluster."""
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "tests/slurm" if nodeid.startswith("tests/slurm/") else nodeid.split("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)
