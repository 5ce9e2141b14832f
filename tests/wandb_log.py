"""What W&B keeps of an offline run: its file is a LevelDB log, of blocks of 32 KiB, each part of a record
with a header of 7 bytes, at times in the middle of a word that is looked for."""

import time

BLOCK, HEADER = 32768, 7


def records(path):
    """Each record of the file, in bytes."""
    data, at, record = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if (room := BLOCK - at % BLOCK) < HEADER:
            at += room
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        record += data[at + HEADER : at + HEADER + size]
        at += HEADER + size
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""
    yield record


def content(folder, awaited):
    """All that is kept, once the word is there: W&B's own process writes, and may be behind."""
    until = time.monotonic() + 20
    while awaited not in (kept := _content(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    return kept


def _content(folder):
    files = [p for p in folder.glob("wandb/offline-run-*/**/*") if p.is_file()]
    return b"".join(b"".join(records(p)) if p.suffix == ".wandb" else p.read_bytes() for p in files)
