"use strict";
/* The board's data as objects, and a score as it stands in every table of the site. */
(() => {
  const { h, show, interval, seeds } = sslbench;
  const TIED = 1, ON_TEST = 2;

  // [value, low, high, rank, tie group, marks] and, of several seeds, [seeds, lowest, highest,
  // trainings, lowest mean of a training, highest].
  const cell = (list) => list && {
    value: list[0], low: list[1], high: list[2], rank: list[3], group: list[4],
    tied: Boolean(list[5] & TIED), onTest: Boolean(list[5] & ON_TEST),
    seeds: list[6] ?? 1, seedLow: list[7] ?? list[0], seedHigh: list[8] ?? list[0],
    trainings: list[9] ?? 1, trainingLow: list[10], trainingHigh: list[11],
  };
  // The smallest range that holds the interval and every seed.
  const band = (one) => [
    Math.min(one.low ?? one.seedLow, one.seedLow), Math.max(one.high ?? one.seedHigh, one.seedHigh),
  ];
  // A score in relation to the best of its column, in [0, 1]; null where there is no such relation.
  const relative = (column, one) => (column.best === null ? null
    : column.lower ? column.best / one.value : one.value / column.best);
  const decoded = () => {
    const board = sslbench.get("board");
    board.columns.forEach((column, j) => { column.index = j; });
    board.rows.forEach((row, i) => {
      row.index = i;
      row.cells = row.cells.map(cell);
    });
    board.byKey = new Map(board.rows.map((row) => [row.key, row]));
    return board;
  };

  const heading = (column) => [
    h("span.what", {}, column.task),
    h("span.on", {}, ...sslbench.breakable(column.dataset)),
    column.options && h("span.options", {}, ...sslbench.breakable(column.options)),
    h("span.unit", {}, column.unit),
  ].filter(Boolean);

  // The interval as a stroke on the column's range, the score as a tick on it.
  const score = (column, one) => {
    const [from, to] = column.ends;
    const scale = to > from ? 100 / (to - from) : 0;
    const [low, high] = band(one);
    return [
      h("span", {}, h("span.score", {}, show(column, one.value)),
        one.onTest && h("sup.dagger", { title: "chosen on the test split" }, "†"),
        " ", h("span.interval", {}, interval(column, one))),
      one.group > 1 && h("span.group", { title: `tie group ${one.group}` }, h("span.unseen", {}, "tie group "), one.group),
      h("span.bar", {
        "--low": (low - from) * scale, "--width": (high - low) * scale,
        "--value": (one.value - from) * scale,
      }),
      one.seeds > 1 && h("span.seeds", {}, seeds(column, one)),
    ].filter(Boolean);
  };

  let board;
  sslbench.board = () => (board ??= decoded());
  Object.assign(sslbench, { band, heading, relative, score });
})();
