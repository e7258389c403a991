"""Loading by name: what is whole and ours is drawn from, all else is refused before it is loaded."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hub_fixtures import WEIGHTS, checkpoint, draw, folder, hub, mmgen, one_sentence, published, server  # noqa: F401
from PIL import Image
from safetensors.torch import load_file, save_file

from mmgen import MultimodalGANPipeline
from mmgen.loading.fetch import split_name


@pytest.mark.slow
def test_a_folder_the_hub_and_a_machine_without_mmgen_draw_the_same(hub, server, mmgen, published, checkpoint, folder):
    reference = folder / "reference.png"
    Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 30).convert("RGBA").save(reference)
    images = {}
    for name, source in (("folder", checkpoint), ("name", "ann/tiny")):
        status, told = draw(mmgen, source, folder, "--reference", reference, "--seed", 7)
        assert status == 0, told
        images[name] = Image.open(folder / "out.png").tobytes()
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
    assert images["folder"] == images["name"] == (folder / "alone").read_bytes()
    assert len(set(images["folder"])) > 20


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


def test_models_that_nobody_opens_are_forgotten(hub, mmgen, published, folder, tmp_path):
    code = f"""
from mmgen.loading.fetch import fetch, forget_fetched
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
