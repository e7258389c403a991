// The drawings of a set: press some, then keep, draw again, correct or drop them.

const number = (count) => count.toLocaleString("en");
const picked = new Set();
let value = null;
const here = () => (value ? value.tiles : []);
const chosen = () => here().filter((tile) => picked.has(tile.id));
const act = (act) => () => {
    const ids = chosen().map((tile) => tile.id);
    if (act === "keep" && chosen().every((tile) => tile.kept)) act = "release";
    trigger("act", {act, ids});
    if (act === "drop") picked.clear();
    fill();
};

const checkers = (image) => make("span", {class: "ground"}, image);
const tile = () => {
    const image = make("img", {alt: "", width: 96, height: 96, decoding: "async"});
    const words = make("span", {class: "words"}), marks = make("span", {class: "marks", "aria-hidden": "true"});
    let id = null;
    const one = make("button", {type: "button", class: "tile", onclick: () => {
        if (!picked.delete(id)) picked.add(id);
        fill();
    }}, checkers(image), words, marks);
    one.fill = (item) => {
        id = item.id;
        if ((image.getAttribute("src") ?? "") !== item.image) {
            if (item.image) image.src = item.image;
            else image.removeAttribute("src");
        }
        image.hidden = !item.image;
        words.textContent = item.label;
        marks.textContent = [item.kept ? "\u2713" : "", item.reference ? "\u270e" : "", item.note ? "?" : ""].join("");
        one.classList.toggle("waiting", item.waiting);
        one.classList.toggle("kept", item.kept);
        const states = [
            item.waiting ? (item.image ? "to be drawn again" : "to be drawn") : "",
            item.kept ? "kept" : "",
            item.reference ? "by your reference" : "",
        ];
        one.setAttribute("aria-label", [item.label, ...states].filter(Boolean).join(", "));
        one.setAttribute("aria-pressed", String(picked.has(id)));
        one.title = item.image ? `${item.label}, seed ${item.seed}, ${item.model}` : item.label;
    };
    return one;
};

const own = make("div", {class: "own"});
const tiles = make("div", {class: "tiles", role: "group", "aria-label": "Drawings"});
const counted = make("span", {class: "counted", role: "status"});
const told = make("p", {class: "told-of"});
const all = button("Choose all here", () => {
    const whole = chosen().length === here().length;
    for (const one of here()) if (whole) picked.delete(one.id); else picked.add(one.id);
    fill();
});
const keep = button("Keep", act("keep"));
const redraw = button("Draw again", act("redraw"), {title: "From another seed"});
const correct = button("Correct", () => open(chosen()[0]), {title: "By a sketch or another picture", "aria-expanded": "false"});
const back = button("Bring back", act("back"), {title: "As it was before it was last drawn"});
const drop = sure("Drop", "Drop, sure?", act("drop"));
const clear = sure("Clear", "Remove all drawings?", () => {
    picked.clear();
    trigger("act", {act: "clear", ids: []});
});
const bar = make(
    "div",
    {class: "bench", role: "toolbar", "aria-label": "What to do with the chosen drawings"},
    counted, all, keep, redraw, correct, back, drop, clear,
);
const pager = make("div", {class: "pager"});

// One drawing is corrected by what is on a small canvas: a sketch, a picture of one's own, or the drawing painted over.
const SIDE = 256;
const canvas = make("canvas", {width: SIDE, height: SIDE, "aria-label": "Sketch"});
const pen = canvas.getContext("2d");
const colour = make("input", {type: "color", id: "sketch-colour", value: "#d32f2f"});
const width = make("input", {type: "range", id: "sketch-width", min: 2, max: 48, value: 14});
const weight = make("input", {type: "range", id: "sketch-weight", min: 0, max: 2, step: 0.1, value: 1});
const file = make("input", {type: "file", id: "sketch-file", accept: "image/*"});
const erase = button("Eraser", () => erase.setAttribute("aria-pressed", String(!erasing())), {"aria-pressed": "false"});
const erasing = () => erase.getAttribute("aria-pressed") === "true";
const failed = make("p", {class: "failed", role: "status"});
const head = make("h3", {tabindex: "-1"});
let corrected = null, last = null;

const wipe = () => {
    pen.globalCompositeOperation = "source-over";
    pen.clearRect(0, 0, SIDE, SIDE);
    use.disabled = true;
};
const paint = (source) => {
    const scale = SIDE / Math.max(source.naturalWidth, source.naturalHeight, 1);
    const [w, h] = [source.naturalWidth * scale, source.naturalHeight * scale];
    wipe();
    pen.drawImage(source, (SIDE - w) / 2, (SIDE - h) / 2, w, h);
    use.disabled = false;
};
const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
};
const line = (to) => {
    pen.globalCompositeOperation = erasing() ? "destination-out" : "source-over";
    pen.strokeStyle = colour.value;
    pen.lineWidth = Number(width.value);
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(...to);
    pen.stroke();
    last = to;
    use.disabled = false;
};
canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    line(last);
});
canvas.addEventListener("pointermove", (event) => last && line(place(event)));
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
file.addEventListener("change", () => {
    const [taken] = file.files;
    if (!taken) return;
    const image = new Image();
    image.onload = () => {
        failed.textContent = "";
        paint(image);
        URL.revokeObjectURL(image.src);
    };
    image.onerror = () => (failed.textContent = "This file could not be read as a picture. Save it as PNG, JPEG or WebP.");
    image.src = URL.createObjectURL(taken);
});
const from = button("Paint over the drawing", () => {
    const shown = rows.get(corrected)?.querySelector("img");
    if (shown?.getAttribute("src")) paint(shown);
});
const use = button("Draw it by this", async () => {
    const id = corrected;
    const made = await new Promise((done) => canvas.toBlob(done, "image/png"));
    try {
        const {path} = await upload(new File([made], "sketch.png", {type: "image/png"}));
        trigger("act", {act: "correct", ids: [id], path, weight: Number(weight.value)});
        close();
    } catch {
        failed.textContent = "The picture could not be sent. Check the connection and try again.";
    }
}, {class: "ask"});
const without = button("Without a reference", () => {
    trigger("act", {act: "plain", ids: [corrected]});
    close();
});
const labelled = (words, one) => make("label", {for: one.id}, make("span", {}, words), one);
const panel = make(
    "section",
    {class: "correction", "aria-label": "Correct a drawing", onkeydown: (event) => event.key === "Escape" && close()},
    head,
    make("p", {}, "Sketch what it is to look like, or take a picture that shows it."),
    make(
        "div",
        {class: "desk"},
        checkers(canvas),
        make(
            "div",
            {class: "pens"},
            labelled("Picture", file),
            labelled("Colour", colour),
            labelled("Width", width),
            labelled("How much it counts", weight),
            make("div", {class: "acts"}, erase, button("Wipe", wipe), from),
        ),
    ),
    failed,
    make("div", {class: "acts"}, use, without, button("Close", () => close())),
);
panel.hidden = true;

const open = (item) => {
    if (!item) return;
    corrected = item.id;
    head.textContent = `Correct “${item.label}”`;
    without.hidden = !item.reference;
    from.hidden = !item.image;
    failed.textContent = "";
    file.value = "";
    wipe();
    panel.hidden = false;
    correct.setAttribute("aria-expanded", "true");
    head.focus();
};
const close = () => {
    panel.hidden = true;
    corrected = null;
    correct.setAttribute("aria-expanded", "false");
    (correct.disabled ? all : correct).focus();
};

const fill = () => {
    const some = chosen(), count = some.length;
    for (const item of here()) rows.get(item.id)?.fill(item);
    const words = count ? `${number(count)} chosen` : "Press drawings to choose them.";
    if (counted.textContent !== words) counted.textContent = words;
    all.textContent = count && count === here().length ? "Choose none" : "Choose all here";
    keep.textContent = count && some.every((item) => item.kept) ? "Do not keep" : "Keep";
    keep.disabled = !some.some((item) => item.image);
    redraw.disabled = drop.disabled = !count;
    correct.disabled = count !== 1;
    back.disabled = !some.some((item) => item.before || (item.image && item.waiting));
    told.textContent = some.map((item) => item.note).filter(Boolean).slice(0, 3).join(" ");
};

start((data) => {
    if (value && (value.draft !== data.draft || value.page !== data.page)) picked.clear();
    value = data;
    const ids = new Set(here().map((item) => item.id));
    for (const id of [...picked]) if (!ids.has(id)) picked.delete(id);
    if (corrected !== null && !ids.has(corrected)) close();
    const strip = value.own.filter((item) => item.image);
    own.replaceChildren(
        make("span", {}, "Yours"),
        ...strip.map((item) => checkers(make("img", {src: item.image, alt: item.label, title: item.label, width: 44, height: 44}))),
    );
    own.hidden = !strip.length;
    sync(tiles, keyed(here(), (item) => item.id, tile));
    const turn = (page) => () => trigger("act", {act: "page", page, ids: []});
    pager.replaceChildren(
        button("Previous", turn(value.page - 1), {disabled: value.page <= 0 || null}),
        make("span", {}, `${number(value.first)} to ${number(value.last)} of ${number(value.count)}`),
        button("Next", turn(value.page + 1), {disabled: value.page >= value.pages - 1 || null}),
    );
    pager.hidden = value.pages < 2;
    sync(list, value.count ? [own, bar, told, panel, tiles, pager] : []);
    fill();
});
