"use strict";
/* What made a score: in the dialog of the leaderboard, and on the page of a model. */
(() => {
  const { h, byId, show, interval, seeds } = sslbench;

  const list = (facts) => h("dl", {}, facts.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
  const command = (text) => h("div.command", {},
    h("button.copy", { type: "button" }, "Copy"), h("pre", {}, text));
  const METRICS = ["metric", "value", "low", "high", "samples", "interval"];
  const metrics = (lines) => h("div.wide", { role: "region", "aria-label": "Metrics", tabindex: "0" },
    h("table", {},
      h("thead", {}, h("tr", {}, METRICS.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, lines.map(([name, ...cells]) => h("tr", {},
        h("th", { scope: "row" }, name), cells.map((text) => h("td", {}, text)))))));

  // One of the results: warnings, the command, all metrics, then a section for each part of the record.
  const result = (one) => [
    one.warnings.map((text) => h("p.warning", {}, text)),
    h("h3", {}, "Make it again"), command(one.command),
    h("h3", {}, "Metrics"), metrics(one.metrics),
    one.sections.map(([title, facts]) => (facts.length ? [h("h3", {}, title), list(facts)] : [])),
  ].flat(2);

  // Several seeds follow one another, the first one open.
  const results = (column, model) => {
    const found = sslbench.records.results(model, column);
    return found.length === 1 ? result(found[0]) : found.map((one, i) => h("details", { open: i === 0 },
      h("summary", {}, `${one.seed}: ${show(column, one.value)}`), ...result(one)));
  };

  const ofModel = async (row) => {
    await sslbench.load("shared", "data/shared.js");
    return sslbench.load(`model:${row.key}`, `data/models/${row.key}.js`);
  };

  // The dialog gives the focus back to the score that opened it.
  const open = async (row, column) => {
    const dialog = byId("details");
    const inside = byId("details-body");
    const cell = row.cells[column.index];
    inside.replaceChildren(
      h("h2", { id: "details-title" }, row.name),
      h("p.lead", {}, h("code", {}, column.label)),
      h("p", {}, `${column.unit} `, h("b", {}, show(column, cell.value)), " ",
        [interval(column, cell), seeds(column, cell)].filter(Boolean).join(" ")),
      h("p", {}, h("a", { href: sslbench.modelLink(row) }, "All scores of this model"), " · ",
        h("a", { href: sslbench.href("compare.html", { a: row.key }) }, "Compare it with another")));
    dialog.showModal();
    dialog.scrollTop = 0;
    try {
      const model = await ofModel(row);
      inside.append(...results(column, model));
    } catch (error) {
      inside.append(h("p.warning", { role: "alert" }, error.message));
    }
  };
  document.addEventListener("click", (event) => {
    if (event.target.id === "details") event.target.close(); // the backdrop
  });

  sslbench.details = { list, command, results, ofModel, open };
})();
