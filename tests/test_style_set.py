"""The bench of completed sets: it tells who draws the right thing in the right style from who does one of both."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from creatures import NAMES, write_creatures
from PIL import Image
from test_bench import cache, checkpoint_with_memory, creatures, extractor, in_style, quiet, real, with_memory  # noqa: F401

from mmgen.cli.main import main
from mmgen.errors import UserError
from mmgen.evaluation.style_set import style_set_scores, style_set_table


class Drawer:
    """The tiny pipeline, but its sets are completed by real pictures of a row that is chosen for each label."""

    def __init__(self, pipe, real, choose):
        self.pipe, self.real, self.choose, self.given = pipe, real, choose, []

    def __getattr__(self, name):
        return getattr(self.pipe, name)

    def __call__(self, *args, **options):
        return self.pipe(*args, **options)

    def complete(self, images, captions, labels, seeds):
        self.given.append((len(images), captions, labels))
        for label in labels:
            row = self.choose(np.flatnonzero(self.real.names == label), self.given[-1])
            yield SimpleNamespace(image=Image.open(self.real.paths[row]))


def row_in(real, style):
    return lambda rows, given: next(row for row in rows if real.styles[row] == style)


def test_right_things_in_the_right_style_are_told_from_others(real, extractor, with_memory):
    drawer = Drawer(with_memory, real, row_in(real, "dim"))
    scores = style_set_scores(drawer, extractor, real, "unseen_style", 10, quiet)
    [(count, captions, labels)] = drawer.given
    assert count == 5 and scores["asked"] == 2 == len(labels) and not set(captions) & set(labels)
    assert scores["style"] == "dim" and scores["labels"] == 7 and scores["style_followed_chance"] == 0.25
    assert scores["rows"]["given_5"] == {"label_at_1": 1.0, "style_followed": 1.0}
    assert set(scores["rows"]) == {"given_5", "memory_entry", "references", "other_style"}
    assert scores["rows"]["other_style"]["style_followed"] == 0.0
    other = Drawer(with_memory, real, row_in(real, "squat"))
    assert style_set_scores(other, extractor, real, "unseen_style", 10, quiet)["rows"]["given_5"]["style_followed"] == 0

    def copy(rows, given):  # What was given, whatever was asked for.
        return next(row for row in np.flatnonzero(real.names == given[1][0]) if real.styles[row] == "dim")

    copier = Drawer(with_memory, real, copy)
    assert style_set_scores(copier, extractor, real, "unseen_style", 10, quiet)["rows"]["given_5"]["label_at_1"] == 0


def test_the_command_prints_and_writes(checkpoint_with_memory, creatures, cache, extractor, tmp_path, capsys):
    report = tmp_path / "report.json"
    command = ["evaluate", "--checkpoint", str(checkpoint_with_memory), "--data", str(creatures)]
    command += ["--cache", str(cache), "--json", str(report), "--style-set"]
    assert main(command) == 0
    found = json.loads(report.read_text())
    assert all(0 <= row["label_at_1"] <= 1 for row in found["style_set"]["rows"].values())
    assert capsys.readouterr().out.strip() == style_set_table(found)
    own = write_creatures(tmp_path / "mine", NAMES[:9])
    assert main([*command, str(own)]) == 0
    found = json.loads(report.read_text())["style_set"]
    assert found["style"] == "set mine" and found["asked"] == 4 and found["labels"] == 9
    assert main([*command, str(creatures)]) == 1
    assert "several styles" in capsys.readouterr().err


def test_a_style_of_few_pictures_is_told(real, extractor, with_memory):
    few = (
        np.flatnonzero(real.splits != "unseen_style").tolist()
        + np.flatnonzero(real.splits == "unseen_style")[:4].tolist()
    )
    from mmgen.evaluation.style_set import _part

    with pytest.raises(UserError, match="has 4 labels; at least 7"):
        style_set_scores(with_memory, extractor, _part(real, np.array(few)), "unseen_style", 10, quiet)
