"""The split that is part of the data: what the model has seen, new pairs of seen parts, and new labels."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

TRAIN, UNSEEN_PAIRS, UNSEEN_LABELS, UNSEEN_STYLE = "train", "unseen_pairs", "unseen_labels", "unseen_style"


def split_pairs(
    pairs: Iterable[tuple[str, str]], seed: int = 0, pair_share: float = 0.10, label_share: float = 0.05
) -> dict[tuple[str, str], str]:
    """Assign each (label, style) to `train`, `unseen_pairs` or `unseen_labels`.

    `label_share` of the labels are held out in every style; `pair_share` of all combinations are held out while their
    label stays in `train` in at least one other style.
    """
    styles_of: dict[str, list[str]] = defaultdict(list)
    for label, style in sorted(set(pairs)):
        styles_of[label].append(style)
    rng = random.Random(seed)
    labels = sorted(styles_of)
    held_labels = set(rng.sample(labels, round(len(labels) * label_share)))
    splits = {
        (label, style): UNSEEN_LABELS if label in held_labels else TRAIN
        for label in labels
        for style in styles_of[label]
    }
    left = {label: len(styles) for label, styles in styles_of.items() if label not in held_labels}
    wanted = round(len(splits) * pair_share)
    candidates = [pair for pair, split in splits.items() if split == TRAIN]
    rng.shuffle(candidates)
    for label, style in candidates:
        if wanted == 0:
            break
        if left[label] > 1:
            splits[label, style] = UNSEEN_PAIRS
            left[label] -= 1
            wanted -= 1
    return splits
