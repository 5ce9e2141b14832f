"""The gate's keys: what they name is what is judged, and a bad one is told by its name."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.decoding import describe
from llada_exp.gate import measure
from llada_exp.gate import settings as gate_settings
from llada_exp.gate.strata import STRATA
from llada_exp.runs.decoding_columns import values
from llada_exp.settings import conf_dir, validate


def test_the_preset_that_the_gate_runs_by_default_is_the_servers():
    """Prevents a gate that is green for a preset of last month."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        (own,) = OmegaConf.to_container(compose("gate").settings).values()
        exact, fast = (
            vars(validate(compose("serve", [f"decoding={d}"])).decoding) for d in ("exact", "fast")
        )
        assert vars(validate(compose("serve")).decoding) == fast, "the server's default"
    changed = {name: value for name, value in fast.items() if value != exact[name]}
    assert changed == {name: value for name, value in own.items() if value != exact[name]}


@pytest.mark.parametrize(
    ("own", "match"),
    [
        ({"settings": {"vanilla": {}}}, "settings.vanilla"),
        ({"settings": {"mine": {"rule": "quickly"}}}, "settings.mine: rule"),
    ],
)
def test_a_bad_plan_is_named(own, match):
    with pytest.raises(ValueError, match=match):
        measure.plan(own["settings"], 64)


@pytest.mark.parametrize(
    ("own", "match"),
    [
        ({"margin": 0}, "margin is 0"),
        ({"min_agreement": 101}, "min_agreement is 101"),
        ({"undecided": "maybe"}, "undecided is 'maybe'; expected one of fail, pass"),
        ({"num_problems": 0, "exact": 0}, "both 0"),
        ({"exact": -1}, "exact is -1"),
        ({"fail": "no"}, "fail is 'no'"),
        ({"margins": 1}, "margin"),
        ({"kinds": ["medium"]}, "kinds holds 'medium'"),
        ({"kinds": []}, "kinds is .*one at least"),
        ({"canvases": ["large"]}, "canvases holds 'large'"),
        ({"canvases": [0]}, "canvases holds 0"),
    ],
)
def test_a_bad_key_is_named(own, match):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = OmegaConf.to_container(compose("gate"))
    with pytest.raises(ValueError, match=match):
        gate_settings.check({**tree, **own})


@pytest.mark.parametrize(
    "words",
    [
        ["decoding.threshold=0.95"],
        ["decoding=exact", "decoding.cache=dual"],
        ["decoding=fast", "decoding.rule=fixed", "decoding.max_tokens=8"],
    ],
)
def test_decoding_keys_name_the_setting_that_the_server_would_have(words):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = OmegaConf.to_container(compose("gate", ["settings=none", *words]))
        server = validate(compose("serve", words)).decoding
    assert tree["settings"] == {}
    canvas, *_ = gate_settings.canvases(tree)
    params = measure.plan(gate_settings.decoding_setting(tree), canvas)["decoding"]
    assert values(describe(params)) == values(describe(server)), "at the canvas that is served, too"


def test_no_decoding_key_is_no_setting_and_a_bad_one_is_named():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        assert gate_settings.decoding_setting(OmegaConf.to_container(compose("gate"))) == {}
        tree = OmegaConf.to_container(compose("gate", ["decoding.rule=quickly"]))
    with pytest.raises(ValueError, match=r"decoding\.rule is 'quickly'"):
        gate_settings.decoding_setting(tree)


@pytest.mark.parametrize(
    ("words", "judged"),
    [
        (["decoding=exact"], {"fast", "decoding"}),
        (["preset.threshold=0.5"], {"fast", "decoding"}),
        (["decoding=fast"], {"fast"}),  # that of settings=fast
        (["settings=none", "decoding=fast"], {"decoding"}),
        (["decoding={rule: klass}"], {"fast", "decoding"}),
        ([], {"fast"}),
    ],
)
def test_a_preset_that_is_chosen_or_changed_is_judged(words, judged):
    """Prevents `gate preset.threshold=0.5` from passing the preset that the user did not ask about."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = OmegaConf.to_container(compose("gate", words))
    settings = gate_settings.judged_settings(tree, words)
    assert settings.keys() == judged
    if words == ["preset.threshold=0.5"]:
        assert (settings["decoding"]["rule"], settings["decoding"]["threshold"]) == ("credit", 0.5)


@pytest.mark.parametrize("form", [path.stem for path in (conf_dir() / "form").glob("*.yaml")])
def test_every_form_is_valid_and_the_command_line_wins(form):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = OmegaConf.to_container(compose("gate", [f"form={form}"]))
        short = OmegaConf.to_container(compose("gate", [f"form={form}", "num_problems=7", "settings=few"]))
        text = compose("gate", return_hydra_config=True).hydra.help.template
    gate_settings.check(tree)
    assert set(gate_settings.numbers(short).values()) == {7}
    assert set(short["settings"]) == {"four_a_step", "threshold_0.9"}
    assert form in text


def test_by_default_the_preset_is_judged_in_every_stratum_as_served_and_at_a_thousand():
    """Prevents a gate that is green at a canvas, or on a mix, that hides what a newcomer meets."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tree = OmegaConf.to_container(compose("gate"))
    limits = gate_settings.check(tree)
    assert set(tree["kinds"]) == set(STRATA) - {"short"}
    assert gate_settings.canvases(tree) == [256, 1024]
    assert limits.margin is None
    assert tree["http"] > 0


def test_the_help_text_names_every_key_and_every_choice_of_settings():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        text = compose("gate", return_hydra_config=True).hydra.help.template
    for word in (*gate_settings.KEYS, *(path.stem for path in (conf_dir() / "settings").glob("*.yaml"))):
        assert word in text, f"--help does not tell of {word}"
