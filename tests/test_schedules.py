"""How learning rates and weights go over a run, by steps and by the clock."""

from __future__ import annotations

import pytest

from mmgen.training.common.config import GANConfig, RunConfig
from mmgen.training.common.schedules import (
    Phase,
    captioner_rate,
    finetuning_rate,
    image_decoder_rate,
    preview_rate,
    warmed_and_cooled,
)


def test_a_run_by_steps_warms_up_and_cools_down():
    config = RunConfig("run", 1000, cooldown=200)
    rates = [warmed_and_cooled(2.0, step, step / 1000, config) for step in (0, 49, 99, 500, 800, 900, 1000)]
    assert rates == pytest.approx([0.02, 1.0, 2.0, 2.0, 2.0, 1.0, 0.0])
    assert warmed_and_cooled(2.0, 999, 0.999, RunConfig("run", 1000)) == 2.0


def test_a_run_by_minutes_never_comes_to_nothing():
    config = RunConfig("run", None, minutes=5.0, cooldown_share=0.4)
    rates = [warmed_and_cooled(1.0, 5000, done, config) for done in (0.5, 0.6, 0.8, 1.0)]
    assert rates == pytest.approx([1.0, 1.0, 0.52, 0.02])


def test_the_phases_of_the_gan_by_steps():
    config = GANConfig(regression_steps=100, regression_cooldown=0.5, fade_steps=50, image_decoder_share=0.25)
    run = RunConfig("run", 300)
    first, late, turn, faded, last = (Phase.at(step, step / 300, run, config) for step in (0, 75, 100, 150, 250))
    assert not first.is_adversarial and first.rate == 1.0 and late.rate == pytest.approx(0.5)
    assert turn.is_adversarial and (turn.rate, turn.fade) == (1.0, 0.0) and not turn.image_decoder_learns
    assert turn.latent_weight(config) == config.latent_start and faded.latent_weight(config) == config.latent_end
    assert faded.fade == last.fade == 1.0 and last.image_decoder_learns and not faded.image_decoder_learns
    none = GANConfig(regression_steps=0)
    assert Phase.at(0, 0.0, run, none).is_adversarial


def test_the_phases_of_the_gan_by_the_clock():
    config, run = GANConfig(regression_share=0.6), RunConfig("run", None, minutes=10.0)
    before, turn, half, end = (Phase.at(7, done, run, config) for done in (0.3, 0.6, 0.8, 1.0))
    assert not before.is_adversarial and turn.is_adversarial
    assert (turn.fade, half.fade) == (0.0, pytest.approx(1.0)) and half.rate == 1.0
    assert end.rate == pytest.approx(0.02) and Phase.at(7, 0.96, run, config).rate == pytest.approx(0.52)


def test_the_other_trainings():
    assert [captioner_rate(1.0, done) for done in (0.0, 0.05, 1.0)] == pytest.approx([0.02, 0.997, 0.02], abs=1e-3)
    assert [finetuning_rate(1.0, done) for done in (0.0, 0.5, 0.8, 1.0)] == pytest.approx([0.05, 1.0, 0.51, 0.01])
    assert [image_decoder_rate(1.0, done) for done in (0.0, 0.5, 0.75, 1.0)] == [1.0, 1.0, 0.5, 0.0]
    assert [preview_rate(1.0, step, 160) for step in (0, 19, 159)] == pytest.approx([0.05, 1.0, 0.51])
