"use strict";
/* The page of one model, which the address names: `model.html?model=KEY`. */
(() => {
  const { h, byId, show, interval } = sslbench;
  const board = sslbench.board();
  const { list, command, results, open, ofModel } = sslbench.details;
  const { facts, without } = sslbench.records;

  const place = (row, column) => {
    const cell = row.cells[column.index];
    const others = board.rows.filter(({ cells }) => cells[column.index]).length;
    return h("span", {}, `${sslbench.general(cell.rank, 3)} of ${others}`,
      cell.tied && h("span.unit", {}, "not separable from the best"));
  };
  const short = (text) => sslbench.general(Number(text), 4);
  const metrics = (found) => found.map((one) =>
    h("ul.metrics", {},
      found.length > 1 && h("li.unit", {}, one.seed),
      one.metrics.map(([name, value, low, high]) => h("li", {}, `${name} `, h("b", {}, short(value)),
        low && " ", low && h("span.interval", {}, `[${short(low)}, ${short(high)}]`)))));
  const line = (row, model) => (column) => {
    const cell = row.cells[column.index];
    if (!cell) return null;
    return h("tr", {},
      h("th", { scope: "row" }, ...sslbench.heading(column)),
      h("td", { class: cell.tied ? "tied" : null }, h("button.plain", {
        type: "button", "aria-haspopup": "dialog", onclick: () => open(row, column),
      }, ...sslbench.score(column, cell))),
      h("td", {}, place(row, column)),
      h("td", {}, metrics(sslbench.records.results(model, column))));
  };
  const scores = (row, model) => h("section", { "aria-labelledby": "scores" },
    h("h2", { id: "scores" }, "Scores"),
    h("div.scroll", { role: "region", "aria-labelledby": "scores", tabindex: "0" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Task", "Score", "Place", "All metrics"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, board.columns.map(line(row, model))))),
    h("p.notes", {}, "Choose a score to see what made it. Intervals are of 95 % over the test samples."));

  // A record is put into the page when it is opened: a model may have hundreds.
  const records = (row, model) => h("section", { "aria-labelledby": "records" },
    h("h2", { id: "records" }, "What made each score"),
    board.columns.filter(({ index }) => row.cells[index]).map((column) => {
      const inside = h("div");
      return h("details.record", {
        ontoggle: () => inside.childElementCount || inside.append(...results(column, model)),
      }, h("summary", {}, h("span", {}, ...sslbench.breakable(column.label)), " ",
        h("span.interval", {}, `${show(column, row.cells[column.index].value)} ${interval(column, row.cells[column.index])}`)), inside);
    }));
  const section = (title, ...content) => h("section", {}, h("h2", {}, title), ...content);

  const draw = (row, model) => {
    const record = model.models[0];
    const pretrain = facts(record.pretrain ?? {});
    document.querySelector("h1").textContent = row.name;
    document.title = `${row.name} · ${document.title}`;
    byId("model").replaceChildren(...[
      row.about.map((text) => h("p.lead", {}, text)),
      h("p.actions", {}, h("a", { href: sslbench.href("compare.html", { a: row.key }) }, "Compare with another model")),
      scores(row, model),
      section("Pre-training", pretrain.length ? list(pretrain) : h("p.lead", {}, "Not recorded.")),
      section("Model", list(facts(without(record, "pretrain"))),
        h("p", {}, "Its input contract and its key report, with every tensor loaded or left out:"), command(model.inspect)),
      records(row, model),
      model.pictures.length && section("Pictures", h("div.curves", {}, model.pictures.map(({ src, name }) =>
        h("figure", {}, h("img", { src, alt: name, loading: "lazy" }), h("figcaption", {}, name))))),
    ].flat().filter(Boolean));
  };

  const row = board.byKey.get(new URLSearchParams(location.search).get("model"));
  if (row) ofModel(row).then((model) => draw(row, model)).catch(sslbench.fail);
  else byId("model").append(h("p.warning", { role: "alert" }, "This site holds no such model. ",
    h("a", { href: "index.html" }, "All models")));
})();
