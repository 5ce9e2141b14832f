"""The pages as a whole: how long they are, what leads where, what each answers, which data they stand on."""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
APART = {"design.md", "extending.md"}  # for those who change it: as long as it takes
ALL_PAGES = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}


def test_the_pages_for_users_are_short():
    """Words have a letter or a digit: the bars of tables are none. Numbers, and what is looked up and not
    read, are files of docs/data/."""
    words = {n: len(re.findall(r"\S*\w\S*", text)) for n, text in ALL_PAGES.items() if n not in APART}
    assert sum(words.values()) <= 12_000, words


def test_the_index_names_every_page_and_every_page_says_what_it_answers():
    index = ALL_PAGES["README.md"]
    for name, text in ALL_PAGES.items():
        if name == "README.md":
            continue
        assert f"]({name})" in index, f"{name} is not in docs/README.md"
        title, _, after = text.partition("\n")
        assert title.startswith("# ")
        opening = re.split(r"\n(?:#|```| {4}|\|)", after)[0]
        assert re.search(r"\b(how|what|which|where|why)\b", (title + opening).lower()), (
            f"{name} answers what?"
        )


def test_every_file_of_data_is_named_in_a_page():
    """Prevents numbers of which nobody knows the command."""
    named = {name for text in ALL_PAGES.values() for name in re.findall(r"\(data/([\w.]+)\)", text)}
    made = {"batching.jsonl"}  # the README's table, whose command stands below it
    assert {path.name for path in (ROOT / "docs" / "data").iterdir()} == named | made


def test_every_symptom_has_a_test_that_exists():
    """docs/data/symptoms.csv: what the page of trouble says, and where it is produced."""
    with (ROOT / "docs" / "data" / "symptoms.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    for _, named in rows:
        path, _, test = named.partition("::")
        source = (ROOT / path).read_text()
        assert not test or f"def {test}(" in source, named
    page = ALL_PAGES["troubleshooting.md"]
    first = [
        re.sub("`", "", row.strip("| ").split(" | ")[0]) for row in page.splitlines() if row.startswith("| ")
    ]
    symptoms = {cell for cell in first if cell not in ("---", "it says", "symptom", "status")}
    assert len(symptoms) > 30
    assert not symptoms - {symptom for symptom, _ in rows}


def test_links_lead_somewhere():
    texts = {**ALL_PAGES, "../README.md": (ROOT / "README.md").read_text()}
    anchors = {name: {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-")
                      for h in re.findall(r"^#+ (.+)$", text, re.M)}
               for name, text in texts.items()}  # fmt: skip
    for name, text in ALL_PAGES.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", text):
            path = (ROOT / "docs" / target) if target else ROOT / "docs" / name
            assert path.exists(), target
            key = f"../{path.name}" if target.startswith("..") else path.name
            assert not anchor or key not in anchors or anchor in anchors[key], anchor
