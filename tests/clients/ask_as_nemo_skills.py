"""Run by litellm's own environment: URL -> JSON of what litellm made of our answers.

Asks as NeMo-Skills with server_type=vllm does: with the arguments that it gives litellm.
"""

import asyncio
import json
import sys

import litellm

MODEL = {"model": "openai/llada-tiny", "base_url": sys.argv[1], "api_base": sys.argv[1], "api_key": "EMPTY",
         "max_retries": 3}  # fmt: skip
ASK = {"temperature": 0.7, "seed": 3, "stop": None, "top_p": 0.95, "timeout": 14400, "stream": False}
BODY = {"min_p": 0.0, "repetition_penalty": 1.0, "spaces_between_special_tokens": False}
EXTRA = {"steps": 8, "block_length": 8, "rule": "fixed"}
NONE = {"n": 1, "frequency_penalty": 0.0, "presence_penalty": 0.0}
MESSAGES = [{"role": "user", "content": "What is 47 + 8?"}]


async def ask():
    chat = await litellm.acompletion(
        **MODEL, **ASK, **NONE, messages=MESSAGES, max_tokens=32, logprobs=False, top_logprobs=None,
        tools=None, extra_body={**BODY, **EXTRA},
    )  # fmt: skip
    text = await litellm.atext_completion(
        **MODEL, **ASK, **NONE, prompt="What is 47 + 8?", max_tokens=32, logprobs=None, echo=False,
        skip_special_tokens=False, logit_bias=None, extra_body=BODY,
    )  # fmt: skip
    return {
        "chat": chat.choices[0].message.content,
        "reason": chat.choices[0].finish_reason,
        "tokens": chat.usage.completion_tokens,
        "text": text.choices[0].text,
    }


print(json.dumps(asyncio.run(ask())))
