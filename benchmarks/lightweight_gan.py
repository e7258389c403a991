"""Both from scratch, on the same pictures, for the same time, on this machine: lightweight-gan and mmgen.

    python benchmarks/lightweight_gan.py [--minutes 30] [--data data/emoji] [--size 128] [--json FILE]

One after the other, with the same threads and memory settings, each in processes of its own. mmgen's autoencoder trains
for the first quarter of its time, the regression from there to three quarters, the discriminator in the last quarter;
reading the pictures, computing features and starting its commands count. Both read the same PNG files; mmgen also one
caption of each. Its frozen encoders of words and pictures come ready trained; lightweight-gan has nothing like them. A
judge that had no part in either compares 1000 pictures of each.

What is whole in the work folder is not trained again, so the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from mmgen.errors import UserError  # noqa: E402

THEIRS, REAL = "lightweight-gan", "real against real"
FEWEST = 40  # training pictures
ENDLESS = 10**9  # steps of a command that the clock stops
NEVER = float("inf")
START_SECONDS = 10.0  # About what a command of mmgen takes until it goes on with its steps.
FORMS = {"Fréchet distance": ".1f", "kernel distance": ".4f", "precision": ".3f", "recall": ".3f"}


@dataclass
class Settings:
    """What was asked for; a work folder belongs to one such."""

    minutes: float
    data: str
    size: int
    pictures: int
    recipe: str
    amp: bool
    encoders: str


@dataclass
class Marks:
    """When each phase of mmgen ends, in seconds from its start."""

    autoencoder_steady: float
    autoencoder: float
    regression_steady: float
    regression: float
    end: float


def split_time(seconds: float) -> Marks:
    """A quarter for the autoencoder, half for features and regression, a quarter against the discriminator.

    The learning rate falls to 0 in the last two fifths of the first, and likewise of the second.
    """
    return Marks(0.15 * seconds, 0.25 * seconds, 0.55 * seconds, 0.75 * seconds, seconds)


def read_log(file: Path) -> list[tuple[int, float]]:
    """Step and time of each whole line of a run's log.csv; none where there is no log."""
    if not file.exists():
        return []
    lines = file.read_text().splitlines(keepends=True)
    rows = csv.DictReader(line for line in lines if line.endswith("\n"))
    return [(int(row["step"]), float(row["time"])) for row in rows]


def steps_in(rows: list[tuple[int, float]], seconds: float) -> int:
    """How many steps fit into so many seconds at the speed of the later half of a log; at least one."""
    (first, since), (last, until) = rows[(len(rows) - 1) // 2], rows[-1]
    return max(1, int(seconds * (last - first) / (until - since))) if until > since else 1


def steps_done(run: Path) -> int:
    """The step of the newest state in a run's folder."""
    return max(int(state.name.rpartition("-")[2]) for state in run.glob("state-*[0-9]"))


def run_until(command: list[str], deadline: float, ready: Callable[[], bool], output: Path) -> None:
    """Run a command until it ends; interrupt it as soon as `time.time()` is past `deadline` and it is ready for that.

    Args:
        output: file to which what it prints is appended.

    Raises:
        UserError: it failed.
    """
    with output.open("a") as printed:
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while child.poll() is None and not (time.time() > deadline and ready()):
            time.sleep(0.2)
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # With the processes that read pictures for it.
            child.wait()
    if child.returncode:
        last = (output.read_text(errors="replace").strip().splitlines() or ["it said nothing."])[-1]
        raise UserError(f"The training failed: {last} All that it said is in {output}.")


def environment() -> dict[str, str]:
    """What the processes of both sides run under: on a CPU the memory settings with which mmgen trains."""
    import torch

    from mmgen.training.common.run import allocator_environment

    helps = sys.platform == "linux" and not torch.cuda.is_available()
    return {**os.environ, **(allocator_environment() if helps else {})}


def once(folder: Path, make: Callable[[Path], dict]) -> dict:
    """What `make` returned, from `folder/whole.json` if that is there; else the folder is emptied and made anew."""
    whole = folder / "whole.json"
    if not whole.exists():
        print(f"{time.strftime('%H:%M:%S')} {folder.name}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        found = make(folder)
        part = whole.with_suffix(".part")
        part.write_text(json.dumps(found, indent=2) + "\n")
        os.replace(part, whole)
    return json.loads(whole.read_text())


def train_theirs(settings: Settings, folder: Path) -> dict:
    """Train lightweight-gan, and draw with it into `folder/drawn`."""
    started, work = time.time(), folder.parent
    command = [sys.executable, str(ROOT / "benchmarks" / "opponent.py"), "--packages", str(work / "packages")]
    command += [
        "--recipe",
        settings.recipe,
        "--pictures",
        str(work / "pairs" / "pictures"),
        "--size",
        str(settings.size),
    ]
    command += ["--until", str(started + 60 * settings.minutes), "--draw", str(settings.pictures)]
    command += ["--output", str(folder)] + ["--amp"] * settings.amp
    run_until(command, NEVER, lambda: False, folder / "output.txt")
    seen = json.loads((folder / "seen.json").read_text())
    return {"updates": seen["updates"], "images": seen["images"], "seconds": seen["ended"] - started}


def mmgen_train(part: str, settings: Settings, folder: Path) -> list[str]:
    """The command that trains a part of mmgen, without its number of steps."""
    command = [sys.executable, "-m", "mmgen", "train", part, "--data", str(folder.parent / "pairs")]
    command += ["--encoders", settings.encoders, "--size", str(settings.size)]
    command += ["--cache", str(folder.parent / "cache"), "--output", str(folder / "run")]
    return command + ["--log-every", "5", "--sample-every", "0", "--save-minutes", "100000", "--log-with", "none"]


def train_autoencoder(settings: Settings, folder: Path) -> dict:
    """The first quarter."""
    started, marks, log = time.time(), split_time(60 * settings.minutes), folder / "run" / "log.csv"
    shutil.rmtree(folder.parent / "cache", ignore_errors=True)  # Of an interrupted run; not to be had for nothing.
    command = mmgen_train("autoencoder", settings, folder)
    command += ["--batch-size", "32", "--crop", str(min(128, settings.size))]
    steady = [*command, "--steps", str(ENDLESS)]
    run_until(steady, started + marks.autoencoder_steady, lambda: bool(read_log(log)), folder / "output.txt")
    done = steps_done(folder / "run")
    more = steps_in(read_log(log), started + marks.autoencoder - time.time() - START_SECONDS)
    command += ["--resume", "--steps", str(done + more), "--cooldown", str(more)]
    run_until(command, NEVER, lambda: False, folder / "output.txt")  # What it takes too long, the generator lacks.
    return {"updates": done + more, "images": 32 * (done + more), "seconds": time.time() - started}


def train_generator(settings: Settings, folder: Path, spent: float) -> dict:
    """The rest, after the autoencoder took `spent` seconds: features, regression, discriminator."""
    started, marks, log = time.time() - spent, split_time(60 * settings.minutes), folder / "run" / "log.csv"
    for old in (folder.parent / "cache").glob("*.npy"):
        if not old.name.startswith("pictures-"):  # Those the autoencoder has paid for.
            old.unlink()
    command = mmgen_train("gan", settings, folder) + ["--batch-size", "64", "--steps", str(ENDLESS)]
    command += ["--autoencoder", str(folder.parent / "autoencoder" / "run" / "autoencoder")]
    steady = [*command, "--regression-steps", str(ENDLESS)]
    run_until(steady, started + marks.regression_steady, lambda: bool(read_log(log)), folder / "output.txt")
    done = steps_done(folder / "run")
    regression = done + steps_in(read_log(log), started + marks.regression - time.time() - START_SECONDS)
    command += ["--resume", "--regression-steps", str(regression)]
    command += ["--regression-cooldown", str(1 - done / regression)]
    run_until(command, started + marks.end, lambda: read_log(log)[-1][0] >= done, folder / "output.txt")
    steps = steps_done(folder / "run")
    duel = max(0, steps - regression)
    return {"updates": steps, "duel": duel, "images": 64 * steps, "seconds": time.time() - started - spent}


def caption(captions: list[str]) -> str:
    """The one that mmgen learns from and draws: the second, which of emoji names the style too, where there is one."""
    return captions[min(1, len(captions) - 1)]


def write_real(data, size: int, folder: Path) -> dict:
    """Write a split's pictures as RGBA PNG files into `folder/pictures`, squared and scaled as mmgen does it.

    Beside them `metadata.jsonl` gives each its `caption`; more of them would cost mmgen minutes of reading, and are of
    no use where words are not what is judged.
    """
    import torch

    from mmgen.data.memmap import pack_images
    from mmgen.images import from_uint8, to_pil

    (folder / "pictures").mkdir()
    packed = pack_images(data, size, folder / "packed")
    lines, known = [], {key: data[key][:] for key in ("captions", "label", "concept", "style")}
    for index, pixels in enumerate(packed):
        name = f"pictures/{index:07d}.png"
        to_pil(from_uint8(torch.from_numpy(pixels.copy()))[None])[0].save(folder / name)
        row = {key: values[index] for key, values in known.items()}
        row |= {"file_name": name, "captions": [caption(row["captions"])]}
        lines.append(json.dumps(row) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))
    shutil.rmtree(folder / "packed")
    return {"pictures": len(packed)}


def judge_all(settings: Settings, work: Path, cache: Path, data) -> dict[str, dict[str, float]]:
    """The judge's numbers of each lot of pictures against the same real ones of the training split.

    A second lot of real pictures shows the best that can be had; mmgen draws their captions. Writes `sheet.png`, a row
    of each lot.
    """
    from mmgen.checkpoints import load_pipeline
    from mmgen.evaluation.distances import frechet, kernel, precision_recall
    from mmgen.evaluation.features import mobilenet
    from mmgen.evaluation.sheets import grid
    from mmgen.images import open_image

    count = settings.pictures
    extractor, pipe = mobilenet(cache), load_pipeline(work / "generator" / "run" / "pipeline")
    order = np.random.default_rng(7).permutation(len(data)).tolist()
    files = sorted((work / "pairs" / "pictures").iterdir())
    captions = [caption(each) for each in data[order[:count]]["captions"]]
    lots = {
        THEIRS: [open_image(file) for file in sorted((work / THEIRS / "drawn").iterdir())],
        "mmgen, from captions": [pipe(text, seed=seed).images[0] for seed, text in enumerate(captions)],
        "mmgen, from noise alone": [pipe("", seed=seed).images[0] for seed in range(count)],
        REAL: [open_image(files[row]) for row in order[:count]],
    }
    grid([picture for lot in lots.values() for picture in lot[:12]], columns=12).save(work / "sheet.png")
    others = extractor.extract(open_image(files[row]) for row in order[count : 2 * count])
    judged = {}
    for name, lot in lots.items():
        seen = extractor.extract(lot)
        values = (frechet(seen, others), kernel(seen, others), *precision_recall(seen, others))
        judged[name] = dict(zip(FORMS, values, strict=True))
    return judged


def table(judged: dict[str, dict[str, float]], trained: dict[str, dict[str, float]]) -> str:
    """Markdown, a column for each lot of pictures.

    Args:
        judged: as `judge_all` gives it.
        trained: of `lightweight-gan`, `autoencoder` and `generator`, each `images`, `updates` and `seconds`.
    """
    theirs, *ours = (trained[part] for part in (THEIRS, "autoencoder", "generator"))
    lines = ["| | " + " | ".join(judged) + " |", "|---" * (len(judged) + 1) + "|"]
    lines += [
        f"| {title} | " + " | ".join(format(values[title], form) for values in judged.values()) + " |"
        for title, form in FORMS.items()
    ]
    rows = {
        "images seen": (f"{theirs['images']:,}", " + ".join(f"{part['images']:,}" for part in ours)),
        "updates": (f"{theirs['updates']:,}", " + ".join(f"{part['updates']:,}" for part in ours)),
        "minutes": (f"{theirs['seconds'] / 60:.1f}", f"{sum(part['seconds'] for part in ours) / 60:.1f}"),
    }
    for title, (first, second) in rows.items():
        cells = ({THEIRS: first, REAL: ""}.get(name, second) for name in judged)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def notes(settings: Settings, trained: dict[str, dict[str, float]], training: int) -> str:
    """What has to be known to read the table; `training` is the number of pictures that both learned from."""
    import torch

    from mmgen.devices import best_device, has_fast_bf16

    device = best_device()
    threads = f"{torch.get_num_threads()} threads"
    theirs = "command line" if settings.recipe == "cli" else "Trainer class"
    precision = "its mixed precision" if settings.amp else "float32, its default"
    ours = "bfloat16 where it can" if has_fast_bf16(device) else "float32"
    return (
        f"From scratch on the same {training:,} RGBA pictures at {settings.size} px, {settings.minutes:g} minutes each "
        f"on {device.type} with {threads}; {settings.pictures:,} pictures of each, on white, against as many real. "
        f"lightweight-gan has the defaults of its {theirs} and {precision}; mmgen computes in {ours}. Images and "
        "updates of mmgen are those of the autoencoder + those of the generator, of which the last "
        f"{trained['generator']['duel']:,} updates met the discriminator. mmgen's frozen encoders came ready trained, "
        "and it learned from captions; lightweight-gan knows neither. From captions means those of the real pictures "
        "in the last column; noise alone is what only 4 % of mmgen's training samples ask for."
    )


def compare(settings: Settings, work: Path, cache: Path) -> dict:
    """Train what is not yet trained, judge, and return the settings and all numbers.

    Raises:
        UserError: the work folder holds another comparison, or something is missing.
    """
    from mmgen.data.folder import load_pairs

    if not (Path(settings.encoders) / "text_encoder").is_dir():
        raise UserError(f"There are no encoders at {settings.encoders}. Make them first: python -m mmgen encoders.")
    data = load_pairs(settings.data).get("train", ())
    if len(data) < FEWEST:
        raise UserError(f"{settings.data} has {len(data)} training pictures; give a data set of {FEWEST} at least.")
    settings.pictures = min(settings.pictures, len(data) // 2)
    asked = work / "settings.json"
    if asked.exists() and json.loads(asked.read_text()) != asdict(settings):
        raise UserError(f"{work} holds a comparison with other settings. Give those again, or another --work.")
    work.mkdir(parents=True, exist_ok=True)
    asked.write_text(json.dumps(asdict(settings), indent=2) + "\n")
    once(work / "pairs", lambda folder: write_real(data, settings.size, folder))
    trained = {THEIRS: once(work / THEIRS, lambda folder: train_theirs(settings, folder))}
    trained["autoencoder"] = once(work / "autoencoder", lambda folder: train_autoencoder(settings, folder))
    spent = trained["autoencoder"]["seconds"]
    trained["generator"] = once(work / "generator", lambda folder: train_generator(settings, folder, spent))
    judged = judge_all(settings, work, cache, data)
    return {**asdict(settings), "training": len(data), "trained": trained, "judged": judged}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training for each (default 30)")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="data set (default data/emoji)")
    parser.add_argument("--size", type=int, choices=(64, 128, 256), default=128, help="side in pixels (default 128)")
    parser.add_argument("--pictures", type=int, default=1000, help="pictures of each to judge (default 1000)")
    parser.add_argument(
        "--recipe",
        choices=("cli", "trainer"),
        help="lightweight-gan's defaults: of its command line, or of its Trainer, whose updates are far smaller "
        "(default cli on a GPU, trainer on a CPU)",
    )
    parser.add_argument("--amp", action="store_true", help="lightweight-gan in its mixed precision")
    parser.add_argument("--work", type=Path, default=Path("runs/comparison"), help="folder (default runs/comparison)")
    parser.add_argument("--encoders", type=Path, default=Path("runs/encoders"), help="made by `mmgen encoders`")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="where the judge's weights are kept")
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    asked = parser.parse_args()
    if not asked.minutes > 0 or asked.pictures < FEWEST // 2:
        parser.error(f"--minutes must be above 0, and --pictures {FEWEST // 2} at least")
    import torch

    recipe = asked.recipe or ("cli" if torch.cuda.is_available() else "trainer")
    places = str(asked.data.resolve()), str(asked.encoders.resolve())
    settings = Settings(asked.minutes, places[0], asked.size, asked.pictures, recipe, asked.amp, places[1])
    try:
        found = compare(settings, asked.work.resolve(), asked.cache)
    except UserError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped. The same command goes on with what is whole.")
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found["judged"], found["trained"]), notes(settings, found["trained"], found["training"]), sep="\n\n")


if __name__ == "__main__":
    main()
