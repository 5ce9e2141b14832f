"""Which ids end an answer, from config, generation config, tokenizer and template."""

import json

import pytest

from llada_exp.checkpoints.common import read_config
from llada_exp.checkpoints.special import special_ids
from llada_exp.text import Tokenizer

EOS, EOT, HEADER = 289, 292, 290  # of the reference's tokenizer
CHATML = (
    "{{ '<|start_header_id|>system ' + 'be good<|eot_id|>' }}{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + ' ' + m['content'] + '<|eot_id|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant ' }}{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
ALWAYS_HEADED = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + ' ' + m['content'] }}{% endfor %}"
    "{{ '<|start_header_id|>assistant ' }}"
)
NO_ANSWERS = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ raise_exception('no') }}{% endif %}"
    "{{ m['content'] }}{% endfor %}"
)


def ends(folder):
    return special_ids(read_config(folder), Tokenizer(folder), [folder], "here").ends


def template(folder, text):
    (folder / "chat_template.jinja").write_text(text)
    return Tokenizer(folder).turn_end_id


def change(path, **changes):
    value = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(value | changes))


def test_lladas_are_eos_and_the_end_of_a_turn(single):
    """Its template appends the next header whatever it is asked; that one ends nothing."""
    assert ends(single) == (EOS, EOT)
    assert Tokenizer(single).turn_end_id == EOT


def test_the_template_says_what_closes_a_turn(copy_of):
    """Prevents a role's header, or ordinary text, taken for the end of a turn."""
    folder = copy_of("a")
    assert Tokenizer(folder).token_id("<|start_header_id|>") == HEADER
    assert template(folder, CHATML) == EOT
    assert template(folder, CHATML.replace("<|eot_id|>", "<|endoftext|>")) == EOS
    for text in (PLAIN, ALWAYS_HEADED, NO_ANSWERS, CHATML.replace("<|eot_id|>", "###")):
        assert template(folder, text) is None


def test_config_and_generation_config_may_name_several(copy_of):
    """Prevents an answer that runs on past a stop id that only generation_config.json names."""
    folder = copy_of("a")
    change(folder / "config.json", eos_token_id=[EOS, 5])
    change(folder / "generation_config.json", eos_token_id=[7, EOS])
    assert ends(folder) == (EOS, 5, 7, EOT)
    change(folder / "generation_config.json", eos_token_id=9)
    assert ends(folder) == (EOS, 5, 9, EOT)
    for wrong in ("x", [1, None], -1, True):
        change(folder / "generation_config.json", eos_token_id=wrong)
        with pytest.raises(ValueError, match=r"generation_config\.json: eos_token_id is"):
            ends(folder)
    change(folder / "generation_config.json", eos_token_id=320)
    with pytest.raises(ValueError, match="beyond the model's 320 embeddings"):
        ends(folder)


def test_without_a_template_a_familys_own_tokens_still_end_a_turn(copy_of):
    """Prevents a run with a passing template, or LLaDA-8B-Base without one, that no longer stops."""
    folder = copy_of("a")
    (folder / "chat_template.jinja").unlink()
    assert Tokenizer(folder).turn_end_id is None
    assert ends(folder) == (EOS, EOT)
