"""The server's log on stderr, in the main process and in workers alike: on a terminal a short line for
people, anywhere else one JSON object a line.

Knows nothing of what is logged. `extra={"fields": {...}}` of a call puts those fields into its JSON line;
`extra={"words": "..."}` are what people read in the place of its message.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

LOGGER = "llada_exp"
LogFormat = Literal["auto", "text", "json"]
LOGGED_LENGTH = 200
"""Characters: what a client sent may be longer, a line for people is not."""
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x7F, 0x85, 0x2028, 0x2029)}
"""Beside those that JSON escapes: many a reader of lines takes them for ends."""


def say(text: str, stream: TextIO | None = None) -> None:
    """Write to stdout, or `stream`, past its buffer. A reader that is gone (`... | head -1`) or a full
    disk under a log is no reason to stop serving; text that stayed in a buffer would make a later flush
    fail, as every start of a process does one."""
    with contextlib.suppress(OSError):
        os.write((stream or sys.stdout).fileno(), text.encode(errors="backslashreplace"))


class JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str).translate(_LINE_ENDS)


class TextLine(logging.Formatter):
    """`14:03:07 what happened`, in local time. Only a failure of our own has a traceback under it. What
    a client sent can neither begin a line nor move the cursor."""

    def format(self, record: logging.LogRecord) -> str:
        words = getattr(record, "words", None) or record.getMessage()
        mark = "error: " if record.levelno >= logging.ERROR else ""
        line = f"{datetime.fromtimestamp(record.created):%H:%M:%S} {mark}{printable(words)}"
        if record.exc_info:
            line += "\n" + "\n".join(map(printable, self.formatException(record.exc_info).split("\n")))
        return line


class LogHandler(logging.Handler):
    """Lines to stderr; a full disk under it is no reason to stop serving."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record) + "\n", sys.stderr)


def set_up(level: str, log_format: LogFormat) -> None:
    """Ours from `level` on; of the libraries, warnings and worse, Python's own among them. log_format auto:
    text where stderr is a terminal."""
    handler = LogHandler()
    is_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextLine() if is_text else JsonLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger(LOGGER).setLevel(level.upper())


def printable(text: str) -> str:
    """On one line of a terminal: control characters, ends of lines among them, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str) -> str:
    return text if len(text) <= LOGGED_LENGTH else f"{text[:LOGGED_LENGTH]}..."
