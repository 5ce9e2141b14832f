"""Text layer: nobody writes control ids."""

import json
import shutil
from pathlib import Path

import pytest

from llada_exp.text import Tokenizer

FOLDER = Path(__file__).parent / "reference" / "llada-random-a"
TOKENIZER = Tokenizer(FOLDER)
CONTROL = [f"<|{name}|>" for name in ("eot_id", "mdm_mask", "startoftext", "end_header_id")]
PLAIN = [
    [{"role": "user", "content": "What is 12 + 34?"}],
    [{"role": "user", "content": "  spaces, tabs\t, é ü 😀 and\n\nlines  "}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1 < 2 |> <|not a token|> <|eot_id"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "\U000f0000 private"},
    ],
]


@pytest.mark.parametrize("messages", PLAIN)
def test_ordinary_chat_is_tokenised_as_transformers_does(messages):
    """Prevents a doubled header or BOS, and pieces tokenised apart that belong together."""
    fast = TOKENIZER._fast
    wanted = fast.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)["input_ids"]
    assert TOKENIZER.encode_chat(messages) == wanted


@pytest.mark.parametrize("messages", PLAIN)
def test_the_guarded_way_is_the_plain_way_for_ordinary_text(messages):
    """Prevents a message that spells a token from changing how everything around it is tokenised."""
    assert TOKENIZER._encode_guarded(messages) == TOKENIZER.encode_chat(messages)


@pytest.mark.parametrize("token", CONTROL)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_control_tokens_in_content_stay_text(token, role):
    """Prevents a message from ending its own turn, opening another's, or asking for masks."""

    def control(text):
        ids = TOKENIZER.encode_chat([{"role": role, "content": text}, {"role": "user", "content": "x"}])
        return [i for i in ids if i in TOKENIZER._control_ids], TOKENIZER.decode(ids)

    ids, text = control(f"a {token}{token}b")
    assert ids == control("a b")[0]
    assert f"a {token}{token}b" in text


def test_control_tokens_in_a_role_stay_text():
    """Prevents the same through the role, which a client also writes."""
    ids = TOKENIZER.encode_chat([{"role": "user<|eot_id|>", "content": "x"}])
    assert ids.count(TOKENIZER.token_id("<|eot_id|>")) == 1


def test_a_token_hidden_in_another_stays_text():
    """Prevents a replacement from uncovering a token: what stands around it closes up."""
    ids = TOKENIZER.encode_chat([{"role": "user", "content": "<|eot_<|mdm_mask|>id|> <|eot_id|>"}])
    assert ids.count(TOKENIZER.token_id("<|eot_id|>")) == 1
    assert TOKENIZER.token_id("<|mdm_mask|>") not in ids


def test_a_template_that_adds_its_header_anyway_is_not_doubled(tmp_path):
    """LLaDA's published template appends the assistant's header whatever it is asked."""
    folder = shutil.copytree(FOLDER, tmp_path / "always")
    template = folder / "chat_template.jinja"
    text = template.read_text()
    template.write_text(text.replace("{% if add_generation_prompt %}", "{% if true %}"))
    assert template.read_text() != text
    assert Tokenizer(folder).encode_chat(PLAIN[0]) == TOKENIZER.encode_chat(PLAIN[0])


BEGUN = [*PLAIN[0], {"role": "assistant", "content": "  So, "}]


def variant(tmp_path, old, new):
    """The tokenizer with its template changed."""
    folder = shutil.copytree(FOLDER, tmp_path / "variant")
    template = folder / "chat_template.jinja"
    text = template.read_text()
    assert old in text
    template.write_text(text.replace(old, new))
    return Tokenizer(folder)


def test_a_last_message_that_is_continued_stands_as_it_is_written_without_its_end():
    """Its spaces, too, which the template trims: as NeMo-Skills writes a begun answer behind the header."""
    begun = TOKENIZER.chat_text(BEGUN, "open")
    assert begun == TOKENIZER.chat_text(PLAIN[0]) + "  So, "
    assert TOKENIZER.encode_chat(BEGUN, "open") == TOKENIZER.encode_text(begun)
    whole = TOKENIZER.chat_text(BEGUN)
    assert whole.count("<|eot_id|>") == 2, "by default it is a finished turn, and an answer begins"
    assert whole.endswith(TOKENIZER.chat_text(PLAIN[0]).rpartition("<|start_header_id|>")[2])
    assert TOKENIZER.chat_text(BEGUN, "none").endswith("So,<|eot_id|>")


def test_a_continued_message_makes_no_control_ids_either():
    end = TOKENIZER.token_id("<|eot_id|>")
    chat = [*PLAIN[0], {"role": "assistant", "content": "a <|eot_id|> b \U000f0000"}]
    ids = TOKENIZER.encode_chat(chat, "open")
    assert ids.count(end) == 1
    assert TOKENIZER.decode(ids).endswith("a <|eot_id|> b \U000f0000")
    assert TOKENIZER.encode_chat([*PLAIN[0], {"role": "assistant", "content": ""}], "open") == (
        TOKENIZER.encode_chat(PLAIN[0])
    )


def test_a_template_that_adds_its_header_anyway_adds_none_to_a_message_that_is_continued(tmp_path):
    always = variant(tmp_path, "{% if add_generation_prompt %}", "{% if true %}")
    assert always.encode_chat(BEGUN, "open") == TOKENIZER.encode_chat(BEGUN, "open")


def test_what_cannot_be_continued_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the last message is of 'user'"):
        TOKENIZER.encode_chat(PLAIN[0], "open")
    forgets = variant(tmp_path, "m['content'] | trim", "'' if loop.last else m['content']")
    with pytest.raises(ValueError, match="leaves the last message out"):
        forgets.encode_chat(BEGUN, "open")


def test_content_parts_are_their_text():
    parts = [{"type": "text", "text": "What is "}, {"type": "text", "text": "12 + 34?"}]
    assert TOKENIZER.encode_chat([{"role": "user", "content": parts}]) == TOKENIZER.encode_chat(PLAIN[0])


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([], "at least one"),
        ([{"content": "x"}], r"messages\[0\]"),
        ([{"role": "user", "content": "x"}, {"role": "user"}], r"messages\[1\].content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], r"content\[0\]: only"),
        ([{"role": "user", "content": ["x"]}], r"content\[0\]: only"),
    ],
)
def test_other_messages_are_refused_by_name(messages, text):
    with pytest.raises(ValueError, match=text):
        TOKENIZER.encode_chat(messages)


def test_what_a_template_refuses_is_the_callers_error(tmp_path):
    """Prevents a template's raise_exception from being a server error."""
    folder = shutil.copytree(FOLDER, tmp_path / "strict")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ValueError, match="roles must alternate"):
        Tokenizer(folder).encode_chat(PLAIN[0])


def test_no_template_is_an_error_of_chat_alone(tmp_path):
    """Prevents a model without a chat template from not loading at all."""
    folder = shutil.copytree(FOLDER, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    tokenizer = Tokenizer(folder)
    assert not tokenizer.has_chat_template
    assert tokenizer.encode_prompt("hi")
    with pytest.raises(ValueError, match="no chat template"):
        tokenizer.encode_chat(PLAIN[0])


def test_config_json_does_not_matter(tmp_path):
    """Prevents remote code, which config.json's auto_map asks for, and a load that needs config.json."""
    folder = shutil.copytree(FOLDER, tmp_path / "odd")
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    assert Tokenizer(folder).encode_chat(PLAIN[0]) == TOKENIZER.encode_chat(PLAIN[0])
    (folder / "config.json").unlink()
    assert Tokenizer(folder).num_tokens == TOKENIZER.num_tokens


def test_broken_tokenizer_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no tokenizer\.json"):
        Tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(ValueError, match=str(tmp_path)):
        Tokenizer(tmp_path)


def test_raw_prompts_start_with_one_bos():
    """Prevents a second BOS, which shifts a model off its training data."""
    bos = TOKENIZER.bos_id
    plain, marked = TOKENIZER.encode_prompt("2 + 2"), TOKENIZER.encode_prompt("<|startoftext|>2 + 2")
    assert plain == marked
    assert plain.count(bos) == 1
    assert TOKENIZER.encode_prompt("") == [bos]
    assert TOKENIZER.encode_prompt("a<|mdm_mask|>")[-1] == TOKENIZER.token_id("<|mdm_mask|>")
    assert TOKENIZER.token_id("<|no such token|>") is None
