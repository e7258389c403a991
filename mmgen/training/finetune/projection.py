"""Learn something new where it disturbs least: updates that spare what the base knows.

Whatever a linear layer is taught for one input it also does to every other input that points the same way. So each
update dW of a layer becomes dW P, with

    P = d (C + d I)^-1

where C is the second moment of the layer's inputs while the base draws what it knows, scaled to a mean of 1 on its
diagonal, and d the damping: directions that the base uses much are left as they are, those it leaves free learn (the
orthogonal weights modification of Zeng et al., Nature Machine Intelligence 2019; the same matrix makes the edits of
MEMIT, Meng et al. 2023). Only the layers that draw learn: the self-attentions, the feed-forwards and the last layer of
the generator. Those through which words, references and the memory come in, taught as much, cost the base more; and
biases, norms and learned tokens act on every input alike. Of a base with a memory the inputs are those that it has
while it looks at what it finds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from mmgen.training.finetune.prior import PriorSampler

DAMPING = 0.3
DRAWS, BATCH = 512, 32
LAYERS = (".self_attention.", ".feed_forward.", ".to_patch")


class NullSpaceProjection:
    """What the layers of the base's generator leave free.

    Args:
        prior: the base, which draws `DRAWS` of its captions here.
        seed: of these drawings.
        on_part: called after each batch of them with the share that is done, 0 to 1; what it raises ends the work.
        known: what `free` was for such a prior and seed, so that nothing is drawn.
    """

    def __init__(
        self,
        prior: PriorSampler,
        seed: int,
        on_part: Callable[[float], object] = lambda share: None,
        known: dict[str, torch.Tensor] | None = None,
    ):
        pipe = prior.pipe
        if known is not None:
            self.free = {name: value.to(pipe.device) for name, value in known.items()}
            on_part(1.0)
            return
        moments: dict[str, torch.Tensor] = {}
        hooks = []

        def watch(name: str, layer: nn.Linear) -> None:
            moment = moments[name] = torch.zeros(layer.in_features, layer.in_features, device=layer.weight.device)

            def add(_, arguments: tuple[torch.Tensor, ...]) -> None:
                seen = arguments[0].flatten(0, -2).float()
                moment.addmm_(seen.T, seen)

            hooks.append(layer.register_forward_pre_hook(add))

        for name, layer in pipe.generator.named_modules(prefix="generator"):
            if isinstance(layer, nn.Linear) and any(part in name for part in LAYERS):
                watch(name, layer)
        rng = np.random.default_rng((seed, 4))
        try:
            for number in range(DRAWS // BATCH):
                prior.draw(BATCH, rng)
                on_part((number + 1) / (DRAWS // BATCH))
        finally:
            for hook in hooks:
                hook.remove()
        self.free = {name: _free(moment) for name, moment in moments.items()}

    def restrict(self, model: nn.Module) -> int:
        """Let exactly the weights of a `ConditionalGenerator` learn that can be spared; return how many numbers."""
        count = 0
        for name, parameter in model.named_parameters():
            learns = name.removesuffix(".weight") in self.free
            parameter.requires_grad_(learns)
            count += parameter.numel() * learns
        return count

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """From now on every step of the optimizer spares what the base knows."""
        learning = [
            (parameter, self.free[name.removesuffix(".weight")])
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        ]
        before = [torch.empty_like(parameter) for parameter, _ in learning]

        @torch.no_grad()
        def remember(*_) -> None:
            torch._foreach_copy_(before, [parameter for parameter, _ in learning])

        @torch.no_grad()
        def spare(*_) -> None:
            for (parameter, free), old in zip(learning, before, strict=True):
                torch.addmm(old, parameter - old, free, out=parameter)

        optimizer.register_step_pre_hook(remember)
        optimizer.register_step_post_hook(spare)


def _free(moment: torch.Tensor) -> torch.Tensor:
    """P of a layer's second moment [in, in]; the identity where the layer has seen nothing."""
    identity = torch.eye(len(moment), device=moment.device)
    return DAMPING * torch.linalg.inv(moment / moment.diagonal().mean().clamp_min(1e-12) + DAMPING * identity)
