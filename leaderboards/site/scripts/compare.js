"use strict";
/* Two models side by side, named by the address or chosen on the page: `compare.html?a=KEY&b=KEY`. */
(() => {
  const { h, byId, show, fixed } = sslbench;
  const board = sslbench.board();
  const byName = new Map(board.rows.map((row) => [row.name, row]));
  const fields = { a: byId("model-a"), b: byId("model-b") };
  byId("models").append(...board.rows.map((row) => h("option", { value: row.name })));

  // Positive where A is better. Two bands that share a point do not separate the models.
  const verdict = (column, a, b) => {
    const [aLow, aHigh] = sslbench.band(a);
    const [bLow, bHigh] = sslbench.band(b);
    if (aLow <= bHigh && bLow <= aHigh) return 0;
    return (a.value > b.value) === column.lower ? -1 : 1;
  };
  const difference = (column, a, b) => {
    const value = (a.value - b.value) * (column.percent ? 100 : 1);
    return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${fixed(Math.abs(value), column.decimals)}`;
  };
  const WORDS = { "1": "A is better", "-1": "B is better", "0": "intervals overlap" };

  const score = (row, column, won) => {
    const cell = row.cells[column.index];
    if (!cell) return h("td.missing", {}, "not evaluated");
    return h("td", { class: won ? "tied" : null }, h("button.plain", {
      type: "button", "aria-haspopup": "dialog", onclick: () => sslbench.details.open(row, column),
    }, ...sslbench.score(column, cell)));
  };
  const line = (a, b) => (column) => {
    const [x, y] = [a.cells[column.index], b.cells[column.index]];
    const result = x && y ? verdict(column, x, y) : null;
    return { result, both: Boolean(x && y), any: Boolean(x || y), element: h("tr", {},
      h("th", { scope: "row" }, ...sslbench.heading(column)),
      score(a, column, result === 1), score(b, column, result === -1),
      h("td.number", {}, result === null ? "–" : difference(column, x, y)),
      h("td", {}, result === null ? "" : WORDS[result])) };
  };
  const facts = (row) => [h("a", { href: sslbench.modelLink(row) }, row.name),
    row.about.map((text) => h("span.about", {}, text))];

  const draw = (a, b) => {
    const lines = board.columns.map(line(a, b)).filter(({ any }) => any);
    const count = (wanted) => lines.filter(({ result }) => result === wanted).length;
    const alone = lines.filter(({ both }) => !both).length;
    const head = [["Task"], ["A: ", ...facts(a)], ["B: ", ...facts(b)], ["A − B"], ["Separable?"]];
    byId("comparison").replaceChildren(
      h("p", { role: "status" }, `Of ${lines.length} tasks A is better on ${count(1)}, B on ${count(-1)}; `
        + `on ${count(0)} the intervals overlap` + (alone ? `, and ${alone} only one of them has.` : ".")),
      h("div.scroll", { role: "region", "aria-label": "Comparison", tabindex: "0" }, h("table.compared", {},
        h("thead", {}, h("tr", {}, head.map((parts) => h("th", { scope: "col" }, parts)))),
        h("tbody", {}, lines.map(({ element }) => element)))),
      h("section", {},
        h("h2", {}, "The paired test"),
        h("p", {}, "This page compares intervals, which is cautious: both models saw the same samples, and a test "
          + "that pairs them sees smaller differences. It needs the stored samples and runs on the command line:"),
        sslbench.details.command(`sslbench compare ${[a, b].map((row) => row.word).join(" ")}`)));
  };

  const choose = () => {
    const chosen = {};
    for (const [side, field] of Object.entries(fields)) {
      chosen[side] = byName.get(field.value.trim());
      const wrong = Boolean(field.value.trim()) && !chosen[side];
      field.setAttribute("aria-invalid", wrong);
      byId(`problem-${side}`).textContent = wrong ? "no model of this name" : "";
    }
    const { a, b } = chosen;
    sslbench.remember({ a: a?.key, b: b?.key });
    if (a && b) draw(a, b);
    else byId("comparison").replaceChildren(h("p.lead", {}, "Choose two models."));
  };
  const asked = new URLSearchParams(location.search);
  const first = board.rows.filter(({ key }) => key !== asked.get("a") && key !== asked.get("b"));
  for (const [side, field] of Object.entries(fields)) {
    field.value = (board.byKey.get(asked.get(side)) ?? first.shift())?.name ?? "";
    field.addEventListener("input", choose);
  }
  byId("swap").addEventListener("click", () => {
    [fields.a.value, fields.b.value] = [fields.b.value, fields.a.value];
    choose();
  });
  choose();
})();
