"""Answers of the engine as rows, as a server's reply would make them."""

from dataclasses import asdict

from llada_exp.bench.client import RequestRecord
from llada_exp.bench.rows import commit_rows

FIELDS = ("step", "positions", "token_ids", "confidences", "remasked")


def rows(output, params, texts, question="What is 47 + 8?"):
    """Of a RequestOutput with a trace. texts: id -> text."""
    trace = [{name: getattr(c, name) for name in FIELDS} for c in output.trace]
    trace = [{**c, "tokens": [texts(i) for i in c["token_ids"]]} for c in trace]
    cost = {"nfe": output.nfe, "trace": trace}
    record = RequestRecord(0, 0.0, prompt=question, text=output.text, cost=cost, decoding=asdict(params))
    return commit_rows(record, 0)


def replayed(output, length):
    """The canvas after each pass, None for a mask, by the engine's own trace."""
    canvas, after = [None] * length, []
    for step in output.trace:
        for place in step.remasked:
            canvas[place] = None
        for place, token in zip(step.positions, step.token_ids, strict=True):
            canvas[place] = token
        after.append(tuple(canvas))
    return after
