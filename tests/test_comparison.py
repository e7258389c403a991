"""The comparison with lightweight-gan: its clock, its table and what it keeps; lightweight-gan itself is not needed."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

from mmgen.errors import UserError

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "lightweight_gan.py"
WORKER = """
import signal, sys, time
told = []
signal.signal(signal.SIGINT, lambda *_: told.append(1))
log = open(sys.argv[1], "w", buffering=1)
log.write("step,images,time,loss\\n")
for step in range(int(sys.argv[2])):
    if told:
        break
    log.write(f"{step},{step},{time.time()},0.5\\n")
    time.sleep(0.01)
print("stopped" if told else "ended")
"""


@pytest.fixture(scope="module")
def comparison():
    spec = importlib.util.spec_from_file_location("comparison", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Where its dataclasses look for it.
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_time_is_split_in_order_and_used_up(comparison):
    marks = comparison.split_time(1800)
    times = list(vars(marks).values())
    assert times == sorted(times)
    assert (marks.autoencoder, marks.regression, marks.end) == pytest.approx((450, 1350, 1800))


def test_log_leaves_out_a_line_that_is_still_written(comparison, tmp_path):
    log = tmp_path / "log.csv"
    assert comparison.read_log(log) == []
    log.write_text("step,images,time,loss\n0,64,100.0,1\n5,384,110.0,1\n1")
    assert comparison.read_log(log) == [(0, 100.0), (5, 110.0)]


def test_steps_follow_the_later_speed_of_the_log(comparison):
    rows = [(0, 0.0), (5, 100.0), (10, 105.0), (15, 110.0)]
    assert comparison.steps_in(rows, 60) == 60
    assert comparison.steps_in(rows, -3) == 1
    assert comparison.steps_in(rows[:1], 60) == 1


@pytest.mark.parametrize(("steps", "last"), [(100_000, "stopped"), (2, "ended")])
def test_a_run_is_stopped_at_its_deadline_and_no_earlier_than_its_first_step(comparison, tmp_path, steps, last):
    log, output = tmp_path / "log.csv", tmp_path / "output.txt"
    command = [sys.executable, "-c", WORKER, str(log), str(steps)]
    comparison.run_until(command, time.time() - 1, lambda: len(comparison.read_log(log)) > steps // 50_000, output)
    assert output.read_text().strip() == last
    assert comparison.read_log(log)


def test_a_run_that_fails_says_why(comparison, tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('No room.')"]
    with pytest.raises(UserError, match="No room."):
        comparison.run_until(command, comparison.NEVER, lambda: False, tmp_path / "output.txt")


def test_what_is_whole_is_made_once_and_what_is_not_is_made_anew(comparison, tmp_path):
    folder = tmp_path / "part"
    folder.mkdir()
    (folder / "half").touch()
    asked = []

    def make(place: Path) -> dict:
        asked.append(place)
        return {"left": len(list(place.iterdir()))}

    assert comparison.once(folder, make) == {"left": 0}
    assert comparison.once(folder, make) == {"left": 0}
    assert asked == [folder]


def test_table_and_notes_say_what_was_done(comparison):
    names = ("lightweight-gan", "mmgen, from captions", "mmgen, from noise alone", "real against real")
    judged = {name: dict.fromkeys(comparison.FORMS, 0.5) for name in names}
    trained = {
        "lightweight-gan": {"images": 2400, "updates": 600, "seconds": 1803.0},
        "autoencoder": {"images": 32000, "updates": 1000, "seconds": 450.0},
        "generator": {"images": 64000, "updates": 1000, "seconds": 1356.0, "duel": 200},
    }
    head, line, *rows = comparison.table(judged, trained).splitlines()
    assert head == "| | lightweight-gan | mmgen, from captions | mmgen, from noise alone | real against real |"
    assert {row.count("|") for row in (head, line, *rows)} == {6}
    assert rows[0] == "| Fréchet distance | 0.5 | 0.5 | 0.5 | 0.5 |"
    assert rows[-3] == "| images seen | 2,400 | 32,000 + 64,000 | 32,000 + 64,000 |  |"
    assert rows[-1] == "| minutes | 30.1 | 30.1 | 30.1 |  |"
    settings = comparison.Settings(30, "data", 128, 1000, "trainer", False, "encoders")
    said = comparison.notes(settings, trained, 12123)
    for part in ("12,123", "30 minutes each", "Trainer class", "last 200 updates", "4 %"):
        assert part in said


def test_a_work_folder_keeps_to_one_comparison(comparison, tmp_path):
    from PIL import Image

    data, encoders, work = (tmp_path / name for name in ("data", "encoders", "work"))
    (encoders / "text_encoder").mkdir(parents=True)
    data.mkdir()
    for index in range(comparison.FEWEST):
        Image.new("RGBA", (8, 8), (index, 0, 0, 255)).save(data / f"{index}.png")
        (data / f"{index}.txt").write_text("a red square")
    work.mkdir()
    settings = comparison.Settings(1, str(data), 64, 20, "trainer", False, str(encoders))
    (work / "settings.json").write_text(json.dumps({**vars(settings), "minutes": 2}))
    with pytest.raises(UserError, match="other settings"):
        comparison.compare(settings, work, tmp_path)
    for index in range(comparison.FEWEST - 30, comparison.FEWEST):
        (data / f"{index}.png").unlink()
        (data / f"{index}.txt").unlink()
    with pytest.raises(UserError, match="10 training pictures"):
        comparison.compare(settings, work, tmp_path)


def test_both_read_the_same_files_and_mmgen_one_caption_of_each(comparison, tmp_path):
    from PIL import Image

    from mmgen.data.folder import load_pairs

    data, real = tmp_path / "data", tmp_path / "real"
    data.mkdir()
    real.mkdir()
    Image.new("RGBA", (40, 20), (255, 0, 0, 255)).save(data / "a.png")
    Image.new("RGBA", (64, 64), (0, 0, 255, 255)).save(data / "b.png")
    rows = [
        {"file_name": "a.png", "captions": ["bar", "bar, noto style", "a bar"], "label": "bar", "style": "noto"},
        {"file_name": "b.png", "captions": ["square"], "concept": "shape"},
    ]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert comparison.write_real(load_pairs(data)["train"], 32, real) == {"pictures": 2}
    seen = load_pairs(real)["train"]
    assert seen["captions"][:] == [["bar, noto style"], ["square"]]
    assert seen["label"][:] == ["bar", "square"] and seen["concept"][:] == ["bar", "shape"]
    assert seen["style"][:] == ["noto", ""]
    assert {Image.open(file).size for file in (real / "pictures").iterdir()} == {(32, 32)}
