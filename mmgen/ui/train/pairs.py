"""The Train tab's first half: a person's pairs, and what the doctor says of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.blocks import Block

from mmgen.data.draft import Added, Draft
from mmgen.errors import UserError
from mmgen.services.background import BackgroundTask
from mmgen.space import on_space
from mmgen.ui.common import show
from mmgen.ui.common.context import PAIRS_QUEUE, Context
from mmgen.ui.common.show import note, problem
from mmgen.ui.common.theme import FETCH_JS
from mmgen.ui.train.rows import build_list, findings_data, pairs_data
from mmgen.ui.web.files import new_file, uploaded_path
from mmgen.ui.web.owner import owner_of

NOT_UPLOADED = "A file must be an uploaded picture or zip file"
START = {"view": "all", "page": 0}

_PROGRESS = gr.Progress()
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
_INTRO = "Drop pictures, captions beside them (<code>cat.txt</code> for <code>cat.png</code>), or a zip of them."
_MAX_TOLD = 5


class Pairs:
    """The two sections; `add` and `add_check` place them, `connect` connects them."""

    def __init__(self, context: Context):
        self.context, self.drafts = context, context.drafts

    def add(self) -> None:
        """Place the section of the pairs."""
        with gr.Column(elem_id="pairs-section", elem_classes="section"):
            gr.HTML(f"<h2>1 Your pairs</h2><p>{_INTRO}</p>", elem_classes="heading")
            self.drop = gr.File(
                file_count="multiple",
                label="Pictures",
                show_label=False,
                type="filepath",
                height=120,
                elem_id="drop",
            )
            self.more = self._add_more()
            self.said = gr.HTML(elem_id="pairs-said", elem_classes="told")
            self.list = build_list("pairs.js", "pairs")
        self.view = gr.State(dict(START))
        self.packet = gr.File(visible=False)

    def add_check(self) -> None:
        """Place the section of the doctor."""
        with gr.Column(elem_id="check-section", elem_classes="section"):
            gr.HTML(
                "<h2>2 Check them</h2><p>The model looks at every pair and says what would train badly.</p>",
                elem_classes="heading",
            )
            self.button = gr.Button("Check my pairs", elem_id="check")
            self.checked = gr.HTML(elem_id="check-said", elem_classes="told")
            self.findings = build_list("findings.js", "findings")

    def _add_more(self) -> list[tuple[Any, ...]]:
        """Where else pairs can come from: buttons, each with what it does and the fields it reads."""
        with gr.Accordion("From elsewhere", open=False, elem_id="elsewhere"):
            with gr.Row(equal_height=True):
                name = gr.Textbox(label="Data set of the Hugging Face Hub", placeholder="user/name", min_width=200)
                image = gr.Textbox(label="Column of pictures", placeholder="found by itself", min_width=120)
                text = gr.Textbox(label="Column of captions", placeholder="found by itself", min_width=120)
                most = gr.Number(200, label="At most", precision=0, minimum=1, maximum=10_000, min_width=90)
            found: list[tuple[Any, ...]] = [
                (gr.Button("Add data set", size="sm"), self.add_hub, [name, image, text, most])
            ]
            if not on_space():
                folder = gr.Textbox(label="Folder of this machine", placeholder="/home/me/pictures")
                found.append((gr.Button("Add folder", size="sm"), self.add_folder, [folder]))
        return found

    def connect(self) -> None:
        """Connect them; the pairs of the last time are shown when the page opens."""
        draft = self.context.draft
        shown = [self.list, self.view, self.findings]
        adding: dict[str, Any] = {
            "concurrency_id": "adding",
            "concurrency_limit": 4,
            "show_progress_on": self.said,
            **_PRIVATE,
        }
        reading, looking = (
            {"fn": lambda words=words: note(words), **_INSTANT}
            for words in ("Reading the pictures.", "Looking at them.")
        )
        self.drop.upload(outputs=self.said, **reading).then(
            self.add_files,
            inputs=[self.drop, draft],
            outputs=[self.drop, draft, self.said, *shown],
            preprocess=False,
            **adding,
        )
        for button, add, fields in self.more:
            button.click(outputs=self.said, **reading).then(
                add, inputs=[draft, *fields], outputs=[draft, self.said, *shown], **adding
            )
        # None is left out, so that the last caption typed is the one that is kept.
        changing: dict[str, Any] = {"trigger_mode": "multiple", "show_progress": "hidden", **PAIRS_QUEUE, **_PRIVATE}
        self.list.save(self.save, inputs=draft, outputs=self.said, **changing)
        acted = self.list.act(self.act, inputs=[draft, self.view], outputs=[self.packet, self.said, *shown], **changing)
        acted.then(None, inputs=self.packet, js=FETCH_JS, **_PRIVATE)
        self.list.caption(
            self.caption,
            inputs=draft,
            outputs=self.said,
            trigger_mode="once",
            show_progress="hidden",
            concurrency_id="caption",
            concurrency_limit=4,
            **_PRIVATE,
        ).then(
            self.refresh,
            inputs=[draft, self.view],
            outputs=shown,
            show_progress="hidden",
            **PAIRS_QUEUE,
            **_PRIVATE,
        )
        self.button.click(outputs=self.checked, **looking).then(
            self.check,
            inputs=[draft, self.view],
            outputs=[self.checked, *shown],
            concurrency_id="doctor",
            concurrency_limit=1,
            show_progress_on=self.checked,
            **_PRIVATE,
        )
        self.findings.act(self.apply_fix, inputs=[draft, self.view], outputs=[self.checked, *shown], **changing)
        self.context.demo.load(self.opened, inputs=draft, outputs=shown, **_INSTANT)

    def opened(self, request: gr.Request, draft_id: str) -> dict[Block, Any]:
        """What the browser was preparing before."""
        return self.refresh(request, draft_id, START)

    def refresh(self, request: gr.Request, draft_id: str, view: dict) -> dict[Block, Any]:
        """The list as it is now, where it was left."""
        try:
            return self._shown(owner_of(request), draft_id, view)
        except UserError:
            return gr.skip()

    def add_files(self, request: gr.Request, files: Any, draft_id: str, progress=_PROGRESS) -> dict[Block, Any]:
        """Take what was dropped."""

        def add(draft: Draft) -> Added:
            paths = [uploaded_path(file, NOT_UPLOADED) for file in files or []]
            return draft.add_files(paths, on_progress=_teller(progress))

        return {self.drop: None, **self._add(request, draft_id, add)}

    def add_hub(
        self, request: gr.Request, draft_id: str, name: str, image: str, text: str, most: float, progress=_PROGRESS
    ) -> dict[Block, Any]:
        """Take pairs of a data set."""

        def add(draft: Draft) -> Added:
            limit = min(max(1, int(most or 1)), 10_000)
            return draft.add_hub(
                name or "", image.strip() or None, text.strip() or None, limit=limit, on_progress=_teller(progress)
            )

        return self._add(request, draft_id, add)

    def add_folder(self, request: gr.Request, draft_id: str, folder: str, progress=_PROGRESS) -> dict[Block, Any]:
        """Take copies of a folder's pairs."""

        def add(draft: Draft) -> Added:
            if not folder.strip():
                raise UserError("There is no folder yet. Write its path, then add it.")
            return draft.add_folder(folder.strip(), on_progress=_teller(progress))

        return self._add(request, draft_id, add)

    def _add(self, request: gr.Request, draft_id: str, add) -> dict[Block, Any]:
        owner = owner_of(request)
        try:
            if not self.drafts.has_draft(owner, draft_id):
                draft_id = self.drafts.new_draft(owner)
            draft = self.drafts.draft(owner, draft_id)
            added = add(draft)
            page = {"view": "all", "page": 0 if len(added.names) == len(draft) else 10**6}
            said, shown = told(added), self._shown(owner, draft_id, page)
        except UserError as error:
            said, shown = problem(error), {}
        return {self.context.draft: draft_id, self.said: said, **shown}

    def save(self, request: gr.Request, event: gr.EventData, draft_id: str) -> str:
        """Keep a caption."""
        try:
            name, text = _texts(event, "name", "text")
            self.drafts.draft(owner_of(request), draft_id).set_caption(name, text)
        except UserError as error:
            return problem(error)
        return note("Saved.")

    def act(self, request: gr.Request, event: gr.EventData, draft_id: str, view: dict) -> dict[Block, Any]:
        """Do what a button of the list says."""
        owner, asked, packet, said = owner_of(request), event._data or {}, None, ""
        try:
            draft = self.drafts.draft(owner, draft_id)
            match asked.get("act"):
                case "remove":
                    (name,) = _texts(event, "name")
                    draft.remove([name])
                    said = f"{name} is removed."
                case "clear":
                    draft.clear()
                    view, said = START, "All pairs are removed."
                case "export":
                    packet = str(draft.export(new_file("mmgen-pairs.zip")))
                case "show":
                    view = {"view": str(asked.get("view")), "page": 0}
                case "page":
                    view = {**view, "page": _whole(asked.get("page"))}
            return {self.packet: packet, self.said: note(said), **self._shown(owner, draft_id, view)}
        except UserError as error:
            return {self.packet: None, self.said: problem(error)}

    def caption(self, request: gr.Request, draft_id: str) -> Iterator[str]:
        """Let the model write the captions that are missing."""
        owner, service = owner_of(request), self.context.models.default
        work = BackgroundTask(
            lambda tell: self.drafts.caption_rest(owner, draft_id, service, tell)
        )  # Goes on without the page.
        for share, words in work.steps():
            if words:
                yield show.progress(share, words)
        try:
            yield captioned(*work.result())
        except UserError as error:
            yield problem(error)

    def check(self, request: gr.Request, draft_id: str, view: dict, progress=_PROGRESS) -> dict[Block, Any]:
        """Let the doctor look at all pairs."""
        owner = owner_of(request)
        try:
            if not self.drafts.has_draft(owner, draft_id):
                raise UserError("There are no pairs to check yet. Add some pictures.")
            self.drafts.check(owner, draft_id, self.context.models.default.pipe, _teller(progress))
            return {self.checked: "", **self._shown(owner, draft_id, view)}
        except UserError as error:
            return {self.checked: problem(error)}

    def apply_fix(self, request: gr.Request, event: gr.EventData, draft_id: str, view: dict) -> dict[Block, Any]:
        """Do what a button of a finding says."""
        owner, said = owner_of(request), ""
        try:
            act, kind = _texts(event, "act", "kind")
            if act == "mend":
                self.drafts.apply_fix(owner, draft_id, kind)
                said = "Done."
            else:
                view = {"view": kind, "page": 0}
            return {self.checked: note(said), **self._shown(owner, draft_id, view)}
        except UserError as error:
            return {self.checked: problem(error)}

    def _shown(self, owner: str, draft_id: str, view: dict) -> dict[Block, Any]:
        draft, checkup = self.drafts.draft(owner, draft_id), self.drafts.checkup(owner, draft_id)
        pairs = pairs_data(draft_id, draft, checkup, view)
        return {
            self.list: pairs,
            self.view: {"view": pairs["view"], "page": pairs["page"]},
            self.findings: findings_data(checkup, draft.pairs),
        }


def told(added: Added) -> str:
    """What came of adding, as HTML."""
    count, refused, warnings = len(added.names), added.refused, added.report.warnings()
    words = f"{count:,} {'picture' if count == 1 else 'pictures'} added." if count else ""
    if not refused and not warnings:
        return note(words or "There was nothing to add.")
    more = [f"And {len(refused) - _MAX_TOLD:,} more were not taken."] if len(refused) > _MAX_TOLD else []
    notes = "".join(map(note, filter(None, [words, *warnings[:_MAX_TOLD]])))
    return notes + "".join(problem(one) for one in [*refused[:_MAX_TOLD], *more])


def captioned(written: int, failed: int) -> str:
    """What came of captioning, as HTML."""
    said = f"{written:,} {'caption' if written == 1 else 'captions'} written. " if written else ""
    if written:
        said += "Read them: the model names everything by what it knows."
    left = f"{failed:,} {'picture' if failed == 1 else 'pictures'} could not be described." if failed else ""
    return note(said or left or "Every picture has a caption.") + (problem(left) if said and left else "")


def _teller(progress: gr.Progress):
    return lambda share, words: progress(share, desc=words)


def _texts(event: gr.EventData, *names: str) -> tuple[str, ...]:
    sent = event._data or {}
    found = tuple(text for name in names if isinstance(text := sent.get(name), str))
    if len(found) < len(names):
        raise UserError("The page sent something else than was expected. Reload it.")
    return found


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
