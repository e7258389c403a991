const create = ({id}) => {
    const name = field("input", {type: "text", maxlength: 200, "aria-label": "Name of the job"}, (text) => trigger("save", {id, name: text}));
    const badge = make("span", {class: "badge"});
    const facts = make("p", {class: "facts"});
    const act = (act) => () => trigger("act", {act, id});
    const look = button("Watch", act("watch"));
    const use = button("Use", act("use"));
    const download = button("Download", act("download"));
    const remove = sure("Delete", "Delete it for good?", act("delete"));
    const row = make(
        "div",
        {class: "one"},
        make("div", {class: "who"}, name, facts),
        badge,
        make("div", {class: "acts"}, look, use, download, remove),
    );
    row.fill = (item) => {
        name.show(item.name);
        badge.textContent = item.said;
        badge.className = `badge ${item.state}`;
        facts.textContent = item.facts;
        use.hidden = download.hidden = !item.result;
        remove.hidden = item.state === "running";
        row.classList.toggle("watched", item.watched);
        for (const one of [look, use, download]) one.setAttribute("aria-label", `${one.textContent} ${item.name}`);
    };
    return row;
};

const none = make("p", {class: "none"}, "Nothing has been trained yet.");
start((value) => sync(list, value.jobs.length ? keyed(value.jobs, (item) => item.id, create) : [none]));
