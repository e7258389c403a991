import os
import threading

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mmgen.data.draft import Draft
from mmgen.errors import UserError
from mmgen.evaluation import doctor_measure
from mmgen.evaluation.doctor import Examination, Finding, apply_fix, examine
from mmgen.evaluation.doctor_captions import read_captions
from mmgen.evaluation.doctor_compare import caption_outliers, find_copies
from mmgen.pipeline import MultimodalGANPipeline


@pytest.fixture(scope="module")
def pipe(tiny_checkpoint) -> MultimodalGANPipeline:
    return MultimodalGANPipeline.from_pretrained(tiny_checkpoint)


@pytest.fixture
def draft(tmp_path) -> Draft:
    return Draft(tmp_path / "draft")


def drawing(number: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    random = np.random.default_rng(number)
    for _ in range(6):
        left, top = random.integers(0, 60, 2)
        width, height = random.integers(10, 40, 2)
        pen.ellipse((left, top, left + width, top + height), fill=tuple(int(x) for x in random.integers(0, 256, 3)))
    return image


def add(draft: Draft, folder, *captions: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    files = []
    for number, _ in enumerate(captions, len(draft)):
        files.append(folder / f"{number}.png")
        drawing(number).save(files[-1])
    return draft.add_images(files, captions).names


def find(examination: Examination, kind: str) -> Finding | None:
    return next((finding for finding in examination.findings if finding.kind == kind), None)


def kinds(examination: Examination) -> set[str]:
    return {finding.kind for finding in examination.findings}


COLORS = ["red", "blue", "green", "round", "flat", "the left", "the and"]


def test_good_pairs_are_left_in_peace(draft, pipe, tmp_path):
    names = add(draft, tmp_path / "in", *(f"a {color} apple" for color in COLORS[:6]))
    seen = []
    examination = examine(draft, pipe, lambda share, words: seen.append(share))
    assert kinds(examination) <= {"poor_reconstruction"} and seen == sorted(seen) and seen[-1] == 1.0
    assert {examination.worst(name) for name in names} == {"ok"}
    assert set(examination.embeddings.images) == set(names) and len(examination.embeddings.captions) == 6


@pytest.mark.parametrize(
    ("count", "kind", "says"), [(0, "few", "no pairs"), (1, "one", "one pair"), (4, "few", "only 4 pairs")]
)
def test_few_pairs_are_told(draft, pipe, tmp_path, count, kind, says):
    add(draft, tmp_path / "in", *COLORS[:count])
    found = find(examine(draft, pipe), kind)
    assert says in found.sentence and found.names == [] and found.remedy is None


def test_captions_are_read_as_bert_reads_them(draft, pipe, tmp_path):
    long = "a red apple and a blue cat on the left " * 20
    texts = ["", long, "一只红色的苹果在桌子上", "a red apple", "A  red Apple", "x" * 30_000]
    names = add(draft, tmp_path / "in", *texts)
    examination = examine(draft, pipe)
    found = {finding.kind: finding for finding in examination.findings}
    assert found["empty"].names == [names[0]] and found["empty"].remedy is None
    assert found["other_language"].names == [names[2], names[5]] or found["other_language"].names == [names[2]]
    assert found["same_caption"].names == names[3:5]
    assert names[1] in found["long"].names and names[3] not in found["long"].names
    cut = found["long"].captions[names[1]]
    assert long.startswith(cut) and cut.split()[-1] in long.split()
    assert len(pipe.tokenizer(cut)["input_ids"]) == 64
    assert examination.problems(names[0]) and examination.worst(names[0]) == "warning"
    draft.set_caption(names[1], long, machine_written=True)
    apply_fix(draft, found["long"])
    assert draft.pair(names[1]).text == cut and draft.pair(names[1]).machine_written
    again = find(examine(draft, pipe), "long")
    assert again is None or names[1] not in again.names
    draft.set_caption(names[1], "something else")
    apply_fix(draft, found["long"])
    assert draft.pair(names[1]).text == "something else"
    with pytest.raises(UserError, match="cannot be mended by itself"):
        apply_fix(draft, found["empty"])


def test_words_are_not_cut_in_two(pipe):
    text = "cat " * 61 + "zzzz"
    reading = read_captions([text, "cat " * 62], pipe.tokenizer)
    assert reading[text].cut == ("cat " * 61).strip() and reading["cat " * 62].cut is None


def test_letters_that_are_not_known(pipe):
    texts = ["a cat 🐱", "🐱", "кот на столе", "a red cat 苹", "苹果"]
    foreign = {text: reading.foreign for text, reading in read_captions(texts, pipe.tokenizer).items()}
    assert foreign == {"a cat 🐱": False, "🐱": True, "кот на столе": True, "a red cat 苹": False, "苹果": True}


def test_copies_are_found_and_merged_into_the_largest(draft, pipe, tmp_path):
    names = add(draft, tmp_path / "in", *COLORS[:6])
    large, saved = tmp_path / "large.png", tmp_path / "saved.jpg"
    drawing(2).resize((192, 192), Image.Resampling.LANCZOS).save(large)
    drawing(3).save(saved, quality=90)
    draft.add_images([large, saved], ["the large", ""])
    found = find(examine(draft, pipe), "duplicate")
    assert found.partners == {names[2]: "large.png", "saved.jpg": names[3]} and found.remedy
    apply_fix(draft, found)
    assert draft.pair("large.png").others == ("green",) and draft.pair(names[3]).others == ()
    assert len(draft) == 6 and find(examine(draft, pipe), "duplicate") is None


def test_what_changed_on_disk_tiny_and_huge_pictures(draft, pipe, tmp_path):
    names = add(draft, tmp_path / "in", *COLORS[:6])
    drawing(50).resize((40, 30)).save(tmp_path / "tiny.png")
    drawing(51).resize((1600, 1600)).save(tmp_path / "huge.png")
    draft.add_images([tmp_path / "tiny.png", tmp_path / "huge.png"], ["the", "on"])
    draft.pair(names[0]).path.unlink()
    draft.pair(names[1]).path.write_text("not a picture any more")
    examination = examine(draft, pipe)
    found = {finding.kind: finding.names for finding in examination.findings}
    assert found["unreadable"] == names[:2] and found["tiny"] == ["tiny.png"] and found["huge"] == ["huge.jpg"]
    assert [examination.worst(name) for name in (names[0], "tiny.png", "huge.jpg")] == ["error", "warning", "ok"]
    apply_fix(draft, find(examination, "unreadable"))
    apply_fix(draft, find(examination, "tiny"))
    assert kinds(examine(draft, pipe)) - {"poor_reconstruction"} == {"huge"}


def test_an_untrained_autoencoder_is_said_to_be_poor(draft, pipe, tmp_path, monkeypatch):
    add(draft, tmp_path / "in", *COLORS[:6])
    found = find(examine(draft, pipe), "poor_reconstruction")
    assert len(found.names) == 6 and found.remedy is None
    monkeypatch.setattr(doctor_measure, "TRIALS", 2)
    found = find(examine(draft, pipe), "poor_reconstruction")
    assert len(found.names) == 2 and "of 2 that were tried" in found.sentence


def test_what_was_measured_is_not_measured_again(draft, pipe, tmp_path):
    names = add(draft, tmp_path / "in", *COLORS[:6])
    counted = []
    hooks = [
        part.register_forward_hook(lambda module, args, output: counted.append(module))
        for part in (pipe.image_encoder, pipe.text_encoder)
    ]
    try:
        first = examine(draft, pipe)
        before = len(counted)
        again = examine(Draft(draft.folder), pipe)
        assert len(counted) == before and again.findings == first.findings
        draft.set_caption(names[0], "cat on the left")
        examine(draft, pipe)
        assert counted[before:] == [pipe.text_encoder]
        add(draft, tmp_path / "in", "square")
        examine(draft, pipe)
        assert counted[before + 1 :].count(pipe.image_encoder) == 1
        for file in (draft.folder / "measured").iterdir():
            file.write_bytes(b"damaged")
        assert set(examine(draft, pipe).embeddings.images) == {pair.name for pair in draft.pairs}
    finally:
        for hook in hooks:
            hook.remove()


def test_a_draft_may_change_while_it_is_examined(draft, pipe, tmp_path):
    names = add(draft, tmp_path / "in", *COLORS)
    thread = threading.Thread(target=draft.remove, args=(names[:3],))
    thread.start()
    examination = examine(draft, pipe)
    thread.join()
    assert all(set(finding.names) <= set(names) for finding in examination.findings)


def topics(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and captions of four topics, near to each other in either space."""
    random = np.random.default_rng(seed)
    topic = np.arange(count) % 4
    images = random.normal(size=(4, 40))[topic] + 0.3 * random.normal(size=(count, 40))
    words = random.normal(size=(4, 30))[topic] + 0.3 * random.normal(size=(count, 30))
    return images.astype(np.float32), (words / np.linalg.norm(words, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("count", [24, 100, 1500])
def test_swapped_captions_stray_and_right_ones_do_not(count):
    images, words = topics(count)
    assert caption_outliers(images, words) == []
    words[[0, 1]] = words[[1, 0]]
    assert sorted(caption_outliers(images, words)) == [0, 1]


def test_strays_need_pairs_that_differ():
    images, words = topics(7)
    assert caption_outliers(images, words[::-1]) == []
    images, words = topics(40)
    assert caption_outliers(images, np.repeat(words[:1], 40, 0)) == []
    assert caption_outliers(np.repeat(images[:1], 40, 0), words) == []


def test_copies_by_the_thousand_and_across_blocks():
    random = np.random.default_rng(0)
    features, looks = random.normal(size=(1500, 40)), random.uniform(0, 255, (1500, 1024)).astype(np.float32)
    sizes = np.full((1500, 2), 100.0)
    assert find_copies(features, looks, sizes) == {}
    features[1400], looks[1400], sizes[1400] = features[3], looks[3], 200.0
    features[1401], looks[1401] = features[3], looks[3]
    looks[1402], features[1403] = looks[5], features[6]  # near in one respect only
    assert find_copies(features, looks, sizes) == {3: 1400, 1401: 1400}
    same = find_copies(np.ones((2500, 40)), np.ones((2500, 1024)), np.ones((2500, 2)))
    assert same == {number: 0 for number in range(1, 2500)}


def test_a_full_disk_does_not_stop_the_doctor(draft, pipe, tmp_path, monkeypatch):
    names = add(draft, tmp_path / "in", *COLORS[:6])

    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor_measure.np, "savez", full)
    monkeypatch.setattr(os, "replace", full)
    assert set(examine(draft, pipe).embeddings.images) == set(names)
    assert not list((draft.folder / "measured").iterdir())
