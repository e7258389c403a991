"""A checkpoint with a memory on the Hub: its files, card and licence, and the same picture wherever it is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hub_fixtures import draw, folder, hub, mmgen, published, server  # noqa: F401
from PIL import Image
from tiny import tiny_pipeline

from mmgen.hub.card import card
from mmgen.hub.licences import strictest
from mmgen.training.common.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def checkpoint(folder) -> Path:
    save_checkpoint(folder / "tiny", tiny_pipeline(folder / "parts", memory=True), [["a red apple"]])
    return folder / "tiny"


def test_the_memory_is_published_and_the_card_says_whose_pictures_it_holds(published, checkpoint):
    for file in ("config.json", "diffusion_pytorch_model.safetensors", "mmgen.models.memory.py"):
        assert f"memory/{file}" in published
    assert json.loads(published["model_index.json"])["memory"] == ["mmgen.models.memory", "Memory"]
    text = published["README.md"].decode()
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "cc-by-4.0"
    for words in (
        "## What it remembers",
        "holds 36 pictures",
        "| 24 | the other set | MIT | Bob |\n| 12 | the flat set | CC-BY-4.0 | Ann |",
        "given as *cc-by-4.0*",
        "| `memory` | Memory |",
    ):
        assert words in text, words


def test_the_licence_follows_the_strictest(checkpoint, tmp_path):
    assert strictest(["MIT", "CC0-1.0", "Apache-2.0"]) == "apache-2.0"
    assert strictest(["CC-BY-3.0", "CC-BY-4.0", "MIT"]) == "cc-by-4.0"
    assert strictest(["CC-BY-4.0", "CC-BY-SA-4.0"]) == "cc-by-sa-4.0"
    assert strictest(["CC-BY-NC-4.0", "MIT"]) == "cc-by-nc-4.0"
    for unclear in ([], [""], ["MIT", "my own"], ["CC-BY-SA-4.0", "GPL-2.0"], ["CC-BY-NC-4.0", "CC-BY-SA-4.0"]):
        assert strictest(unclear) == "other"
    for own, licence in (("apache-2.0", "cc-by-4.0"), ("cc-by-sa-4.0", "cc-by-sa-4.0"), ("other", "other")):
        (checkpoint / "README.md").write_text(f"---\nlicense: {own}\n---\n\n# Mine\n")
        text = card(checkpoint, "ann/x", 32, [], [])
        assert yaml.safe_load(text.split("---\n")[1])["license"] == licence and "# Mine" in text and "| 24 |" in text
        assert licence != "other" or "each picture's own holds" in text
    (checkpoint / "README.md").unlink()
    (checkpoint / "training.json").write_text('{"pictures": 5}')  # Of which no licence is known.
    text = card(checkpoint, "ann/x", 32, [], [])
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "other"
    (checkpoint / "training.json").unlink()


def test_here_by_name_and_without_mmgen_it_draws_the_same(hub, server, mmgen, published, checkpoint, folder):
    images = []
    for source in (checkpoint, "ann/tiny"):
        status, told = draw(mmgen, source, folder, "--seed", 7)
        assert status == 0, told
        images.append(Image.open(folder / "out.png").tobytes())
    code = f"""
import importlib.util
from diffusers import DiffusionPipeline
assert importlib.util.find_spec("mmgen") is None
pipe = DiffusionPipeline.from_pretrained("ann/tiny", trust_remote_code=True)
drawn = pipe("a red apple", seed=7)
assert len(drawn.drawn_from[0]) == 4 and drawn.drawn_from[0][0].licence in ("MIT", "CC-BY-4.0")
without = pipe("a red apple", seed=7, memory_weight=0).images[0]
assert without.tobytes() != drawn.images[0].tobytes()
open({str(folder / "alone")!r}, "wb").write(drawn.images[0].tobytes())
assert pipe.memory.add([without], ["a green star"], style="round") == [36]
assert pipe.memory.remove([36]) == 1
pipe.memory.save({str(folder / "saved")!r})
"""
    (folder / "elsewhere").mkdir()
    environment = {"PATH": "/usr/bin:/bin", **server.environment(folder / "other-home", server.token("ann"))}
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, cwd=folder / "elsewhere", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert images[0] == images[1] == (folder / "alone").read_bytes()
    assert (folder / "saved/config.json").is_file()
