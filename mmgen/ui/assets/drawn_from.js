// What the picture was drawn from. Thumbnails are asked for once the picture rests, and kept by what they show.

const pictures = new Map();
const REST = 400;
let resting = null;

const percent = (share) => (share < 0.01 ? "<1 %" : `${Math.round(share * 100)} %`);
const address = (source) => (/^https?:\/\//.test(source) ? source : null);

const row = () => {
    const image = make("img", {alt: "", width: 48, height: 48});
    const label = make("b"), style = make("span"), share = make("span", {class: "share"});
    const bar = make("i"), origin = make("p", {class: "origin"});
    let entry = null;
    const pin = button("Pin", () => trigger("choose", {entry, choice: "pin"}), {title: "Always use it for this prompt"});
    const drop = button("Drop", () => trigger("choose", {entry, choice: "drop"}), {
        title: "Never use it for this prompt",
        class: "drop",
    });
    const one = make(
        "li",
        {},
        make("span", {class: "thumbnail"}, image),
        make("div", {class: "told"}, make("p", {}, label, style), origin, make("span", {class: "bar"}, bar)),
        share,
        make("span", {class: "acts"}, pin, drop),
    );
    one.fill = (item) => {
        entry = item.entry;
        const shown = pictures.get(item.picture);
        image.hidden = !shown;
        if (shown && image.getAttribute("src") !== shown) image.src = shown;
        label.textContent = item.label;
        style.textContent = item.style ? `, ${item.style}` : "";
        share.textContent = percent(item.share);
        bar.style.width = `${Math.min(100, Math.round(item.share * 100))}%`;
        const link = address(item.source);
        const source = !item.source
            ? []
            : [link ? make("a", {href: link, target: "_blank", rel: "noopener noreferrer"}, shorter(link)) : item.source];
        const parts = [...source, item.licence, item.author].filter(Boolean);
        origin.replaceChildren(...parts.flatMap((part, place) => (place ? [" · ", part] : [part])));
        const named = item.style ? `${item.label}, ${item.style}` : item.label;
        one.classList.toggle("pinned", item.pinned);
        pin.setAttribute("aria-pressed", item.pinned);
        pin.setAttribute("aria-label", `Pin ${named}`);
        drop.setAttribute("aria-label", `Drop ${named}`);
    };
    return one;
};

const shorter = (link) => link.replace(/^https?:\/\/(www\.)?/, "").replace(/\/$/, "");

const chosen = make("span", {class: "chosen", role: "status"});
const reset = button("Reset", () => trigger("choose", {choice: "reset"}), {
    title: "Bring back what was dropped, and let go of what was pinned",
});
const copy = button("Copy attributions", async () => {
    try {
        await navigator.clipboard.writeText(props.value.attributions);
        copy.textContent = "Copied";
    } catch {
        const text = new Blob([props.value.attributions + "\n"], {type: "text/plain"});
        const link = make("a", {href: URL.createObjectURL(text), download: "attributions.txt"});
        link.click();
        URL.revokeObjectURL(link.href);
        copy.textContent = "Saved as attributions.txt";
    }
    setTimeout(() => (copy.textContent = "Copy attributions"), 2000);
}, {title: "What a published picture must say of its sources"});
const entries = make("ol");
const frame = make(
    "section",
    {"aria-label": "Drawn from"},
    make("div", {class: "head"}, make("div", {}, make("h2", {}, "Drawn from"), chosen), make("div", {}, reset, copy)),
    entries,
);

const draw = (value) => {
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    sync(entries, keyed(value.entries, (item) => item.entry, row));
    const told = [[value.pinned, "pinned"], [value.dropped, "dropped"]].filter(([count]) => count);
    const words = told.map(([count, what]) => `${count} ${what}`).join(", ");
    if (chosen.textContent !== words) chosen.textContent = words;
    reset.hidden = !words;
    copy.hidden = !value.attributions;
    sync(list, [frame]);
    // A row that was dropped or has moved takes the focus with it.
    if (focused && document.activeElement !== focused) {
        const here = focused.isConnected && !focused.hidden;
        (here ? focused : (list.querySelector(".drop") ?? (reset.hidden ? copy : reset))).focus();
    }
    ask(value);
};

const ask = (value) => {
    clearTimeout(resting);
    const missing = value.entries.filter((item) => !pictures.has(item.picture)).map((item) => item.entry);
    if (missing.length) resting = setTimeout(() => trigger("thumbnails", {entries: missing}), REST);
};

document.addEventListener("mmgen-thumbnails", (event) => {
    for (const [key, picture] of Object.entries(event.detail)) pictures.set(key, picture);
    if (!props.value) return;
    for (const item of props.value.entries) rows.get(item.entry)?.fill(item);
    // What was asked for while these were on their way was not heard.
    if (Object.keys(event.detail).length) ask(props.value);
});

start(draw, () => {
    clearTimeout(resting);
    list.replaceChildren();
});
