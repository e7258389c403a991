"""Publishing by the real client of the Hugging Face Hub, against a small Hub of ours."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hub_fixtures import PARTS, WEIGHTS, checkpoint, draw, folder, hub, mmgen, one_sentence, published, server  # noqa: F401
from hub_server import HubServer
from PIL import Image

from mmgen.checkpoints import FOLDER, name_of
from mmgen.errors import UserError
from mmgen.hub.card import card
from mmgen.hub.standalone import standalone


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


@pytest.mark.slow
@pytest.mark.parametrize("how", [503, "close"])
def test_whichever_request_fails_once_is_made_good(hub, mmgen, published, checkpoint, requests, how):
    for number in range(1, len(requests) + 1):
        hub.heal()
        hub.large.clear()
        hub.fail(number, how)
        name = f"ann/{how}-{number}"
        status, told = mmgen("publish", checkpoint, name)
        assert status == 0 and arrived(hub, name, published), (hub.requests[number - 1], told)


@pytest.mark.slow
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
    for made in (fetched, result):
        made.mkdir(parents=True)
    assert name_of(fetched) == "ann/tiny" and name_of(tmp_path / "mmgen-emoji") == "mmgen-emoji"
    assert name_of(result) == "run"
    (result / "training.json").write_text('{"base": "ann/tiny"}')
    assert name_of(result) == "ann/tiny"


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
