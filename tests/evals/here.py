"""`python -m llada_exp.evals ...` inside this process: what a start costs most is imports."""

import sys

from hydra.core.global_hydra import GlobalHydra

from llada_exp.evals.__main__ import main


def evals_here(monkeypatch, folder, *arguments):
    """Its exit code, run in `folder`. Output goes where the test's own goes."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", ["llada_exp.evals", *arguments])
    GlobalHydra.instance().clear()
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    return 0
