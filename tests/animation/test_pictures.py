"""The page is whole by itself, and safe whatever a model writes; the GIF has its passes."""

import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from llada_exp.animation import TracedAnswer, inline, page
from llada_exp.animation.__main__ import main
from llada_exp.animation.frames import durations
from llada_exp.animation.picture import gif
from llada_exp.animation.traced import TracedPass, Written
from tests.notebooks.test_notebooks import FOLDER

HOSTILE = "</script><script>alert(1)</script><img src=x onerror='a'>\"&{{data}}"
EXAMPLE = [str(FOLDER / "example" / f"commits_{name}.parquet") for name in ("vanilla", "fast")]


def answer(*passes, label="a rule", text="x", question="q"):
    return TracedAnswer(label, "rule=x", question, text, 6, 3, passes)


SHORT = answer(TracedPass((Written(0, "a", 0.3), Written(1, "\n", 1.0))), TracedPass((Written(4, "", 0.95),)))
REVISED = answer(
    TracedPass((Written(0, "a", 0.3),)), TracedPass((), (0,)), TracedPass((Written(0, "b", 0.9),)), label="b"
)


class Tree(HTMLParser):
    """Every element with its attributes and the text right in it; open ones at the end."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in ("meta", "br", "input"):
            self.open.append((tag, self.elements[-1]))

    def handle_endtag(self, tag):
        assert self.open[-1][0] == tag, f"{tag} closes {self.open[-1][0]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.open[-1][1][2].append(data)

    def texts(self, tag, **attrs):
        return ["".join(text) for name, own, text in self.elements
                if name == tag and attrs.items() <= own.items()]  # fmt: skip


def test_the_page_parses_and_has_a_frame_a_pass():
    tree = Tree(page([SHORT, REVISED]))
    assert not tree.open
    (data,) = (json.loads(text) for text in tree.texts("script", id="data"))
    assert [len(own["changes"]) for own in data["answers"]] == [3, 4]
    assert [own["passes"] for own in data["answers"]] == [2, 3]
    assert data["durations"] == durations([2, 3])
    assert len(data["answers"][0]["changes"][0]) == 6, "the first frame is all masks"
    assert tree.texts("h2") == ["a rule", "b"]
    assert tree.texts("p", **{"class": "result"}) == ["2 against 3 passes: the same answer"]


def test_a_revocation_is_in_the_page_and_in_its_legend():
    (data,) = (json.loads(text) for text in Tree(page([REVISED])).texts("script", id="data"))
    changes = data["answers"][0]["changes"]
    assert changes[2] == [
        [0, "t revoked revised", "a", "position 0, taken back by pass 2, probability 0.300000"]
    ]
    assert changes[3][0][:3] == [0, "t new s2 revised", "b"]
    assert "taken back" in page([REVISED])
    assert "taken back" not in page([SHORT])


def test_without_a_script_the_page_shows_the_answer():
    tree = Tree(page([SHORT]))
    spans = [own for name, own, _ in tree.elements if name == "span" and "title" in own]
    assert len(spans) == 6
    assert [own["class"] for own in spans[:2]] == ["t token s0", "t token s5"]
    assert tree.texts("span", title=spans[0]["title"]) == ["a"]


def test_nothing_is_fetched():
    """Prevents an animation that stands still where there is no network."""
    source = page([SHORT, REVISED]) + inline([SHORT])
    assert not re.search(r"https?:|//\w|@import|url\(|\bsrc=|\bhref=|fetch|XMLHttp", source)


@pytest.mark.parametrize("place", ["question", "label", "text", "token"])
def test_what_a_model_or_a_person_writes_is_text_and_nothing_else(place):
    fields = {"label": "l", "text": "t", "question": "q"} | ({place: HOSTILE} if place != "token" else {})
    token = HOSTILE[:12] if place == "token" else "x"
    hostile = answer(TracedPass((Written(0, token, 0.5),)), **fields)
    harmless = answer(TracedPass((Written(0, "x" * len(token), 0.5),)))
    names = [[name for name, _, _ in Tree(page([one])).elements] for one in (hostile, harmless)]
    assert names[0] == names[1]
    tree = Tree(page([hostile]))
    assert not [own for _, own, _ in tree.elements if any(name.startswith("on") for name in own)]
    shown = {"question": tree.texts("p", **{"class": "question"}), "label": tree.texts("h2")}
    assert HOSTILE in shown.get(place, [HOSTILE])
    if place == "token":
        assert token in tree.texts("span")
        (data,) = (json.loads(text) for text in tree.texts("script", id="data"))
        assert data["answers"][0]["changes"][1][0][2] == token


def test_inside_of_a_notebook_the_page_is_one_attribute():
    hostile = answer(TracedPass((Written(0, "'\"><b>", 0.5),)))
    elements = Tree(inline([hostile])).elements
    assert [name for name, _, _ in elements] == ["div", "iframe"]
    assert elements[1][1]["srcdoc"] == page([hostile])


def test_the_gif_loops_with_a_frame_a_pass():
    image = Image.open(io.BytesIO(gif([SHORT, REVISED])))
    assert image.info["loop"] == 0
    assert image.n_frames == 4
    assert image.width == 1600
    times, pictures = [], []
    for i in range(image.n_frames):
        image.seek(i)
        times.append(image.info["duration"])
        pictures.append(image.convert("RGB").tobytes())
    assert times == durations([2, 3])
    assert len(set(pictures)) == 4


@pytest.mark.parametrize("make", [page, gif])
def test_no_answer_is_no_picture(make):
    with pytest.raises(ValueError, match="answer"):
        make([])


def test_the_readmes_picture_is_of_the_examples_rows(tmp_path):
    """Prevents a picture of settings or passes that are no longer what the rows beside it say."""
    out = tmp_path / "new" / "a.html"
    assert main([str(out), "--rows", *EXAMPLE, "--label", "vanilla", "decoding=fast"]) == 0
    docs = FOLDER.parent / "docs"
    assert out.read_text() == (docs / "denoising.html").read_text(), "run notebooks/example/make.sh denoising"
    data = json.loads(Tree(out.read_text()).texts("script", id="data")[0])
    picture = docs / "denoising.gif"
    image = Image.open(picture)
    assert image.n_frames == len(data["durations"]) == max(own["passes"] for own in data["answers"]) + 1
    assert picture.stat().st_size <= 500_000
    assert "(docs/denoising.gif)" in (FOLDER.parent / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["a.png", "--rows", EXAMPLE[0]], "a page is .html"),
        (["a.html"], "--rows or --url"),
        (["a.html", "--rows", EXAMPLE[0], "--url", "http://127.0.0.1:1"], "--rows or --url"),
        (["a.html", "--url", "http://127.0.0.1:1"], "--question"),
        (["a.html", "--url", "nowhere", "--question", "x"], "expected http://HOST:PORT"),
        (["a.html", "--url", "http://127.0.0.1:1", "--question", "x"], "does not answer"),
        (["a.html", "--url", "http://127.0.0.1:1", "--question", "x", "--setting", "fast"], "name=value"),
        (["a.html", "--rows", *EXAMPLE, "--label", "one"], "--label names 1"),
        (["a.html", "--rows", str(FOLDER / "example" / "rows.parquet")], "no rows of commits"),
        (["a.html", "--rows", str(FOLDER / "example" / "gate.jsonl")], "no rows of commits"),
        (["a.html", "--rows", str(FOLDER / "gate.ipynb")], "neither rows of parquet"),
        (["a.gif", "--rows", *EXAMPLE, *EXAMPLE], "expected 1 to 3"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(words, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
