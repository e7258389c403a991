const tools = make("div", {class: "tools"});
const body = make("div", {class: "body"});
const pager = make("div", {class: "pager"});
list.append(tools, body, pager);

const create = ({name}) => {
    const picture = make("img", {alt: "", loading: "lazy", width: 72, height: 72});
    const caption = field(
        "textarea",
        {rows: 2, "aria-label": `Caption of ${name}`, placeholder: "Say what the picture shows", spellcheck: "true"},
        (text) => trigger("save", {name, text}),
    );
    const problems = make("ul", {class: "problems"});
    const file = make("p", {class: "file"}, name);
    const machine = make("span", {class: "machine"}, "Written by the model");
    const remove = button("Remove", () => trigger("act", {act: "remove", name}), {"aria-label": `Remove ${name}`});
    const foot = make("div", {class: "foot"}, file, machine, remove);
    const row = make("div", {class: "pair"}, picture, make("div", {}, caption, problems, foot));
    caption.addEventListener("input", () => {
        problems.replaceChildren();
        machine.hidden = true;
    });
    row.fill = (item) => {
        if (picture.getAttribute("src") !== item.thumbnail) {
            if (item.thumbnail) picture.setAttribute("src", item.thumbnail);
            else picture.removeAttribute("src");
        }
        caption.show(item.text);
        machine.hidden = !item.machine || caption.value !== item.text;
        file.textContent = [name, ...item.remarks].join(" · ");
        problems.replaceChildren(...item.problems.map((words) => make("li", {}, words)));
        row.dataset.worst = item.worst;
    };
    return row;
};

start((value) => {
    const act = (traits) => () => trigger("act", traits);
    const views = value.views.map(({view, words, count}) =>
        button(`${words} ${count.toLocaleString("en")}`, act({act: "show", view}), {
            class: "view",
            "aria-pressed": String(view === value.view),
        }),
    );
    const whole = [
        ...(value.empty ? [button("Caption the rest for me", () => trigger("caption", {}))] : []),
        button("Export zip", act({act: "export"})),
        sure("Clear", "Remove all pairs?", act({act: "clear"})),
    ];
    tools.replaceChildren(make("div", {}, ...views), make("div", {}, ...whole));
    tools.hidden = !value.count;
    sync(body, keyed(value.rows, (item) => `${value.draft}/${item.name}`, create));
    body.classList.toggle("empty", !value.rows.length);
    const last = value.pages - 1;
    pager.replaceChildren(
        button("Previous", act({act: "page", page: value.page - 1}), {disabled: value.page <= 0 || null}),
        make("span", {}, `${value.first.toLocaleString("en")} to ${value.last.toLocaleString("en")} of ${value.shown.toLocaleString("en")}`),
        button("Next", act({act: "page", page: value.page + 1}), {disabled: value.page >= last || null}),
    );
    pager.hidden = value.pages < 2;
});
