"""Updates that spare what the base knows: new things are learned, old ones hardly move."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from mmgen.checkpoints import load_pipeline
from mmgen.training.common.optimizers import finetuning_optimizer, step_with_rate
from mmgen.training.finetune.prior import PriorSampler
from mmgen.training.finetune.projection import NullSpaceProjection
from mmgen.training.gan.train import ConditionalGenerator

KNOWN = [f"a {colour} {thing}" for colour in ("red", "blue", "green") for thing in ("cat", "car", "house", "tree")]
NEW = ["a zorblat creature", "a quindle creature"]
WORDS = (1.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint: Path):
    return load_pipeline(tiny_checkpoint)


@pytest.fixture(scope="module")
def projection(pipe) -> NullSpaceProjection:
    return NullSpaceProjection(PriorSampler(pipe, [KNOWN], seed=0), seed=0)


def learner(pipe, projection: NullSpaceProjection, spares: bool) -> tuple[ConditionalGenerator, torch.optim.Optimizer]:
    """A copy of the base of which the layers that can be spared learn, and its optimizer, which spares them or not."""
    model = ConditionalGenerator(copy.deepcopy(pipe.fusion), copy.deepcopy(pipe.generator))
    projection.restrict(model)
    optimizer = finetuning_optimizer(model)
    if spares:
        projection.attach(model, optimizer)
    return model, optimizer


def test_what_a_layer_saw_much_of_is_left_alone_and_the_rest_is_free(projection):
    assert {name.split(".")[0] for name in projection.free} == {"generator"}
    for free in projection.free.values():
        torch.testing.assert_close(free, free.T, atol=1e-4, rtol=0)
        shares = torch.linalg.eigvalsh(free)
        assert -1e-4 < shares.min() and shares.max() < 1 + 1e-4
        assert shares[0] < 0.5 < shares[-1]


def test_hooks_are_gone_from_the_base(pipe, projection):
    assert not any(layer._forward_pre_hooks for layer in pipe.generator.modules())


def test_new_words_are_learned_at_less_cost_to_the_old(pipe, projection):
    """As near to the same new pictures, with and without: what the base knew has moved far less with."""
    known = PriorSampler(pipe, [KNOWN], seed=0).draw(32, np.random.default_rng(5), WORDS)
    new = PriorSampler(pipe, [NEW], seed=0).draw(8, np.random.default_rng(6), WORDS)
    wanted = torch.randn_like(new.latents[:1]).expand_as(new.latents)
    moved = {}
    for spares in (True, False):
        model, optimizer = learner(pipe, projection, spares)
        start = None
        for _ in range(400):
            loss = (model(new.z, new.condition) - wanted).abs().mean()
            start = start or loss.item()
            if loss < 0.7 * start:
                break
            loss.backward()
            step_with_rate([optimizer], 2e-3)
        assert loss < 0.7 * start
        with torch.no_grad():
            moved[spares] = (model(known.z, known.condition) - known.latents).abs().mean().item()
    assert moved[True] < 0.6 * moved[False]


def test_a_step_is_the_step_without_times_what_is_free(pipe, projection):
    steps = []
    for spares in (False, True):
        model, optimizer = learner(pipe, projection, spares)
        before = {name: model.get_submodule(name).weight.detach().clone() for name in projection.free}
        generator = torch.Generator().manual_seed(1)
        for name in projection.free:
            layer = model.get_submodule(name)
            layer.weight.grad = torch.randn(layer.weight.shape, generator=generator)
        step_with_rate([optimizer], 1e-2)
        steps.append({name: model.get_submodule(name).weight.detach() - before[name] for name in projection.free})
    for name, free in projection.free.items():
        torch.testing.assert_close(steps[1][name], steps[0][name] @ free, atol=1e-5, rtol=1e-3)


def test_only_the_weights_of_layers_that_draw_learn(pipe, projection):
    model = ConditionalGenerator(copy.deepcopy(pipe.fusion), copy.deepcopy(pipe.generator))
    count = projection.restrict(model)
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learning == {f"{name}.weight" for name in projection.free}
    assert not any("cross_attention" in name or "modulation" in name for name in learning)
    assert count == sum(value.numel() for value in model.parameters() if value.requires_grad) > 0
