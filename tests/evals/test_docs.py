"""docs/evaluation.md says what is true: columns, keys, figures and commands."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.evals.harnesses import harnesses
from llada_exp.evals.settings import eval_keys, validate_eval
from llada_exp.settings import conf_dir

EVALUATION = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
FIGURES = sorted(path.stem for path in (conf_dir() / "experiment" / "figures").glob("*.yaml"))


def test_every_harness_is_documented():
    for name in harnesses():
        assert f"| `{name}` |" in EVALUATION, f"{name} has no line in the table of harnesses"


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figures_settings_are_valid_and_named_with_what_was_published(figure):
    assert f"`experiment=figures/{figure}`" in EVALUATION
    text = (conf_dir() / "experiment" / "figures" / f"{figure}.yaml").read_text()
    comment = "".join(line for line in text.splitlines() if line.startswith("#"))
    published = re.findall(r"\b\d\d\.\d\b", comment)
    assert published
    row = next(line for line in EVALUATION.splitlines() if f"figures/{figure}`" in line)
    assert set(re.findall(r"\b\d\d\.\d\b", row)) <= set(published), (
        "a figure in the table that the file lacks"
    )
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("eval", [f"experiment=figures/{figure}"], return_hydra_config=True)
    for point in cfg.hydra.sweeper.points or [""]:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            own = compose("eval", [f"experiment=figures/{figure}", *point.split()])
        settings = validate_eval(OmegaConf.to_container(own, resolve=True))
        assert settings.server.model.path == "GSAI-ML/LLaDA-8B-Instruct"
        assert settings.request["temperature"] == 0
    if len(cfg.hydra.sweeper.points or []) > 1:
        assert cfg.hydra.sweeper.points[0] == "decoding.rule=fixed decoding.cache=none", (
            "vanilla stands beside"
        )


def test_no_figure_is_named_that_is_not_there():
    assert set(re.findall(r"figures/(\w+)`", EVALUATION)) == set(FIGURES)


def test_keys_that_are_named_exist():
    known = {key.split(".")[-1] for key in eval_keys()} | set(eval_keys())
    for key in re.findall(r"`([a-z_.]+)=[^`]*`", EVALUATION):
        assert key in known | {"experiment", "server_type", "hydra", "harness"}, key
