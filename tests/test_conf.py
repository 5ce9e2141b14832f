"""Every file under conf/ composes into valid settings, and the help text names every key."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.settings import conf_dir, known_keys, validate

NEEDS = {"hf": ["model.path=/some/folder"], "dcp": ["model.path=/some/folder"]}
GROUPS = ("model", "decoding", "mode", "place", "experiment")


def choices():
    return [(group, path.stem) for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]


def composed(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("serve", overrides=list(overrides))


@pytest.mark.parametrize(("group", "choice"), choices())
def test_every_choice_of_every_group_composes_and_is_valid(group, choice):
    validate(OmegaConf.to_container(composed(f"{group}={choice}", *NEEDS.get(choice, [])), resolve=True))


def test_every_group_has_a_choice():
    assert {group for group, _ in choices()} == set(GROUPS)


def test_mode_presets_yield_to_the_command_line():
    settings = validate(composed("batch_size=5", "mode=streaming"))
    assert (settings.mode, settings.batch_size, settings.max_wait_time) == ("streaming", 5, 0.0)


def test_decoding_presets_differ_in_the_rule_alone():
    exact, fast = validate(composed()).decoding, validate(composed("decoding=fast")).decoding
    assert (exact.rule, exact.cache, exact.steps) == ("fixed", "none", None)
    assert fast.rule == "threshold"
    assert {**vars(exact), "rule": None} == {**vars(fast), "rule": None}


def test_the_help_text_names_every_key_and_every_choice():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        text = compose("serve", return_hydra_config=True).hydra.help.template
    for key in known_keys():
        name = "decoding.*" if key.startswith("decoding.") else key
        assert name in text, f"--help does not tell of {key}"
    for group, choice in choices():
        assert choice in text or group == "experiment", f"--help does not tell of {group}={choice}"
