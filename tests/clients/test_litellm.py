"""litellm: answers, streams, several at once, and errors that it tells apart by their words."""

import json

from tests.clients.conftest import HERE, run
from tests.clients.environments import environment


def test_litellm(tiny):
    program = environment("litellm") / "python"
    told = json.loads(run(program, str(HERE / "ask_litellm.py"), tiny.url).stdout.splitlines()[-1])
    assert told["text"].endswith("#### 55")
    assert told["reason"] == "stop"
    assert told["streamed"] == told["text"]
    assert told["usage"] > 0
    assert told["streamed_usage"][-1] == told["usage"]
    assert told["several"] == [told["text"]] * 8
    assert told["completion"] == 1
    assert told["too_long"] == "ContextWindowExceededError", "it reads vLLM's wording"
    assert told["unknown_field"] == "BadRequestError"
    assert told["unknown_model"] == "NotFoundError"
