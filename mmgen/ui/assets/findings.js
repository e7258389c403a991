start((value) => {
    const items = value.findings.map(({kind, sentence, remedy, count}) => {
        const words = make("p", {}, sentence);
        const buttons = make("div", {});
        if (count) buttons.append(button("Show", () => trigger("act", {act: "show", kind}), {"aria-label": `Show: ${sentence}`}));
        if (remedy) buttons.append(sure(remedy, `${remedy}, sure?`, () => trigger("act", {act: "mend", kind})));
        return make("li", {class: kind}, words, buttons);
    });
    list.replaceChildren(...(value.said ? [make("p", {class: "said"}, value.said)] : []), make("ul", {}, ...items));
});
