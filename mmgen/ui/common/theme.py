"""How the page looks, and its few lines of JavaScript."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

_ASSETS = Path(__file__).parent.parent / "assets"
_STYLES = ("page.css", "train.css", "complete.css", "publish.css", "vocabulary.css")
CSS = "".join((_ASSETS / name).read_text(encoding="utf-8") for name in _STYLES)

# The first click into the prompt selects the example there, so that typing replaces it.
JS = """
() => {
    const field = () => document.querySelector("#prompt textarea");
    const select = (event) => {
        if (event.target !== field()) return;
        document.removeEventListener("click", select);
        event.target.select();
    };
    document.addEventListener("click", select);
}
"""

DOWNLOAD_JS = """
(packet) => {
    if (!packet) return;
    const link = document.createElement("a");
    link.href = packet.url;
    link.download = packet.name;
    link.click();
}
"""

# The list of what a picture was drawn from keeps them.
THUMBNAILS_JS = """
(packet) => {
    if (packet) document.dispatchEvent(new CustomEvent("mmgen-thumbnails", {detail: packet}));
}
"""

# The line under the prompt keeps what the model knows, and the small pictures of it.
KNOWN_JS = """
(packet) => {
    if (packet) document.dispatchEvent(new CustomEvent("mmgen-known", {detail: packet}));
}
"""

FETCH_JS = """
(file) => {
    if (!file) return;
    const link = document.createElement("a");
    link.href = file.url;
    link.download = file.orig_name ?? "";
    link.click();
}
"""

COPY_LINK_JS = """
async (prompt, seed, style) => {
    const query = new URLSearchParams({prompt, seed: seed ?? 0, style});
    const address = `${location.origin}${location.pathname}?${query}`;
    history.replaceState(null, "", address);
    const button = document.querySelector("#link");
    try {
        await navigator.clipboard.writeText(address);
        button.textContent = "Copied";
    } catch {
        button.textContent = "It is in the address bar";
    }
    setTimeout(() => (button.textContent = "Copy link"), 2000);
}
"""


def build_theme() -> gr.themes.Base:
    """A quiet theme with gradio's own local fonts, so that nothing is fetched from elsewhere."""
    # Gradio ships these fonts whole in regular and bold only; its semibold lacks most letters.
    sans, mono = (gr.themes.LocalFont(name, weights=(400, 700)) for name in ("IBM Plex Sans", "IBM Plex Mono"))
    return gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.zinc,
        radius_size=gr.themes.sizes.radius_lg,
        font=(sans, "sans-serif"),
        font_mono=(mono, "monospace"),
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_shadow="none",
        body_text_color_subdued="*neutral_500",
        block_info_text_color="*neutral_500",
        slider_color="*primary_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_500",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
    )
