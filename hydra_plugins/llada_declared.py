"""Parts of the configuration that are declared in code: Hydra composes them as if they were files of conf/.

`- declared/harnesses` in a defaults list is a source of configs of its own, and `${declared_help:NAME}` in a
help text its lines. Hydra takes plugins from this namespace only, and imports them in every program that
composes: what is declared is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

TREES = {
    "declared/decoding": "llada_exp.decoding_keys:composed",
    "declared/decoding_of_requests": "llada_exp.decoding_keys:composed_requests",
    "declared/decoding_of_evaluations": "llada_exp.decoding_keys:composed_evaluation",
    "declared/harnesses": "llada_exp.evals.harnesses:composed_defaults",
}
"""Name in a defaults list -> the function that gives the tree."""
HELP = {
    "decoding": "llada_exp.decoding_keys:help_preset",
    "decoding_of_requests": "llada_exp.decoding_keys:help_requests",
    "decoding_of_evaluations": "llada_exp.decoding_keys:help_evaluation",
    "models": "llada_exp.settings:help_models",
    "benchmarks": "llada_exp.evals.harnesses:help_benchmarks",
    "harnesses": "llada_exp.evals.harnesses:help_keys",
}
"""Name in a help text -> the function that gives the lines."""


def call(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)()


class DeclaredSource(ConfigSource):
    """The configs of TREES, at the top of the tree."""

    @staticmethod
    def scheme() -> str:
        return "declared"

    def load_config(self, config_path: str) -> ConfigResult:
        name = config_path.removesuffix(".yaml")
        if name not in TREES:
            raise ConfigLoadError(f"nothing is declared as {name}")
        config = OmegaConf.create(call(TREES[name]))
        return ConfigResult(self.provider, f"{self.scheme()}://", config, {"package": "_global_"})

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path.rstrip("/") in ("", "declared")

    def is_config(self, config_path: str) -> bool:
        return config_path.removesuffix(".yaml") in TREES

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Nothing: they are no choices."""
        return []


class DeclaredPath(SearchPathPlugin):
    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append("llada_exp", f"{DeclaredSource.scheme()}://")


OmegaConf.register_new_resolver("declared_help", lambda name: call(HELP[name]), replace=True)
