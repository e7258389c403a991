"""The Publish tab: a model of one's own, shown whole before anything leaves, on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.blocks import Block

from mmgen.errors import UserError
from mmgen.services.background import BackgroundTask
from mmgen.services.models import DEFAULT
from mmgen.ui.common.context import Context
from mmgen.ui.common.show import note, problem, progress
from mmgen.ui.publish.words import arrived, card_shown, files_table, slug, total
from mmgen.ui.web.account import Account, account_of, can_sign_in, token_of
from mmgen.ui.web.owner import owner_of

_PRIVATE: dict[str, Any] = {"api_visibility": "private"}
_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}
_LOOK_FIRST = "Look at what would be sent first: the model or its name has changed since."
_NOTHING_LEAVES = "Nothing is sent until you press Publish. First, every file and the model's card are shown here."


def build(context: Context) -> None:
    """Fill the tab."""
    publish = Publish(context)
    publish.add()
    publish.connect()


class Publish:
    """The tab; `add` places it."""

    def __init__(self, context: Context):
        self.context, self.publisher = context, context.publisher

    def add(self) -> None:
        """Place everything."""
        with gr.Row(elem_id="shelf"):
            with gr.Column(min_width=320, elem_id="publish-section", elem_classes="section"):
                gr.HTML(
                    "<h2>Publish on the Hugging Face Hub</h2><p>For you alone, or for everybody to draw with.</p>",
                    elem_classes="heading",
                )
                self.account = gr.HTML(elem_id="account", elem_classes="told")
                if can_sign_in():
                    gr.LoginButton(size="sm", elem_id="sign-in")
                self.model = gr.Dropdown(
                    [self.context.models.default_choice],
                    value=DEFAULT,
                    label="Model",
                    filterable=False,
                    elem_id="publish-model",
                )
                self.name = gr.Textbox(
                    label="Name on the Hub",
                    placeholder="user/name",
                    max_lines=1,
                    elem_id="publish-name",
                    html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False, autocapitalize="off"),
                )
                self.private = gr.Checkbox(True, label="Private", info="Only you can see it.", elem_id="private")
                with gr.Row(elem_id="publish-acts"):
                    self.look_button = gr.Button("Show what would be sent", min_width=120, elem_id="look")
                    self.button = gr.Button(
                        "Publish", variant="primary", min_width=120, interactive=False, elem_id="publish"
                    )
                self.said = gr.HTML(elem_id="publish-said", elem_classes="told")
            with gr.Column(min_width=320, elem_id="parcel", elem_classes="section"):
                gr.HTML("<h2>What would be sent</h2>", elem_classes="heading")
                self.files = gr.HTML(note(_NOTHING_LEAVES), elem_id="files", elem_classes="told")
        with gr.Column(visible=False, elem_id="card-section", elem_classes="section") as self.card_panel:
            gr.HTML("<h2>The model's card</h2>", elem_classes="heading")
            self.card = gr.Markdown(latex_delimiters=[], elem_id="model-card")
        self.suggested, self.looked_at = gr.State(""), gr.State("")

    def connect(self) -> None:
        """Connect it."""
        choice = [self.model, self.name]
        self.context.tabs.select(
            self.open,
            inputs=[*choice, self.suggested, self.context.model],
            outputs=[self.account, *choice, self.suggested],
            **_INSTANT,
        )
        self.model.input(
            self.suggest, inputs=[*choice, self.suggested], outputs=[self.name, self.suggested], **_INSTANT
        )
        gr.on(
            [self.model.change, self.name.change, self.looked_at.change],
            self.allow,
            inputs=[*choice, self.looked_at],
            outputs=self.button,
            trigger_mode="always_last",
            **_INSTANT,
        )
        shown = [self.said, self.files, self.card_panel, self.card, self.looked_at]
        gr.on(
            [self.look_button.click, self.name.submit],
            self.look,
            inputs=choice,
            outputs=shown,
            trigger_mode="once",
            show_progress="hidden",
            concurrency_id="prepare",
            concurrency_limit=1,
            **_PRIVATE,
        )
        self.button.click(
            self.send,
            inputs=[*choice, self.private, self.looked_at],
            outputs=[self.said, self.look_button, self.button],
            trigger_mode="once",
            show_progress="hidden",
            concurrency_id="publish",
            concurrency_limit=4,
            **_PRIVATE,
        )

    def open(
        self,
        request: gr.Request,
        event: gr.SelectData,
        model: str,
        name: str,
        suggested: str,
        drawn_with: str,
        profile: gr.OAuthProfile | None,
    ) -> dict[Block, Any]:
        """Once the tab is shown: who is signed in, what there is to publish, and a name if none was typed."""
        if event.value != "Publish":
            return gr.skip()
        choices = self.context.models.own_choices(owner_of(request))
        known = [one for _, one in choices]
        if not suggested and drawn_with in known:  # The first time, what is drawn with.
            model = drawn_with
        model = model if model in known else DEFAULT
        account = account_of(profile)
        new = _suggestion(account, {own: label for label, own in choices}[model])
        typed = bool(name) and name != suggested
        return {
            self.account: _account_line(account),
            self.model: gr.Dropdown(choices=choices, value=model),
            self.name: name if typed else new,
            self.suggested: new,
        }

    def suggest(
        self, request: gr.Request, model: str, name: str, suggested: str, profile: gr.OAuthProfile | None
    ) -> dict[Block, Any]:
        """Another model has another name, unless one was typed."""
        names = {own: label for label, own in self.context.models.own_choices(owner_of(request))}
        user = suggested.partition("/")[0]
        new = _suggestion(Account(user, ""), names.get(model, ""))
        return {self.suggested: new, **({} if name and name != suggested else {self.name: new})}

    def allow(self, request: gr.Request, model: str, name: str, looked_at: str) -> Any:
        """What was looked at may be published, and nothing else."""
        return gr.Button(interactive=bool(looked_at) and looked_at == self._stamp(owner_of(request), model, name))

    def look(self, request: gr.Request, model: str, name: str) -> Iterator[dict[Block, Any]]:
        """Show every file and the card; nothing is sent."""
        owner = owner_of(request)
        stamp = self._stamp(owner, model, name)
        work = BackgroundTask(lambda tell: self.publisher.look(owner, model, name, tell))
        for _, words in work.steps():
            yield {self.said: progress(None, words)}
        try:
            published = work.result()
            card = card_shown(published)
        except UserError as error:
            yield {self.said: problem(error)}
            return
        yield {
            self.said: note(f"{total(published.files)}. Nothing was sent yet."),
            self.files: files_table(published.files),
            self.card_panel: gr.Column(visible=True),
            self.card: card,
            self.looked_at: stamp,
        }

    def send(
        self,
        request: gr.Request,
        model: str,
        name: str,
        private: bool,
        looked_at: str,
        oauth: gr.OAuthToken | None,
    ) -> Iterator[dict[Block, Any]]:
        """Send what was looked at, and tell how far it is."""
        owner = owner_of(request)
        try:
            if not looked_at or looked_at != self.publisher.stamp(owner, model, name):
                raise UserError(_LOOK_FIRST)
            token = token_of(oauth)
        except UserError as error:
            yield {self.said: problem(error)}
            return
        work = BackgroundTask(lambda tell: self.publisher.send(owner, model, name, private, token, tell))
        for share, words in work.steps():
            yield {self.said: progress(share, words), **self._buttons(interactive=False)}
        try:
            said = arrived(work.result(), private)
        except UserError as error:
            said = problem(error)
        yield {self.said: said, **self._buttons(interactive=True)}

    def _buttons(self, interactive: bool) -> dict[Block, Any]:
        return {button: gr.Button(interactive=interactive) for button in (self.look_button, self.button)}

    def _stamp(self, owner: str, model: str, name: str) -> str:
        try:
            return self.publisher.stamp(owner, model, name)
        except UserError:
            return ""


def _suggestion(account: Account, model: str) -> str:
    words = model.removesuffix(" (default)")
    return f"{account.user}/{slug(words)}" if account.user else ""


def _account_line(account: Account) -> str:
    return note(account.words)
