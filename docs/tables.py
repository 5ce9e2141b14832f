"""The documents' tables that repeat what is declared or measured: `python docs/tables.py` writes them anew.

A table stands below its mark, `<!-- table: NAME -->`, up to the first empty line; long ones are
CSV files of docs/data/. tests/test_tables.py holds that nothing differs from what this makes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llada_exp.bench import schema as bench
from llada_exp.evals import schema as evals
from llada_exp.evals.harnesses import harnesses
from llada_exp.fields import Declaration
from llada_exp.gate.strata import STRATA
from llada_exp.help import spelled
from llada_exp.runs.files import Column
from llada_exp.runs.statistics import proportion
from llada_exp.server.routes.fields import NEUTRAL
from llada_exp.types import DECLARATIONS, REQUEST_FIELDS

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
MEASURED = DOCS / "data" / "batching.jsonl"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', 'or') for cell in line)} |\n" for line in lines)


def csv_of(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def columns() -> str:
    """Of every file of rows, as CSV."""
    files: Mapping[str, Sequence[Column]] = {
        "row.parquet of bench": bench.ROW,
        "requests.parquet": bench.REQUEST,
        "commits.parquet": bench.COMMIT,
        "row.parquet of evals": evals.ROW,
    }
    rows = [(file, c.name, c.type, c.meaning) for file, declared in files.items() for c in declared]
    return csv_of([("file", "column", "type", "meaning"), *rows])


def closed_loop() -> dict[str, dict[str, Any]]:
    """What benchmarks/batching.py measured with clients that wait: the README's four settings."""
    rows = [json.loads(line) for line in MEASURED.read_text().splitlines()]
    rows = [row for row in rows if row["load"] == "closed"]
    most = max(row["batch_size"] for row in rows)

    def of(size: int, cache: str) -> dict[str, Any]:
        fit = [row for row in vanilla if (row["batch_size"], row["cache"]) == (size, cache)]
        (row,) = fit
        return row

    vanilla = [row for row in rows if row["rule"] == "fixed"]
    (preset,) = (row for row in rows if row["rule"] != "fixed")
    return {
        "one at a time, no cache": of(1, "none"),
        "one at a time, cache": of(1, "dual"),
        f"batches of {most}, cache": of(most, "dual"),
        f"batches of {most}, `decoding=fast`": preset,
    }


def batching() -> str:
    def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
        # Repeats send the same problems again, and tell nothing new about them.
        problems = row["completed"] // row["repeats"]
        right = row["num_correct"] // row["repeats"]
        share = proportion([True] * right + [False] * (problems - right))
        seconds, spread = row["median_e2el_ms"] / 1000, (row["median_e2el_ms_spread"] or 0) / 1000
        return (
            f"{100 * row['accuracy']:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]",
            f"{row['request_throughput']:.2f} ± {row['request_throughput_spread'] or 0:.2f}",
            f"{seconds:.2f} ± {spread:.2f}",
            f"{row['nfe']:.1f}",
        )

    heads = ("served", "right, %", "answers per second", "seconds to an answer", "passes for an answer")
    return table(heads, [(name, *cells(row)) for name, row in closed_loop().items()])


def batching_in_words() -> str:
    rows = list(closed_loop().values())
    plain, alone, together, fast = (row["request_throughput"] for row in rows)
    row = rows[0]
    return (
        f"A cache gave {alone / plain:.1f} times the answers per second, "
        f"batches {together / alone:.1f} times that at the very same answers,\n"
        f"`decoding=fast` {fast / together:.1f} times that once more, "
        f"at the price in the first column.\n{row['concurrency']} clients, {row['repeats']} repeats, "
        f"{row['device_name']}, no GPU, commit {str(row['commit'])[:7]}, {row['started'][:10]}:\n"
        "`nice python -m benchmarks.batching`.\n"
    )


def allowed(declared: Declaration) -> str:
    if declared.kind == "flag":
        return "`true`, `false`"
    if declared.kind == "choice":
        return ", ".join(f"`{choice}`" for choice in declared.choices)
    if declared.kind == "texts":
        return f"up to {declared.max_count} texts"
    if declared.kind == "ids":
        return f"up to {declared.max_count} ids"
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


def other_servers_fields() -> str:
    """Of the body of a request, with the values that pass and what is missing here for others, as CSV."""
    rows = [("field", "passes", "of others", "what is missing here")]
    for name, neutral in NEUTRAL.items():
        if neutral.values is None:
            rows.append((name, "anything", "", "nothing: it never changes an answer"))
            continue
        values = " or ".join(json.dumps(value) for value in neutral.values or [None])
        others = {(): "400", None: "a warning"}.get(neutral.warned, "1 a warning, else 400")
        rows.append((name, values, others, neutral.why))
    return csv_of(rows)


def harness_keys() -> str:
    rows = [
        (f"`{name}.{key.name}`", f"`{spelled(key.default)}`{f': {key.unset}' if key.unset else ''}", key.help)
        for name, harness in harnesses().items()
        for key in harness.keys
    ]
    return table(("key", "default", "meaning"), rows)


def strata() -> str:
    rows = [(f"`{kind}`", s.meaning, f"{s.margin:g}", str(s.enough)) for kind, s in STRATA.items()]
    return table(("kind", "what it is", "points that may be lost", "problems"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "strata": strata,
    "every decoding field": every_field,
    "keys of the harnesses": harness_keys,
    "batching": batching,
    "batching in words": batching_in_words,
}
FILES: dict[str, Callable[[], str]] = {
    "columns.csv": columns,
    "fields_of_other_servers.csv": other_servers_fields,
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
    made = {path: renewed(path.read_text()) for path in (README, *sorted(DOCS.glob("*.md")))}
    made |= {DOCS / "data" / name: make() for name, make in FILES.items()}
    for path, new in made.items():
        if not path.exists() or path.read_text() != new:
            path.write_text(new)
            print(f"written: {path.name}")


if __name__ == "__main__":
    main()
