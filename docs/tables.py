"""The tables of the documents that repeat what is declared in code: `python docs/tables.py` writes them anew.

A table stands below its mark, `<!-- table: NAME -->`, up to the first empty line. tests/test_tables.py holds
that no document differs from what this makes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from llada_exp.bench import schema as bench
from llada_exp.evals import schema as evals
from llada_exp.evals.harnesses import harnesses
from llada_exp.fields import Declaration
from llada_exp.help import spelled
from llada_exp.runs.files import Column
from llada_exp.server.routes.fields import NEUTRAL
from llada_exp.types import DECLARATIONS, REQUEST_FIELDS

DOCS = Path(__file__).parent
OPENAI = "OpenAI's fields"
ALIASES = ("`use_cache`, `use_dual_cache`, `generation_algorithm`", "", "",
           "the predecessor's names, see [Old and new](serving.md#old-and-new)")  # fmt: skip
NEUTRAL_HEADS = ("fields", "what is missing here")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', 'or') for cell in line)} |\n" for line in lines)


def columns(declared: Sequence[Column]) -> str:
    return table(("column", "type", "meaning"), [(f"`{c.name}`", c.type, c.meaning) for c in declared])


def allowed(declared: Declaration) -> str:
    if declared.kind == "flag":
        return "`true`, `false`"
    if declared.kind == "choice":
        return ", ".join(f"`{choice}`" for choice in declared.choices)
    if declared.kind == "texts":
        return f"up to {declared.max_count} texts"
    if declared.high is None:
        return f"from {declared.low:g}"
    if declared.high > 2**30:
        return f"from {declared.low:g}"
    return f"{'above' if declared.open_low else 'from'} {declared.low:g} to {declared.high:g}"


def fields(names: Iterable[str]) -> list[tuple[str, str, str, str]]:
    found = []
    for name in names:
        declared = DECLARATIONS[name]
        rules = f"; of rule {', '.join(f'`{rule}`' for rule in declared.rules)}" if declared.rules else ""
        found.append(
            (f"`{name}`", allowed(declared), f"`{spelled(declared.default)}`", declared.help + rules)
        )
    return found


FIELD_HEADS = ("field", "values", "declared default", "meaning")


def every_field() -> str:
    return table(FIELD_HEADS, fields(REQUEST_FIELDS))


def fields_beside_openais() -> str:
    """Those that OpenAI's table, which is written by hand, does not have."""
    written = current((DOCS / "serving.md").read_text(), OPENAI)
    names = {name for row in written.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    return table(FIELD_HEADS, [*fields(n for n in REQUEST_FIELDS if n not in names), ALIASES])


def neutral_fields() -> str:
    """Of the body of a request, those of one reason in a line, with the values that pass."""
    lines: dict[str, list[str]] = {}
    for name, neutral in NEUTRAL.items():
        if neutral.values is None:
            lines.setdefault("nothing: it never changes an answer", []).append(f"`{name}`")
            continue
        values = " or ".join(f"`{json.dumps(value)}`" for value in neutral.values or [None])
        passes = {(): "", None: "; others with a warning"}.get(neutral.warned, "; 1 with a warning")
        lines.setdefault(neutral.why, []).append(f"`{name}` ({values}{passes})")
    return table(NEUTRAL_HEADS, ((", ".join(names), why) for why, names in lines.items()))


def harness_keys() -> str:
    rows = [
        (f"`{name}.{key.name}`", f"`{spelled(key.default)}`{f': {key.unset}' if key.unset else ''}", key.help)
        for name, harness in harnesses().items()
        for key in harness.keys
    ]
    return table(("key", "default", "meaning"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "every decoding field": every_field,
    "decoding fields": fields_beside_openais,
    "fields that pass at a value that asks for nothing": neutral_fields,
    "columns of a measured point": lambda: columns(bench.ROW),
    "columns of a request": lambda: columns(bench.REQUEST),
    "columns of a committed token": lambda: columns(bench.COMMIT),
    "columns of an evaluation": lambda: columns(evals.ROW),
    "keys of the harnesses": harness_keys,
}


def current(text: str, name: str) -> str:
    """The table below a mark, as the document has it."""
    _, _, after = text.partition(f"<!-- table: {name} -->\n")
    return after.partition("\n\n")[0] + "\n"


def renewed(text: str) -> str:
    """A document with its tables as they should be."""
    for name in re.findall(r"<!-- table: ([^>]+) -->", text):
        if name in TABLES:
            mark = f"<!-- table: {name} -->\n"
            before, _, after = text.partition(mark)
            _, _, rest = after.partition("\n\n")
            text = f"{before}{mark}{TABLES[name]()}{f'{chr(10)}{rest}' if rest else ''}"
    return text


def main() -> None:
    for path in sorted(DOCS.glob("*.md")):
        text = path.read_text()
        if (new := renewed(text)) != text:
            path.write_text(new)
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
