"""`python -m llada_exp.evals` with one harness more: tests/evals/coin_harness.py."""

from llada_exp.evals import harnesses

if __name__ == "__main__":
    harnesses.MODULES.insert(0, "tests.evals.coin_harness")
    from llada_exp.evals.__main__ import main

    main()
