"""What the Publish tab says: files, the card, and what has arrived."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import quote

from mmgen.hub.publish import Published, PublishedFile
from mmgen.ui.web.files import keep

_HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)


def megabytes(size: int) -> str:
    """Bytes in the largest unit that leaves a digit before the point."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} B"


def total(files: list[PublishedFile]) -> str:
    """How many files, and how much they are together."""
    return f"{len(files)} {'file' if len(files) == 1 else 'files'}, {megabytes(sum(one.size for one in files))}"


def files_table(files: list[PublishedFile]) -> str:
    """Every file with its size, as HTML."""
    rows = "".join(f"<tr><td>{escape(one.path)}</td><td>{megabytes(one.size)}</td></tr>" for one in files)
    return (
        f'<p class="total">{total(files)}</p><div class="files" tabindex="0"><table><thead><tr><th>File</th>'
        f"<th>Size</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def card_shown(published: Published) -> str:
    """The card as Markdown for the page: its head as it stands, and its pictures from where gradio serves them."""
    text = published.card
    for name, content in published.images.items():
        address = f"gradio_api/file={quote(keep(name, content))}"
        text = text.replace(f"]({name})", f"]({address})")
    return _HEAD.sub(lambda head: f"```yaml\n{head[1]}\n```\n", text, count=1)


def arrived(published: Published, private: bool) -> str:
    """Where it is now, as HTML."""
    address = escape(published.url, quote=True)
    seen = "Only you can see it" if private else "Everybody can see it"
    return (
        f'<p class="note" role="status"><a href="{address}" target="_blank" rel="noopener">{address}</a> is there. '
        f"{seen}. {total(published.files)}: the hashes of all that arrived were compared with what was sent.</p>"
    )


def slug(words: str) -> str:
    """A name that a repository may have, from any words."""
    plain = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:60].strip("-")
    return plain or "my-model"
