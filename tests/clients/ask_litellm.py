"""Run by litellm's own environment: URL -> JSON of what litellm made of our answers."""

import asyncio
import json
import sys

import litellm

MESSAGES = [{"role": "user", "content": "What is 47 + 8?"}]
BASE = {"model": "openai/llada-tiny", "api_base": f"{sys.argv[1]}/v1", "api_key": "any", "num_retries": 0}
CHAT = {**BASE, "messages": MESSAGES, "max_tokens": 64, "seed": 3}


def kind_of(**fields):
    try:
        litellm.completion(**{**CHAT, **fields})
    except Exception as error:
        return type(error).__name__
    return None


async def several():
    answers = await asyncio.gather(*[litellm.acompletion(**CHAT) for _ in range(8)])
    return [a.choices[0].message.content for a in answers]


whole = litellm.completion(**CHAT, extra_body={"threshold": 0.9, "cache": "dual"})
streamed = list(litellm.completion(**CHAT, stream=True, stream_options={"include_usage": True}))
text = litellm.text_completion(
    **{**BASE, "model": "text-completion-openai/llada-tiny"}, prompt="What is 1 + 1?", max_tokens=8
)
print(
    json.dumps(
        {
            "text": whole.choices[0].message.content,
            "reason": whole.choices[0].finish_reason,
            "usage": whole.usage.completion_tokens,
            "streamed": "".join(c.choices[0].delta.content or "" for c in streamed if c.choices),
            "streamed_usage": [c.usage.completion_tokens for c in streamed if getattr(c, "usage", None)],
            "several": asyncio.run(several()),
            "completion": len(text.choices),
            "too_long": kind_of(max_tokens=10**6),
            "unknown_field": kind_of(extra_body={"stpes": 3}),
            "unknown_model": kind_of(model="openai/gpt-5"),
        }
    )
)
