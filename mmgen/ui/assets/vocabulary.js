// What the model knows in words: the line under the prompt, completing it, and a list to browse.

const WORDS = 4, TOGETHER = 3, REST = 600;
const shown = () => (innerWidth <= 640 ? 4 : 6);
const LITTLE = new Set("a an the in of on at to is and or with for by from my me some".split(" "));
const asking = () => document.querySelector("#prompt textarea, #prompt input");

// Written as if it were typed, so that it can be undone.
const write = (text, start, end) => {
    const one = asking();
    one.focus();
    one.setSelectionRange(start, end);
    if (!document.execCommand("insertText", false, text)) {
        one.setRangeText(text, start, end, "end");
        one.dispatchEvent(new Event("input", {bubbles: true}));
    }
};

// What it knows, fetched once for each model.
const listings = new Map();
let fetching = null, model = null;
const known = () => listings.get(model);
const fetchKnown = () => {
    if (model === null || known() || fetching === model) return;
    fetching = model;
    trigger("fetch", {});
};

// Completing: a listbox under the prompt, which stays the focused field (the combobox pattern of the ARIA practices).
const options = make("ul", {id: "prompt-options", role: "listbox", "aria-label": "Things that the model knows"});
options.hidden = true;
let matches = [], active = -1, fragment = null;

const close = () => {
    options.hidden = true;
    matches = [];
    active = -1;
    const one = asking();
    if (!one) return;
    one.setAttribute("aria-expanded", "false");
    one.removeAttribute("aria-activedescendant");
};

const find = (words, single) => {
    const found = [];
    for (const [label, , tags] of known().labels) {
        const text = label.toLowerCase();
        if (text === words) continue;
        if (text.startsWith(words)) found.push([0, label, ""]);
        else if (single && text.includes(` ${words}`)) found.push([1, label, ""]);
        else {
            const tag = tags.find((one) => one.toLowerCase().startsWith(words));
            if (tag && (single || tag.includes(" "))) found.push([2, label, tag]);
        }
    }
    return found.sort((a, b) => a[0] - b[0] || a[1].length - b[1].length).slice(0, shown());
};

const suggest = () => {
    const one = asking(), end = one.selectionStart;
    if (!known() || end !== one.selectionEnd || /^[\p{L}\p{N}]/u.test(one.value.slice(end))) return close();
    const said = /[^,.;\n]*$/.exec(one.value.slice(0, end))[0];
    const starts = [...said.matchAll(/\S+/g)].map((word) => word.index).slice(-WORDS);
    for (const start of starts) {
        const words = said.slice(start).toLowerCase();
        if (words.trim().length < 2 || LITTLE.has(words.trim())) continue;
        const found = find(words, !/\s/.test(words));
        if (!found.length) continue;
        fragment = [end - said.length + start, end];
        return open(found);
    }
    close();
};

const open = (found) => {
    const one = asking();
    matches = found;
    active = -1;
    options.replaceChildren(
        ...found.map(([, label, tag], place) => {
            const row = make("li", {id: `prompt-option-${place}`, role: "option", "aria-selected": "false"}, make("span", {}, label));
            if (tag) row.append(make("small", {}, tag));
            row.addEventListener("mousedown", (event) => event.preventDefault());
            row.addEventListener("click", () => accept(place));
            return row;
        }),
    );
    options.style.top = `${one.getBoundingClientRect().bottom - options.parentElement.getBoundingClientRect().top + 4}px`;
    options.hidden = false;
    one.setAttribute("aria-expanded", "true");
    one.removeAttribute("aria-activedescendant");
};

const choose = (place) => {
    active = place;
    [...options.children].forEach((row, number) => row.setAttribute("aria-selected", String(number === place)));
    if (place < 0) return asking().removeAttribute("aria-activedescendant");
    asking().setAttribute("aria-activedescendant", `prompt-option-${place}`);
    options.children[place].scrollIntoView({block: "nearest"});
};

const accept = (place) => {
    const [, label] = matches[place], [start, end] = fragment;
    close();
    write(label, start, end);
    close();
};

const isField = (event) => event.target === asking();
const dress = () => {
    const one = asking();
    if (!one || one.getAttribute("role") === "combobox") return;
    const traits = {role: "combobox", "aria-autocomplete": "list", "aria-haspopup": "listbox", "aria-expanded": "false"};
    for (const [name, value] of Object.entries({...traits, "aria-controls": options.id})) one.setAttribute(name, value);
    const around = document.querySelector("#prompt");
    if (options.parentElement !== around) around.append(options);
};

const listeners = {
    focusin: (event) => isField(event) && props.value && fetchKnown(),
    focusout: (event) => isField(event) && close(),
    input: (event) => {
        if (!isField(event) || !props.value) return;
        typedAt = Date.now();
        if (event.isComposing) return close();
        if (known()) suggest();
        else fetchKnown();
    },
    keydown: (event) => {
        if (!isField(event) || options.hidden || event.isComposing) return;
        const moves = {ArrowDown: 1, ArrowUp: -1}[event.key];
        if (moves) {
            const count = matches.length + 1;
            choose(((active + 1 + moves + count) % count) - 1);
        } else if (event.key === "Enter" && active >= 0) accept(active);
        else if (event.key === "Escape") close();
        else {
            if (event.key === "Enter" || event.key === "Tab") close();
            return;
        }
        event.preventDefault();
        event.stopPropagation();
    },
};
for (const [name, act] of Object.entries(listeners)) document.addEventListener(name, act, true);

// The line: what the model is, how it read the prompt, and what it does not know.
let typedAt = 0, resting = null;
const about = make("span", {class: "about"});
const toggle = button("Browse", () => show(browser.hidden), {"aria-expanded": "false", "aria-controls": "known"});
const readAs = make("p", {class: "read", role: "status"});
const far = make("p", {class: "far", role: "status"});
const line = make("div", {class: "line"}, about, toggle);

const tellFar = (value) => {
    const parts = value.far.map(({word, thing, slip}) => {
        const place = () => new RegExp(`(?<![\\p{L}\\p{N}])${word}(?![\\p{L}\\p{N}])`, "iu").exec(asking().value);
        const use = () => {
            const found = place();
            if (found) write(thing, found.index, found.index + found[0].length);
        };
        const said = make("span", {}, make("mark", {}, word), !thing ? " is new to it" : slip ? ": did you mean " : " is new to it; nearest: ");
        if (thing) said.append(place() ? button(thing, use, {title: `Write ${thing} instead of ${word}`}) : thing);
        return said;
    });
    far.replaceChildren(...parts);
    far.hidden = !parts.length;
};

// Browsing: a group at a time, with pictures of what is in view, a few at once.
const chips = make("div", {class: "chips", role: "group", "aria-label": "Groups"});
const things = make("ul", {class: "things"});
const browser = make("section", {id: "known", "aria-label": "What the model knows"}, chips, things);
browser.hidden = true;
const pictures = new Map();
const asked = new Set();
let waiting = [], busy = null, group = 0, drawnFor = "";

const ask = () => {
    if (busy || browser.hidden) return;
    const next = waiting.filter((row) => row.isConnected && !pictures.has(row.label)).slice(0, TOGETHER);
    waiting = waiting.filter((row) => !next.includes(row) && row.isConnected);
    if (!next.length) return;
    // What is never answered, as when the model has gone, holds nothing up.
    busy = setTimeout(() => ((busy = null), ask()), 30000);
    trigger("thumbnails", {labels: next.map((row) => row.label)});
};

const inView = new IntersectionObserver((entries) => {
    for (const {target, isIntersecting} of entries) {
        waiting = waiting.filter((row) => row !== target);
        if (isIntersecting && !pictures.has(target.label)) waiting.push(target);
    }
    ask();
}, {root: things, rootMargin: "40px"});

const paint = (row) => {
    const picture = pictures.get(row.label);
    const image = row.querySelector("img");
    image.hidden = !picture;
    if (picture) image.src = picture;
};

const thing = ([label]) => {
    const image = make("img", {alt: "", width: 48, height: 48, hidden: ""});
    const use = button("", () => {
        write(label, 0, asking().value.length);
        close();
        if (innerWidth <= 860) asking().scrollIntoView({block: "center"});
    });
    use.append(make("span", {class: "thumbnail"}, image), make("span", {}, label));
    const row = make("li", {}, use);
    row.label = label;
    paint(row);
    inView.observe(row);
    return row;
};

const fill = () => {
    const all = known();
    inView.disconnect();
    waiting = [];
    if (!all) {
        things.replaceChildren(make("li", {class: "wait"}, "Fetching what it knows"));
        return fetchKnown();
    }
    chips.replaceChildren(
        ...all.groups.map((name, number) => {
            const count = all.labels.filter((one) => one[1] === number).length;
            return button(`${name || "all"} ${count}`, () => ((group = number), fill()), {"aria-pressed": String(number === group)});
        }),
    );
    things.scrollTop = 0;
    things.replaceChildren(...all.labels.filter((one) => one[1] === group).map(thing));
};

const show = (opened) => {
    browser.hidden = !opened;
    toggle.setAttribute("aria-expanded", String(opened));
    toggle.textContent = opened ? "Close" : "Browse";
    if (opened) fill();
    else {
        inView.disconnect();
        things.replaceChildren();
    }
};

document.addEventListener("mmgen-known", ({detail}) => {
    if (detail.labels) {
        listings.set(detail.model, detail);
        fetching = null;
        if (detail.model !== model) return;
        if (!browser.hidden) fill();
        if (document.activeElement === asking() && Date.now() - typedAt < 3000 && typedAt) suggest();
        return;
    }
    clearTimeout(busy);
    busy = null;
    if (`${detail.model}/${detail.style}` === drawnFor) {
        for (const [label, picture] of Object.entries(detail.pictures)) pictures.set(label, picture);
        for (const row of things.children) if (row.label) paint(row);
    }
    ask();
});

const draw = (value) => {
    if (model !== value.model) {
        model = value.model;
        group = 0;
        close();
        if (!browser.hidden) fill();
    }
    if (drawnFor !== `${value.model}/${value.style}`) {
        drawnFor = `${value.model}/${value.style}`;
        pictures.clear();
        if (!browser.hidden) fill();
    }
    dress();
    if (document.activeElement === asking()) fetchKnown();
    const what = value.about ? value.about[0].toUpperCase() + value.about.slice(1) : "This model";
    const knows = `${value.about ? ", " : " knows "}${value.count.toLocaleString("en")} things`;
    about.replaceChildren(make("b", {}, what), knows + (value.styles > 1 ? ` in ${value.styles} styles` : ""));
    readAs.replaceChildren(...(value.read_as ? ["Read as: ", make("b", {}, value.read_as)] : []), value.read_as && value.unread.length ? " · " : "", value.unread.join(" "));
    readAs.hidden = !value.read_as && !value.unread.length;
    // A word that is still being typed is not judged.
    clearTimeout(resting);
    far.hidden = true;
    resting = setTimeout(() => props.value === value && tellFar(value), Math.max(0, typedAt + REST - Date.now()));
    sync(list, [line, readAs, far, browser]);
};

start(draw, () => {
    model = null;
    close();
    const one = asking();
    for (const name of ["role", "aria-autocomplete", "aria-haspopup", "aria-expanded", "aria-controls"]) one?.removeAttribute(name);
    list.replaceChildren();
});
