"""The Train tab's endpoints, called through gradio_client, and what of it can be tested without a browser."""

from __future__ import annotations

import math
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image, ImageDraw

from mmgen.checkpoints import load_pipeline
from mmgen.errors import UserError
from mmgen.home import home
from mmgen.services.drafts import DraftService
from mmgen.services.models import DEFAULT, Models
from mmgen.training.finetune.settings import FinetuneSettings
from mmgen.ui.page import build_page
from mmgen.ui.train.plot import COLUMNS, MAX_POINTS, curve, smooth
from mmgen.ui.train.rows import PAGE, findings_data, pairs_data
from mmgen.ui.train.start import TrainingRequest
from mmgen.ui.train.words import duration, expected, facts, place, share_done
from mmgen.ui.web.owner import owner_of

ENDPOINTS = {
    "/check_pairs",
    "/start_training",
    "/training_state",
    "/training_samples",
    "/pause_training",
    "/stop_training",
    "/resume_training",
    "/list_trainings",
}
WAIT = 180


@pytest.fixture(scope="module")
def client(page_url, tmp_path_factory) -> Client:
    return Client(page_url, verbose=False, analytics_enabled=False, download_files=str(tmp_path_factory.mktemp("got")))


def draw_images(folder: Path, count: int) -> list[Path]:
    """Pictures of one shape each, in different places and colours."""
    paths = []
    for number in range(count):
        image = Image.new("RGB", (96, 96), (255, 255 - 40 * number, 40 * number))
        place = 8 * number
        ImageDraw.Draw(image).rectangle([place, place, place + 30, place + 20], fill=(40 * number, 0, 200))
        paths.append(folder / f"shape {number}.png")
        image.save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> list[Path]:
    return draw_images(tmp_path_factory.mktemp("pictures"), 5)


def check(client: Client, files, **values):
    return client.predict(files=[handle_file(path) for path in files], **values, api_name="/check_pairs")


def test_the_endpoints_are_named_and_described(client):
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert ENDPOINTS <= set(described)
    names = [one["parameter_name"] for one in described["/start_training"]["parameters"]]
    assert names == [
        "draft", "name", "preset", "minutes", "steps", "prior", "decoder", "watch", "base", "seed"
    ]  # fmt: skip


def test_pairs_come_in_and_are_checked(client, images, tmp_path):
    text = tmp_path / "renamed.png"
    text.write_text("I am no picture.")
    draft, found = check(client, images[:2], captions=["a <b>red</b> dog", "кошка"])
    assert [pair["text"] for pair in found["pairs"]] == ["a <b>red</b> dog", "кошка"]
    assert "few" in {finding["kind"] for finding in found["findings"]}
    again, found = check(client, [images[2], text], draft=draft)
    assert again == draft and len(found["pairs"]) == 3
    assert len(found["refused"]) == 1 and "renamed.png could not be read as a picture" in found["refused"][0]
    assert any("No caption" in words for words in found["pairs"][2]["problems"])


def test_a_zip_comes_in_and_a_bomb_does_not(client, images, tmp_path):
    with zipfile.ZipFile(tmp_path / "pairs.zip", "w") as packed:
        packed.write(images[0], "one.png")
        packed.writestr("one.txt", "a star")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("zeros.png", b"\0" * 60_000_000)
    with zipfile.ZipFile(tmp_path / "outside.zip", "w") as packed:
        packed.write(images[0], "../../outside.png")
    draft, found = check(client, [tmp_path / f"{name}.zip" for name in ("pairs", "bomb", "outside")])
    assert [pair["text"] for pair in found["pairs"]] == ["a star"]
    assert len(found["refused"]) == 2 and any("200 times" in words for words in found["refused"])


@pytest.mark.slow
def test_a_job_trains_pauses_goes_on_stops_and_is_drawn_from(client, images):
    draft, _ = check(client, images, captions=[f"a {colour} star" for colour in ("red", "blue", "green", "left", "on")])
    job = client.predict(
        draft=draft, name="<Sterne>", steps=6000, watch=["a star", "a dog"], api_name="/start_training"
    )
    wait_for(client, job, lambda found: found["status"].get("step", 0) > 2 and found["status"].get("loss") is not None)
    assert client.predict(job=job, api_name="/training_samples")
    other = client.predict(draft=draft, name="later", steps=5, api_name="/start_training")
    assert client.predict(job=other, api_name="/training_state")["position"] == 1
    client.predict(job=job, api_name="/pause_training")
    wait_for(client, job, lambda found: found["state"] == "paused")
    assert wait_for(client, other, lambda found: found["state"] == "done")["result"]
    client.predict(job=job, api_name="/resume_training")
    wait_for(client, job, lambda found: found["state"] == "running")
    client.predict(job=job, api_name="/stop_training")
    found = wait_for(client, job, lambda found: found["state"] == "stopped")
    assert found["result"] and found["name"] == "<Sterne>" and found["said"] == "Stopped and kept"
    sheets = client.predict(job=job, api_name="/training_samples")
    with Image.open(sheets[-1]) as sheet:
        assert sheet.width > sheet.height
    listed = [one["job"] for one in client.predict(api_name="/list_trainings")]
    assert listed.index(other) < listed.index(job)


def wait_for(client: Client, job: str, is_so) -> dict:
    deadline = time.monotonic() + WAIT
    while not is_so(found := client.predict(job=job, api_name="/training_state")):
        assert time.monotonic() < deadline and found["state"] != "failed", found
        time.sleep(0.3)
    return found


@pytest.mark.parametrize("wrong", ["../../etc", "..", "", "0" * 32, "a/b", "\0", "20260101-000000-00000000"])
def test_ids_lead_nowhere_else(client, images, wrong):
    for act in ("training_state", "training_samples", "pause_training", "stop_training", "resume_training"):
        with pytest.raises(AppError, match="not there any more"):
            client.predict(job=wrong, api_name=f"/{act}")
    with pytest.raises(AppError, match="no pairs to train on"):
        client.predict(draft=wrong, api_name="/start_training")
    if wrong:
        with pytest.raises(AppError, match="not there any more"):
            check(client, images[:1], draft=wrong)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"preset": "magic"}, "There is no preset 'magic'"),
        ({"preset": ["style"]}, "The preset must be a text"),
        ({"minutes": 0}, "Say how long to train"),
        ({"minutes": None}, "The minutes is empty"),
        ({"steps": 0}, "0 steps teach nothing"),
        ({"steps": 1.5}, "The number of steps is 1.5"),
        ({"prior": 1}, "The share that keeps what the base knows is 1"),
        ({"decoder": "perhaps"}, "The decoder is perhaps"),
        ({"watch": ["x"] * 5}, "at most 4"),
        ({"watch": [1]}, "must be a list of texts"),
        ({"base": "../../checkpoints"}, "The model to start from is not there any more"),
        ({"name": "  "}, "The job has no name"),
        ({"seed": -1}, "The seed is -1"),
    ],
)
def test_bad_settings_give_a_sentence(client, images, values, sentence):
    draft, _ = check(client, images[:1])
    with pytest.raises(AppError, match=sentence):
        client.predict(draft=draft, **values, api_name="/start_training")


@pytest.mark.parametrize("files", [["/etc/hostname"], [{"path": "/etc/hostname"}], 3])
def test_only_uploaded_files_are_opened(client, files):
    with pytest.raises(AppError, match="must be an uploaded picture or zip file|files must be a list"):
        client.predict(files=files, api_name="/check_pairs")
    assert client.predict(prompt="a cat", api_name="/preview")


def test_owners_reach_their_own_things_only(monkeypatch, tmp_path):
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path))
    monkeypatch.delenv("SPACE_ID", raising=False)
    first, second = SimpleNamespace(session_hash="one"), SimpleNamespace(session_hash="../two")
    assert owner_of(first) == owner_of(second) == owner_of(None) == "local"
    monkeypatch.setenv("SPACE_ID", "me/mine")
    owners = {owner_of(first), owner_of(second), owner_of(None)}
    assert len(owners) == 3 and all(home(owner).parent == tmp_path for owner in owners)
    drafts = DraftService()
    draft = drafts.new_draft(owner_of(first))
    assert drafts.has_draft(owner_of(first), draft) and not drafts.has_draft(owner_of(second), draft)


@pytest.mark.parametrize("space", ["", "me/mine"])
def test_strangers_are_offered_no_folders_of_the_machine(monkeypatch, tmp_path, tiny_checkpoint, space):
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path))
    monkeypatch.setenv("SPACE_ID", space)
    page = build_page(load_pipeline(tiny_checkpoint))
    labels = {getattr(block, "label", None) for block in page.blocks.values()}
    assert "Data set of the Hugging Face Hub" in labels and ("Folder of this machine" in labels) == (not space)


def test_a_draft_is_shown_in_pages(monkeypatch, tmp_path, images):
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path))
    drafts = DraftService()
    draft = drafts.draft("local", draft_id := drafts.new_draft("local"))
    assert pairs_data(draft_id, draft, None, {})["rows"] == []
    draft.add_images(images * 5, ["a star"] * 20 + [""] * 5)
    first = pairs_data(draft_id, draft, None, {})
    assert (first["count"], first["pages"], len(first["rows"]), first["last"]) == (25, 2, PAGE, PAGE)
    last = pairs_data(draft_id, draft, None, {"view": "all", "page": 99})
    assert (last["page"], len(last["rows"]), last["first"]) == (1, 5, PAGE + 1)
    empty = pairs_data(draft_id, draft, None, {"view": "empty"})
    assert len(empty["rows"]) == 5 and empty["rows"][0]["thumbnail"].startswith("data:image/webp")


def test_the_doctor_forgets_what_has_changed(monkeypatch, tmp_path, tiny_checkpoint, images):
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path))
    models, drafts = Models(load_pipeline(tiny_checkpoint)), DraftService()
    draft = drafts.draft("local", draft_id := drafts.new_draft("local"))
    names = draft.add_images([*images, images[0]], ["", *["a star"] * 5]).names
    checkup = drafts.check("local", draft_id, models.default.pipe, None)
    assert checkup.problems(draft.pair(names[0])) and checkup.worst(draft.pair(names[0])) == "warning"
    draft.set_caption(names[0], "a dog")
    assert not checkup.problems(draft.pair(names[0])) and checkup.worst(draft.pair(names[0])) == "ok"
    assert "1 pair is new or changed" in findings_data(checkup, draft.pairs)["said"]
    drafts.apply_fix("local", draft_id, "duplicate")
    assert len(draft) == 5 and "duplicate" not in {one.kind for one in checkup.findings()}
    with pytest.raises(UserError, match="not known any more"):
        drafts.apply_fix("local", draft_id, "duplicate")


def test_results_are_loaded_when_they_are_drawn_with(monkeypatch, tmp_path, tiny_checkpoint, images):
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path))
    models, drafts = Models(load_pipeline(tiny_checkpoint)), DraftService()
    draft = drafts.draft("local", draft_id := drafts.new_draft("local"))
    draft.add_images(images[:1])
    jobs = [TrainingRequest(name=f"job {n}").start("local", drafts, models, draft_id) for n in range(3)]
    assert models.service("local", jobs[0].id) is models.default
    for job in jobs:
        (job.run / "pipeline").symlink_to(tiny_checkpoint)
    assert [name for name, _ in models.choices("local")][1:4] == ["job 2", "job 1", "job 0"]
    first = models.service("local", jobs[0].id)
    assert first is not models.default and first is models.service("local", jobs[0].id)
    assert models.service("other", jobs[0].id) is models.default
    models.service("local", jobs[1].id), models.service("local", jobs[2].id)
    assert first is not models.service("local", jobs[0].id)  # Only three are kept, with the default.
    drafts.jobs("local").delete(jobs[0].id)
    assert models.service("local", jobs[0].id) is models.default
    for wrong in (DEFAULT, None, 3, "../x"):
        assert models.service("local", wrong) is models.default


def test_the_curve_is_smooth_and_short():
    assert smooth([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    smoothed = smooth([0.0, 1.0] * 200)
    assert smoothed[0] == 0.0 and smoothed[-1] == pytest.approx(0.5, abs=0.05)
    title, points = curve([])
    assert title == "Loss" and list(points.columns) == list(COLUMNS) and not len(points)
    early = [{"step": n, "decoder": 1.0, "paired": math.nan} for n in range(4)]
    assert "decoder" in curve(early)[0] and len(curve(early)[1]) == 8
    log = early + [{"step": n, "decoder": math.nan, "paired": 1.0 / n} for n in range(4, 5000)]
    title, points = curve(log)
    assert title == "Loss" and len(points) == 2 * MAX_POINTS
    assert points["step"].min() == 4 and points["step"].max() == 4999


def test_words():
    assert [duration(x) for x in (0.2, 59.6, 130, 900, 3900)] == ["0 s", "1 min", "2 min 10 s", "15 min", "1 h 5 min"]
    status = {"step": 1200, "seconds": 90, "budget_seconds": 180, "images_per_second": 85.4, "eta_seconds": 90}
    assert share_done(status) == 0.5 and share_done({}) == 0 and share_done({"step": 3, "steps": 4}) == 0.75
    assert facts(status, "running") == "step 1,200 · 1 min 30 s trained · 85 images/s · about 1 min 30 s left"
    assert facts({}, "queued") == ""
    assert place(1) == "It is next." and place(3) == "2 jobs wait before it."
    assert "3 min" in expected(FinetuneSettings(), 0, None)
    assert "1 job is before it" in expected(FinetuneSettings(steps=100), 1, 0.5)
