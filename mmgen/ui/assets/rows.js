// What the lists of the Train tab share. Lists are drawn from data, row by row, so that a field one types in stays.

const make = (tag, traits = {}, ...children) => {
    const one = document.createElement(tag);
    for (const [name, value] of Object.entries(traits)) {
        if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
        else if (value !== null && value !== undefined && value !== false) one.setAttribute(name, value);
    }
    one.append(...children);
    return one;
};

const sync = (parent, children) => {
    for (const old of [...parent.children]) if (!children.includes(old)) old.remove();
    children.forEach((child, place) => {
        if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
    });
};

const button = (words, onclick, traits = {}) => make("button", {type: "button", onclick, ...traits}, words);

// A button that asks back once, in its own place.
const sure = (words, question, act, traits = {}) => {
    let timer = null;
    const reset = () => {
        clearTimeout(timer);
        timer = null;
        one.textContent = words;
        one.classList.remove("sure");
    };
    const one = button(words, () => {
        if (timer) {
            reset();
            act();
        } else {
            one.textContent = question;
            one.classList.add("sure");
            timer = setTimeout(reset, 5000);
        }
    }, traits);
    return one;
};

// A field that saves itself shortly after the last key, and when it is left. What comes from elsewhere is shown unless
// somebody types in it.
const field = (tag, traits, save) => {
    const one = make(tag, traits);
    let sent = "", sentAt = 0, timer = null, latest = null;
    const send = () => {
        clearTimeout(timer);
        if (one.value === sent) return;
        sent = one.value;
        sentAt = Date.now();
        save(sent);
    };
    one.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(send, 700);
    });
    one.addEventListener("change", send);
    one.addEventListener("blur", () => {
        if (one.value === sent && latest !== null && one.value !== latest && Date.now() - sentAt >= 3000) {
            one.value = sent = latest;
        }
    });
    one.show = (text) => {
        latest = text;
        if (document.activeElement === one || one.value !== sent || Date.now() - sentAt < 3000) return;
        if (one.value !== text) one.value = text;
        sent = one.value;
    };
    return one;
};

const rows = new Map();

// The row of a key, made once and filled each time; rows that are not asked for are forgotten.
const keyed = (items, key, create) => {
    const wanted = new Set(items.map(key));
    for (const old of [...rows.keys()]) if (!wanted.has(old)) rows.delete(old);
    return items.map((item) => {
        if (!rows.has(key(item))) rows.set(key(item), create(item));
        const row = rows.get(key(item));
        row.fill(item);
        return row;
    });
};

const list = element.querySelector(".list");
const start = (draw, clear = () => {}) => {
    const redraw = () => (props.value ? draw(props.value) : clear());
    watch("value", redraw);
    redraw();
};
