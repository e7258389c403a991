"""The Train tab's last part: a set that the model completes in the style of the person's pairs, as they look on."""

from __future__ import annotations

import io
import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from gradio.blocks import Block

from mmgen.errors import UserError
from mmgen.images import open_image
from mmgen.services.background import BackgroundTask
from mmgen.services.drawn_set import Drawing, DrawnSet, SetOptions, SetState
from mmgen.services.models import DEFAULT
from mmgen.services.set_drawing import NO_MEMORY, Run
from mmgen.services.set_parcel import SIZES, SetRequest
from mmgen.ui.common.context import PAIRS_QUEUE, Context
from mmgen.ui.common.show import note, problem, progress
from mmgen.ui.common.theme import FETCH_JS
from mmgen.ui.publish.words import arrived, card_shown, files_table, slug, total
from mmgen.ui.train.rows import build_list
from mmgen.ui.train.watch import Changes
from mmgen.ui.web.account import account_of, token_of
from mmgen.ui.web.files import keep, new_file, uploaded_path
from mmgen.ui.web.owner import owner_of

SECONDS = 0.8
"""Between two looks at a set that is being drawn."""

PAGE = 60
"""Drawings that are shown at once."""

MAX_OWN = 12
"""Of the person's pictures that are shown beside them."""

_SHOWN_SIDE = 192
_ADDRESS_SECONDS = 1200.0  # gradio clears a file away after an hour.
_MAX_ADDRESSES = 4096
_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
_SETS_QUEUE: dict[str, Any] = {"concurrency_id": "sets", "concurrency_limit": 4, "show_progress": "hidden"}
_PARCEL_QUEUE: dict[str, Any] = {"concurrency_id": "parcels", "concurrency_limit": 2, "show_progress": "hidden"}
_PLAIN = gr.InputHTMLAttributes(autocomplete="off", spellcheck=False, autocapitalize="off")
_NOTHING_LEAVES = "Nothing is sent until you press Publish. First, every file and the card are shown here."
_LOOK_FIRST = "Look at what would be sent first: the set or what is said of it has changed since."
_DEFAULT_SIZES = [32, 72, 128]
_DRAWN_JS = """() => {
    if (!document.querySelector("#set-said .problem:not(:empty)")) {
        document.dispatchEvent(new CustomEvent("mmgen-labels-drawn"));
    }
}"""


class Complete:
    """The section; `add` places it, `connect` connects it."""

    def __init__(self, context: Context):
        self.context, self.sets, self.parcels = context, context.sets, context.parcels
        self.timer = gr.Timer(SECONDS, active=False)
        self.seen, self.page, self.looked_at = gr.State({}), gr.State(0), gr.State("")
        self._addresses: OrderedDict[Path, tuple[float, str]] = OrderedDict()

    def add(self) -> None:
        """Place the section."""
        with gr.Column(elem_id="complete-section", elem_classes="section"):
            gr.HTML(
                "<h2>Complete a set</h2><p>The model draws what is missing, in the style of your pairs: at once from "
                "its memory, sharper after a training on them.</p>",
                elem_classes="heading",
            )
            with gr.Row(equal_height=True, elem_id="set-options"):
                self.model = gr.Dropdown(
                    [self.context.models.default_choice],
                    value=DEFAULT,
                    label="Draw with",
                    filterable=False,
                    min_width=180,
                    elem_id="set-model",
                )
                self.cut_out = gr.Checkbox(
                    False,
                    label="Cut out even grounds",
                    info="Of pictures without transparency, such as scans on white.",
                    min_width=200,
                    elem_id="set-cut-out",
                )
            with gr.Accordion("Advanced", open=False, elem_id="set-advanced"):
                with gr.Row(equal_height=True):
                    self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=140)
                    self.truncation = gr.Slider(
                        0, 1, value=1, step=0.05, label="Truncation", info="0: the usual; 1: all variety.", buttons=[]
                    )
            self.labels_said = gr.HTML(elem_id="labels-said", elem_classes="told")
            self.labels = build_list("labels.js", "labels")
            self.progress = gr.HTML(elem_id="set-progress", elem_classes="told")
            with gr.Row(elem_id="set-steer"):
                self.stop = gr.Button("Stop", size="sm", min_width=80, visible=False, elem_id="set-stop")
                self.go_on = gr.Button("Go on", size="sm", min_width=80, variant="primary", visible=False)
                self.leave = gr.Button("Leave the rest out", size="sm", min_width=80, visible=False)
                self.again = gr.Button(
                    "Draw all again that are not kept", size="sm", min_width=80, visible=False, elem_id="set-again"
                )
            self.said = gr.HTML(elem_id="set-said", elem_classes="told")
            self.sheet = build_list("sheet.js", "sheet")
            with gr.Column(visible=False, elem_id="set-home") as self.home:
                self._add_parcel()
        self.packet = gr.File(visible=False)

    def _add_parcel(self) -> None:
        """What is taken, and said of the person's own pictures; the download; the data set on the Hub."""
        with gr.Row(equal_height=True):
            self.author = gr.Textbox(label="Author of your pictures", min_width=140, max_length=300)
            self.licence = gr.Textbox(label="Their licence", placeholder="such as CC-BY-4.0", min_width=140)
            self.source = gr.Textbox(label="Where they are from", placeholder="an address", min_width=140)
        with gr.Row():
            self.kept_only = gr.Checkbox(False, label="Only drawings that I keep", min_width=180, elem_id="kept-only")
            self.with_own = gr.Checkbox(True, label="My own pictures too", min_width=180)
        with gr.Accordion("Download the set", open=True, elem_id="set-download"):
            self.sizes = gr.CheckboxGroup(
                [(f"{size} px" + (", made larger" if size > 256 else ""), size) for size in SIZES],
                value=_DEFAULT_SIZES,
                label="Sizes besides the drawn one",
                info="20 to 160 for fonts with bitmaps (sbix, CBDT), 512 for stickers.",
                elem_id="set-sizes",
            )
            self.download = gr.Button("Download zip", elem_id="set-zip")
            self.downloaded = gr.HTML(elem_id="set-zip-said", elem_classes="told")
        with gr.Accordion("Publish it as a data set", open=False, elem_id="set-publish"):
            self.account = gr.HTML(elem_classes="told", elem_id="set-account")
            with gr.Row(equal_height=True):
                self.name = gr.Textbox(
                    label="Name on the Hub",
                    placeholder="user/name",
                    max_lines=1,
                    min_width=200,
                    elem_id="set-name",
                    html_attributes=_PLAIN,
                )
                self.private = gr.Checkbox(True, label="Private", info="Only you can see it.", min_width=140)
            with gr.Row():
                self.look_button = gr.Button("Show what would be sent", min_width=120, elem_id="set-look")
                self.send_button = gr.Button(
                    "Publish", variant="primary", min_width=120, interactive=False, elem_id="set-send"
                )
            self.sent = gr.HTML(elem_id="set-sent", elem_classes="told")
            self.files = gr.HTML(note(_NOTHING_LEAVES), elem_id="set-files", elem_classes="told")
            self.card = gr.Markdown(latex_delimiters=[], elem_id="set-card", visible=False)

    def connect(self, pairs_list: gr.HTML) -> None:
        """Connect it.

        Args:
            pairs_list: changes with the pairs.
        """
        draft, demo = self.context.draft, self.context.demo
        self.looking = [draft, self.page, self.seen]
        self.shown = [
            self.sheet, self.progress, self.stop, self.go_on, self.leave, self.again, self.home, self.timer, self.seen
        ]  # fmt: skip
        self.options = [self.model, self.cut_out, self.seed, self.truncation]
        demo.load(
            self.opened, inputs=draft, outputs=[*self.options, self.labels, self.labels_said], **_SETS_QUEUE, **_PRIVATE
        ).then(self.look, inputs=self.looking, outputs=self.shown, **_INSTANT)
        self.timer.tick(self.look, inputs=self.looking, outputs=self.shown, trigger_mode="once", **_INSTANT)
        gr.on(
            [pairs_list.change, self.model.input],
            self.known,
            inputs=[draft, self.model],
            outputs=[self.labels, self.labels_said],
            trigger_mode="always_last",
            **_SETS_QUEUE,
            **_PRIVATE,
        ).then(self.look, inputs=self.looking, outputs=self.shown, **_INSTANT)
        acting: dict[str, Any] = {"show_progress": "hidden", **PAIRS_QUEUE, **_PRIVATE}
        self._look_after(
            self.labels.draw(self.draw, [draft, *self.options], [self.said, self.page], **acting).then(
                None, js=_DRAWN_JS, **_PRIVATE
            )
        )
        self._look_after(self.again.click(self.draw_again, [draft, *self.options], self.said, **acting))
        self._look_after(self.go_on.click(self.resume, draft, self.said, **acting))
        self._look_after(self.stop.click(self.halt, draft, self.said, **_INSTANT))
        self._look_after(self.leave.click(self.leave_out, draft, self.said, **_INSTANT))
        self._look_after(
            self.sheet.act(self.act, [draft, self.page], [self.said, self.page], trigger_mode="multiple", **acting)
        )
        self._connect_parcel()

    def _look_after(self, event: Any) -> None:
        event.then(self.look, inputs=self.looking, outputs=self.shown, **_INSTANT)

    def _connect_parcel(self) -> None:
        draft = self.context.draft
        request: list[Any] = [self.kept_only, self.with_own, self.author, self.licence, self.source]
        self.download.click(
            self.pack,
            inputs=[draft, self.sizes, *request],
            outputs=[self.downloaded, self.packet],
            trigger_mode="once",
            preprocess=False,
            **_PARCEL_QUEUE,
            **_PRIVATE,
        ).then(None, inputs=self.packet, js=FETCH_JS, **_PRIVATE)
        self.context.tabs.select(self.suggest, inputs=self.name, outputs=[self.account, self.name], **_INSTANT)
        gr.on(
            [self.name.change, self.looked_at.change, self.seen.change, *(one.change for one in request)],
            self.allow,
            inputs=[draft, self.name, self.looked_at, *request],
            outputs=self.send_button,
            trigger_mode="always_last",
            **_INSTANT,
        )
        sending: dict[str, Any] = {"trigger_mode": "once", **_PARCEL_QUEUE, **_PRIVATE}
        gr.on(
            [self.look_button.click, self.name.submit],
            self.show_parcel,
            inputs=[draft, self.name, *request],
            outputs=[self.sent, self.files, self.card, self.looked_at],
            **sending,
        )
        self.send_button.click(
            self.send,
            inputs=[draft, self.name, self.looked_at, self.private, *request],
            outputs=[self.sent, self.look_button, self.send_button],
            **sending,
        )

    def opened(self, request: gr.Request, draft_id: str) -> dict[Block, Any]:
        """How the set of the last time was drawn, and what its model knows."""
        owner, model = owner_of(request), DEFAULT
        changes: dict[Block, Any] = {}
        if self.context.drafts.has_draft(owner, draft_id) and self.sets.drawn_set(owner, draft_id).revision:
            options = self.sets.drawn_set(owner, draft_id).read().options
            choices = self.context.models.choices(owner)
            model = options.model if options.model in [key for _, key in choices] else DEFAULT
            changes = {
                self.model: gr.Dropdown(choices=choices, value=model),
                self.cut_out: options.cut_out,
                self.seed: options.seed,
                self.truncation: options.truncation,
            }
        return {**changes, **self.known(request, draft_id, model)}

    def known(self, request: gr.Request, draft_id: str, model: object) -> dict[Block, Any]:
        """What can be drawn, and which of that is the person's own."""
        owner = owner_of(request)
        drafts, own = self.context.drafts, []
        if drafts.has_draft(owner, draft_id):
            own = [pair.text for pair in drafts.draft(owner, draft_id).pairs if pair.text]
        try:
            labels, groups = self.sets.known(owner, model)
        except UserError as error:
            told_of = note if str(error) == NO_MEMORY else problem  # The default may have none, which nobody did wrong.
            return {self.labels: labels_data([], [], own), self.labels_said: told_of(str(error))}
        found = [{"name": one.name, "style": one.is_style, "labels": one.labels} for one in groups]
        return {self.labels: labels_data(labels, found, own), self.labels_said: ""}

    def look(self, request: gr.Request, draft_id: str, page: int, seen: dict) -> dict[Block, Any]:
        """What has changed since the last look."""
        owner, changes = owner_of(request), Changes(seen)
        if not self.context.drafts.has_draft(owner, draft_id):
            run, state, key = None, SetState(), (0, 0)
            made = None
        else:
            made = self.sets.drawn_set(owner, draft_id)
            run, key = self.sets.run(owner, draft_id), (made.revision, page)
            state = made.read() if made.revision else SetState()
        busy = run is not None and run.busy
        drawn, waiting = bool(state.drawn), bool(state.waiting)
        line = told(state, run)
        sheet_key = [draft_id, *key]
        changes.show(self.sheet, "sheet", sheet_key, lambda: self._sheet(owner, draft_id, made, state, page))
        changes.show(self.progress, "progress", line, lambda: line)
        changes.show(self.stop, "stop", busy, lambda: gr.Button(visible=busy))
        going = not busy and waiting
        changes.show(self.go_on, "go on", going, lambda: gr.Button(visible=going))
        changes.show(self.leave, "leave", going, lambda: gr.Button(visible=going))
        again = drawn and not busy
        changes.show(self.again, "again", again, lambda: gr.Button(visible=again))
        changes.show(self.home, "home", drawn, lambda: gr.Column(visible=drawn))
        changes.show(self.timer, "timer", busy, lambda: gr.Timer(active=busy))
        return {**changes.shown, self.seen: changes.now} if changes.shown else gr.skip()

    def draw(
        self, request: gr.Request, event: gr.EventData, draft_id: str, model: str, cut_out: bool, seed: int, truncation
    ) -> dict[Block, Any]:
        """Ask for the chosen labels, and show the page with the first of them."""
        owner, asked = owner_of(request), (event._data or {}).get("labels")
        try:
            labels = asked if isinstance(asked, list) else []
            notes = self.sets.draw(owner, draft_id, labels, SetOptions(model, cut_out, seed, truncation))
            count = len(self.sets.drawn_set(owner, draft_id).read().drawings)
        except UserError as error:
            return {self.said: problem(error)}
        return {self.said: "".join(map(note, notes)), self.page: max(0, count - len(labels)) // PAGE}

    def draw_again(
        self, request: gr.Request, draft_id: str, model: str, cut_out: bool, seed: int, truncation: float
    ) -> str:
        """Draw all again that are not kept."""
        try:
            options = SetOptions(model, cut_out, seed, truncation)
            return note(self.sets.draw_again(owner_of(request), draft_id, options))
        except UserError as error:
            return problem(error)

    def resume(self, request: gr.Request, draft_id: str) -> str:
        """Draw what waits."""
        try:
            self.sets.go_on(owner_of(request), draft_id)
        except UserError as error:
            return problem(error)
        return ""

    def halt(self, request: gr.Request, draft_id: str) -> str:
        """Stop after the drawing that is being made."""
        self.sets.stop(owner_of(request), draft_id)
        return note("It stops after this one. What waits is kept.")

    def leave_out(self, request: gr.Request, draft_id: str) -> str:
        """Forget what waits."""
        try:
            self.sets.drawn_set(owner_of(request), draft_id).drop_waiting()
        except UserError as error:
            return problem(error)
        return ""

    def act(self, request: gr.Request, event: gr.EventData, draft_id: str, page: int) -> dict[Block, Any]:
        """Do what a button of the sheet says."""
        owner, asked, said = owner_of(request), event._data or {}, ""
        ids = {one for one in asked.get("ids") or [] if isinstance(one, int)}
        try:
            match asked.get("act"):
                case "page":
                    page = asked["page"] if isinstance(asked.get("page"), int) else 0
                case "clear":
                    self.sets.stop(owner, draft_id)
                    self.sets.drawn_set(owner, draft_id).clear()
                    page, said = 0, "All drawings are removed. Your pairs stay."
                case "correct":
                    if len(ids) != 1:
                        raise UserError("Choose one drawing to correct.")
                    (one,) = ids
                    path = uploaded_path({"path": asked.get("path")})
                    self.sets.correct(owner, draft_id, one, path, asked.get("weight", 1.0))
                case act:
                    self.sets.act(owner, draft_id, str(act), ids)
        except UserError as error:
            return {self.said: problem(error)}
        return {self.said: note(said), self.page: page}

    def pack(self, request: gr.Request, draft_id: str, sizes: Any, *wanted: Any) -> Iterator[tuple[str, Any]]:
        """Make a zip of the set."""
        owner, file = owner_of(request), new_file("mmgen-set.zip")
        sizes = sizes if isinstance(sizes, list) else []
        work = BackgroundTask(
            lambda tell: self.parcels.download(owner, draft_id, SetRequest(*wanted), sizes, file, tell)
        )
        for share, words in work.steps():
            yield progress(share, words), gr.skip()
        try:
            work.result()
        except UserError as error:
            yield problem(error), None
            return
        yield note(f"The zip is on its way: {file.stat().st_size / 1e6:,.1f} MB."), str(file)

    def suggest(
        self, request: gr.Request, event: gr.SelectData, name: str, profile: gr.OAuthProfile | None
    ) -> dict[Block, Any]:
        """Once the tab is shown: who publishes, and a name if none was typed."""
        if event.value != "Train":
            return gr.skip()
        account = account_of(profile)
        suggested = f"{account.user}/{slug('my set')}" if account.user else ""
        return {self.account: note(account.words), **({} if name else {self.name: suggested})}

    def allow(self, request: gr.Request, draft_id: str, name: str, looked_at: str, *wanted: Any) -> Any:
        """What was looked at may be published, and nothing else."""
        return gr.Button(interactive=bool(looked_at) and looked_at == self._stamp(request, draft_id, name, wanted))

    def show_parcel(self, request: gr.Request, draft_id: str, name: str, *wanted: Any) -> Iterator[dict[Block, Any]]:
        """Show every file and the card; nothing is sent."""
        owner, stamp = owner_of(request), self._stamp(request, draft_id, name, wanted)
        work = BackgroundTask(lambda tell: self.parcels.look(owner, draft_id, name, SetRequest(*wanted), tell))
        for share, words in work.steps():
            yield {self.sent: progress(share, words)}
        try:
            published = work.result()
            card = card_shown(published)
        except UserError as error:
            yield {self.sent: problem(error)}
            return
        yield {
            self.sent: note(f"{total(published.files)}. Nothing was sent yet."),
            self.files: files_table(published.files),
            self.card: gr.Markdown(card, visible=True),
            self.looked_at: stamp,
        }

    def send(
        self,
        request: gr.Request,
        draft_id: str,
        name: str,
        looked_at: str,
        private: bool,
        kept_only: bool,
        with_own: bool,
        author: str,
        licence: str,
        source: str,
        oauth: gr.OAuthToken | None,
    ) -> Iterator[dict[Block, Any]]:
        """Send what was looked at, and tell how far it is."""
        owner, wanted = owner_of(request), (kept_only, with_own, author, licence, source)
        try:
            if not looked_at or looked_at != self._stamp(request, draft_id, name, wanted):
                raise UserError(_LOOK_FIRST)
            token = token_of(oauth)
        except UserError as error:
            yield {self.sent: problem(error)}
            return
        order = SetRequest(*wanted)
        work = BackgroundTask(lambda tell: self.parcels.send(owner, draft_id, name, order, private, token, tell))
        for share, words in work.steps():
            yield {self.sent: progress(share, words), **self._buttons(interactive=False)}
        try:
            said = arrived(work.result(), private)
        except UserError as error:
            said = problem(error)
        yield {self.sent: said, **self._buttons(interactive=True)}

    def _buttons(self, interactive: bool) -> dict[Block, Any]:
        return {button: gr.Button(interactive=interactive) for button in (self.look_button, self.send_button)}

    def _stamp(self, request: gr.Request, draft_id: str, name: str, wanted: tuple[Any, ...]) -> str:
        try:
            return self.parcels.stamp(owner_of(request), draft_id, name, SetRequest(*wanted))
        except UserError:
            return ""

    def _sheet(self, owner: str, draft_id: str, made: DrawnSet | None, state: SetState, page: int) -> dict[str, Any]:
        """One page of the drawings, after some of the person's own pictures."""
        drawings = state.drawings
        pages = max(1, math.ceil(len(drawings) / PAGE))
        page = min(max(0, page), pages - 1)
        here = drawings[page * PAGE : (page + 1) * PAGE]
        own = []
        if made and drawings:
            draft = self.context.drafts.draft(owner, draft_id)
            for pair in [pair for pair in draft.pairs if pair.text][:MAX_OWN]:
                try:
                    own.append({"label": pair.text, "image": self._address(draft.thumbnail(pair.name, 144))})
                except (UserError, OSError):  # It shows nothing, and the pairs' own list says why.
                    continue
        return {
            "draft": draft_id,
            "count": len(drawings),
            "own": own,
            "tiles": [self._tile(made, one) for one in here] if made else [],
            "page": page,
            "pages": pages,
            "first": page * PAGE + 1,
            "last": page * PAGE + len(here),
        }

    def _tile(self, made: DrawnSet, one: Drawing) -> dict[str, Any]:
        return {
            "id": one.id,
            "label": one.label,
            "image": self._address(made.path(one)) if one.file else "",
            "waiting": one.waiting,
            "kept": one.kept,
            "before": bool(one.before),
            "reference": bool(one.reference),
            "model": one.model,
            "seed": one.seed,
            "note": one.note,
        }

    def _address(self, path: Path) -> str:
        """Where the browser finds a small copy of a picture; "" if it is not there any more."""
        now = time.monotonic()
        known = self._addresses.get(path)
        if known and now - known[0] < _ADDRESS_SECONDS:
            return known[1]
        try:
            content = path.read_bytes()
            if path.suffix == ".png":
                content = _small(content)
        except (UserError, OSError):
            return ""
        address = f"gradio_api/file={quote(keep(f'{path.stem}.webp', content))}"
        self._addresses[path] = now, address
        while len(self._addresses) > _MAX_ADDRESSES:
            self._addresses.popitem(last=False)
        return address


def labels_data(labels: list[str], groups: list[dict[str, Any]], own: list[str]) -> dict[str, Any]:
    """What the picker shows."""
    return {"labels": labels, "groups": groups, "own": own}


def told(state: SetState, run: Run | None) -> str:
    """How far a set is, and what there is to know of it, as HTML."""
    drawn, waiting, count = len(state.drawn), len(state.waiting), len(state.drawings)
    kept = sum(one.kept for one in state.drawings)
    if run and run.busy:
        if run.words:
            line = progress(run.share, run.words)
        else:
            line = progress(1 - waiting / max(1, count), f"{waiting:,} of {count:,} are still to be drawn")
    elif count:
        words = f"{drawn:,} of {count:,} drawn" + (f", {kept:,} kept." if kept else ".")
        if waiting:
            words += f" {waiting:,} {'waits' if waiting == 1 else 'wait'} to be drawn."
        line = note(words)
    else:
        line = ""
    failed = problem(run.error) if run and run.error and not run.busy else ""
    return line + failed + "".join(map(note, state.notes))


def _small(content: bytes) -> bytes:
    """The bytes of a picture as a small WebP."""
    image = open_image(content)
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=85, method=2)
    return buffer.getvalue()
