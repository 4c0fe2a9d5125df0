"use strict";
/* The leaderboard: models by tasks, sorted and filtered; what is out of sight is not drawn. */
(() => {
  const { h, byId, breakable, modelLink } = sslbench;
  const board = sslbench.board();
  const narrow = matchMedia("(max-width: 600px)");
  const FEW = board.rows.length <= 100; // lines as high as they need; of more, all are of one height
  const LONG = board.rows.some(({ name }) => name.length > 30); // letters that fit into one line
  const ROW_HEIGHT = FEW ? undefined : LONG ? 103 : 82;
  const COSTS = {
    images: "pre-training", epochs: "pre-training", views: "pre-training", flops: "pre-training",
    parameters: "of the model", seconds: "of all tasks",
  };
  const MANY = 16; // columns: fewer fill the page, of more only those in sight are drawn

  // Means over the tasks on show. Ranks are places among all models of the board.
  let means = [];
  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);
  const average = () => {
    const on = filters.columns();
    const whole = on.length === board.columns.length;
    means = board.rows.map((row) => {
      const known = on.filter(({ index }) => row.cells[index]);
      const relative = known.map((column) => sslbench.relative(column, row.cells[column.index]))
        .filter((value) => value !== null);
      return {
        cells: known.length,
        rank: mean(on.map(({ index }) => row.cells[index]?.rank ?? board.models)),
        range: whole ? row.range : null,
        score: whole ? row.score : mean(relative),
        over: relative.length === known.length ? "" : ` (${relative.length})`,
      };
    });
  };

  // Columns besides the tasks, of which the reader may choose others.
  const rankCell = (row) => {
    const { rank, range } = means[row.index];
    return [rank === null ? "–" : rank.toFixed(1),
      range && h("span.unit", {}, range.map((place) => place.toFixed(1)).join("–"))];
  };
  const number = (value, text) => (row) => (value(row) === null ? "–" : text(value(row), row));
  const flops = (value, row) => [sslbench.quantity(value), row.pareto
    && h("span.front", { title: "no other model ranks as high for as few FLOPs" }, " ◆",
      h("span.unseen", {}, "on the front of rank and FLOPs"))];
  const extra = (id, title, small, first, shown, value, text) =>
    ({ id, title, small, first, shown, value, content: number(value, text) });
  const extras = [
    {
      ...extra("rank", "Rank", "mean of the tasks", "asc", true, (row) => means[row.index].rank),
      content: rankCell,
    },
    extra("score", "Score", "mean, % of best", "desc", true, (row) => means[row.index].score,
      (value, row) => sslbench.fixed(100 * value, 1) + means[row.index].over),
    extra("cells", "Cells", "", "desc", true, (row) => means[row.index].cells,
      (value) => `${value}/${filters.columns().length}`),
    ...board.costs.map(({ name, title }) => extra(`c_${name}`, title, COSTS[name], "asc",
      name === "flops", (row) => row.costs[name], name === "flops" ? flops : sslbench.quantity)),
  ];

  // Tabulator sorts by what stands in a cell; ours look it up. A missing one stays last either way.
  const sorter = (value) => (a, b, aRow, bRow, column, direction) => {
    const [x, y] = [value(aRow.getData().row), value(bRow.getData().row)];
    if (x === null || y === null) return ((x === null) - (y === null)) * (direction === "asc" ? 1 : -1);
    return typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y;
  };
  const modelCell = (row, element) => {
    element.setAttribute("role", "rowheader");
    return h("div.model", {},
      h("a.name", { href: modelLink(row), title: row.name, tabindex: "-1" }, ...breakable(row.name)),
      row.about.map((line) => h("span.about", { title: line }, line)));
  };
  const scoreCell = (column) => (row, element) => {
    const cell = row.cells[column.index];
    element.classList.toggle("tied", Boolean(cell?.tied));
    if (!cell) {
      return h("span.missing", {},
        h("span", { "aria-hidden": "true" }, "–"), h("span.unseen", {}, "not evaluated"));
    }
    return h("button.cell", {
      type: "button", tabindex: "-1", "aria-haspopup": "dialog",
      onclick: () => sslbench.details.open(row, column),
    }, ...sslbench.score(column, cell), cell.tied && h("span.unseen", {}, "not separable from the best"));
  };

  const columns = () => {
    const wanted = [
      {
        id: "model", heading: [h("span.what", {}, "Model")], first: "asc", width: narrow.matches ? 140 : 240,
        value: (row) => row.name.toLowerCase(), cell: modelCell, more: { frozen: true, widthGrow: 2 },
      },
      ...filters.extras().map((one) => ({
        ...one, heading: [h("span.what", {}, one.title), h("span.unit", {}, one.small)],
        width: 98, cell: (row) => h("span.number", {}, one.content(row)),
      })),
      ...filters.columns().map((column) => ({
        id: `t${column.index}`, heading: sslbench.heading(column), first: column.lower ? "asc" : "desc",
        width: 152, value: (row) => row.cells[column.index]?.value ?? null, cell: scoreCell(column),
      })),
    ];
    const size = (width) => (wanted.length > MANY ? { width } : { minWidth: width });
    return wanted.map(({ id, heading, first, width, value, cell, more }, i) => ({
      field: id, title: id, headerSortStartingDir: first, sorter: sorter(value), ...size(width), ...more,
      titleFormatter: () => h("button.heading", { type: "button", tabindex: "-1" }, ...heading),
      formatter: (shown) => {
        shown.getElement().setAttribute("aria-colindex", i + 1);
        return cell(shown.getData().row, shown.getElement());
      },
    }));
  };

  const firstSort = () => {
    const found = board.columns.find(({ label, task }) => board.sort === label || board.sort === task);
    if (found) return [{ column: `t${found.index}`, dir: found.lower ? "asc" : "desc" }];
    const names = { model: "model", score: "score", flops: "c_flops", views: "c_views" };
    const column = names[board.sort] ?? "rank";
    return [{ column, dir: column === "score" ? "desc" : "asc" }];
  };

  let table;
  const build = (sort) => {
    const shown = columns();
    const many = shown.length > MANY;
    table?.destroy();
    table = new Tabulator("#board", {
      data: board.rows.map((row) => ({ id: row.index, row })),
      columns: shown,
      columnDefaults: { resizable: false },
      layout: many ? "fitData" : "fitColumns",
      renderHorizontal: many ? "virtual" : "basic",
      rowHeight: ROW_HEIGHT,
      maxHeight: "88vh",
      initialSort: sort.filter(({ column }) => shown.some(({ field }) => field === column)),
      placeholder: "No model fits these filters.",
      selectableRows: false,
    });
    table.on("tableBuilt", () => {
      table.setFilter((data) => filters.fits(data.row));
      sslbench.gridKeys(table, byId("board"));
    });
  };
  const refresh = () => {
    average();
    if (!table) return;
    const now = table.getColumns().map((column) => column.getField()).join();
    const same = now === columns().map(({ field }) => field).join();
    if (same) table.refreshFilter();
    else build(table.getSorters().map(({ field, dir }) => ({ column: field, dir })));
  };
  byId("board").classList.toggle("few", FEW);
  const filters = sslbench.filters(board, extras, refresh);
  average();
  build(firstSort());
  narrow.addEventListener("change", () => build(firstSort()));
})();
