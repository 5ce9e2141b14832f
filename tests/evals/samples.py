"""Answers and settings for tests of what is made from them."""

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.evals.answers import Answer
from llada_exp.evals.settings import validate_eval
from llada_exp.settings import conf_dir


def answer(problem="0", sample=0, verdict="correct", **own):
    fields = {"benchmark": "b", "question": f"q{problem}", "expected": "1", "response": "\\boxed{1}",
              "predicted": {"correct": "1", "wrong": "2"}.get(verdict)}  # fmt: skip
    return Answer(problem=str(problem), sample=sample, verdict=verdict, **{**fields, **own})


def composed(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose("eval", overrides=list(overrides)), resolve=True)


def settings(*overrides):
    return validate_eval(composed("expname=a", *overrides))
