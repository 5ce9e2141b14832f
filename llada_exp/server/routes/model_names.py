"""The served model's name, and the spellings of it that clients may use."""

from __future__ import annotations

from typing import Any

from llada_exp.domain import DOMAIN
from llada_exp.server.routes.errors import ApiError
from llada_exp.settings import ModelSettings


class ModelNames:
    def __init__(self, model: ModelSettings) -> None:
        self.name = model.name
        self.domain = DOMAIN if model.source == "tiny" else None
        spellings = {model.name, model.path or "", (model.path or "").rstrip("/").rpartition("/")[2]}
        if model.source == "tiny":
            spellings.add("tiny")
        self._spellings = {_fold(s) for s in spellings if s}

    def check(self, name: str | None) -> None:
        """Raises a 404 ApiError for another model's name. None: the one that is served."""
        if name is not None and _fold(name) not in self._spellings:
            raise ApiError(
                404,
                f"The model `{name}` does not exist; this server has `{self.name}`",
                param="model",
                code="model_not_found",
            )

    def card(self, created: int) -> dict[str, Any]:
        """As OpenAI's; of the embedded model with a `description` of what it can do."""
        about = {} if self.domain is None else {"description": self.domain}
        return {"id": self.name, "object": "model", "created": created, "owned_by": "llada_exp", **about}


def _fold(name: str) -> str:
    return name.lower().replace("_", "-")
