"""Muon, in whatever precision is fast here.

torch.optim.Muon orthogonalises in bfloat16 alone, which a CPU without bfloat16 units has to emulate: one step of
fine-tuning took 33 s there.
"""

from __future__ import annotations

from collections import defaultdict

import torch

from mmgen.devices import has_fast_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalised(x: torch.Tensor) -> torch.Tensor:
    """Matrices [N, A, B] with A <= B, about as their U V^T of the singular value decomposition.

    Five rounds of the quintic Newton-Schulz iteration of Jordan et al. ("Muon", 2024), which leaves the singular values
    between about 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024, with Nesterov's momentum and the update's size of Liu et al. ("Muon is Scalable", 2025).

    So it takes a learning rate that would suit AdamW. Matrices of one shape are orthogonalised together.

    Args:
        params: matrices; anything else raises ValueError.
    """

    def __init__(self, params, lr: float = 1e-3, weight_decay: float = 0.01, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        if any(parameter.ndim != 2 for group in self.param_groups for parameter in group["params"]):
            raise ValueError("Muon takes matrices alone")

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]  # As torch.optim.Muon without a closure.
        """One update from the gradients."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[torch.Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._update(parameters, group)

    def _update(self, parameters: list[torch.Tensor], group: dict) -> None:
        momentum = group["momentum"]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(gradient)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        x = torch.stack(torch._foreach_lerp(gradients, buffers, momentum))
        if has_fast_bf16(x.device):
            x = x.bfloat16()
        is_tall = x.shape[1] > x.shape[2]
        x = orthogonalised(x.mT if is_tall else x)
        size = 0.2 * max(x.shape[1:]) ** 0.5
        updates = (x.mT if is_tall else x).to(parameters[0].dtype).unbind()
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"] * size)
