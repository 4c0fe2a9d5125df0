"use strict";
/* A task's scores over data or training, a line for each series, and the law through it. */
(() => {
  const { h, byId, show, interval, seeds, quantity } = sslbench;
  const { axis, layout, draw, ticks, plain, pale, colour, seriesColour, marker, table } = sslbench.plot;
  const board = sslbench.board();
  const curves = sslbench.get("curves");
  const task = byId("task");
  const over = byId("axis");
  const AT_FIRST = 7; // series on show before a choice: as many as there are colours
  const MANY_BANDS = 3; // more bands than these hide one another
  const chosen = new Set();

  const pointsOf = (series, column) => series.points
    .map(([x, row]) => ({ x, row: board.rows[row], cell: board.rows[row].cells[column.index] }))
    .filter(({ cell }) => cell);
  const scaleOf = (column) => (column.percent ? 100 : 1);

  const points = (series, i, column, law) => {
    const found = pointsOf(series, column);
    const scale = scaleOf(column);
    const ends = found.map(({ cell }) => sslbench.band(cell));
    return {
      type: "scatter", mode: law || found.length < 2 ? "markers" : "lines+markers", name: plain(series.label), legendgroup: i,
      x: found.map(({ x }) => x), y: found.map(({ cell }) => cell.value * scale),
      error_y: {
        type: "data", symmetric: false, thickness: 1.4, width: 4, color: seriesColour(i),
        array: found.map(({ cell }, k) => (ends[k][1] - cell.value) * scale),
        arrayminus: found.map(({ cell }, k) => (cell.value - ends[k][0]) * scale),
      },
      marker: { color: seriesColour(i), symbol: marker(i), size: 9, line: { color: colour("--page"), width: 1 } },
      line: { color: seriesColour(i), width: 1.2, dash: "dot" },
      customdata: found.map(({ row }) => row.key),
      text: found.map(({ x, row, cell }) => `<b>${plain(row.name)}</b><br>${plain(show(column, cell.value))} `
        + `${plain(interval(column, cell))} ${plain(seeds(column, cell))}<br>${plain(quantity(x))}`),
      hovertemplate: "%{text}<extra></extra>",
    };
  };
  // Solid within the data, dashed beyond; shaded: the band of the law.
  const lines = (law, i, column) => {
    const scale = scaleOf(column);
    const line = (from, to, dash) => ({
      type: "scatter", mode: "lines", x: law.x.slice(from, to), y: law.y.slice(from, to).map((y) => y * scale),
      line: { color: seriesColour(i), width: 1.8, dash }, hoverinfo: "skip", showlegend: false, legendgroup: i,
    });
    const band = byId("bands").checked && law.low.length && {
      type: "scatter", mode: "lines", x: [...law.x, ...law.x.toReversed()],
      y: [...law.low, ...law.high.toReversed()].map((y) => y * scale), fill: "toself", hoverinfo: "skip",
      fillcolor: pale(seriesColour(i), 0.12), line: { width: 0 }, showlegend: false, legendgroup: i,
    };
    return [band, line(0, law.within), line(law.within, undefined, "dash")].filter(Boolean);
  };
  const floors = (column, series) => {
    const archs = new Set(series.flatMap((one) => pointsOf(one, column)).map(({ row }) => row.arch));
    return curves.floor.map((row) => board.rows[row]).filter((row) => row.cells[column.index] && archs.has(row.arch));
  };
  const floorShapes = (rows, column) => rows.flatMap((row) => {
    const cell = row.cells[column.index];
    const [low, high] = sslbench.band(cell).map((y) => y * scaleOf(column));
    const across = { xref: "paper", x0: 0, x1: 1, layer: "below" };
    return [
      { ...across, type: "rect", y0: low, y1: high, fillcolor: pale(colour("--muted"), 0.18), line: { width: 0 } },
      { ...across, type: "line", y0: cell.value * scaleOf(column), y1: cell.value * scaleOf(column), line: { color: colour("--muted"), width: 1 } },
    ];
  });
  // A band may be far wider than what was measured: the axis shows the points and their intervals.
  const yRange = (series, rows, column) => {
    const cells = [...series.flatMap((one) => pointsOf(one, column)).map(({ cell }) => cell),
      ...rows.map((row) => row.cells[column.index])];
    const ends = cells.flatMap((cell) => sslbench.band(cell)).map((y) => y * scaleOf(column));
    const [low, high] = [Math.min(...ends), Math.max(...ends)];
    const room = 0.1 * (high - low) || 1;
    return [low - room, high + room];
  };

  const redraw = () => {
    const column = board.columns[Number(task.value)];
    const on = curves.axes.find(({ name }) => name === over.value);
    const laws = curves.laws[column.index]?.[on.name] ?? {};
    const all = on.series.map((series, i) => ({ ...series, i })).filter((one) => pointsOf(one, column).length);
    const series = all.filter(({ i }) => chosen.has(String(i)));
    sslbench.remember({ task: column.label, over: on.name });
    const rows = floors(column, series);
    byId("picture").hidden = !series.length;
    if (series.length) {
      const xs = series.flatMap((one) => pointsOf(one, column)).map(({ x }) => x);
      // Colours go by the place on show; points lie above all lines.
      draw("picture", [
        ...series.flatMap((one, k) => (laws[one.i] ? lines(laws[one.i], k, column) : [])),
        ...series.map((one, k) => points(one, k, column, laws[one.i]))],
      layout(axis(`${on.title.split(" (")[0]} (log scale)`, ticks([...xs, 2 * Math.max(...xs)])),
        axis(column.unit, { range: yRange(series, rows, column) }),
        { shapes: floorShapes(rows, column) }),
      `${column.label} over ${on.title}, ${series.length} series`);
    }
    tell(column, series, all, laws, rows);
  };
  const tell = (column, series, all, laws, rows) => {
    const fitted = series.filter(({ i }) => laws[i]);
    const said = [
      !series.length && "Choose at least one series.",
      series.length < all.length && `${series.length} of ${all.length} series are on show.`,
      fitted.length && "Lines: the law error(n) = c + b·n^(−a), c = 0 where not given, with its 95 % band; dashed: read up to 2 times further.",
      ...fitted.map(({ i, label }) => `${label}: ${laws[i].text}`),
      rows.length && `Grey: ${rows.map((row) => row.name).join(", ")}.`,
curves.left_out && !series.some(({ i }) => laws[i])
        && "A site draws a limited number of laws, none of these; `sslbench curve` fits any of them.",
    ].filter(Boolean);
    byId("said").replaceChildren(...said.map((text) => h("li", {}, text)));
    byId("numbers").replaceChildren(table([curves.axes.find(({ name }) => name === over.value).title, "Series", "Model", "Score", "Interval", "Seeds"],
      series.flatMap((one) => pointsOf(one, column).map(({ x, row, cell }) => [quantity(x), one.label,
        h("a", { href: sslbench.modelLink(row) }, row.name), show(column, cell.value), interval(column, cell), seeds(column, cell)]))));
  };

  // The series with most points come first; of equal ones the first in the alphabet.
  const preset = () => {
    const on = curves.axes.find(({ name }) => name === over.value);
    const order = on.series.map((series, i) => [series.points.length, i]).sort(([a, i], [b, j]) => b - a || i - j);
    chosen.clear();
    for (const [, i] of order.slice(0, AT_FIRST)) chosen.add(String(i));
    const laws = Object.keys(curves.laws[task.value]?.[on.name] ?? {}).filter((i) => chosen.has(i));
    byId("bands").checked = laws.length <= MANY_BANDS;
    const facet = sslbench.facet({ title: "Series", chosen, none: "none", changed: redraw,
      groups: [{ options: on.series.map(({ label }, i) => [String(i), label]) }] });
    byId("facets").replaceChildren(facet.element);
  };
  const asked = new URLSearchParams(location.search);
  sslbench.plot.options(task, board.columns.map((column) => [column.index, column.label]));
  sslbench.plot.options(over, curves.axes.map(({ name, title }) => [name, title]));
  const wanted = board.columns.find(({ label }) => label === asked.get("task"));
  if (wanted) task.value = wanted.index;
  if (curves.axes.some(({ name }) => name === asked.get("over"))) over.value = asked.get("over");
  for (const field of [task, byId("bands")]) field.addEventListener("change", redraw);
  over.addEventListener("change", () => { preset(); redraw(); });
  preset();
  redraw();
  sslbench.plot.onTheme(redraw);
  byId("picture").on("plotly_click", ({ points: [point] }) => {
    if (point.customdata) location.href = sslbench.modelLink(board.byKey.get(point.customdata));
  });
})();
