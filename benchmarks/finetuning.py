"""What a few minutes of fine-tuning teach, and what they cost: `python benchmarks/finetuning.py`.

Twenty creatures with names that mean nothing (tests/creatures.py) are taught to a checkpoint by `python -m mmgen
finetune`. Before and after it: of the twenty, how often is the right one nearest to what its prompt draws, in the eyes
of the judge; and how well does the model still draw what it knew (retrieval@1 on the training split)? The minutes are
those of its steps; preparing comes on top.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from creatures import NAMES, caption, draw_creature, write_creatures  # noqa: E402

from mmgen.checkpoints import default_checkpoint, load_pipeline  # noqa: E402
from mmgen.data.folder import load_pairs  # noqa: E402
from mmgen.evaluation.features import FeatureExtractor, mobilenet  # noqa: E402
from mmgen.evaluation.gallery import Gallery, gallery  # noqa: E402
from mmgen.evaluation.retrieval import draw, questions, retrieval  # noqa: E402
from mmgen.evaluation.sheets import grid, interleave  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="the base (default: the one in checkpoints/)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=3.0)
    length.add_argument("--steps", type=int, help="instead, such as a faster machine makes in those minutes")
    parser.add_argument("--preset", default="everything")
    parser.add_argument("--data", type=Path, default=Path("data/emoji"), help="what the base knows")
    parser.add_argument("--prompts", type=int, default=200, help="of what the base knows (default 200)")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--sheet", type=Path, help="write the creatures, real above drawn, there")
    arguments = parser.parse_args()
    base = Path(arguments.checkpoint or default_checkpoint()).resolve()
    extractor = mobilenet(arguments.cache)
    known = gallery(load_pairs(arguments.data), extractor, arguments.cache, lambda things, what: things)
    with tempfile.TemporaryDirectory() as folder:
        pairs, output = write_creatures(Path(folder) / "creatures"), Path(folder) / "run"
        command = [sys.executable, "-m", "mmgen", "finetune", "--data", str(pairs), "--base", str(base)]
        command += ["--output", str(output), "--preset", arguments.preset]
        command += ["--steps", str(arguments.steps)] if arguments.steps else ["--minutes", str(arguments.minutes)]
        subprocess.run(command, check=True, cwd=ROOT)
        facts = json.loads((output / "pipeline" / "training.json").read_text())
        what = f"{arguments.preset}, {facts['steps']} steps in {facts['seconds'] / 60:.1f} minutes"
        print(f"| {what} | before | after |\n|---|---|---|")
        rows = [scores(path, extractor, known, arguments) for path in (base, output / "pipeline")]
        titles = ("creature found among 20", f"retrieval@1, train, {arguments.prompts} prompts")
        for title, before, after in zip(titles, *rows, strict=True):
            print(f"| {title} | {before:.3f} | {after:.3f} |")


def scores(checkpoint: Path, extractor: FeatureExtractor, known: Gallery, arguments) -> tuple[float, float]:
    """How often the right creature is the nearest of the twenty, and the bench's retrieval@1 on the training split."""
    pipe = load_pipeline(checkpoint)
    real = [draw_creature(name) for name in NAMES]
    drawn = [pipe(caption(name), seed=1).images[0] for name in NAMES]
    if arguments.sheet:
        grid(interleave(real, drawn, 10), 10).save(arguments.sheet)
    seen, ours = (np.sqrt(extractor.extract(pictures)) for pictures in (real, drawn))
    mean, spread = seen.mean(0), seen.std(0) + 1e-3
    seen, ours = (unit((values - mean) / spread) for values in (seen, ours))
    found = float(((ours @ seen.T).argmax(1) == np.arange(len(NAMES))).mean())
    asked = questions(known, "train", arguments.prompts)
    vectors = known.compare(extractor.extract(draw(pipe, known.prompts[asked.rows], asked.seeds)))
    return found, retrieval(known, vectors, known.labels[asked.rows], seed=1).at(1)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
