"""One training step of the embedded model, and all the state that a resumed run needs.

A step is `micro` batches, computed by two Python threads of one torch thread each: on a machine that is
shared, this loses little when a core is taken away, where OpenMP's barriers inside one operator cost
up to twenty times. It knows nothing of files, clocks or evaluation.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llada_exp.models.attention import row_attention
from llada_exp.models.llada import LLaDA, LLaDAConfig
from llada_exp.tiny.data import BatchMaker, TrainingBatch
from llada_exp.tiny.muon import Muon

EMA_DECAY = 0.995


@dataclass(frozen=True)
class StepReport:
    """What one step saw: per kind, the weighted loss and the share right of what weighs most there."""

    loss: float
    losses: dict[str, float]
    results: dict[str, float]
    num_tokens: int


def init_weights(model: LLaDA, seed: int) -> None:
    """Normal weights; what writes into the residual stream starts smaller.

    Embeddings start at 1: smaller ones are drowned by the first layers, and copying is learned late.
    """
    noise = torch.Generator().manual_seed(seed)
    for name, param in model.named_parameters():
        if param.dim() != 2:
            torch.nn.init.ones_(param)
            continue
        std = 1.0 if ".wte." in name else param.shape[1] ** -0.5
        if ".blocks." in name and (".attn_out." in name or ".ff_out." in name):
            std /= (2 * model.config.n_layers) ** 0.5
        with torch.no_grad():
            param.normal_(0.0, std, generator=noise)


def _is_hidden(name: str, param: Tensor) -> bool:
    return param.dim() == 2 and ".blocks." in name


class Learner:
    """Model, optimizers and averaged weights, moved on by `step`."""

    def __init__(self, config: LLaDAConfig, maker: BatchMaker, seed: int, micro: int = 2) -> None:
        self.model = LLaDA(config)
        init_weights(self.model, seed)
        self.model.logits(torch.zeros(1, 1, dtype=torch.int64))  # builds the rotary table before threads do
        params = list(self.model.named_parameters())
        self.params = dict(params)
        self._threads = ThreadPoolExecutor(min(micro, 2))
        hidden: list[Tensor] = [p for n, p in params if _is_hidden(n, p)]
        self.muon = Muon(hidden, lr=0.0, weight_decay=0.1, run_all=self._threads.map)
        self.adam = torch.optim.AdamW(
            [
                {
                    "params": [p for n, p in params if p.dim() == 2 and not _is_hidden(n, p)],
                    "weight_decay": 0.05,
                },
                {"params": [p for n, p in params if p.dim() == 1], "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=(0.9, 0.98),
        )
        self.average = {name: param.detach().clone() for name, param in params}
        self.maker = maker
        self.micro = micro
        self.num_steps = 0

    def step(self, mix: dict[str, float], muon_lr: float, adam_lr: float) -> StepReport:
        first = self.num_steps * self.micro
        parts = list(
            self._threads.map(
                lambda n: self._part(self.maker.batch(n, mix)), range(first, first + self.micro)
            )
        )
        for place, param in enumerate(self.params.values()):
            param.grad = sum(part[0][place] for part in parts) / self.micro  # type: ignore[assignment]
        for optimizer, lr in ((self.muon, muon_lr), (self.adam, adam_lr)):
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        self.num_steps += 1
        decay = min(EMA_DECAY, self.num_steps / (self.num_steps + 10))
        with torch.no_grad():
            for name, param in self.params.items():
                self.average[name].lerp_(param, 1 - decay)
        kinds = {part[1] for part in parts}
        return StepReport(
            loss=sum(part[2] for part in parts) / self.micro,
            losses={k: _mean([part[2] for part in parts if part[1] == k]) for k in kinds},
            results={k: _mean([part[3] for part in parts if part[1] == k]) for k in kinds},
            num_tokens=sum(part[4] for part in parts),
        )

    def _part(self, batch: TrainingBatch) -> tuple[tuple[Tensor, ...], str, float, float, int]:
        """Gradients, kind, loss, share of right results and tokens of one batch."""
        torch.set_num_threads(1)  # of this thread
        torch.set_flush_denormal(True)  # likewise: arithmetic on them is many times slower
        n_rows, length = batch.ids.shape
        positions = torch.arange(length).repeat(n_rows)
        places = batch.weights.view(-1).nonzero().squeeze(1)
        weights, targets = batch.weights.view(-1)[places], batch.targets.view(-1)[places]
        attend = row_attention(n_rows, length)
        logits = self.model.head(self.model.hidden(batch.ids.view(-1), positions, attend, places))
        loss = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
        grads = torch.autograd.grad(loss, list(self.params.values()))
        heavy = weights >= weights.max()
        right = (logits.argmax(-1) == targets)[heavy].float().mean()
        return grads, batch.kind, float(loss.detach()), float(right), n_rows * length

    def state(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by name."""
        tensors = {f"param/{name}": param.detach() for name, param in self.params.items()}
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        for name, param in self.params.items():
            for owner, optimizer in (("muon", self.muon), ("adam", self.adam)):
                for key, value in optimizer.state.get(param, {}).items():
                    tensors[f"{owner}/{key}/{name}"] = value
        return tensors

    def begin_with(self, weights: dict[str, Tensor]) -> None:
        """Weights of a model, in place of random ones. Raises ValueError where names or shapes do not fit."""
        if sorted(weights) != sorted(self.params):
            raise ValueError("--start is a model of other parameters; expected one of this trainer's")
        self.load_state({f"{of}/{name}": w for of in ("param", "average") for name, w in weights.items()}, 0)

    def load_state(self, tensors: dict[str, Tensor], num_steps: int) -> None:
        """The reverse of `state`. Raises ValueError where a name or a shape does not fit."""
        for full, value in tensors.items():
            owner, _, rest = full.partition("/")
            if owner in ("param", "average"):
                key, name = owner, rest
            else:
                key, _, name = rest.partition("/")
            if name not in self.params or (value.dim() and value.shape != self.params[name].shape):
                raise ValueError(f"checkpoint entry {full} {tuple(value.shape)} does not fit this model")
            param = self.params[name]
            if owner == "param":
                param.data.copy_(value)
            elif owner == "average":
                self.average[name].copy_(value)
            else:
                optimizer = self.muon if owner == "muon" else self.adam
                optimizer.state[param][key] = value.clone()
        self.num_steps = num_steps


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
