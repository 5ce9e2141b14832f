"""The examples of docs/extending.md: read, applied to a checkout, and counted.

    python -m tests.extending                       what each example adds, as the document's table
    python -m tests.extending FOLDER rule oracle    apply those of that name to a checkout in FOLDER

An example is a block below a mark: `<!-- NAME: new PATH -->` is a file, `<!-- NAME: change PATH -->` a diff
without line numbers, hunks apart by a line `@@`; what a hunk takes away or stands on must be there once.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"
BLOCK = re.compile(r"<!-- (?P<mark>[^>]+) -->\n```\w*\n(?P<code>.*?)^```$", re.S | re.M)
WORDS = {
    "llada_exp/types.py": "its declaration in `{}`",
    "llada_exp/engine/finish.py": "the code that obeys it, `{}`",
    "llada_exp/gate/oracle.py": "its definition in `{}`",
    "llada_exp/gate/oracle_rules.py": "its definition in `{}`",
    "llada_exp/evals/harnesses.py": "its line in `{}`",
}


@dataclass(frozen=True)
class Part:
    """What one example does to one file. kind: new or change."""

    example: str
    kind: str
    path: str
    code: str

    @property
    def num_added(self) -> int:
        lines = self.code.splitlines()
        return len(lines) if self.kind == "new" else sum(line.startswith("+") for line in lines)

    def apply(self, root: Path) -> None:
        """Raises ValueError naming a hunk that does not fit."""
        path = root / self.path
        if self.kind == "new":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.code)
            return
        text = path.read_text()
        for hunk in re.split(r"^@@\n", self.code, flags=re.M):
            lines = hunk.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] in " -")
            after = "".join(line[1:] for line in lines if line[0] in " +")
            if text.count(before) != 1:
                raise ValueError(f"{self.path} has {text.count(before)} times, expected once:\n{before}")
            text = text.replace(before, after)
        path.write_text(text)


def parts() -> list[Part]:
    """Of all examples, in the document's order."""
    found = []
    for block in BLOCK.finditer(DOCUMENT.read_text()):
        if match := re.fullmatch(r"(\w+): (new|change) (\S+)", block["mark"]):
            found.append(Part(*match.groups(), block["code"]))
    return found


def commands() -> list[str]:
    """What the document runs once all examples are applied."""
    blocks = [b for b in BLOCK.finditer(DOCUMENT.read_text()) if b["mark"].startswith("tried: ")]
    return [line for block in blocks for line in block["code"].splitlines()]


def bill() -> str:
    rows = ["| example | adds | lines |", "| --- | --- | --- |"]
    for part in parts():
        words = WORDS.get(part.path, "`{}`").format(part.path)
        rows.append(f"| {part.example} | {words} | {part.num_added} |")
    return "\n".join(rows) + "\n"


def apply(root: Path, examples: Iterable[str]) -> None:
    for part in parts():
        if part.example in examples:
            part.apply(root)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        apply(Path(sys.argv[1]), sys.argv[2:])
    else:
        print(bill(), end="")
