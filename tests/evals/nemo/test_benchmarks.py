"""Benchmarks whose answers have no verdict are refused before a question is asked."""

import pytest

from llada_exp.evals.nemo import benchmarks

HLE = '"++prompt_config=judge/hle --model=gpt-4.1 --server_type=openai"'


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ('METRICS_TYPE = "math"\nGENERATION_ARGS = "++prompt_config=generic/math ++eval_type=math"', None),
        ('METRICS_TYPE = "multichoice"\nEVAL_ARGS = "++eval_type=multichoice"\nJUDGE_ARGS = ""', None),
        ('METRICS_TYPE = "if"\nGENERATION_ARGS = "++generation_key=response ++eval_type=if"', None),
        ('METRICS_TYPE = "ifeval"', None),
        ("", None),
        ("import no_such_module_anywhere", None),
        ('METRICS_TYPE = "evalplus"\nEVAL_ARGS = "++eval_type=evalplus"', "scores it as 'evalplus'"),
        ('METRICS_TYPE = "code"', "scores it as 'code'"),
        (
            'METRICS_TYPE = "math"\nGENERATION_ARGS = "++eval_type=livecodebench"',
            "scores it as 'livecodebench'",
        ),
        ('METRICS_TYPE = "arena"', "scores it as 'arena'"),
        (f'METRICS_TYPE = "math"\nJUDGE_ARGS = {HLE}', "has a judge score it"),
        ('METRICS_TYPE = "math"\nJUDGE_PIPELINE_ARGS = {"model": "gpt-4.1"}', "has a judge score it"),
        ('METRICS_TYPE = "math"\nREQUIRES_SANDBOX = True', "runs code for it"),
        ('METRICS_TYPE = "math"\nGENERATION_ARGS = "++code_execution=True"', "runs code for it"),
        ('GENERATION_MODULE = "nemo_skills.inference.eval.swebench"', "asks by a program of its own"),
        ('print("hello")\nMETRICS_TYPE = "lean4-proof"', "scores it as 'lean4-proof'"),
    ],
)
def test_by_its_own_module(installed, module, words):
    place = installed.package / "dataset" / "gsm8k"
    for folder in (place.parent, place):
        (folder / "__init__.py").touch()
    (place / "__init__.py").write_text(module)
    if words is None:
        benchmarks.check(installed.python, ["gsm8k", "nowhere"])
        return
    with pytest.raises(ValueError, match=rf"benchmark is 'gsm8k'; NeMo-Skills {words}"):
        benchmarks.check(installed.python, ["gsm8k"])
