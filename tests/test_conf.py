"""Every file under conf/ composes into valid settings, and the help text names every key."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from llada_exp.bench.settings import bench_keys, validate_bench
from llada_exp.settings import conf_dir, serve_keys, validate
from llada_exp.types import DECODING_FIELDS

NEEDS = {
    path.stem: ["model.path=/some/folder"]
    for path in (conf_dir() / "model").glob("*.yaml")
    if path.stem != "tiny" and "path: null" in path.read_text()
}
GROUPS = ("model", "decoding", "mode", "place")


BENCH_GROUPS = ("workload", "tracking")


def stems(group):
    return [(group, path.stem) for path in sorted((conf_dir() / group).glob("*.yaml"))]


EVALS = [("experiment", "checkpoints")]
"""Experiments of the evaluation."""
SWEEPS = [
    (g, s)
    for g, s in stems("experiment")
    if (g, s) not in EVALS and "MULTIRUN" in (conf_dir() / g / f"{s}.yaml").read_text()
]
"""Experiments of the benchmark."""


def choices():
    return [choice for group in GROUPS for choice in stems(group)]


def composed(*overrides, app="serve"):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(app, overrides=list(overrides))


@pytest.mark.parametrize(("group", "choice"), choices())
def test_every_choice_of_every_group_composes_and_is_valid(group, choice):
    validate(OmegaConf.to_container(composed(f"{group}={choice}", *NEEDS.get(choice, [])), resolve=True))


@pytest.mark.parametrize(
    ("group", "choice"),
    [c for c in choices() if c[0] != "place"] + SWEEPS + [c for g in BENCH_GROUPS for c in stems(g)],
)
def test_every_choice_is_valid_for_the_benchmark_too(group, choice, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one"}')
    needs = {**NEEDS, "jsonl": [f"workload.path={path}"]}
    cfg = composed(f"{group}={choice}", *needs.get(choice, []), app="bench")
    settings = validate_bench(OmegaConf.to_container(cfg, resolve=True))
    assert settings.server.engine.max_positions is None


def test_what_an_experiment_sets_holds_and_the_command_line_wins():
    assert composed("experiment=load_curve", app="bench").preset.cache == "dual"
    assert composed("experiment=load_curve", app="bench").duration == 20
    assert composed("experiment=load_curve", "duration=5", app="bench").duration == 5


def test_every_group_has_a_choice():
    assert {group for group, _ in choices()} == set(GROUPS)


def test_no_program_lists_the_fields_of_decoding():
    """A new field is its declaration: presets name only what differs from it."""
    for app in ("base", "serve", "bench", "eval", "gate"):
        tree = OmegaConf.load(conf_dir() / f"{app}.yaml")
        taken = {*DECODING_FIELDS, "decoding", "preset", "request"} & set(tree) - {"seed"}
        assert not taken, f"conf/{app}.yaml has keys of its own that are names of decoding fields"
    exact, fast = (OmegaConf.load(conf_dir() / "decoding" / f"{name}.yaml") for name in ("exact", "fast"))
    assert set(exact) == {"max_tokens"}
    assert set(fast) - set(exact) == {"rule", "threshold", "cache", "suffix_window"}


def test_mode_presets_yield_to_the_command_line():
    settings = validate(composed("batch_size=5", "mode=streaming"))
    assert (settings.mode, settings.batch_size, settings.max_wait_time) == ("streaming", 5, 0.0)


def test_decoding_presets_differ_in_rule_and_cache_alone():
    exact, fast = validate(composed("decoding=exact")).decoding, validate(composed()).decoding
    assert (exact.rule, exact.cache, exact.steps) == ("fixed", "none", None)
    changed = {name for name, value in vars(exact).items() if vars(fast)[name] != value}
    assert changed == {"rule", "threshold", "cache", "suffix_window"}


def test_the_servers_preset_is_one_that_the_gate_measures():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        tried = OmegaConf.to_container(compose("gate", ["settings=all"]).settings)
    fast = vars(validate(composed()).decoding)
    windows = [own for own in tried.values() if own.get("suffix_window") == fast["suffix_window"]]
    assert any(all(fast[name] == value for name, value in own.items()) for own in windows)


def test_the_help_text_names_every_key_and_every_choice():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        text = compose("serve", return_hydra_config=True).hydra.help.template
    for key in serve_keys():
        name = "preset.*" if key.startswith("preset.") else key
        assert name in text, f"--help does not tell of {key}"
    for group, choice in choices():
        assert choice in text, f"--help does not tell of {group}={choice}"


def test_the_benchmarks_help_names_every_key_and_every_choice_of_its_own():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        text = compose("bench", return_hydra_config=True).hydra.help.template
    for key in set(bench_keys()) - set(serve_keys()):
        group = key.split(".")[0]
        name = f"{group}.*" if "." in key else key
        assert name in text, f"--help does not tell of {key}"
    for _, choice in [*SWEEPS, *stems("workload"), *stems("tracking")]:
        assert choice in text, f"--help does not tell of {choice}"


def test_a_models_file_may_choose_the_decoding_that_fits_it(tmp_path):
    """Prevents a family whose `model=NAME` alone ends in a refusal of the default preset."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /decoding: exact\n"
        "model: {source: hf, path: /some/folder, base: null, name: mine}\n"
    )
    here = f"hydra.searchpath=[file://{tmp_path}]"
    for app in ("serve", "bench", "eval", "gate"):
        cfg = composed(here, "model=mine", app=app)
        assert (cfg.model.name, cfg.preset.rule, cfg.preset.cache) == ("mine", "fixed", "none"), app
        assert composed(here, "model=mine", "decoding=fast", app=app).preset.cache == "dual", app
    cfg = composed(here, "model=mine", "experiment=load_curve", app="bench")
    assert (cfg.model.name, cfg.preset.cache) == ("mine", "dual")
