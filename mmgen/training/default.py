"""The whole recipe of a model: from images with captions to a checkpoint with its card, in shares of some minutes.

    encoders     the default ones, put in place if none are given and there is no base     no share
    autoencoder  trained if none is given and there is no base                             a quarter
    gan          regression, then against the discriminator, last the image decoder        what is left
    captioner    on the GAN's checkpoint (`mmgen train captioner`)                         an eighth
    card         README.md with samples, sources and licences                              no share

Each stage but the last is a command that a person could give, with a run's folder of its own, which resumes.

output/
  plan.json                      the stages, their commands and minutes, and which of them are done
  autoencoder/ gan/ captioner/   the runs
  pipeline/                      the checkpoint
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from mmgen.checkpoints import load_pipeline
from mmgen.data.folder import load_pairs
from mmgen.devices import best_device
from mmgen.errors import UserError
from mmgen.evaluation.retrieval import draw
from mmgen.evaluation.sheets import grid
from mmgen.io import read_json, replacing_folder, write_json
from mmgen.parts import SAMPLES, read_captions
from mmgen.training.common.run import CLOCK, saved_states
from mmgen.training.gan.train import save_path

PLAN = "plan.json"
AUTOENCODER, GAN, CAPTIONER = "autoencoder", "gan", "captioner"
SHOWN = 12
"""Samples on the card."""

ON_GPU = (
    *("--adversarial-batch-size", "256", "--learning-rate", "2e-3", "--adversarial-learning-rate", "2e-4"),
    *("--discriminator-learning-rate", "4e-4", "--ema-images", "100000", "--regression-share", "0.5"),
)
"""The GAN's recipe for the large batches that a GPU needs: rates about as the root of the batch."""

BATCH, BATCH_ON_GPU = 64, 1024


@dataclass
class DefaultRecipe:
    """What is asked for.

    Attributes:
        minutes: of training, all stages together.
        data: sources as `mmgen.data.folder.load_pairs` takes them.
        base: a checkpoint to go on from; its encoders and autoencoder are taken, unless others are given.
        encoders: folder of the encoders; made there where nothing is.
        autoencoder: folder of a trained one.
        width, depth: of a generator without a base.
        batch_size: images a step; None for what suits the device.
        autoencoder_share, captioner_share: of the minutes; 0 leaves the captioner away.
        deadline: see `mmgen.training.common.config.RunConfig`; of the GAN's run.
        gan_options, captioner_options: more options of `mmgen train gan` and `mmgen train captioner`.
    """

    minutes: float
    data: list[Path]
    output: Path
    base: Path | None = None
    encoders: Path = Path("runs/encoders")
    autoencoder: Path | None = None
    cache: Path = Path("runs/cache")
    size: int = 256
    width: int = 256
    depth: int = 8
    batch_size: int | None = None
    autoencoder_share: float = 0.25
    captioner_share: float = 0.125
    seed: int = 0
    save_minutes: float = 5.0
    sample_minutes: float = 10.0
    log_with: str = "tensorboard"
    deadline: float | None = None
    gan_options: list[str] = field(default_factory=list)
    captioner_options: list[str] = field(default_factory=list)


@dataclass
class Stage:
    """One stage of the plan.

    Attributes:
        what: it does, in words.
        command: of mmgen, without `python -m mmgen`.
        minutes: of training, 0 for one that is not a training.
        run: the run's folder, if it has one.
        done: whether it is finished.
    """

    name: str
    what: str
    command: list[str]
    minutes: float = 0.0
    run: str | None = None
    done: bool = False


def make_plan(recipe: DefaultRecipe, device: torch.device) -> list[Stage]:
    """The stages, in order.

    Raises:
        UserError: shares that leave the GAN nothing, or a base or an autoencoder that is not there.
    """
    base, output = recipe.base, recipe.output
    if base and not (base / "generator" / "config.json").is_file():
        raise UserError(f"{base} holds no generator. Give a checkpoint made by mmgen as --base.")
    autoencoder = recipe.autoencoder or (base and base / "autoencoder")
    if autoencoder and not (autoencoder / "config.json").is_file():
        raise UserError(f"There is no autoencoder at {autoencoder}. Leave --autoencoder away to train one.")
    shares = {AUTOENCODER: 0.0 if autoencoder else recipe.autoencoder_share, CAPTIONER: recipe.captioner_share}
    left = 1.0 - sum(shares.values())
    if left < 0.1:
        raise UserError(f"The shares leave {max(0.0, left):.0%} of the time to the GAN; leave it a tenth at least.")
    stages = []

    # Encoders: those given, those of the base, or the default ones.
    encoders = recipe.encoders
    if not (encoders / "text_encoder").is_dir():
        if base and (base / "text_encoder").is_dir():
            encoders = base
        else:
            command = ["encoders", "--output", str(encoders)]
            stages.append(Stage("encoders", "puts the default frozen encoders in place", command))

    data = [word for source in recipe.data for word in ("--data", str(source))]
    shared = [*data, "--cache", str(recipe.cache), "--seed", str(recipe.seed), "--log-with", recipe.log_with]
    shared += ["--save-minutes", f"{recipe.save_minutes:g}", "--sample-minutes", f"{recipe.sample_minutes:g}"]
    shared += ["--sample-every", "0"]

    def training(name: str, what: str, minutes: float, *words: object) -> None:
        folder = str(output / name)
        command = ["train", *map(str, words), *shared, "--minutes", f"{minutes:.6g}", "--output", folder]
        stages.append(Stage(name, what, command, minutes, folder))

    frozen = ("--encoders", encoders, "--size", recipe.size)
    if not autoencoder:
        autoencoder = output / AUTOENCODER / "autoencoder"
        minutes = shares[AUTOENCODER] * recipe.minutes
        crop = min(128, recipe.size)
        training(AUTOENCODER, "teaches pictures to be latents and back", minutes, AUTOENCODER, *frozen, "--crop", crop)

    # The GAN.
    is_gpu = device.type == "cuda"
    batch = recipe.batch_size or (BATCH_ON_GPU if is_gpu else BATCH)
    words: list[object] = ["--autoencoder", autoencoder, "--batch-size", batch, "--image-decoder-share", 0.3]
    words += ["--base", base] if base else ["--width", recipe.width, "--depth", recipe.depth]
    words += ["--deadline", f"{recipe.deadline:.3f}"] if recipe.deadline is not None else []
    words += [*(ON_GPU if is_gpu else ()), *recipe.gan_options]
    what = "teaches latents by regression, then against the discriminator, and last the image decoder on what is drawn"
    training(GAN, what, left * recipe.minutes, GAN, *frozen, *words)

    if shares[CAPTIONER]:
        minutes = shares[CAPTIONER] * recipe.minutes
        what = "teaches the checkpoint to say what pictures show"
        training(CAPTIONER, what, minutes, CAPTIONER, "--base", save_path(output / GAN), *recipe.captioner_options)
    stages.append(Stage("card", "writes the checkpoint's card and draws its samples", []))
    return stages


def make_default(
    recipe: DefaultRecipe,
    run_command: Callable[[Sequence[str]], None],
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Path | None:
    """Carry out the plan, from where it stands.

    Args:
        run_command: runs a command of mmgen in this process.
        resume: go on with what `output` holds.
        say: is told what is done.

    Returns:
        The folder of the checkpoint, or None where a stage was told to stop; resumed, it goes on.

    Raises:
        UserError: see `make_plan`; or the folder holds a plan and `resume` was not asked for, or the other way round.
    """
    stages, file = make_plan(recipe, best_device()), recipe.output / PLAN
    if file.exists() and not resume:
        raise UserError(f"{recipe.output} already holds a plan. Add --resume to go on, or choose another --output.")
    if resume:
        if not file.exists():
            raise UserError(f"There is nothing to resume in {recipe.output}. Leave --resume away to start anew.")
        done = {stage["name"] for stage in json.loads(file.read_text(encoding="utf-8"))["stages"] if stage["done"]}
        for stage in stages:
            stage.done = stage.name in done
    recipe.output.mkdir(parents=True, exist_ok=True)

    def keep() -> None:
        told = {"recipe": asdict(recipe), "stages": [asdict(stage) for stage in stages]}
        write_json(file, told, indent=2, default=str)

    keep()
    for number, stage in enumerate(stages, start=1):
        head = f"{number}/{len(stages)} {stage.name}"
        if stage.done:
            say(f"{head}: done before")
            continue
        minutes = f", {stage.minutes:.3g} minutes" if stage.minutes else ""
        say(f"{head}{minutes}: {stage.what}")
        if stage.name == "card":
            finish(recipe, stages)
        else:
            again = ["--resume"] if stage.run and saved_states(Path(stage.run)) else []
            say(f"  python -m mmgen {' '.join([*stage.command, *again])}")
            run_command([*stage.command, *again])
            if stage.run and not is_over(Path(stage.run)):
                say(f"{head}: stopped before its time; the same command with --resume goes on.")
                return None
        stage.done = True
        keep()
    say(f"{save_path(recipe.output)}: the checkpoint")
    return save_path(recipe.output)


def is_over(run: Path) -> bool:
    """Whether a run by minutes has used all that it had."""
    states = saved_states(run)
    return bool(states) and bool(read_json(states[-1] / CLOCK).get("over"))


def finish(recipe: DefaultRecipe, stages: Sequence[Stage]) -> None:
    """Put the last stage's checkpoint into `output/pipeline`, with samples and a card."""
    last = next(stage.name for stage in reversed(stages) if stage.run)
    folder = save_path(recipe.output)
    with replacing_folder(folder) as part:
        shutil.copytree(save_path(recipe.output / last), part)
        write_card(part, recipe, stages)


def write_card(folder: Path, recipe: DefaultRecipe, stages: Sequence[Stage]) -> None:
    """Write README.md and a sheet of samples into a checkpoint; publishing adds to it what it lacks."""
    pipe = load_pipeline(folder)
    captions: list[str] = next(iter(read_captions(folder)), [])
    captions = [captions[index * len(captions) // SHOWN] for index in range(min(SHOWN, len(captions)))]
    samples = ""
    if captions:
        drawn = list(draw(pipe, captions, [0] * len(captions)))
        grid(drawn, columns=min(4, len(captions)), cell=192).save(folder / SAMPLES)
        lines = [f"{number}. {caption}" for number, caption in enumerate(captions, start=1)]
        samples = f"## Samples\n\n![Samples]({SAMPLES})\n\nTraining captions, each drawn once, from seed 0:\n\n"
        samples += "\n".join(lines) + "\n\n"
    styles = f" It knows these styles by name: {', '.join(pipe.config.styles)}." if pipe.config.styles else ""
    trainings = "\n".join(f"| {s.name} | {s.minutes:.3g} | {s.what} |" for s in stages if s.run)
    text = (
        f"# {recipe.output.name}\n\nA GAN that draws {pipe.image_size}x{pipe.image_size} pictures with transparency "
        f"from words and references, in one forward pass.{styles} Made by `python -m mmgen train default`.\n\n"
        f"{samples}## Data and licences\n\n{sources_table(recipe.data)}\n\n## Training\n\n"
        f"On {_device_name()}{f', from {recipe.base.name}' if recipe.base else ''}.\n\n"
        f"| stage | minutes | what it does |\n|---|---|---|\n{trainings}\n"
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def sources_table(data: Sequence[Path]) -> str:
    """Images, licence and attribution of each style and source that is trained on, as a table."""
    counts: Counter[tuple[str, ...]] = Counter()
    for source in data:
        train = load_pairs(source, need_text=False)["train"]
        counts.update(zip(*(train[name] for name in ("style", "licence", "author", "source")), strict=True))
    rows = [
        f"| {style or '-'} | {count} | {licence or 'not said'} | {' '.join(filter(None, (author, source))) or '-'} |"
        for (style, licence, author, source), count in counts.most_common()
    ]
    return "\n".join(["| style | pictures | licence | attribution |", "|---|---|---|---|", *rows])


def _device_name() -> str:
    device = best_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"a CPU ({torch.get_num_threads()} threads)"
