const percent = (share) => (share < 0.01 ? "<1 %" : `${Math.round(share * 100)} %`);

start((value) => {
    const items = value.captions.map(({text, probability}) =>
        make(
            "li",
            {},
            button(text, () => trigger("draw", {text}), {title: "Draw from these words"}),
            make("i", {style: `width:${Math.round(probability * 100)}%`}),
            make("span", {}, percent(probability)),
        ),
    );
    list.replaceChildren(make("p", {}, value.title), make("ol", {}, ...items));
}, () => list.replaceChildren());
