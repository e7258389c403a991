"""Pairs from a data set of the Hugging Face Hub, as its files lie in a folder here."""

from pathlib import Path

import datasets
import pytest
from test_draft import cache, draft, png, told  # noqa: F401

from mmgen.data import hub
from mmgen.errors import UserError


@pytest.fixture
def parquet(tmp_path):
    """A function that writes rows as a data set in a folder."""

    def write(columns: dict, features: dict | None = None, split: str = "train") -> Path:
        folder = tmp_path / "hub"
        folder.mkdir(exist_ok=True)
        table = datasets.Dataset.from_dict(columns, datasets.Features(features) if features else None)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
        return folder

    return write


def image_rows(count: int) -> list[dict]:
    return [{"bytes": png(size=(8 + i, 8)), "path": f"{i}.png"} for i in range(count)]


TEXT = datasets.Value("string")


def test_a_data_set_comes_in_with_guessed_columns(draft, parquet):
    texts = [f"thing {i}" for i in range(5)]
    columns = {"id": texts, "image": image_rows(5), "caption": texts}
    folder = parquet(columns, {"id": TEXT, "image": datasets.Image(), "caption": TEXT})
    seen = []
    added = draft.add_hub(folder, limit=4, on_progress=lambda share, words: seen.append(share))
    assert added.refused == [] and seen[-1] == 1.0
    assert told(draft) == [(f"{i}.png", f"thing {i}") for i in range(4)]
    assert draft.pairs[1].path.read_bytes() == png(size=(9, 8))
    draft.clear()
    draft.add_hub(folder, text_column="id", image_column="image")
    assert len(draft) == 5


def test_data_sets_of_other_shapes(draft, parquet):
    rows = [*image_rows(2), {"bytes": b"text", "path": None}, None]
    columns = {"photo": rows, "label": [0, 1, 1, 0]}
    folder = parquet(columns, {"photo": datasets.Image(), "label": datasets.ClassLabel(names=["red_apple", "cat"])})
    added = draft.add_hub(folder)
    assert told(draft) == [("0.png", "red apple"), ("1.png", "cat")] and len(added.refused) == 2
    assert any("Row 4 of" in sentence and "has no picture" in sentence for sentence in added.refused)
    draft.clear()
    raw = {"image": [row["bytes"] for row in image_rows(2)], "texts": [["one", "two"], []]}
    draft.add_hub(parquet(raw))
    assert told(draft) == [("00001.png", "one"), ("00002.png", "")] and draft.pairs[0].others == ("two",)


def test_columns_that_cannot_be_guessed_are_listed(draft, parquet):
    columns = {"left": image_rows(1), "right": image_rows(1), "one": ["x"], "two": ["y"]}
    folder = parquet(columns, {"left": datasets.Image(), "right": datasets.Image(), "one": TEXT, "two": TEXT})
    for named, says in (
        ({}, "holds the pictures. It has left, right, one, two"),
        ({"image_column": "left"}, "holds the captions. It has left, right, one, two"),
        ({"image_column": "one"}, "has no column one of pictures"),
        ({"image_column": "left", "text_column": "three"}, "has no column three of captions"),
        ({"split": "test"}, "has no split test. It has 'train'"),
    ):
        with pytest.raises(UserError) as error:
            draft.add_hub(folder, **named)
        assert says in str(error.value)
    assert draft.add_hub(folder, "left", "two").names == ["0.png"]


def test_a_name_is_never_a_folder_of_this_machine(draft, parquet, monkeypatch):
    folder = parquet({"image": image_rows(1), "text": ["x"]}, {"image": datasets.Image(), "text": TEXT})
    with pytest.raises(UserError, match="not the name of a data set"):
        draft.add_hub(str(folder))
    monkeypatch.setattr(hub, "HfApi", lambda token=None: _api("http://127.0.0.1:9"))
    monkeypatch.chdir(folder.parent.parent)
    with pytest.raises(UserError, match="could not be reached"):
        draft.add_hub(f"{folder.parent.name}/{folder.name}")
    with pytest.raises(UserError, match="no folder at"):
        draft.add_hub(folder / "gone")
    row = {"bytes": None, "path": "/gone/x.png"}
    with pytest.raises(UserError, match="not there"):
        hub._image(row, local=True)
    for path in ("/etc/hostname", "https://example.org/x.png", "file:///etc/hostname::hf://datasets/a/b/c"):
        with pytest.raises(UserError, match="not followed"):
            hub._image({**row, "path": path}, local=False)


def _api(endpoint: str):
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint)
