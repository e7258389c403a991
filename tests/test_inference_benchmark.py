"""The benchmark of inference at a tiny size: what it prints is what it measured."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from mmgen import devices


@pytest.fixture(scope="module")
def benchmark():
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location(
        "inference_benchmark", Path(__file__).resolve().parent.parent / "benchmarks" / "inference.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@torch.inference_mode()
def test_each_batch_has_a_row_for_each_that_draws(benchmark, tiny_checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "peak", lambda device: 50.0)
    monkeypatch.setattr(devices, "prepare_to_draw", lambda: None)
    drawn: list[int] = []
    slow = benchmark.Contestant(lambda count: drawn.append(count) or torch.ones(300, 300) @ torch.ones(300, 300), [], 2)
    monkeypatch.setattr(benchmark, "others", lambda *asked: {"slow": slow})
    asked = argparse.Namespace(checkpoint=tiny_checkpoint, packages=None, beside=None, batches=[1, 2, 3], rounds=2)
    result = benchmark.measure(asked)
    names = [benchmark.OURS, "mmgen, a new seed"]
    assert [(row["name"], row["batch"]) for row in result] == [
        *((name, batch) for batch in (1, 2) for name in (*names, "slow")),
        *((name, 3) for name in names),
    ]
    assert drawn == [1, 1, 1, 1, 2, 2, 2, 1]  # Of each batch one to warm up and two rounds, then one to be counted.
    for row in result:
        assert 0 < row["fastest"] <= row["seconds"] and row["gflop"] > 0
        assert row["share"] == pytest.approx(row["gflop"] / row["seconds"] / 50)
    assert result[2]["gflop"] == pytest.approx(2 * 300**3 / 1e9)
    assert result[1]["gflop"] < result[0]["gflop"]  # Another seed reads no words.
    benchmark.show(result)
    printed = capsys.readouterr().out.splitlines()
    ratio = result[2]["seconds"] / result[0]["seconds"]
    assert len(printed) == 10 and printed[4].startswith("slow") and f"{ratio:.2f}" in printed[4]


def test_what_is_not_installed_is_named_and_left_out(benchmark, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    before = torch.cuda.is_available
    assert benchmark.others(None, ["lightweight-gan"], 64, torch.device("cpu")) == {}
    said = capsys.readouterr().err
    assert "lightweight-gan is left out" in said and "lightweight-gan==1.2.1" in said
    assert torch.cuda.is_available is before
