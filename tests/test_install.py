"""The package as pip builds and installs it, away from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmgen
from mmgen import checkpoints
from mmgen.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
BUILT_OF = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "requirements.txt")


def run(*command: object, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env={**inherited, **environment}, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder into which pip has installed a wheel of the package, without what it needs."""
    folder = tmp_path_factory.mktemp("install")
    sources = folder / "sources"
    shutil.copytree(ROOT / "mmgen", sources / "mmgen", ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILT_OF:  # Copied, as setuptools leaves a folder build/ beside what it builds.
        shutil.copyfile(ROOT / name, sources / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    options = ("--no-deps", "--no-build-isolation", "--no-index")
    done = run(*pip, "wheel", *options, "--wheel-dir", folder, sources, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = folder.glob("*.whl")
    done = run(*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.mark.slow
def test_a_wheel_brings_the_command_and_everything_of_the_package(installed, tmp_path):
    of_repository = {path.relative_to(ROOT) for path in (ROOT / "mmgen").rglob("*") if path.is_file()}
    of_wheel = {path.relative_to(installed) for path in (installed / "mmgen").rglob("*") if path.is_file()}
    assert {path for path in of_repository - of_wheel if "__pycache__" not in path.parts} == set()
    ways = {"mmgen": [installed / "bin/mmgen"], "python -m mmgen": ["-m", "mmgen"]}
    for called, way in ways.items():
        done = run(sys.executable, *way, "--help", folder=tmp_path, PYTHONPATH=str(installed))
        assert done.returncode == 0 and done.stdout.startswith(f"usage: {called} [-h] COMMAND"), done.stderr
    done = run(
        *(sys.executable, "-c", "import mmgen; print(mmgen.__file__)"), folder=tmp_path, PYTHONPATH=str(installed)
    )
    assert Path(done.stdout.strip()).is_relative_to(installed)


@pytest.mark.slow
def test_the_package_says_what_it_is_and_what_it_needs(installed):
    [about] = installed.glob("mmgen-*.dist-info")
    metadata = (about / "METADATA").read_text(encoding="utf-8").splitlines()
    assert f"Version: {mmgen.__version__}" in metadata and "License-Expression: Apache-2.0" in metadata
    needed = {line.removeprefix("Requires-Dist: ") for line in metadata if line.startswith("Requires-Dist: ")}
    assert needed == set((ROOT / "requirements.txt").read_text().split())
    for name in ("LICENSE", "NOTICE"):
        assert (about / "licenses" / name).read_bytes() == (ROOT / name).read_bytes()


def test_without_a_checkpoint_it_is_said_how_to_name_one(tmp_path, monkeypatch):
    monkeypatch.delenv("MMGEN_CHECKPOINT", raising=False)
    monkeypatch.setattr(checkpoints, "FOLDER", tmp_path)
    with pytest.raises(UserError, match="--checkpoint a folder or the name of a model on the Hub"):
        checkpoints.default_checkpoint()
    monkeypatch.setenv("MMGEN_CHECKPOINT", str(tmp_path / "mine"))
    assert checkpoints.default_checkpoint() == tmp_path / "mine"
