"""The animation as a GIF, for where no script runs, as in a README. Its font is matplotlib's own, so that it
is the same picture on every machine; characters that DejaVu lacks are boxes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageColor, ImageDraw, ImageFont

from llada_exp.animation.frames import (
    MASK,
    NEW,
    NOTE,
    PROBABILITY,
    REVOKED,
    SHADES,
    TOKEN,
    Cell,
    Frame,
    blocks_at_work,
    caption,
    durations,
    frame_at,
    frames,
    slots,
)
from llada_exp.animation.traced import TracedAnswer

INK, QUIET, LINE, WORKS, MASKED, BACK, DONE = (
    "#24292f", "#6e7781", "#d0d7de", "#57606a", "#e3e6ea", "#c2410c", "#1a7f37",
)  # fmt: skip
SHADE_COLOURS = ("#ee9a76", "#fac585", "#fdecae", "#e2f2ee", "#c3dff0", "#9cc4e4")  # as in page.html
BAR, TRACK = "#4a7bb7", "#eef0f2"
SCALE = 2  # pixels for each that is shown, for screens with twice as many
WIDTH, MARGIN, GAP, TOKEN_SIZE = 800, 14, 16, 13
MAX_PANELS = 3
BLENDS = (1 / 4, 1 / 2, 3 / 4)
Font = ImageFont.FreeTypeFont


def gif(answers: Sequence[TracedAnswer]) -> bytes:
    """A GIF that loops, WIDTH points wide at SCALE pixels a point. Raises ValueError for other than one to
    MAX_PANELS answers."""
    if not 1 <= len(answers) <= MAX_PANELS:
        raise ValueError(f"a GIF of {len(answers)} answers; expected 1 to {MAX_PANELS}, side by side")
    drawing = _Drawing(answers)
    times = durations([len(answer.passes) for answer in answers])
    images = [drawing.frame(number) for number in range(len(times))]
    palette = _palette()
    first, *others = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=times, loop=0, optimize=True)
    return file.getvalue()


def _palette() -> Image.Image:
    """The colours that are drawn with, and what lies between each and what is written on it: taken from the
    pictures instead, a rare colour would come out as another."""
    pairs = [(ground, INK) for ground in ("#ffffff", MASKED, *SHADE_COLOURS)]
    pairs += [("#ffffff", colour) for colour in (QUIET, DONE, BACK, WORKS, LINE, BAR)] + [(TRACK, BAR)]
    colours: set[tuple[int, ...]] = set()
    for pair in pairs:
        ground, ink = (ImageColor.getrgb(colour) for colour in pair)
        for share in (0, *BLENDS, 1):
            colours.add(tuple(round(a + share * (b - a)) for a, b in zip(ground, ink, strict=True)))
    image = Image.new("P", (1, 1))
    image.putpalette([value for colour in sorted(colours) for value in colour])
    return image


@dataclass(frozen=True)
class Place:
    """Of a position in its panel, in points from the panel's corner."""

    x: float
    y: float
    width: float


@dataclass(frozen=True)
class _Panel:
    """blocks: top and bottom of each."""

    answer: TracedAnswer
    frames: Sequence[Frame]
    working: Sequence[int]
    places: Sequence[Place]
    blocks: Sequence[tuple[float, float]]


class _Drawing:
    """All that does not move: where things are. The rest is drawn frame by frame."""

    head, line, chip = 66.0, 23.0, 19.0

    def __init__(self, answers: Sequence[TracedAnswer]) -> None:
        self.answers = answers
        self.column = (WIDTH - 2 * MARGIN - GAP * (len(answers) - 1)) / len(answers)
        self.mono = _font("DejaVuSansMono", TOKEN_SIZE)
        self.advance = self.mono.getlength("0") / SCALE
        self.small, self.text = _font("DejaVuSans", 11), _font("DejaVuSans", 13)
        self.bold, self.large = _font("DejaVuSans-Bold", 14), _font("DejaVuSans-Bold", 17)
        self.label_mono = _font("DejaVuSansMono", 11)
        self.question = _wrapped(answers[0].question, self.text, WIDTH - 2 * MARGIN)
        self.top = MARGIN + 18.0 * len(self.question) + 8
        length = max(answer.num_touched for answer in answers)
        self.panels = [self._panel(answer, length) for answer in answers]
        self.setting_lines = max(len(self._setting(answer)) for answer in answers)
        self.bottom = self._body + max(panel.blocks[-1][1] for panel in self.panels) + 6
        self.num_frames = max(len(panel.frames) for panel in self.panels)
        self.height = round(self.bottom + 24 + 18 + 20 + MARGIN / 2)

    @property
    def _body(self) -> float:
        """Where blocks begin."""
        return self.top + 20 + 15 * self.setting_lines + 34

    def _setting(self, answer: TracedAnswer) -> list[str]:
        return _wrapped(answer.setting, self.label_mono, self.column)

    def _panel(self, answer: TracedAnswer, length: int) -> _Panel:
        shown = frames(answer, length)
        places: list[Place] = []
        blocks: list[tuple[float, float]] = []
        inset, y = 7.0, 0.0
        for start in range(0, length, answer.block_length):
            top, x, y = y, inset, y + 18
            for width, ends_line in slots(answer, shown)[start : start + answer.block_length]:
                points = width * self.advance + 3
                if x + points > self.column - inset + 4 and x > inset:
                    x, y = inset, y + self.line
                places.append(Place(x, y, points))
                x += points + 1.5
                if ends_line:
                    x, y = inset, y + self.line
            if x > inset:
                y += self.line
            blocks.append((top, y + 3))
            y += 10
        return _Panel(answer, shown, blocks_at_work(answer), places, blocks)

    def frame(self, number: int) -> Image.Image:
        image = Image.new("RGB", (WIDTH * SCALE, self.height * SCALE), "white")
        draw = ImageDraw.Draw(image)
        for i, line in enumerate(self.question):
            _write(draw, MARGIN, MARGIN + 18 * i, line, self.text, INK)
        for i, panel in enumerate(self.panels):
            self._draw_panel(draw, MARGIN + i * (self.column + GAP), panel, number)
        if number == self.num_frames - 1:
            _write(draw, MARGIN, self.bottom, caption(self.answers), self.bold, INK)
        self._draw_legend(draw)
        return image

    def _draw_panel(self, draw: ImageDraw.ImageDraw, left: float, panel: _Panel, number: int) -> None:
        answer, passes = panel.answer, len(panel.answer.passes)
        done, count = number >= passes, min(number, passes)
        _write(draw, left, self.top, answer.label, self.bold, INK)
        for i, line in enumerate(self._setting(answer)):
            _write(draw, left, self.top + 20 + 15 * i, line, self.label_mono, QUIET)
        y = self._body - 32
        x = left + _write(draw, left, y, str(count), self.large, INK)
        x += _write(draw, x, y + 4, " pass" if count == 1 else " passes", self.text, INK)
        if done:
            _write(draw, x + 8, y + 4, "done", self.text, DONE)
        y += 24
        _box(draw, left, y, self.column, 4, 2, fill=TRACK)
        if count:
            _box(draw, left, y, max(4, self.column * count / (self.num_frames - 1)), 4, 2, fill=BAR)
        for block, (top, bottom) in enumerate(panel.blocks):
            works = not done and block == panel.working[number]
            box = (left, self._body + top, self.column, bottom - top)
            _box(draw, *box, 6, outline=WORKS if works else LINE, stroke=1.5 if works else 1.0)
            _write(draw, left + 7, self._body + top + 2, f"block {block + 1}", self.small, QUIET)
        for cell, place in zip(frame_at(panel.frames, number), panel.places, strict=True):
            self._draw_cell(draw, left + place.x, self._body + place.y, place.width, cell)

    def _draw_cell(self, draw: ImageDraw.ImageDraw, x: float, y: float, width: float, cell: Cell) -> None:
        fill = {MASK: MASKED, REVOKED: "white"}.get(cell.kind) or SHADE_COLOURS[cell.shade]
        outline = BACK if cell.revised else INK if cell.kind == NEW else None
        _box(draw, x, y, width, self.chip, 3, fill=fill, outline=outline, stroke=1.3)
        glyphs = cell.glyphs
        left = x + (width - self.mono.getlength(glyphs) / SCALE) / 2
        _write(draw, left, y + 1.5, glyphs, self.mono, BACK if cell.kind == REVOKED else INK)
        if cell.kind == REVOKED:
            _box(draw, x + 2, y + self.chip / 2, width - 4, 1.5, 0, fill=BACK)

    def _draw_legend(self, draw: ImageDraw.ImageDraw) -> None:
        y = self.bottom + 24
        x = MARGIN + _write(draw, MARGIN, y, PROBABILITY, self.small, QUIET) + 8
        for colour, name in zip(SHADE_COLOURS, SHADES, strict=True):
            _box(draw, x, y, 18, 13, 3, fill=colour)
            x += 22 + _write(draw, x + 22, y, name, self.small, QUIET) + 12
        cells = [(Cell(MASK), "mask"), (Cell(NEW, " ", 1.0), "of this pass")]
        cells.append((Cell(TOKEN, "", 1.0), "end of text"))
        if any(cell.kind == REVOKED for panel in self.panels for frame in panel.frames for cell in frame):
            cells.append((Cell(REVOKED, "7", revised=True), "taken back"))
            cells.append((Cell(TOKEN, " ", 1.0, revised=True), "replaces another one"))
        x, y = MARGIN, y + 20
        for cell, name in cells:
            self._draw_cell(draw, x, y - 3, 18, cell)
            x += 22 + _write(draw, x + 22, y, name, self.small, QUIET) + 14
        _write(draw, WIDTH - MARGIN - self.small.getlength(NOTE) / SCALE, y, NOTE, self.small, QUIET)


def _font(name: str, size: int) -> Font:
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    return ImageFont.truetype(str(path), size * SCALE)


def _write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, font: Font, colour: str) -> float:
    """The width of the text, in points."""
    draw.text((x * SCALE, y * SCALE), text, font=font, fill=colour)
    return font.getlength(text) / SCALE


def _box(
    draw: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, radius: float, *,
    fill: str | None = None, outline: str | None = None, stroke: float = 1.0,
) -> None:  # fmt: skip
    corners = (x * SCALE, y * SCALE, (x + width) * SCALE - 1, (y + height) * SCALE - 1)
    thick = max(1, round(stroke * SCALE))
    draw.rounded_rectangle(corners, radius * SCALE, fill=fill, outline=outline, width=thick)


def _wrapped(text: str, font: Font, width: float) -> list[str]:
    """Lines of whole words that fit so many points; a word that does not is a line by itself."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width * SCALE:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
