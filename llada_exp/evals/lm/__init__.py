"""harness=lm_eval: lm-eval's tasks, on a model in this process or on endpoints."""
