"""A checkpoint that was looked through and not read yet, and how it becomes a network.

Knows neither file formats of weights nor any family of models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llada_exp.checkpoints.common import Config, expected_tensors
from llada_exp.checkpoints.sums import check_sums
from llada_exp.models.base import SpecialIds
from llada_exp.models.family import Architecture, empty_network
from llada_exp.text import Tokenizer


@dataclass(frozen=True)
class Filled:
    """A network that holds a checkpoint's weights, and what belongs to it. family: its name."""

    family: str
    architecture: Architecture
    network: Any
    special: SpecialIds
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Vetted:
    """A folder whose parts were found and compared; no weight of it was read.

    weights: the folder of the weights. names: of its tensors, as the network calls them. read: writes them
    into tensors of these names, cast on the way. listed: the folder whose SHA256SUMS lists the files, where
    there is one: they are held to it before they are read.
    """

    weights: Path
    config: Config
    tokenizer: Tokenizer
    special: SpecialIds
    names: Collection[str]
    read: Callable[[dict[str, Tensor]], None]
    listed: Path | None

    def load(self, device: torch.device, dtype: torch.dtype) -> Filled:
        """Its network, on `device` in `dtype`. Raises ValueError naming the file that cannot be read or is
        not as its sum says, or a weight that config.json ties to another and that has other values."""
        if self.listed is not None:
            check_sums(self.listed, self.weights)
        architecture = self.config.architecture
        network = empty_network(architecture, device, dtype)
        tied = expected_tensors(architecture).tied
        state: dict[str, Tensor] = network.state_dict()
        # A tied weight's second copy gets memory of its own, so that it can be compared.
        targets = {n: torch.empty_like(state[n]) if n in tied else state[n] for n in self.names}
        self.read(targets)
        for name in targets.keys() & tied.keys():
            if not torch.equal(targets[name], network.get_parameter(tied[name])):
                raise ValueError(
                    f"{self.weights}: {name} differs from {tied[name]}; by config.json they are one weight"
                )
        return Filled(self.config.family.name, architecture, network, self.special, self.tokenizer)
