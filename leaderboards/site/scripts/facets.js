"use strict";
/* A list of choices that folds away under a word: models of some methods, columns to show. */
sslbench.facet = ({ title, groups, chosen, none, changed }) => {
  const { h } = sslbench;
  const MANY = 12; // more choices than this get a field that narrows them
  const boxes = [];
  const option = (value, text) => {
    const box = h("input", { type: "checkbox", value });
    box.checked = chosen.has(value);
    boxes.push(box);
    return h("label.option", {}, box, h("span", {}, ...sslbench.breakable(text)));
  };
  const lists = groups.map(({ name, options }) => h("fieldset", {},
    h("legend", { class: name ? null : "unseen" }, name || title),
    options.map(([value, text]) => option(value, text))));
  const state = h("span.state");
  const tell = () => {
    const count = boxes.filter((box) => box.checked).length;
    state.textContent = count === boxes.length || (count === 0 && none === "all") ? "all"
      : `${count} of ${boxes.length}`;
  };
  const set = (checked) => {
    for (const box of boxes) if (!box.closest(".option").hidden) box.checked = checked;
    update();
  };
  const update = () => {
    chosen.clear();
    for (const box of boxes) if (box.checked) chosen.add(box.value);
    tell();
    changed();
  };
  const narrow = h("input", {
    type: "search", "aria-label": `Find in ${title}`, placeholder: "find", autocomplete: "off",
    oninput: () => {
      const words = narrow.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const box of boxes) {
        const line = box.closest(".option");
        line.hidden = !words.every((word) => line.textContent.toLowerCase().includes(word));
      }
    },
  });
  const summary = h("summary", {}, `${title} `, state);
  const facet = h("details.facet", {}, summary, h("div.panel", {},
    boxes.length > MANY && narrow,
    h("div.both", {},
      h("button", { type: "button", onclick: () => set(true) }, "All"),
      h("button", { type: "button", onclick: () => set(false) }, "None")),
    lists));
  facet.addEventListener("change", (event) => event.target.type === "checkbox" && update());
  facet.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !facet.open) return;
    facet.open = false;
    summary.focus();
  });
  document.addEventListener("click", (event) => {
    if (!facet.contains(event.target)) facet.open = false;
  });
  tell();
  return { element: facet, set: (values) => {
    for (const box of boxes) box.checked = values.has(box.value);
    update();
  } };
};
