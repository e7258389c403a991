"""`python -m mmgen train captioner`: teach GPT-2 to read what the fusion makes of pictures and words."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmgen.cli.options import add_options, check_alone, number
from mmgen.cli.sources import Sources
from mmgen.training.common.config import CaptionerConfig, CaptionerRunConfig

MINUTES = 12.0


def add_parser(parts) -> None:
    _add_options(parts.add_parser("captioner", help="pictures and words -> captions; last, on a whole checkpoint"))
    former = parts.add_parser("decoder")  # As it was called before; not shown, as it has no help.
    _add_options(former)
    former.set_defaults(output="runs/decoder")


def _add_options(part: argparse.ArgumentParser) -> None:
    part.add_argument(
        "--data", type=Path, action="append", required=True, help="folder, zip or shards; may be repeated"
    )
    part.add_argument("--base", help="the checkpoint to give a captioner (default: the one in checkpoints/)")
    part.add_argument("--output", default="runs/captioner", help="folder of the run (default runs/captioner)")
    part.add_argument("--cache", type=Path, default=Path("runs/cache"), help="for decoded pictures and the like")
    length = part.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=number(float, 0.01), help=f"of training, all sittings together (default {MINUTES:g})"
    )
    length.add_argument("--steps", type=number(int, 1), help="the step to stop at, from the start, instead")
    part.add_argument("--resume", action="store_true", help="go on from the newest saved state in --output")
    part.add_argument("--gpt2", help="folder or Hub name of a GPT-2 to start from, such as gpt2 (default: a new one)")
    part.add_argument("--decoder", dest="gpt2", help=argparse.SUPPRESS)  # As it was called before.
    add_options(part, CaptionerRunConfig)
    add_options(part.add_argument_group("recipe"), CaptionerConfig)
    part.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    import dataclasses

    import datasets
    import numpy as np

    from mmgen.checkpoints import default_checkpoint, find_checkpoint
    from mmgen.data.memmap import only_readable
    from mmgen.data.splits import UNSEEN_PAIRS
    from mmgen.datasets.synthetic_styles import without_synthetic
    from mmgen.devices import best_device
    from mmgen.evaluation.captions import BATCH, caption_scores, captioned, table
    from mmgen.parts import TRAINING_LOG, read_captions
    from mmgen.pipeline import MultimodalGANPipeline
    from mmgen.training.captioner.train import captioned_rows, prepare_captioner, train_captioner
    from mmgen.training.common.checkpoint import save_checkpoint
    from mmgen.training.common.run import check_output
    from mmgen.training.gan.train import save_path

    config = CaptionerConfig(**{f.name: getattr(arguments, f.name) for f in dataclasses.fields(CaptionerConfig)})
    asked = vars(arguments)
    given = {f.name: asked[f.name] for f in dataclasses.fields(CaptionerRunConfig) if f.name in asked}
    run_config = CaptionerRunConfig(**given)
    if run_config.steps is None and run_config.minutes is None:
        run_config.minutes = MINUTES
    check_output(run_config)
    check_alone("Training the captioner")
    base = find_checkpoint(arguments.base or default_checkpoint())
    sources = Sources.read(arguments.data, need_text=False)
    data = datasets.concatenate_datasets([without_synthetic(source.split("train")) for source in sources])
    held_out = [
        only_readable(captioned_rows(source.splits[UNSEEN_PAIRS]), sources.withdraw)
        for source in sources
        if UNSEEN_PAIRS in source.splits and any(source.splits[UNSEEN_PAIRS]["text"])
    ]
    pipe = MultimodalGANPipeline.from_pretrained(base, captioner=None, captioner_fusion=None)  # They are replaced.
    captioner, dataset = prepare_captioner(
        pipe, data, config, arguments.cache, best_device(), arguments.gpt2, run_config.seed, sources.withdraw
    )
    sources.tell()
    shown = (held_out or [dataset.data])[0]
    shown = shown.select(np.random.default_rng(3).permutation(len(shown))[:BATCH])

    def sample(run, model) -> None:
        pipe.register_modules(captioner=model)
        run.sample(captioned(pipe, shown))

    recipe = {"data": arguments.data, "base": base, "gpt2": arguments.gpt2}
    captioner = train_captioner(run_config, config, pipe, captioner, dataset, sample, recipe)
    folder = save_path(arguments.output)
    whole = MultimodalGANPipeline.from_pretrained(base, captioner=captioner.cpu(), captioner_fusion=None)
    save_checkpoint(folder, whole, read_captions(base), log=base / TRAINING_LOG)  # That of what it draws with.
    million = sum(p.numel() for p in captioner.parameters()) / 1e6
    print(f"{folder}: {base} with a captioner of {million:.1f} million weights")
    if held_out:
        whole.to(best_device())
        scores = caption_scores(whole, dataset.data, datasets.concatenate_datasets(held_out), dataset.plain)
        print(table(scores, UNSEEN_PAIRS))
