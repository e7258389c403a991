"""The bench's rows for a model with a memory: is it learning, or is it copying?

A drawing may copy what it looked up, and what it looked up hangs in the gallery under the right label. So the entries
of each prompt are taken out of its gallery before its label is asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from mmgen.evaluation.distances import frechet, squared_distances
from mmgen.evaluation.entries import DECODED, best_entry, entry_images
from mmgen.evaluation.features import FeatureExtractor
from mmgen.evaluation.gallery import Gallery, Progress
from mmgen.evaluation.retrieval import Questions, draw, mean_of, retrieval, style_followed
from mmgen.models.memory import Memory
from mmgen.pipeline import MemoryShare, MultimodalGANPipeline


def looked_up(memory: Memory, real: Gallery, found: Sequence[Sequence[MemoryShare]]) -> np.ndarray:
    """bool [n, N]: which real images each of n prompts looked up.

    An entry is a real image whose first caption and style are its own. One in a skin tone is also the image
    without, of the same concept and style, which stands for it in the gallery.
    """
    texts, styles = memory.config.texts, memory.config.styles
    rows_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, (name, style) in enumerate(zip(real.names, real.styles, strict=True)):
        rows_of[name, style].append(row)
    known, names_of = set(real.names), defaultdict(set)
    texts_of_entries, concepts = memory.text.tolist(), memory.concept.tolist()
    for text, concept in zip(texts_of_entries, concepts, strict=True):
        if texts[text] in known:
            names_of[concept].add(texts[text])
    out = np.zeros((len(found), len(real.names)), dtype=bool)
    for index, shares in enumerate(found):
        for entry in (share.entry for share in shares):
            style = styles[int(memory.style[entry])]
            for name in {texts[texts_of_entries[entry]], *names_of[concepts[entry]]}:
                out[index, rows_of.get((name, style), [])] = True
    return out


def memory_scores(
    pipe: MultimodalGANPipeline,
    extractor: FeatureExtractor,
    real: Gallery,
    asked: Questions,
    found: Sequence[Sequence[MemoryShare]],
    raw: np.ndarray,
    left_out: np.ndarray,
    others: np.ndarray,
    progress: Progress,
) -> dict[str, float]:
    """What the best entry scores as it is, how many drawings are copies of their entries, and what is drawn without.

    Args:
        asked: the first questions of a split, on which all of this is measured.
        found: what each of them looked up, or more.
        raw: features of their drawings, or of more.
        left_out: [n, N] as `looked_up` gives it, or more.
        others: rows of real images for the Fréchet distances.

    Returns:
        Nothing for a model without a memory, or where nothing was found in it.
    """
    count = len(asked.rows)
    found, raw, left_out = found[:count], raw[:count], left_out[:count]
    rows = np.array([index for index, shares in enumerate(found) if shares], dtype=np.int64)
    if pipe.memory is None or not len(rows):
        return {}
    labels, styles, vectors = real.labels[asked.rows], real.styles[asked.rows], real.compare(raw)
    numbers = sorted({share.entry for shares in found for share in shares})
    place = {entry: index for index, entry in enumerate(numbers)}
    seen = real.compare(extractor.extract(_images(pipe, numbers, progress)))
    best = seen[[place[best_entry(found[index])] for index in rows]]
    ranks = retrieval(real, best, labels[rows], seed=1, left_out=left_out[rows])
    followed, _ = style_followed(real, best, labels[rows], styles[rows])
    near: list[float] = []
    near_real: list[float] = []
    for index in rows:
        entries = seen[[place[share.entry] for share in found[index]]]
        for distances, vector in ((near, vectors[index]), (near_real, real.seen[asked.rows[index]])):
            distances.append(float(np.sqrt(squared_distances(vector[None], entries).min())))
    words_alone = extractor.extract(
        draw(pipe, progress(real.prompts[asked.rows], "without memory"), asked.seeds, memory_weight=0.0)
    )
    lots = {"memory_weight_1": raw, "memory_weight_0": words_alone}
    once = len(set(asked.rows))
    scores = {
        "looked_up_own_label": float((left_out & (real.labels[None] == labels[:, None])).any(1).mean()),
        "memory_prompts": count,
        "memory_entry_retrieval_at_1": ranks.at(1),
        "memory_entry_style_followed": mean_of(followed),
        "copies_of_memory": _share_below(near, real.variant_distance),
        "copies_of_memory_real": _share_below(near_real, real.variant_distance),
    }
    for name, features in lots.items():
        scores[f"{name}_retrieval_at_1"] = retrieval(
            real, real.compare(features), labels, seed=1, left_out=left_out
        ).at(1)
        scores[f"{name}_frechet"] = frechet(features[:once], real.raw[others])
    return scores


def _images(pipe: MultimodalGANPipeline, entries: Sequence[int], progress: Progress):
    starts = range(0, len(entries), DECODED)
    for start in progress(starts, "entries of the memory"):
        yield from entry_images(pipe, entries[start : start + DECODED])


def _share_below(distances: Sequence[float], limit: float) -> float:
    return float("nan") if np.isnan(limit) else float((np.array(distances) < limit).mean())
