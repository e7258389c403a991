// What is to be drawn: known labels by search and by group, and words of one's own. What is chosen stays here until
// it is drawn.

const SHOWN = 120;
const chosen = new Set();
const number = (count) => count.toLocaleString("en");
const plain = (words) => words.trim().replace(/\s+/g, " ").toLowerCase().replace(/^(an?|the) /, "");
let value = {labels: [], groups: [], own: []};
let mine = new Set();

const search = make("input", {type: "search", id: "labels-search", placeholder: "cat, face, heart", autocomplete: "off"});
const group = make("select", {id: "labels-group"});
const every = button("", () => {
    for (const label of found()) chosen.add(label);
    fill();
});
const none = button("Choose none", () => {
    chosen.clear();
    typed.value = "";
    fill();
});
const options = make("div", {class: "options", role: "group", "aria-label": "What the model knows", tabindex: "-1"});
const more = make("p", {class: "more"});
const typed = make("textarea", {
    id: "labels-typed", rows: 2, placeholder: "a red teapot\na cat left of a tree", spellcheck: "true",
});
const counted = make("p", {class: "counted", role: "status"});
const ask = button("Draw", () => trigger("draw", {labels: wanted()}), {class: "ask", id: "labels-draw"});

const byName = (label) => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const low = label.toLowerCase();
    return words.every((word) => low.includes(word));
};
// The very words first, then labels that have them as words, then all others, which is where "cat" finds "location".
const rank = (label) => {
    const low = label.toLowerCase(), asked = search.value.trim().toLowerCase();
    return low === asked ? 0 : ` ${low} `.includes(` ${asked} `) ? 1 : 2;
};
const found = () => {
    const place = group.value === "" ? null : Number(group.value);
    const labels = place === null ? value.labels : value.groups[place].labels.map((at) => value.labels[at]);
    const some = labels.filter((label) => byName(label) && !mine.has(plain(label)));
    return search.value.trim() ? some.sort((one, other) => rank(one) - rank(other)) : some;
};
const wanted = () => [...chosen, ...typed.value.split("\n").map((line) => line.trim()).filter(Boolean)];

const chip = (label) => {
    const one = button(label, () => {
        if (!chosen.delete(label)) chosen.add(label);
        fill();
    });
    one.fill = () => one.setAttribute("aria-pressed", String(chosen.has(label)));
    return one;
};

const fill = () => {
    const labels = found(), shown = labels.slice(0, SHOWN);
    sync(options, keyed(shown, (label) => label, chip));
    every.textContent = `Choose all ${number(labels.length)}`;
    every.disabled = !labels.length;
    const rest = labels.length - shown.length;
    more.textContent = rest ? `And ${number(rest)} more: search, or choose a group.` : labels.length ? "" : "The model knows no such thing. Write it below, to try it all the same.";
    const count = wanted().length;
    none.disabled = !count;
    ask.disabled = !count;
    ask.textContent = count ? `Draw ${number(count)}` : "Draw";
    const words = count ? `${number(count)} chosen` : "Nothing chosen yet";
    if (counted.textContent !== words) counted.textContent = words;
};
search.addEventListener("input", fill);
group.addEventListener("change", fill);
typed.addEventListener("input", fill);

const labelled = (words, one) => make("label", {for: one.id}, make("span", {}, words), one);
const known = make(
    "div",
    {class: "known"},
    make("div", {class: "find"}, labelled("Search what the model knows", search), labelled("Group", group)),
    make("div", {class: "tools"}, make("div", {}, every, none)),
    options,
    more,
);
const frame = make(
    "div",
    {class: "picker"},
    known,
    labelled("Words of your own, one thing a line", typed),
    make("div", {class: "go"}, counted, ask),
);

const grouping = (words, style) => {
    const some = value.groups.map((one, place) => [one, place]).filter(([one]) => one.style === style);
    const items = some.map(([one, place]) => make("option", {value: place}, `${one.name} (${number(one.labels.length)})`));
    return items.length ? [make("optgroup", {label: words}, ...items)] : [];
};

document.addEventListener("mmgen-labels-drawn", () => {
    chosen.clear();
    typed.value = "";
    fill();
});

start((data) => {
    const other = data.labels.length !== value.labels.length || data.groups.length !== value.groups.length;
    value = data;
    mine = new Set(value.own.map(plain));
    if (other || !group.options.length) {
        const all = make("option", {value: ""}, `Everything (${number(value.labels.length)})`);
        group.replaceChildren(all, ...grouping("With the word", false), ...grouping("Drawn in the style", true));
    }
    sync(list, value.labels.length ? [frame] : []);
    fill();
});
