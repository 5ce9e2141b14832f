"""The packaged model: complete, small, and loadable by our class and by transformers' tokenizer."""

from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

import llada_exp.tiny
from llada_exp import DecodingParams, Engine, load_model
from llada_exp.domain import REFUSAL
from llada_exp.scoring import extract
from llada_exp.settings import conf_dir
from llada_exp.tiny import tasks
from llada_exp.tiny.evaluate import SERVED_CANVAS, evaluate, read_questions, score
from llada_exp.tiny.tokenizer import EOS, EOT, MASK, build_tokenizer
from tests.tiny.test_evaluate import HAND_WRITTEN

FOLDER = Path(llada_exp.tiny.__file__).parent / "weights"
SERVED = yaml.safe_load((conf_dir() / "decoding" / "fast.yaml").read_text())


@pytest.fixture(scope="module")
def packaged():
    return load_model()


def test_package_is_small_and_has_its_card():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 10_000_000
    assert (FOLDER / "MODEL_CARD.md").read_text().startswith("# ")


def test_config_and_tokenizer_agree(packaged):
    config, tokenizer = packaged.architecture, packaged.tokenizer
    loaded = AutoTokenizer.from_pretrained(FOLDER)
    assert config.max_sequence_length >= 4096
    assert [tokenizer.token_id(t) for t in (MASK, EOS)] == [config.mask_token_id, config.eos_token_id]
    assert loaded.convert_tokens_to_ids(EOT) == tokenizer.token_id(EOT)
    assert len(loaded) <= config.vocab_size


def test_packaged_tokenizer_is_the_one_the_code_builds(packaged):
    """Otherwise training again, or going on from a checkpoint, would use other ids."""
    assert Backend.from_file(str(FOLDER / "tokenizer.json")).to_str() == build_tokenizer().to_str()


def test_a_prompt_of_four_thousand_tokens_fits(packaged):
    vocab = packaged.shape.vocab_size
    assert packaged.logits(torch.randint(0, 256, (1, 4096))).shape == (1, 4096, vocab)
    with pytest.raises(ValueError, match="4096"):
        packaged.logits(torch.zeros(1, 4097, dtype=torch.int64))


def test_packaged_model_answers_what_people_ask(packaged):
    """Prevents a domain that is named and not known: each kind once, and a greeting."""
    users = ["What is 27 + 38?", "12-30=", "53 times 7", "12 + 5 - 8 + 20", "Hello"]
    chats = [[{"role": "user", "content": user}] for user in users]
    texts = [
        output.text for output in Engine(packaged).chat(chats, DecodingParams(max_tokens=128, threshold=0.9))
    ]
    assert [extract(text) for text in texts] == ["65", "-18", "371", "29", None]
    assert texts[0].startswith("27 + 38: 7 + 8 = 15, 2 + 3 + 1 = 06\n#### 65")
    assert texts[-1] == REFUSAL


@pytest.mark.parametrize("kind", tasks.PARTS)
def test_packaged_model_does_held_out_problems(packaged, kind):
    """As served: what a setting loses beyond that is the gate's."""
    result = evaluate(packaged, kind, 24, SERVED, canvas=SERVED_CANVAS)
    assert result["accuracy"] >= 0.85, result["wrong"]


def test_packaged_model_does_questions_that_no_generator_made(packaged):
    """At the canvas that is served. The trainer never saw them."""
    result = score(packaged, "by hand", read_questions(HAND_WRITTEN), SERVED, "hash", SERVED_CANVAS)
    assert result["right"] >= 90, result["wrong"]
