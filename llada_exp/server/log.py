"""The server's log: one JSON object a line on stderr, in the main process and in workers alike.

Knows nothing of what is logged. `extra={"fields": {...}}` of a call puts those fields into its line.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

LOGGER = "llada_exp"


def say(text: str, stream: TextIO | None = None) -> None:
    """Write to stdout, or `stream`, past its buffer. A reader that is gone (`... | head -1`) or a full
    disk under a log is no reason to stop serving; text that stayed in a buffer would make a later flush
    fail, as every start of a process does one."""
    with contextlib.suppress(OSError):
        os.write((stream or sys.stdout).fileno(), text.encode())


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
        return json.dumps(line, ensure_ascii=False, default=str)


class LogHandler(logging.Handler):
    """Lines to stderr; a full disk under it is no reason to stop serving."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record) + "\n", sys.stderr)


def set_up(level: str) -> None:
    """Ours from `level` on; of the libraries, warnings and worse."""
    handler = LogHandler()
    handler.setFormatter(JsonLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(LOGGER).setLevel(level.upper())
