"""The embedded model's tokenizer: byte-level BPE, every digit a token, LLaDA's special tokens and template.

It is made from a written list of words, so it is the same on every run; the 256 bytes are
always in the vocabulary, so any text survives a round trip. It knows nothing of the model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from llada_exp.tiny.vocabulary import WORDS

BOS, EOS, MASK = "<|startoftext|>", "<|endoftext|>", "<|mdm_mask|>"
HEADER, HEADER_END, EOT = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
SPECIAL = (BOS, EOS, HEADER, HEADER_END, EOT, MASK)

# LLaDA-8B-Instruct's, but for the generation prompt, which that one appends always.
CHAT_TEMPLATE = (
    "{% for m in messages %}{% set c = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' %}{% if loop.first %}{{ bos_token + c }}{% else %}{{ c }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant"
    "<|end_header_id|>\n\n' }}{% endif %}"
)
_MAX_VOCAB = 2000  # more than the words need
_SPLIT = r"\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]+ ?|\s+(?!\S)|\s+"


def build_tokenizer() -> Tokenizer:
    """Train the tokenizer on the list of words; the special ids come last."""
    words = [word.replace("_", " ") for word in WORDS.split()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_MAX_VOCAB,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def chat_prompt(user: str, system: str | None = None, earlier: Sequence[tuple[str, str]] = ()) -> str:
    """A user's turn and the assistant's header, as the chat template writes them; before it the system's, and
    earlier turns of both."""
    turns = [] if system is None else [("system", system)]
    for question, reply in earlier:
        turns += [("user", question), ("assistant", reply)]
    turns.append(("user", user))
    text = "".join(f"{HEADER}{role}{HEADER_END}\n\n{content.strip()}{EOT}" for role, content in turns)
    return f"{BOS}{text}{HEADER}assistant{HEADER_END}\n\n"


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that must be there."""
    number = tokenizer.token_to_id(token)
    assert number is not None, f"the tokenizer has no {token}"
    return int(number)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the files that `AutoTokenizer.from_pretrained(folder)` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    switches = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    config = {
        "added_tokens_decoder": {
            str(tokenizer.token_to_id(token)): {"content": token, **switches} for token in SPECIAL
        },
        "bos_token": BOS,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "extra_special_tokens": {},
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 4096,
        "pad_token": EOS,
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS}
    for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", names)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
