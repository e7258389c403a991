"""Publishing and loading by the real client of the Hugging Face Hub, against a small Hub of ours."""

from __future__ import annotations

import csv
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hub_server import HubServer
from long_lived import LongLived
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import tiny_pipeline

from mmgen import MultimodalGANPipeline
from mmgen.checkpoints import FOLDER, name_of
from mmgen.errors import UserError
from mmgen.hub.card import card
from mmgen.hub.fetch import split_name
from mmgen.hub.standalone import standalone
from mmgen.training.checkpoint import save_checkpoint

CAPTIONS = ["a red apple", "a *blue* <cat> | dog", "circle in flat style", "a green star", "square"]
PARTS = ("fusion", "generator", "autoencoder", "text_encoder", "image_encoder", "tokenizer", "image_processor")
WEIGHTS = ("fusion/diffusion_pytorch_model", "text_encoder/model", "image_encoder/model")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def checkpoint(folder) -> Path:
    """A tiny fine-tuned checkpoint with all its descriptions, and with files that must not leave it."""
    made = folder / "tiny"
    save_checkpoint(
        made, tiny_pipeline(folder / "parts"), [CAPTIONS], {"base": "mmgen-emoji", "pictures": 5, "steps": 12}
    )
    rows = [["step", "time", "loss"], *([step, 1e9 + step, 1 / (1 + step)] for step in range(0, 100, 5))]
    with (made / "training.csv").open("w", newline="") as log:
        csv.writer(log).writerows(rows)
    (made / "evaluation.json").write_text(json.dumps(REPORT))
    config = json.loads((made / "fusion/config.json").read_text())
    (made / "fusion/config.json").write_text(json.dumps({**config, "_name_or_path": "/home/ann/private"}))
    for name in ("fusion/diffusion_pytorch_model.bin", "optimizer.pt", "generator/model.ckpt"):
        (made / name).write_bytes(pickle.dumps({"x": 1}))
    (made / "diary.txt").write_text("dear diary")
    (made / "fusion/helper.py").write_text("raise SystemExit('never run')")
    return made


SCORES = "retrieval_at_1 retrieval_at_1_ceiling retrieval_at_1_floor retrieval_at_5 retrieval_at_5_ceiling".split()
SCORES += "retrieval_at_5_floor frechet frechet_real kernel kernel_real precision precision_real recall".split()
SCORES += "recall_real diversity copies copies_real".split()
REPORT = {
    "splits": {"train": {**dict.fromkeys(SCORES, 0.123), "prompts": 10}},
    "references": {"followed": 0.5, "reference_alone": 0.6, "chance": 0.25},
    "reconstruction": {"tiny": {"psnr": 31.5, "judge": 0.1, "pictures": 3}},
    "judge": "a judge",
    "checkpoint": "/home/ann/private",
}


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def hub(server) -> HubServer:
    server.heal()
    return server


@pytest.fixture(scope="module")
def mmgen(server, folder) -> Iterator[LongLived]:
    """`python -m mmgen`, signed in as ann."""
    with LongLived(server.environment(folder / "home", server.token("ann"))) as process:
        yield process


@pytest.fixture(scope="module")
def published(server, mmgen, checkpoint) -> dict[str, bytes]:
    """What lies in ann/tiny after it was published: path -> content."""
    status, told = mmgen("publish", checkpoint, "ann/tiny")
    assert status == 0, told
    assert f"{server.url}/ann/tiny" in told
    return server.repositories["ann/tiny"].files()


def test_a_published_model_is_private_and_whole(hub, published, checkpoint):
    assert hub.repositories["ann/tiny"].private
    for file in (f"{name}.safetensors" for name in WEIGHTS):
        assert published[file] == (checkpoint / file).read_bytes()
    assert set(PARTS) == {Path(path).parent.name for path in published} - {""}
    assert {path for path in published if "/" not in path} == {
        *("README.md", ".gitattributes", "model_index.json", "pipeline.py", "samples.png"),
        *("captions.txt", "training.json", "training.csv", "evaluation.json"),
    }
    endings = {Path(path).suffix for path in published}
    assert endings <= {".md", ".json", ".txt", ".csv", ".png", ".py", ".safetensors", ""}
    code = sorted(path for path in published if path.endswith(".py"))
    assert code == [
        *(f"{part}/mmgen.models.{part}.py" for part in ("autoencoder", "fusion", "generator")),
        "pipeline.py",
    ]
    assert not [path for path, content in published.items() if b"/home/ann" in content or b"diary" in content]


def test_the_card_is_filled_in(published):
    text = published["README.md"].decode()
    head = yaml.safe_load(text.split("---\n")[1])
    assert {"text-to-image", "gan", "mmgen"} <= set(head["tags"]) and head["license"] == "other"
    for words in (
        *("# tiny", "32x32", "flat, round", "![Pictures of 5 captions](samples.png)", "1. a red apple"),
        *(r"a \*blue\* &lt;cat&gt; \| dog", 'from_pretrained("ann/tiny")', "trust_remote_code=True"),
        *("--checkpoint ann/tiny", "| `generator` | Generator |", "F16", "Fine-tuned from mmgen-emoji on 5 pictures"),
        *("| steps | 12 |", "| step | loss |", "| 95 |", "retrieval@1", "31.50", "emojibase"),
    ):
        assert words in text, words
    assert Image.open(io.BytesIO(published["samples.png"])).size == (4 * 196 + 4, 2 * 196 + 4)


def test_publishing_again_changes_nothing_and_leaves_other_files_alone(hub, mmgen, published, checkpoint):
    hub.put("ann/tiny", {**published, "mine.txt": b"mine"})
    before = len(hub.repositories["ann/tiny"].commits)
    assert mmgen("publish", checkpoint, "ann/tiny")[0] == 0
    assert len(hub.repositories["ann/tiny"].commits) == before
    assert hub.repositories["ann/tiny"].files() == {**published, "mine.txt": b"mine"}


def test_a_branch_of_its_own(hub, mmgen, published, checkpoint, folder):
    hub.put("ann/branches", {"mine.txt": b"mine"}, private=True)
    assert mmgen("publish", checkpoint, "ann/branches", "--revision", "v1.0")[0] == 0
    there = hub.repositories["ann/branches"]
    assert list(there.files()) == ["mine.txt"] and set(published) - {".gitattributes"} < set(there.files("v1.0"))
    assert draw(mmgen, "ann/branches@v1.0", folder)[0] == 0
    status, told = draw(mmgen, "ann/branches", folder)
    assert status == 1 and "no model_index.json" in told
    status, told = draw(mmgen, "ann/branches@v2", folder)
    assert status == 1 and "no such revision" in told


def test_a_folder_the_hub_and_a_machine_without_mmgen_draw_the_same(hub, server, mmgen, published, checkpoint, folder):
    reference = folder / "reference.png"
    Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 30).convert("RGBA").save(reference)
    pictures = {}
    for name, source in (("folder", checkpoint), ("name", "ann/tiny")):
        status, told = draw(mmgen, source, folder, "--reference", reference, "--seed", 7)
        assert status == 0, told
        pictures[name] = Image.open(folder / "out.png").tobytes()
    code = f"""
import importlib.util
from PIL import Image
from diffusers import DiffusionPipeline
assert importlib.util.find_spec("mmgen") is None
pipe = DiffusionPipeline.from_pretrained("ann/tiny", trust_remote_code=True)
drawn = pipe("a red apple", references=[Image.open({str(reference)!r})], seed=7).images[0]
open({str(folder / "alone")!r}, "wb").write(drawn.tobytes())
"""
    (folder / "elsewhere").mkdir()
    environment = {"PATH": "/usr/bin:/bin", **server.environment(folder / "other-home", server.token("ann"))}
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, cwd=folder / "elsewhere", env=environment, capture_output=True, text=True)
    mmgen.told.append(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr
    assert "Expected types" not in done.stderr
    assert pictures["folder"] == pictures["name"] == (folder / "alone").read_bytes()
    assert len(set(pictures["folder"])) > 20


def test_from_python_by_name_with_a_part_of_ones_own(mmgen, published):
    status, told = mmgen.python(
        "from mmgen import MultimodalGANPipeline as P\n"
        "pipe = P.from_pretrained('ann/tiny', revision='main')\n"
        "again = P.from_pretrained('ann/tiny', generator=pipe.generator, local_files_only=True)\n"
        "print(pipe.name_or_path, again.generator is pipe.generator, again.fusion is pipe.fusion)\n"
    )
    assert (status, told.splitlines()[-1]) == (0, "ann/tiny True False"), told
    status, told = mmgen.python("from mmgen import MultimodalGANPipeline as P\nP.from_pretrained('ann/tiny', unet=1)")
    assert status == 70 and "TypeError: from_pretrained() got an unexpected argument 'unet'" in told


def draw(mmgen: LongLived, checkpoint: object, folder: Path, *options: object, **environment: str) -> tuple[int, str]:
    words = ("generate", "a red apple", "--checkpoint", checkpoint, "--output", folder / "out.png")
    return mmgen(*words, *options, **environment)


def test_a_dry_run_shows_everything_and_sends_nothing(hub, mmgen, checkpoint):
    status, told = mmgen("publish", checkpoint, "ann/dry", "--dry-run", HF_TOKEN="")
    assert status == 0 and not hub.requests and "ann/dry" not in hub.repositories
    size = (checkpoint / "fusion/diffusion_pytorch_model.safetensors").stat().st_size
    assert f"{size:,}  fusion/diffusion_pytorch_model.safetensors" in told
    assert "pipeline.py" in told and "# dry" in told and ".bin" not in told.split("# dry")[0]


def arrived(hub: HubServer, name: str, published: dict[str, bytes]) -> bool:
    """Whether everything is there as it is in ann/tiny, but for the name in the card."""
    there = hub.repositories[name].files()
    own = {**published, "README.md": there.get("README.md")}
    wanted = published["README.md"].decode().replace("ann/tiny", name).replace("# tiny", f"# {name[4:]}")
    return there == own and there["README.md"].decode() == wanted


@pytest.fixture(scope="module")
def requests(server, mmgen, published, checkpoint) -> list[str]:
    """What an upload asks for, in its order."""
    server.heal()
    server.large.clear()
    assert mmgen("publish", checkpoint, "ann/counted")[0] == 0
    return [re.sub("[0-9a-f]{40,64}", "", request) for request in server.requests]


@pytest.mark.parametrize("how", [503, "close"])
def test_whichever_request_fails_once_is_made_good(hub, mmgen, published, checkpoint, requests, how):
    for number in range(1, len(requests) + 1):
        hub.heal()
        hub.large.clear()
        hub.fail(number, how)
        name = f"ann/{how}-{number}"
        status, told = mmgen("publish", checkpoint, name)
        assert status == 0 and arrived(hub, name, published), (hub.requests[number - 1], told)


def test_whichever_kind_of_request_is_refused_one_retry_ends_well(hub, mmgen, published, checkpoint, requests):
    kinds = {request: number for number, request in reversed(list(enumerate(requests, start=1)))}
    assert len(kinds) >= 9
    for number in kinds.values():
        hub.heal()
        hub.large.clear()
        hub.fail(number, 403, times=float("inf"))
        name = f"ann/refused-{number}"
        status, told = mmgen("publish", checkpoint, name)
        assert status == 1 and one_sentence(told), (hub.requests[number - 1], told)
        hub.heal()
        status, told = mmgen("publish", checkpoint, name)
        assert status == 0 and arrived(hub, name, published), told


@pytest.mark.parametrize(
    ("path", "how", "words"),
    [("/create", 429, "asks to wait"), ("/commit/", 503, "not working at the moment"), ("", "close", "not be reached")],
)
def test_what_keeps_failing_is_a_sentence_and_one_retry_ends_well(hub, mmgen, published, checkpoint, path, how, words):
    hub.fail(1, how, path, times=float("inf"))
    name = f"ann/long-{how}"
    status, told = mmgen("publish", checkpoint, name)
    assert status == 1 and words in told and one_sentence(told)
    hub.heal()
    assert mmgen("publish", checkpoint, name)[0] == 0 and arrived(hub, name, published)


def test_a_lost_answer_to_the_commit_leaves_one_commit(hub, mmgen, published, checkpoint):
    hub.fail(1, "lost", "/commit/")
    assert mmgen("publish", checkpoint, "ann/lost")[0] == 0
    assert arrived(hub, "ann/lost", published) and len(hub.repositories["ann/lost"].commits) == 2


def test_a_file_that_arrives_damaged_is_noticed(hub, mmgen, published, checkpoint):
    hub.spoil = "fusion/config.json"
    status, told = mmgen("publish", checkpoint, "ann/damaged")
    assert status == 1 and "fusion/config.json did not arrive" in told and one_sentence(told)
    hub.heal()
    assert mmgen("publish", checkpoint, "ann/damaged")[0] == 0 and arrived(hub, "ann/damaged", published)


def one_sentence(told: str) -> bool:
    """Whether the last line is the error, in a line, without a trace of Python."""
    last = told.strip().splitlines()[-1]
    return last.startswith("mmgen: ") and last.endswith(".") and "Traceback" not in told and told.count("mmgen: ") == 1


@pytest.mark.parametrize(
    ("name", "token", "words"),
    [
        ("ann/x", lambda hub: "", "not signed in"),
        ("ann/x", lambda hub: "hf_" + "q" * 34, "does not accept your token"),
        ("ann/x", lambda hub: "hf_naïve", "no token has"),
        ("ann/x", lambda hub: hub.token("ann", write=False), "may not write to ann/x"),
        ("bob/x", lambda hub: hub.token("ann"), "may not write to bob/x"),
        ("bob/tiny", lambda hub: hub.token("ann"), "for everybody to see"),
        *((name, lambda hub: "", "cannot be the name") for name in ("x", "a/b/c", "ann/ü", "ann/-x", "ann/x--y", "")),
    ],
)
def test_who_may_not_publish_gets_a_sentence(hub, mmgen, checkpoint, published, name, token, words):
    hub.put("bob/tiny", {"README.md": b"bob"})
    status, told = mmgen("publish", checkpoint, name, HF_TOKEN=token(hub))
    assert status == 1 and words in told and one_sentence(told), told
    assert hub.repositories["bob/tiny"].files() == {"README.md": b"bob"}


def test_a_public_model_is_not_taken_for_a_private_one(hub, mmgen, checkpoint):
    hub.put("ann/open", {"README.md": b"open"})
    status, told = mmgen("publish", checkpoint, "ann/open")
    assert status == 1 and "for everybody to see" in told and one_sentence(told)
    assert hub.repositories["ann/open"].files() == {"README.md": b"open"}
    assert mmgen("publish", checkpoint, "ann/open", "--public")[0] == 0
    assert mmgen("publish", checkpoint, "ann/opened", "--public")[0] == 0
    assert mmgen("publish", checkpoint, "ann/closed")[0] == 0
    status, told = mmgen("publish", checkpoint, "ann/closed", "--public")
    assert status == 1 and "there already, private" in told and one_sentence(told)
    assert not hub.repositories["ann/opened"].private


def test_what_is_no_whole_checkpoint_is_not_published(hub, mmgen, checkpoint, tmp_path):
    broken = shutil.copytree(checkpoint, tmp_path / "broken")
    (broken / "generator/diffusion_pytorch_model.safetensors").unlink()
    for source, words in ((broken, "not whole"), (tmp_path / "none", "no checkpoint at")):
        status, told = mmgen("publish", source, "ann/x")
        assert status == 1 and words in told and one_sentence(told)
    (broken / "README.md").write_text("---\ntags: [\n---\n")
    with pytest.raises(UserError, match="head of"):
        card(broken, "ann/x", 32, [], [])
    assert not hub.requests


def change_index(files: dict[str, bytes], **entries: object) -> dict[str, bytes]:
    return {**files, "model_index.json": json.dumps({**json.loads(files["model_index.json"]), **entries}).encode()}


def with_weights(files: dict[str, bytes], name: str, content: bytes) -> dict[str, bytes]:
    return {**files, f"{name}.safetensors": content}


def cut_weights(files: dict[str, bytes], name: str, tmp_path: Path) -> dict[str, bytes]:
    (tmp_path / "w").write_bytes(files[f"{name}.safetensors"])
    weights = load_file(tmp_path / "w")
    save_file({k: v[:1].clone() if v.ndim else v for k, v in weights.items()}, tmp_path / "w", {"format": "pt"})
    return with_weights(files, name, (tmp_path / "w").read_bytes())


def pickles_alone(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path.replace(".safetensors", ".bin"): pickle.dumps(1) if "safe" in path else c for path, c in files.items()}


def asking_for_code(files: dict[str, bytes]) -> dict[str, bytes]:
    config = {**json.loads(files["image_encoder/config.json"]), "auto_map": {"AutoModel": "evil.Evil"}}
    return {**files, "image_encoder/config.json": json.dumps(config).encode()}


def of_another_model(files: dict[str, bytes]) -> dict[str, bytes]:
    config = {**json.loads(files["generator/config.json"]), "latent_channels": 8}
    return {**files, "generator/config.json": json.dumps(config).encode()}


def of_endless_layers(files: dict[str, bytes]) -> dict[str, bytes]:
    config = {**json.loads(files["generator/config.json"]), "depth": 10**9}
    return {**files, "generator/config.json": json.dumps(config).encode()}


REFUSED = {
    "layers": (lambda f, t: of_endless_layers(f), "more layers than weights"),
    "tokenizer": (lambda f, t: {**f, "tokenizer/tokenizer.json": b"{}"}, "not whole"),
    "heads": (lambda f, t: {**f, "text_encoder/config.json": b'{"num_attention_heads": 0}'}, "not whole"),
    "pickles": (lambda f, t: pickles_alone(f), "pickles"),
    "disguised": (lambda f, t: with_weights(f, WEIGHTS[0], pickle.dumps([1])), "no safetensors in spite of its name"),
    "bert": (lambda f, t: with_weights(f, WEIGHTS[1], pickle.dumps([1])), "no safetensors in spite of its name"),
    "shapes": (lambda f, t: cut_weights(f, WEIGHTS[0], t), "do not fit the model"),
    "cnn": (lambda f, t: cut_weights(f, WEIGHTS[2], t), "do not fit the model"),
    "mixed": (lambda f, t: of_another_model(f), "do not fit the model"),
    "class": (lambda f, t: change_index(f, fusion=["mmgen.models.fusion", "Evil"]), "fusion.Evil as its fusion"),
    "module": (lambda f, t: change_index(f, fusion=["evil", "Fusion"]), "names evil.Fusion"),
    "more": (lambda f, t: change_index(f, extra=["evil", "Evil"]), "names evil.Evil"),
    "call": (lambda f, t: change_index(f, text_encoder=["transformers", "pipeline"]), "transformers.pipeline"),
    "auto": (
        lambda f, t: change_index(f, image_encoder=["transformers", "AutoModel"]),
        "AutoModel is no image_encoder",
    ),
    "kind": (lambda f, t: change_index(f, _class_name="FluxPipeline"), "is a FluxPipeline"),
    "own": (lambda f, t: change_index(f, _class_name=["evil", "MultimodalGANPipeline"]), "not a model of mmgen"),
    "styles": (lambda f, t: change_index(f, styles=[1]), "damaged"),
    "code": (lambda f, t: asking_for_code(f), "asks for auto_map"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_ours_is_refused_before_it_is_loaded(hub, mmgen, published, folder, tmp_path, name):
    change, words = REFUSED[name]
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
    places = ("evil.py", "pipeline.py", "fusion/evil.py", "fusion/mmgen.models.fusion.py", "image_encoder/evil.py")
    hub.put(f"bob/{name}", change({**published, **dict.fromkeys(places, evil)}, tmp_path))
    status, told = draw(mmgen, f"bob/{name}", folder)
    assert status == 1 and words in told and one_sentence(told), told
    fetched = [request.rpartition("/")[2] for request in hub.requests if "/resolve/" in request]
    assert not [file for file in fetched if file.endswith((".py", ".bin"))] and not (tmp_path / "ran").exists()
    if name in ("class", "module", "more", "call", "kind", "own", "styles"):
        assert set(fetched) == {"model_index.json"}


def test_code_beside_the_weights_is_neither_fetched_nor_run(hub, mmgen, published, folder, tmp_path):
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')\n".encode()
    files = {path: evil if path.endswith(".py") else content for path, content in published.items()}
    hub.put("bob/evil", files)
    assert draw(mmgen, "bob/evil", folder)[0] == 0
    assert not [request for request in hub.requests if request.endswith((".py", ".png"))]
    clone = tmp_path / "clone"
    for path, content in files.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_bytes(content)
    assert MultimodalGANPipeline.from_pretrained(clone)("a red apple").images[0].size == (32, 32)
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_fetched_is_a_sentence_and_a_folder_goes_first(hub, mmgen, published, checkpoint, folder):
    hub.put("bob/secret", published, private=True)
    for name, words in (("bob/none", "no model bob/none"), ("bob/secret", "no model bob/secret")):
        for token in ("", hub.token("ann")):
            status, told = draw(mmgen, name, folder, HF_TOKEN=token)
            assert status == 1 and words in told and one_sentence(told)
            assert f"There is no folder {name} here" in told
    draw(mmgen, "ann/tiny", folder)
    for how in (503, 429, "close"):
        hub.heal()
        hub.fail(1, how, times=float("inf"))
        status, told = draw(mmgen, "ann/tiny", folder)
        assert status == 0, told  # What was fetched before works on.
    status, told = draw(mmgen, "bob/secret", folder)
    assert status == 1 and "not be reached" in told and one_sentence(told)
    hub.heal()
    assert draw(mmgen, checkpoint, folder)[0] == 0 and not hub.requests


def test_a_download_that_breaks_off_goes_on(hub, mmgen, published, folder):
    hub.put("bob/slow", published)
    hub.fail(1, "close", "generator/diffusion_pytorch_model.safetensors")
    status, told = draw(mmgen, "bob/slow", folder)
    assert status == 0, told


def test_a_card_that_a_checkpoint_brings_survives(folder, checkpoint):
    own = FOLDER / "mmgen-emoji"
    text = card(own, "ann/emoji", 256, [], [])
    head, body = re.match(r"---\n(.*?)---\n(.*)", text, re.DOTALL).groups()
    brought = (own / "README.md").read_text()
    assert brought.split("---\n", 2)[2].strip() in body
    assert yaml.safe_load(head)["tags"] == ["text-to-image", "gan", "mmgen", "emoji", "transparent"]
    assert 'from_pretrained("ann/emoji", trust_remote_code=True)' in body
    again = shutil.copytree(checkpoint, folder / "again")
    (again / "README.md").write_text(text)
    once = card(again, "ann/other", 32, [], ["x"])
    (again / "README.md").write_text(once)
    assert card(again, "ann/other", 32, [], ["x"]) == once and once.count("## Load it") == 1 and "ann/emoji" not in once


def test_files_that_stand_alone_import_nothing_of_mmgen():
    for module, name in (("mmgen.models.generator", "Generator"), ("mmgen.models.autoencoder", "ImageAutoencoder")):
        source = standalone(module, name)
        assert not re.search(r"^\s*(from|import)\s+(mmgen|\.)", source, re.MULTILINE)
        space: dict = {"__name__": "alone"}
        exec(compile(source, name, "exec"), space)
        assert issubclass(space[name], torch.nn.Module)
        assert not {"FusionBlock", "Fused", "Fusion"} & space.keys()
    pipeline = standalone("mmgen.pipeline", "MultimodalGANPipeline", leave_out=("from_pretrained",))
    assert "def from_pretrained" not in pipeline and "def __call__" in pipeline and "load_text_encoder" not in pipeline
    assert "fusion: object" in pipeline and "class Fusion" not in pipeline
    with pytest.raises(ValueError, match="defines no nothing"):
        standalone("mmgen.checkpoints", "nothing")
    with pytest.raises(ValueError, match="inside a function"):
        standalone("mmgen.pipeline", "MultimodalGANPipeline")


def test_what_a_checkpoint_is_called(tmp_path):
    fetched = tmp_path / "hub/models--ann--tiny/snapshots/0123"
    result = tmp_path / "jobs/7/run/pipeline"
    for folder in (fetched, result):
        folder.mkdir(parents=True)
    assert name_of(fetched) == "ann/tiny" and name_of(tmp_path / "mmgen-emoji") == "mmgen-emoji"
    assert name_of(result) == "run"
    (result / "training.json").write_text('{"base": "ann/tiny"}')
    assert name_of(result) == "ann/tiny"


def test_models_that_nobody_opens_are_forgotten(hub, mmgen, published, folder, tmp_path):
    code = f"""
from mmgen.hub.fetch import fetch, forget_fetched
cache = {str(tmp_path / "cache")!r}
forget_fetched(3600, 10, cache)
kept = fetch("ann/tiny", cache_dir=cache)
forget_fetched(3600, 1e12, cache)
assert kept.is_dir()
forget_fetched(3600, 10, cache)
assert not kept.exists()
"""
    status, told = mmgen.python(code)
    assert status == 0, told


def test_names_on_the_hub():
    assert split_name("ann/tiny") == ("ann/tiny", None)
    assert split_name("ann/tiny@v1.0") == ("ann/tiny", "v1.0")
    for text in ("tiny", "/ann/tiny", "ann/tiny/", "a/b/c", "ann/..", "../tiny", "ann/x@", "ann/x.git", "~/x", "C:\\x"):
        assert split_name(text) is None, text


def test_no_token_is_left_anywhere(hub, server, mmgen, published, checkpoint, folder):
    token = server.token("ann")
    status, told = mmgen.python(
        "from mmgen.hub.publish import publish\n"
        "from mmgen.errors import UserError\n"
        "import traceback\n"
        "seen = []\n"
        "for name, token in (('bob/x', None), ('ann/x', 'hf_secretsecretsecret'), ('ann/x', 'hf_sécret')):\n"
        "    try:\n"
        f"        publish({str(checkpoint)!r}, name, token=token)\n"
        "    except UserError as error:\n"
        "        seen.append(error)\n"
        "        print(error.__cause__, error.__context__, vars(error), ''.join(traceback.format_exception(error)))\n"
        "assert len(seen) == 3\n"
    )
    assert status == 0 and told.count("None None {}") == 3, told
    secrets = [token.encode(), b"secretsecret", "hf_sécret".encode(), "hf_naïve".encode(), b"q" * 34]
    places = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    places += [text.encode() for text in mmgen.told] + [request.encode() for request in server.requests]
    for repository in server.repositories.values():
        places += [blob.data for files in repository.commits.values() for blob in files.values()]
    assert len(places) > 500 and not [place[:200] for place in places for secret in secrets if secret in place]
