"""What a job keeps in its folder, and the command that is made of its settings."""

from __future__ import annotations

import argparse
import json

from PIL import Image
from test_jobs import base, draft, jobs, start  # noqa: F401

from mmgen.cli import finetune
from mmgen.jobs import command as command_module
from mmgen.jobs.command import finetune_command
from mmgen.training.finetune.settings import FinetuneSettings


def test_half_written_files(jobs, start):
    job = start()
    samples = job.run / "samples"
    samples.mkdir()
    Image.new("RGB", (64, 64)).save(samples / "00000000.png")
    (samples / "00000005.png").write_bytes((samples / "00000000.png").read_bytes()[:-5])
    (samples / "00000006.png").touch()
    assert job.samples == [samples / "00000000.png"]
    (job.run / "log.csv").write_text(
        "step,images,time,paired\r\n1,4,10.5,nan\r\n2,8\r\nx,,,\r\n3,12,11.5,0.2\r\n4,16,1"
    )
    assert [row["step"] for row in job.log()] == [1, 3] and job.log(10.5) == [
        {"step": 3, "images": 12, "time": 11.5, "paired": 0.2}
    ]
    (job.run / "status.json").write_text('{"state": "run')
    assert job.status == {} and job.state == "queued"
    (job.folder / "job.json").write_text("{")
    assert jobs.list() == []


def test_the_command_is_one_that_finetune_reads(tmp_path):
    settings = FinetuneSettings("style", 2.5, None, 0.3, False, 7, ["a cat", "--resume", " ", "貓\n狗"])
    parser = argparse.ArgumentParser()
    finetune.add_parser(parser.add_subparsers())
    command = finetune_command(settings, tmp_path / "base", tmp_path / "pairs", tmp_path / "run")
    read = parser.parse_args(command[len(command_module.PROGRAM) :])
    assert (read.data, read.base, read.output) == (tmp_path / "pairs", tmp_path / "base", tmp_path / "run")
    assert read.settings == settings and read.resume
    assert read.settings.prompts == ["a cat", "--resume", "貓 狗"]
    command = finetune_command(FinetuneSettings(steps=9), tmp_path, tmp_path, tmp_path)
    read = parser.parse_args(command[len(command_module.PROGRAM) :])
    assert read.settings == FinetuneSettings(steps=9) and read.settings.run_config(tmp_path, False).minutes is None


def test_what_another_version_kept_is_read(jobs, start):
    job = start()
    kept = json.loads((job.folder / "job.json").read_text())
    kept["settings"]["later"] = 1
    (job.folder / "job.json").write_text(json.dumps(kept))
    assert jobs.get(job.id).settings == job.settings
