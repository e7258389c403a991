"""How many cores a process may use, and the drawing in the background that comes before all others."""

from __future__ import annotations

import os

import pytest
import torch

from mmgen import devices
from mmgen.models.autoencoder import ResidualBlock
from mmgen.services import inference


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),  # Half a core is used too.
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.max": "9900000 100000\n"}, 8),
        ({"cpu.max": "what\n"}, 8),
        ({}, 8),
    ],
)
def test_a_container_uses_no_more_cores_than_it_was_given(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    (tmp_path / "cpu").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert devices.usable_cores(tmp_path) == cores


def test_threads_are_never_more_than_before_and_a_person_may_choose_them(monkeypatch):
    before = torch.get_num_threads()
    set_to: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.setattr(devices, "usable_cores", lambda: 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    devices.prepare_to_draw()
    assert set_to == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    devices.prepare_to_draw()
    monkeypatch.setattr(devices, "usable_cores", lambda: 10**6)
    devices.prepare_to_draw()
    assert set_to == [1, before]


def test_a_residual_block_in_place_is_the_same_to_the_bit_and_leaves_its_input_alone():
    torch.manual_seed(0)
    block, x = ResidualBlock(8), torch.randn(2, 8, 6, 6)
    torch.nn.init.normal_(block.conv2.weight)
    kept, expected = x.clone(), block(x).detach()
    with torch.inference_mode():
        assert torch.equal(block(x), expected) and torch.equal(x, kept)
    block(x).square().mean().backward()
    assert block.conv1.weight.grad.any()


def test_the_first_drawing_is_in_the_background_and_keeps_others_from_drawing():
    drawn: list[tuple[str, bool]] = []
    thread = inference.warm_up(lambda prompt, seed: drawn.append((prompt, inference._DRAWING.locked())))
    thread.join(30)
    assert thread.daemon and drawn == [("a picture", True)] and not inference._DRAWING.locked()
