"""What a server says of itself: its state, its names, its address, its file."""

import pytest

from llada_exp.domain import DOMAIN
from llada_exp.server.announcement import domain_words, public_url, write_info
from llada_exp.server.routes.model_names import ModelNames
from llada_exp.server.state.status import overall
from llada_exp.settings import ModelSettings


@pytest.mark.parametrize(
    ("kinds", "workers", "draining", "expected"),
    [
        ([], 1, False, "starting"),
        (["starting"], 1, False, "starting"),
        (["ready"], 1, False, "ready"),
        (["ready", "starting"], 2, False, "degraded"),
        (["ready", "failed"], 2, False, "degraded"),
        (["ready"], 1, True, "draining"),
    ],
)
def test_health_says_what_is_true(kinds, workers, draining, expected):
    states = {i: {"state": kind} for i, kind in enumerate(kinds)}
    assert overall(states, workers, draining) == expected


def test_a_model_answers_to_its_name_its_hub_id_and_their_spellings():
    names = ModelNames(ModelSettings("hf", "GSAI-ML/LLaDA-8B-Instruct", None, "llada-8b-instruct"))
    for name in (
        None,
        "llada-8b-instruct",
        "LLaDA-8B-Instruct",
        "llada_8b_instruct",
        "GSAI-ML/LLaDA-8B-Instruct",
    ):
        names.check(name)
    ModelNames(ModelSettings("tiny", None, None, "llada-tiny")).check("tiny")


def test_the_embedded_model_says_what_it_can_do_and_no_other_does():
    """Prevents a newcomer's second question from being answered by a guess at what the model is for."""
    tiny = ModelSettings("tiny", None, None, "llada-tiny")
    assert ModelNames(tiny).card(1)["description"] == DOMAIN
    assert domain_words(tiny) == f"; knows only {DOMAIN}"
    other = ModelSettings("hf", "GSAI-ML/LLaDA-8B-Instruct", None, "llada-8b-instruct")
    assert "description" not in ModelNames(other).card(1)
    assert domain_words(other) == ""


def test_urls_are_ones_that_others_can_use():
    assert public_url("127.0.0.1", 80) == "http://127.0.0.1:80"
    assert public_url("::1", 80) == "http://[::1]:80"
    assert "0.0.0.0" not in public_url("0.0.0.0", 80)


def test_an_info_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_info(path, {"x": 1})
    with pytest.raises(TypeError):
        write_info(path, {"x": object()})
    assert path.read_text() == '{\n  "x": 1\n}\n'
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]
