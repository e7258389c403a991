"""Put the studio on the Hugging Face Hub as a Space that starts by itself."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from mmgen.checkpoints import default_checkpoint, find_checkpoint, load_pipeline
from mmgen.errors import UserError
from mmgen.hub.card import with_metadata
from mmgen.hub.prepare import place
from mmgen.hub.send import Parcel, ProgressCallback, PublishedFile, checked_name, checked_token, files_in, send
from mmgen.parts import FILES

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = ("app.py", "requirements.txt")
SOURCES = (".py", ".js", ".css", ".json", ".html", ".svg", ".png", ".webp", ".jpg", ".txt", ".woff2")
"""How the names of files end that belong to the package."""

HARDWARE = ("cpu-basic", "cpu-upgrade", "zero-a10g", "t4-small", "l4x1", "a10g-small")
SCOPE = "contribute-repos"
"""What visitors who sign in are asked for: to make repositories, and to write to those made so. No other is reached."""

_REPLACED = ["mmgen/**", "checkpoints/**"]
_GRADIO = re.compile(r"^gradio(?:\[[^]]*\])?==(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Deployed:
    """Attributes:
    url: of the Space's page.
    commit: that holds the files; None after a dry run.
    files: all that was sent.
    readme: README.md, with the settings of the Space at its head.
    """

    url: str
    commit: str | None
    files: list[PublishedFile]
    readme: str


def deploy(
    repo_id: str,
    checkpoint: str | Path | None = None,
    private: bool = True,
    oauth: bool = True,
    hardware: str = HARDWARE[0],
    dry_run: bool = False,
    on_progress: ProgressCallback | None = None,
    token: str | None = None,
) -> Deployed:
    """Put the program and one checkpoint on the Hub as a Space. Done again it changes nothing.

    Nothing else of this machine leaves it. Of an older version, modules and checkpoints that are no more are deleted
    there; what else lies in the Space stays.

    Args:
        repo_id: `user/name`; made if it is not there.
        checkpoint: a folder, or the name of a model on the Hub; by default that of the page.
        private: whether it is made for its owner alone. One that is there must be so already.
        oauth: whether visitors may sign in with Hugging Face, to publish, and to find their things on every device.
        hardware: what is suggested to who copies the Space; one's own is chosen in its settings.
        dry_run: prepare everything and send nothing; needs neither a network nor a token.
        on_progress: takes 0 to 1 and what is being done.
        token: by default that of who is signed in. It is sent to the Hub and goes nowhere else.

    Raises:
        UserError: the checkpoint is not whole, the name cannot be used, nobody is signed in, or the Hub refuses or
            cannot be reached.
    """
    tell = on_progress or (lambda share, text: None)
    name = checked_name(repo_id, "Space")
    signed_in = None if dry_run else checked_token(token)
    tell(0.0, "Preparing the files")
    found = find_checkpoint(checkpoint or default_checkpoint()).resolve()
    load_pipeline(found, "cpu")  # What cannot be drawn with here does not start there.
    with tempfile.TemporaryDirectory(prefix="mmgen-deploy-") as temporary:
        folder = Path(temporary)
        try:
            _lay_out(folder, found)
            requirements = (folder / "requirements.txt").read_text(encoding="utf-8")
            version = _GRADIO.search(requirements)
            if version is None:
                raise UserError("requirements.txt names no version of gradio. Add a line like gradio==6.31.0.")
            readme = space_readme(name, found.name, version[1], oauth, hardware)
            (folder / "README.md").write_text(readme, encoding="utf-8")
            files = files_in(folder)
        except OSError as error:
            raise UserError(f"The Space could not be prepared ({error}). Mend that.") from error
        parcel = Parcel(
            name,
            folder,
            files,
            "Deploy from mmgen",
            private,
            kind="space",
            options={"space_sdk": "gradio"},
            replaced=_REPLACED,
        )
        commit = send(parcel, signed_in, tell) if signed_in else None
    tell(1.0, "Nothing was sent" if dry_run else "Everything arrived")
    return Deployed(f"{constants.ENDPOINT}/spaces/{name}", commit, files, readme)


def space_readme(name: str, checkpoint: str, gradio: str, oauth: bool, hardware: str) -> str:
    """The README of a Space.

    Args:
        name: `user/name`.
        checkpoint: the name of its folder.
        gradio: the version of gradio.
    """
    head = {
        "title": name.partition("/")[2],
        "emoji": "🎨",
        "colorFrom": "indigo",
        "colorTo": "pink",
        "sdk": "gradio",
        "sdk_version": gradio,
        "python_version": "3.11",
        "app_file": "app.py",
        "suggested_hardware": hardware,
        "license": "other",
        "tags": ["text-to-image", "gan", "mmgen"],
        "short_description": "A GAN that draws while you type",
        "pinned": False,
    }
    if oauth:
        head |= {"hf_oauth": True, "hf_oauth_scopes": [SCOPE]}
    return with_metadata(
        head,
        f"""# {head["title"]}

Type a prompt, drop in reference pictures, and watch a GAN draw while you type. In the Train tab it learns pictures of
yours; only you reach them, and they are deleted some time after your last visit. It draws with
`checkpoints/{checkpoint}`, whose README.md tells what it was trained on, and under which licences.""",
    )


def _lay_out(folder: Path, checkpoint: Path) -> None:
    """Copy the program and the checkpoint's own files into an empty folder."""
    for name in PROGRAM:
        if not (ROOT / name).is_file():
            raise UserError(f"{name} is not beside this mmgen. Deploy from a copy of the repository.")
        _copy(ROOT / name, folder / name)
    for source in sorted((ROOT / "mmgen").rglob("*")):
        inside = source.relative_to(ROOT)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
        if source.suffix in SOURCES and source.is_file() and not source.is_symlink() and not hidden:
            _copy(source, folder / inside)
    target = folder / "checkpoints" / checkpoint.name
    for file in FILES:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        place(checkpoint / file, target / file)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
