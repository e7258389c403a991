"""The network of the captioner alone: its prefix, its probabilities, and its older files."""

from __future__ import annotations

import json

import pytest
import torch

from mmgen.models.decoder import CaptionDecoder
from mmgen.pipeline import MultimodalGANPipeline


def tiny_captioner(**changes) -> CaptionDecoder:
    torch.manual_seed(3)
    sizes = {"fused_channels": 32, "reference_channels": 80, "width": 32, "depth": 2, "heads": 2, "has_glance": True}
    sizes |= changes
    return CaptionDecoder(["", "", " red", " apple", " flat"], **sizes).eval()


@torch.no_grad()
def test_weights_reach_the_prefix_and_zero_is_absence(tiny_checkpoint):
    fusion = MultimodalGANPipeline.from_pretrained(tiny_checkpoint).fusion
    captioner = tiny_captioner()
    torch.manual_seed(0)
    text, references = torch.randn(1, 3, 32), torch.randn(1, 2, 16, 80)

    def prefix(text_weight: float, weights: list[float], count: int = 2) -> torch.Tensor:
        weighed = torch.tensor([weights])
        shown = references[:, :count]
        fused = fusion(text, torch.ones(1, 3), torch.tensor([text_weight]), shown, weighed)
        return captioner.read(fused, shown, weighed)

    both = prefix(1.0, [1.0, 1.0])
    assert both.shape == (1, 8, 32)
    for absent, shorter in (
        (prefix(1.0, [1.0, 0.0]), prefix(1.0, [1.0], 1)),
        (prefix(1.0, [0, 0.0]), prefix(1.0, [], 0)),
    ):
        torch.testing.assert_close(absent, shorter, rtol=0, atol=1e-5)  # Other shapes may be summed in another order.
    for other in (prefix(1.0, [1.0, 0.5]), prefix(0.5, [1.0, 1.0]), prefix(0.0, [1.0, 1.0]), prefix(1.0, [2.0, 1.0])):
        assert (other - both).abs().max() > 1e-4
    before = prefix(0.0, [1.0, 0.0])
    text += 1.0
    references[:, 1] += 1.0
    assert torch.equal(prefix(0.0, [1.0, 0.0]), before)
    words = prefix(1.0, [0.0, 0.0])
    captioner.glance[1].weight.mul_(-1)
    assert (prefix(0.0, [1.0, 0.0]) - before).abs().max() > 1e-3
    assert torch.equal(prefix(1.0, [0.0, 0.0]), words)


def test_a_decoder_from_before_the_glance_still_loads(tmp_path):
    old = tiny_captioner(has_glance=False)
    old.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["has_glance"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    new = CaptionDecoder.from_pretrained(tmp_path)
    assert new.glance is None
    for name, value in old.state_dict().items():
        assert torch.equal(value, new.state_dict()[name])


@torch.no_grad()
def test_a_probability_is_that_of_the_whole_caption(tiny_checkpoint):
    fusion = MultimodalGANPipeline.from_pretrained(tiny_checkpoint).fusion
    captioner = tiny_captioner()
    torch.manual_seed(0)
    shown, ones = torch.randn(2, 1, 16, 80), torch.ones(2, 1)
    fused = fusion(torch.zeros(2, 0, 32), torch.zeros(2, 0), torch.zeros(2), shown, ones)
    for row, captions in enumerate(captioner.describe(fused, shown, ones, num_captions=3)):
        assert [c.probability for c in captions] == sorted((c.probability for c in captions), reverse=True)
        for caption in captions:
            pieces, rest = [], " " + caption.text
            while rest:
                place = next(
                    i for i, piece in enumerate(captioner.config.vocabulary) if piece and rest.startswith(piece)
                )
                pieces, rest = [*pieces, place], rest.removeprefix(captioner.config.vocabulary[place])
            given = torch.tensor([pieces, pieces])
            logits = captioner(fused, shown, ones, given)
            chances = -captioner.loss(logits[row][None], given[:1], torch.tensor([len(pieces)])) * (len(pieces) + 1)
            assert caption.probability == pytest.approx(chances.exp().item(), rel=1e-3)
