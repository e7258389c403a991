"""What passes between a job and whoever watches it: locks, commands, status; and where it all lies."""

from __future__ import annotations

import errno
import os

import pytest

from mmgen.errors import UserError
from mmgen.home import home, root
from mmgen.io import FileLock
from mmgen.training.common.control import (
    Control,
    is_alive,
    send,
    status,
    take_command,
)


def test_control_holds_its_folder_alone(tmp_path):
    assert not is_alive(tmp_path) and not (tmp_path / "lock").exists()
    with Control(tmp_path) as control:
        assert is_alive(tmp_path) and status(tmp_path)["state"] == "starting"
        with pytest.raises(UserError, match="Another process trains"), Control(tmp_path):
            pass
        control.report(state="running", step=1)
        control.report(step=2)
        assert status(tmp_path)["step"] == 1  # Too soon after the other.
    assert not is_alive(tmp_path) and status(tmp_path)["step"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "status.json"]


def test_control_survives_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Control(tmp_path) as control:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            control.report(state="running", step=1)
        assert status(tmp_path)["state"] == "starting"
        control.report(step=2, state="paused")
    assert status(tmp_path)["step"] == 2
    error = RuntimeError("PytorchStreamWriter failed writing file data/0")
    with pytest.raises(RuntimeError), Control(tmp_path):
        raise error
    assert status(tmp_path)["state"] == "failed" and "disk is full" in status(tmp_path)["error"]


def test_control_hears_each_command_once_and_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr("mmgen.training.common.control._LISTEN_SECONDS", 0)
    with Control(tmp_path) as control:
        assert control.command() is None
        send(tmp_path, "pause")
        send(tmp_path, "stop")
        send(tmp_path, "pause")
        assert control.command() == "stop" and control.command() is None
        (tmp_path / "command").write_bytes(b"\xff nonsense")
        assert control.command() is None and take_command(tmp_path) is None
    with pytest.raises(ValueError):
        send(tmp_path, "go")


def test_a_lock_of_a_folder_that_was_moved_away_is_none(tmp_path):
    (tmp_path / "old").mkdir()
    with FileLock(tmp_path / "old" / "lock") as lock:
        assert lock.acquire()
        (tmp_path / "old").rename(tmp_path / "away")
        with FileLock(tmp_path / "old" / "lock") as other, pytest.raises(FileNotFoundError):
            other.acquire()
        (tmp_path / "old").mkdir()
        with FileLock(tmp_path / "old" / "lock") as other:
            assert other.acquire()


def test_home_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path / "all"))
    assert root() == tmp_path / "all" and not root().exists()
    assert home("anna_1") == tmp_path / "all" / "anna_1" and home("anna_1").is_dir()
    for owner in ("", "..", "a/b", "x" * 65, "ä", "a\n"):
        with pytest.raises(UserError, match="cannot be the name"):
            home(owner)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMGEN_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="Set MMGEN_HOME"):
        home()
