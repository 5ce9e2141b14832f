"""The embedded model's folder is found in the package, or its absence is said plainly."""

import shutil
from importlib import resources

import pytest

from llada_exp import load_model


@pytest.fixture
def package(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "files", lambda name: tmp_path / name)
    return tmp_path / "llada_exp.tiny"


def test_the_default_source_is_the_package_data(package, single):
    """Prevents a path that holds only in the source tree, not in an installed wheel."""
    shutil.copytree(single, package / "weights")
    loaded = load_model()
    assert (loaded.source, loaded.name, loaded.path) == ("tiny", "tiny", str(package / "weights"))
    assert load_model(name="mine").name == "mine"


def test_an_installation_without_the_model_says_so(package):
    with pytest.raises(ValueError, match="embedded model is missing"):
        load_model(source="tiny")
