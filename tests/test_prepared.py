"""What a base knows is read once: the next fine-tuning takes what is kept, and learns the very same."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from test_finetune import KNOWN, base, pairs, remembering, run, weights  # noqa: F401
from tiny_memory import LABELS, with_tiny_memory

from mmgen.checkpoints import load_pipeline
from mmgen.home import root
from mmgen.training.common.control import Halted, status
from mmgen.training.finetune import prepared, prior
from mmgen.training.finetune.prepared import FOLDER, base_digest, prepare_prior
from mmgen.training.finetune.prior import PriorSampler


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint):
    return with_tiny_memory(load_pipeline(tiny_checkpoint))


def same(one: prior.PriorBatch, other: prior.PriorBatch) -> bool:
    return all(
        torch.equal(ours, theirs)
        for ours, theirs in (
            (one.z, other.z),
            (one.latents, other.latents),
            *zip(one.condition.values(), other.condition.values(), strict=True),
            *zip(vars(one.remembered).values(), vars(other.remembered).values(), strict=True),
        )
    )


def test_what_is_kept_is_not_made_again_and_draws_the_same(pipe, tmp_path, monkeypatch):
    told: list[float] = []
    first, projection = prepare_prior(pipe, [LABELS], "everything", told.append, tmp_path)
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 10 and 0.5 in told
    drawn = first.draw(8, np.random.default_rng(0))

    def refuse(*_, **__):
        raise AssertionError("made again")

    monkeypatch.setattr(prior, "_encode", refuse)
    monkeypatch.setattr("mmgen.training.lookup._keys", refuse)
    monkeypatch.setattr("mmgen.training.finetune.projection._free", refuse)
    again, known = prepare_prior(pipe, [LABELS], "everything", told.append, tmp_path)
    assert same(drawn, again.draw(8, np.random.default_rng(0)))
    assert known.free.keys() == projection.free.keys()
    assert all(torch.equal(known.free[name], value) for name, value in projection.free.items())
    assert prepare_prior(pipe, [LABELS], "style", told.append, tmp_path)[1] is None
    words = prepare_prior(pipe, [LABELS], "set", told.append, tmp_path)[0].draw(64, np.random.default_rng(0))
    assert (words.condition["text_weight"] > 0).float().mean() > 0.8
    for others in ([LABELS[:5]], [[*LABELS, "a cat"]]):
        with pytest.raises(AssertionError, match="made again"):
            prepare_prior(pipe, others, "style", told.append, tmp_path)


def test_another_base_has_another_name_and_what_was_cut_short_is_made_anew(pipe, tmp_path):
    key = base_digest(pipe, [LABELS])
    weight = pipe.generator.to_patch.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] += 1
        assert base_digest(pipe, [LABELS]) != key
        weight.copy_(before)
    assert base_digest(pipe, [LABELS]) == key != base_digest(pipe, [LABELS[:-1]])
    prepare_prior(pipe, [LABELS], "style", folder=tmp_path)
    file = tmp_path / key / "prior.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    made, _ = prepare_prior(pipe, [LABELS], "style", folder=tmp_path)
    assert len(made.words) == 12 and file.stat().st_size > 1000


def test_the_oldest_are_deleted_and_nothing_is_kept_where_nothing_can_be_written(pipe, tmp_path):
    for number in range(prepared.KEPT + 2):
        prepare_prior(pipe, [[f"a cat {number}"]], "style", folder=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == prepared.KEPT
    newest = base_digest(pipe, [[f"a cat {prepared.KEPT + 1}"]])
    assert (tmp_path / "kept" / newest / "prior.safetensors").exists()
    (tmp_path / "file").write_text("")
    assert prepare_prior(pipe, [["a cat"]], "style", folder=tmp_path / "file" / "below")[0].words


def test_it_can_be_ended_meanwhile(pipe, tmp_path):
    def halt(share: float) -> None:
        if share > 0.2:
            raise Halted("stop")

    with pytest.raises(Halted):
        prepare_prior(pipe, [LABELS], "everything", halt, tmp_path)


def test_of_many_captions_some_are_kept_and_groups_keep_their_weight(pipe, monkeypatch):
    monkeypatch.setattr(prior, "MOST", 40)
    groups = [["zorp"], [f"a cat {number}" for number in range(10_000)]]
    some = PriorSampler(pipe, groups, seed=0)
    assert 20 < len(some.words) <= 41 and some.chances[0] == pytest.approx(1 / 101)
    assert some.chances.sum() == pytest.approx(1)


def test_a_second_job_says_its_share_and_learns_the_same(remembering, pairs, tmp_path, monkeypatch):  # noqa: F811
    shutil.rmtree(root() / FOLDER, ignore_errors=True)
    messages: list[str] = []
    report = prepared_report(monkeypatch, messages)
    for name in ("first", "second"):
        messages.append(name)
        assert run(remembering, pairs, tmp_path / name, "--steps", "6", "--no-tune-autoencoder") == 0
    assert report and len(list((root() / FOLDER).iterdir())) == 1
    shares = [text for text in messages if text.startswith("Reading what the base model knows")]
    assert any(text.endswith(": 0%") for text in shares) and any(text.endswith(": 100%") for text in shares)
    later = messages[messages.index("second") :]
    assert len([text for text in later if "Reading" in text]) < len(shares) / 2
    ours, theirs = (weights(tmp_path / name / "pipeline", "generator") for name in ("first", "second"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert status(tmp_path / "second")["state"] == "done"


def prepared_report(monkeypatch, messages: list[str]):
    from mmgen.training.common.control import Control

    report = Control.report

    def heard(self, **values):
        messages.append(str(values.get("message", "")))
        return report(self, **values)

    monkeypatch.setattr(Control, "report", heard)
    return report
