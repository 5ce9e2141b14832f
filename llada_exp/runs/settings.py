"""Keys that every run has, read and checked: where results go, whom W&B tells.

Every error is a ValueError that names the key, the value and what is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from llada_exp.settings import Node

TRACKING = ("offline", "online", "disabled")


@dataclass(frozen=True)
class Tracking:
    mode: str
    project: str
    entity: str | None
    log_text: bool


TRACKING_KEYS = tuple(f.name for f in fields(Tracking))


def read_tracking(node: Node) -> Tracking:
    return Tracking(
        mode=node.one_of("mode", TRACKING),
        project=node.text("project"),
        entity=node.text("entity", optional=True),
        log_text=read_flag(node, "log_text"),
    )


def read_flag(tree: Node, key: str) -> bool:
    value = tree[key]
    if not isinstance(value, bool):
        raise ValueError(f"{tree.place}{key} is {value!r}; expected true or false")
    return value


def read_name(tree: Node, key: str) -> str:
    """Of a folder."""
    name = str(tree[key])
    if not name or name.startswith(".") or any(c in name for c in "/\\ \n"):
        raise ValueError(f"{key} is {name!r}; expected the name of a folder, without spaces and slashes")
    return name
