"""Distances between two clouds of features, each an array [N, D]."""

from __future__ import annotations

import numpy as np


def frechet(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Fréchet distance of the two normal distributions (Heusel et al. 2017).

    The trace of (S1 S2)^(1/2) is the sum of the singular values of X1 X2^T, the clouds centred and divided by the root
    of their degrees of freedom; so no D x D root is taken and fewer points than dimensions do no harm. Few points make
    it large: compare it with that of real against real at the same N.
    """
    ours, theirs = (np.asarray(cloud, dtype=np.float64) for cloud in (ours, theirs))
    means = ours.mean(0), theirs.mean(0)
    left, right = (
        (cloud - mean) / np.sqrt(max(1, len(cloud) - 1)) for cloud, mean in zip((ours, theirs), means, strict=True)
    )
    cross = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    return float(((means[0] - means[1]) ** 2).sum() + (left**2).sum() + (right**2).sum() - 2 * cross)


def kernel(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Kernel distance (KID, Binkowski et al. 2018): unbiased squared MMD with the kernel (x.y / D + 1)^3."""
    ours, theirs = (np.asarray(cloud, dtype=np.float64) for cloud in (ours, theirs))
    inside = []
    for cloud in (ours, theirs):
        values = _cubic(cloud, cloud)
        inside.append((values.sum() - np.trace(values)) / (len(cloud) * (len(cloud) - 1)))
    return float(sum(inside) - 2 * _cubic(ours, theirs).mean())


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def precision_recall(ours: np.ndarray, theirs: np.ndarray, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al. 2019).

    Returns:
        The share of `ours` that lies inside the manifold of `theirs`, and the other way round; each point's manifold is
        a ball to its third neighbour in its own cloud.
    """
    across = squared_distances(ours, theirs)
    reach = [np.sort(squared_distances(cloud, cloud), axis=1)[:, neighbours] for cloud in (ours, theirs)]
    return float((across <= reach[1]).any(1).mean()), float((across <= reach[0][:, None]).any(0).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances [len(a), len(b)]."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
