"""Pairs compared with each other: which images are copies, and which captions sit oddly on their image."""

from __future__ import annotations

import numpy as np

BLOCK = 1000
SAME_FEATURES, SAME_PIXELS = 0.94, 1.0
"""Cosine of the features above, and mean difference of 16x16 images (of 255) below which two images are copies.

Of 25 emoji and 25 drawings, saved again as JPEG of quality 85 or WebP of quality 80, all are found, at JPEG 50 nine in
ten, and cropped by 2% none. Of the 1.1 million pairs of 1,500 different emoji 7 are taken for copies, which a person
could hardly tell apart either: a guard in two tones of skin, half past five and half past six.
"""

STRAY_FROM = 8


def find_copies(features: np.ndarray, looks: np.ndarray, sizes: np.ndarray) -> dict[int, int]:
    """Which images are near-copies of another, by the CNN's features and by pixels both.

    Args:
        features: float32 [N, D].
        looks: float32 [N, 1024], 16x16 premultiplied RGBA, 0 to 255.
        sizes: float32 [N, 2], width and height.

    Returns:
        the number of each copy with that of the image to keep, which is the largest, and the first of those as large.
    """
    order = np.lexsort((np.arange(len(sizes)), -sizes.prod(1)))  # The one to keep comes before its copies.
    unit = _unit(features)[order]
    looks = looks[order]
    coarse = (
        looks.reshape(-1, 4, 2, 8, 2, 8).mean((3, 5)).reshape(-1, 16)
    )  # Differs by no more, and is quick to compare.
    kept: list[int] = []
    copies: dict[int, int] = {}
    for start in range(0, len(unit), BLOCK):
        block = unit[start : start + BLOCK]
        earlier = np.array(kept, dtype=int)
        before, within = block @ unit[earlier].T > SAME_FEATURES, block @ block.T > SAME_FEATURES
        fresh = np.zeros(len(block), dtype=bool)
        for row in range(len(block)):
            one = start + row
            near = np.concatenate([earlier[before[row]], start + np.flatnonzero(within[row] & fresh)])
            for pixels in (coarse, looks):
                near = near[np.abs(pixels[near] - pixels[one]).mean(1) < SAME_PIXELS]
            if len(near):
                copies[int(order[one])] = int(order[near[0]])
            else:
                fresh[row] = True
        kept += (start + np.flatnonzero(fresh)).tolist()
    return copies


def caption_outliers(features: np.ndarray, captions: np.ndarray) -> list[int]:
    """Pairs whose image's neighbours among the images are not the neighbours of its caption among the captions.

    Words and images have no space in common here, so each pair is judged by what it is near to in either: the
    correlation of its likenesses to all others, plus the mean likeness of its nearest images' captions, plus that of
    its nearest captions' images.

    Measured on emoji, a tenth of whose captions were swapped among each other (share of the swapped that are found,
    and share of what is found that is swapped): of 20 emoji 0.12 and 0.55, of 60 0.2 and 0.7, of 300 0.3 and 0.85. Of
    captions that are all right 1 in 100 is taken for a stray. Emoji are hard: six in ten are people.

    Args:
        features: float32 [N, D]; captions: float32 [N, W], of length 1.

    Returns:
        numbers, the oddest first; none for fewer than `STRAY_FROM` pairs.
    """
    count = len(features)
    if count < STRAY_FROM or not _differ(captions) or not _differ(features):
        return []
    images = _unit((features - features.mean(0)) / (features.std(0) + 1e-6))
    words = _unit(captions - captions.mean(0))
    nearest = min(5, count // 4)
    scores = np.empty(count)
    for start in range(0, count, BLOCK):
        rows = np.arange(start, min(start + BLOCK, count))
        alike, agree = images[rows] @ images.T, words[rows] @ words.T
        itself = (np.arange(len(rows)), rows)
        correlation = _correlation(alike, agree, itself)
        alike[itself] = agree[itself] = -np.inf
        by_image = np.argpartition(-alike, nearest - 1, axis=1)[:, :nearest]
        by_words = np.argpartition(-agree, nearest - 1, axis=1)[:, :nearest]
        agreement = np.take_along_axis(agree, by_image, 1).mean(1) + np.take_along_axis(alike, by_words, 1).mean(1)
        scores[rows] = correlation + agreement
    limit = -0.12 - 2.5 / count**0.5
    return [int(one) for one in np.argsort(scores) if scores[one] < limit]


def _correlation(a: np.ndarray, b: np.ndarray, itself: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Row by row, of two matrices [n, N], each row without its own column."""
    others = a.shape[1] - 1
    centred = []
    for values in (a, b):
        mean = (values.sum(1) - values[itself]) / others
        less = values - mean[:, None]
        less[itself] = 0.0
        centred.append(less)
    one, two = centred
    return (one * two).sum(1) / np.sqrt((one**2).sum(1) * (two**2).sum(1) + 1e-12)


def _differ(vectors: np.ndarray) -> bool:
    return bool((np.abs(vectors - vectors[0]).max(1) > 1e-4).sum() >= len(vectors) // 4)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
