"""The tokenizer: any text survives, digits stand alone, and transformers reads the folder."""

import pytest
from transformers import AutoTokenizer

from llada_exp.gate import strata
from llada_exp.tiny.tasks import messages as messages_of
from llada_exp.tiny.tokenizer import CHAT_TEMPLATE, SPECIAL, build_tokenizer, chat_prompt, save_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def loaded(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(tokenizer, folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    "text",
    [
        "What is 2 + 3?",
        "347 + 285: 7 + 5 = 12, 4 + 8 + 1 = 13, 3 + 2 + 1 = 06\n#### 632",
        "",
        "  two  spaces\t\n\n",
        "Grüße, 世界! 🙂 ٣",
        "\x00\x7f",
    ],
)
def test_round_trip(tokenizer, loaded, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert loaded.decode(loaded.encode(text, add_special_tokens=False)) == text


def test_every_byte_has_a_token(tokenizer):
    every = "".join(map(chr, range(0x800))) + "\uffff\U00010000\U0010ffff\U000d0000"
    assert tokenizer.decode(tokenizer.encode(every).ids) == every


def test_digits_are_split_singly(tokenizer):
    assert [tokenizer.decode([i]) for i in tokenizer.encode("1234+56=?").ids][:7] == list("1234+56")


def test_building_twice_gives_the_same(tokenizer):
    assert build_tokenizer().to_str() == tokenizer.to_str()


def test_special_ids_come_last_and_are_set(tokenizer, loaded):
    size = tokenizer.get_vocab_size()
    assert [tokenizer.token_to_id(t) for t in SPECIAL] == list(range(size - len(SPECIAL), size))
    assert loaded.eos_token == loaded.pad_token == "<|endoftext|>"
    assert loaded.bos_token == "<|startoftext|>"
    assert loaded.mask_token is None
    assert len(loaded) == size


def test_chat_template_writes_what_training_saw(tokenizer, loaded):
    messages = [{"role": "user", "content": " What is 2 + 3? "}]
    text = loaded.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == chat_prompt("What is 2 + 3?")
    assert loaded.chat_template == CHAT_TEMPLATE
    ids = loaded.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids == tokenizer.encode(text).ids
    (problem,) = strata.problems("follow_ups", 1)
    text = loaded.apply_chat_template(messages_of(problem), add_generation_prompt=True, tokenize=False)
    assert text == chat_prompt(problem.question, earlier=problem.earlier)
    two = loaded.apply_chat_template(
        [*messages, {"role": "assistant", "content": "5"}, {"role": "user", "content": "1+1"}], tokenize=False
    )
    assert two.count("<|startoftext|>") == 1
    assert two.count("<|eot_id|>") == 3
