"use strict";
/* Quality against cost: a point a model, and the front of those that no other one beats at both. */
(() => {
  const { h, byId, show, interval, quantity } = sslbench;
  const { axis, layout, draw, ticks, plain, pale, colour, table } = sslbench.plot;
  const board = sslbench.board();
  const quality = byId("quality");
  const cost = byId("cost");

  // What may stand on the y axis: the means over all tasks, then each task.
  const means = [
    { id: "rank", label: "Mean rank", lower: true, value: (row) => row.rank, text: (value) => value.toFixed(1) },
    { id: "score", label: "Mean score, % of the best", lower: false, percent: true,
      value: (row) => row.score, text: (value) => sslbench.fixed(100 * value, 1) },
  ];
  const tasks = board.columns.map((column) => ({
    id: `t${column.index}`, label: `${column.label}: ${column.unit}`, lower: column.lower, percent: column.percent, column,
    value: (row) => row.cells[column.index]?.value ?? null, text: (value) => show(column, value),
  }));
  const choices = [...means, ...tasks];

  const points = (what, of) => board.rows
    .map((row) => ({ row, x: row.costs[of], y: what.value(row) }))
    .filter(({ x, y }) => x > 0 && y !== null)
    .sort((p, q) => p.x - q.x || (what.lower ? p.y - q.y : q.y - p.y));
  // In the order of cost a model is on the front when it is better than all cheaper ones.
  const front = (found, lower) => {
    let best = null;
    return found.filter(({ y }) => {
      if (best !== null && (lower ? y >= best : y <= best)) return false;
      best = y;
      return true;
    });
  };

  const trace = (what, found, name, extra) => {
    const scale = what.percent ? 100 : 1;
    const bands = found.map(({ row, y }) => (what.column ? sslbench.band(row.cells[what.column.index]) : [y, y]));
    return {
      type: "scatter", mode: "markers", name,
      x: found.map(({ x }) => x), y: found.map(({ y }) => y * scale),
      error_y: {
        type: "data", symmetric: false, visible: Boolean(what.column), thickness: 1, width: 0,
        array: found.map(({ y }, i) => (bands[i][1] - y) * scale), arrayminus: found.map(({ y }, i) => (y - bands[i][0]) * scale),
      },
      customdata: found.map(({ row }) => row.key),
      text: found.map(({ row, x, y }) => `<b>${plain(row.name)}</b><br>${plain(what.text(y))} `
        + `${what.column ? plain(interval(what.column, row.cells[what.column.index])) : ""}<br>${plain(quantity(x))}`),
      hovertemplate: "%{text}<extra></extra>", ...extra,
    };
  };
  const redraw = () => {
    const what = choices.find(({ id }) => id === quality.value);
    const of = board.costs.find(({ name }) => name === cost.value);
    const found = points(what, of.name);
    const best = front(found, what.lower);
    const onFront = new Set(best);
    sslbench.remember({ quality: quality.value, cost: cost.value });
    byId("missing").textContent = found.length === board.rows.length ? ""
      : `${board.rows.length - found.length} of ${board.rows.length} models have no such score or no recorded cost.`;
    byId("picture").hidden = !found.length;
    if (found.length) {
      const [grey, accent] = [colour("--muted"), colour("--accent")];
      draw("picture", [
        trace(what, found.filter((one) => !onFront.has(one)), "other models",
          { marker: { color: pale(grey, 0.55), size: 8 }, error_y: { visible: false } }),
        trace(what, best, "front: nothing is better and cheaper", {
          mode: "lines+markers", line: { color: accent, shape: "hv", width: 1.5 }, marker: { color: accent, size: 10, symbol: "diamond" } }),
      ], layout(
        axis(`${of.title} (log scale)`, ticks(found.map(({ x }) => x))),
        axis(what.column?.unit ?? what.label, what.lower ? { autorange: "reversed" } : {}),
      ), `${what.label} against ${of.title}, ${found.length} models, ${best.length} on the front`);
    }
    byId("numbers").replaceChildren(table(["Model", of.title, what.label, "On the front"],
      found.map(({ row, x, y }) => [h("a", { href: sslbench.modelLink(row) }, row.name), quantity(x), what.text(y),
        onFront.has(found.find((one) => one.row === row)) ? "yes" : ""])));
  };

  sslbench.plot.options(quality, choices.map(({ id, label }) => [id, label]));
  sslbench.plot.options(cost, board.costs.map(({ name, title }) => [name, title]));
  const asked = new URLSearchParams(location.search);
  if (choices.some(({ id }) => id === asked.get("quality"))) quality.value = asked.get("quality");
  cost.value = board.costs.some(({ name }) => name === asked.get("cost")) ? asked.get("cost") : (board.costs.find(({ name }) => name === "flops") ?? board.costs[0]).name;
  for (const field of [quality, cost]) field.addEventListener("change", redraw);
  redraw();
  sslbench.plot.onTheme(redraw);
  byId("picture").on("plotly_click", ({ points: [point] }) => {
    location.href = sslbench.modelLink(board.byKey.get(point.customdata));
  });
})();
