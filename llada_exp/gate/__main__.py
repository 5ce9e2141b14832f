"""`python -m llada_exp.gate`: see llada_exp/gate/run.py."""

from llada_exp.gate.run import main

if __name__ == "__main__":
    main()
