"""lm-eval's questions reach the model as lm-eval means them."""

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model

from llada_exp.checkpoints import load_model
from llada_exp.engine.likelihood import Likelihood
from llada_exp.evals.lm.generate import GeneratedText, OverHttp
from llada_exp.evals.lm.model import ChatJson, LLaDALM
from llada_exp.evals.lm.records import Records

MODEL = load_model()
ENCODE = MODEL.tokenizer.encode_text


def asked(kind, *arguments, doc=0, number=0):
    return Instance(kind, {}, arguments, number, metadata=("t", doc, 1))


def expected(prompt, answer, **options):
    return Likelihood(MODEL.model, num_samples=4, **options).estimate([(prompt, answer)])[0].value


def test_the_class_is_registered():
    assert get_model("llada") is LLaDALM
    assert LLaDALM.create_from_arg_obj({"num_mc": 2, "steps": 64}, {"batch_size": 2}).decoding == {
        "steps": 64
    }


@pytest.mark.parametrize(
    ("context", "continuation", "prompt", "answer"),
    [
        ("Tom has", " 3 apples.", "Tom has", " 3 apples."),
        ("Tom has  ", "3 apples.", "Tom has", "  3 apples."),
    ],
)
def test_a_continuation_is_what_follows_the_context(context, continuation, prompt, answer):
    """Spaces at the context's end belong to the continuation: alone they would be other tokens."""
    lm = LLaDALM(MODEL, num_mc=4)
    ((value, greedy),) = lm.loglikelihood([asked("loglikelihood", context, continuation)])
    ids = ENCODE(prompt + answer)
    assert value == expected(ids[: len(ENCODE(prompt))], ids[len(ENCODE(prompt)) :])
    assert greedy is False


def test_an_empty_context_is_bos_and_a_text_has_none_unless_asked():
    lm = LLaDALM(MODEL, num_mc=4)
    ((value, _),) = lm.loglikelihood([asked("loglikelihood", "", "Tom has")])
    assert value == expected([MODEL.special.bos], ENCODE("Tom has"))
    with_bos = LLaDALM(MODEL, num_mc=4, add_bos=True)
    ((value, _),) = with_bos.loglikelihood([asked("loglikelihood", "Tom", " has")])
    assert value == expected([MODEL.special.bos, *ENCODE("Tom")], ENCODE("Tom has")[len(ENCODE("Tom")) :])


def test_greedy_is_said_where_asked():
    lm = LLaDALM(MODEL, num_mc=1, check_greedy=True)
    context = lm.apply_chat_template([{"role": "user", "content": "What is 47 + 8?"}]) + "47 + 08: 7"
    likeliest = MODEL.logits(torch.tensor([[*ENCODE(context), MODEL.special.mask]]))[0, -1].argmax()
    right = MODEL.tokenizer.decode([int(likeliest)])
    assert ENCODE(context + right) == [*ENCODE(context), likeliest], "else this test tests nothing"
    found = lm.loglikelihood(
        [asked("loglikelihood", context, t, number=i) for i, t in enumerate((right, "9", right + "99"))]
    )
    assert [greedy for _, greedy in found] == [True, False, False]


def test_a_long_text_is_scored_in_windows_each_token_once():
    lm = LLaDALM(MODEL, num_mc=4, max_length=12)
    text = "Tom has 23 apples. He gets 8. How many apples does Tom have?"
    ids = ENCODE(text)
    assert 11 < len(ids) < 22
    value, empty = lm.loglikelihood_rolling([asked("rolling", text), asked("rolling", "", doc=1)])
    rest = len(ids) - 11
    windows = [([MODEL.special.bos], ids[:11]), (ids[len(ids) - 12 : -rest][: 12 - rest], ids[-rest:])]
    assert value == pytest.approx(sum(expected(*w) for w in windows))
    assert empty == 0.0


def test_texts_come_from_the_engine_under_the_users_fields():
    lm = LLaDALM(MODEL, batch_size=4, threshold=0.9)
    prompt = lm.apply_chat_template([{"role": "user", "content": "What is 47 + 8?"}])
    request = asked("generate_until", prompt, {"until": ["</s>"], "max_gen_toks": 64})
    first, second = lm.generate_until([request, request])
    assert first == second == "47 + 08: 7 + 8 = 15, 4 + 0 + 1 = 05\n#### 55"
    own = lm.records.of("t", 0)
    assert [r["seed"] for r in own] == [0, 1], "repeats of a document are samples of it"
    assert own[0]["decoding"]["rule"] == "threshold"


def test_what_an_earlier_run_brought_is_not_computed_again(tmp_path):
    requests = [asked("loglikelihood", "Tom has", " 3", doc=i) for i in range(2)]
    first = LLaDALM(MODEL, num_mc=4, records=Records(tmp_path / "r"))
    found = first.loglikelihood(requests[:1])
    later = LLaDALM(MODEL, num_mc=4, records=Records(tmp_path / "r"))
    seen = []
    estimate = later._likelihood.estimate
    later._likelihood.estimate = lambda pairs, *rest: seen.append(len(pairs)) or estimate(pairs, *rest)
    assert later.loglikelihood(requests)[:1] == found
    assert seen == [], "documents with the same texts are one computation, and it was there"
    other = LLaDALM(MODEL, num_mc=5, records=Records(tmp_path / "r"))
    assert other.loglikelihood(requests[:1]) != found, "another number of samples is another estimate"


def test_an_endpoints_chats_stay_messages():
    class Says:
        def answer(self, asks, report):
            for i, ask in enumerate(asks):
                report(i, GeneratedText(str(ask.prompt)))

    lm = LLaDALM(generator=Says(), name="org/served")
    chat = lm.apply_chat_template([{"role": "user", "content": "Hi"}])
    assert isinstance(chat, ChatJson)
    assert lm.generate_until([asked("generate_until", chat, {})]) == ["({'role': 'user', 'content': 'Hi'},)"]
    assert lm.tokenizer_name == "org__served"
    with pytest.raises(ValueError, match="need a model in this process"):
        lm.loglikelihood([asked("loglikelihood", "a", "b")])


class Hears:
    def __init__(self):
        self.asks = []

    def answer(self, asks, report):
        self.asks.extend(asks)
        for place, _ in enumerate(asks):
            report(place, GeneratedText(""))


def test_texts_have_the_seed_of_the_evaluation():
    hears = Hears()
    LLaDALM(generator=hears, mc_seed=5).generate_until([asked("generate_until", "Hi", {})])
    assert [ask.fields["seed"] for ask in hears.asks] == [5]


def test_an_answer_that_a_task_begins_goes_on_in_this_process_and_on_an_endpoint():
    """The endpoint is told, and gets the prompt that this process has (tests/test_text.py)."""
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "So, "}]
    lm = LLaDALM(MODEL)
    assert lm.apply_chat_template(chat, add_generation_prompt=False).endswith("So, ")
    hears = Hears()
    remote = LLaDALM(generator=hears)
    texts = [remote.apply_chat_template(chat, add_generation_prompt=begins) for begins in (False, True)]
    remote.generate_until([asked("generate_until", text, {}) for text in texts])
    bodies = [OverHttp(None, "m")._request(ask)[1] for ask in hears.asks]
    assert [body["messages"] for body in bodies] == [chat, chat]
    names = ("continue_final_message", "add_generation_prompt")
    assert [[body.get(name) for name in names] for body in bodies] == [[True, False], [None, None]]


def test_a_chats_text_is_the_templates():
    lm = LLaDALM(MODEL)
    messages = [{"role": "user", "content": "Hi"}]
    assert ENCODE(lm.apply_chat_template(messages)) == MODEL.tokenizer.encode_chat(messages)
    assert lm.chat_template(True) == MODEL.tokenizer.chat_template
    begun = lm.apply_chat_template([*messages, {"role": "assistant", "content": "So"}], False)
    assert begun.endswith("So")
