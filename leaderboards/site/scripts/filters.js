"use strict";
/* Which models and which tasks the leaderboard shows, as the controls above it say. */
sslbench.filters = (board, extras, changed) => {
  const { h, byId, quantity } = sslbench;
  const tasks = board.columns.map((column) => [`t${column.index}`, column.label]);
  const standard = [...extras.filter(({ shown }) => shown).map(({ id }) => id), ...tasks.map(([id]) => id)];
  const chosen = {
    method: new Set(), arch: new Set(), data: new Set(), family: new Set(), columns: new Set(standard),
  };
  const limit = { of: board.costs[0]?.name, most: null };
  let words = [];

  const distinct = (values) => [...new Set(values)].filter(Boolean).sort();
  const facets = [];
  const add = (title, name, groups, none) => {
    if (groups.every(({ options }) => options.length < 2)) return;
    const facet = sslbench.facet({ title, groups, chosen: chosen[name], none, changed: apply });
    facets.push({ facet, name });
    byId("facets").append(facet.element);
  };
  const ofRows = (title, name) =>
    add(title, name, [{ options: distinct(board.rows.map((row) => row[name])).map((v) => [v, v]) }], "all");

  const fitsBudget = (row) => {
    if (limit.most === null) return true;
    const cost = row.costs[limit.of];
    return cost !== null && cost <= limit.most;
  };
  const fits = (row) => words.every((word) => row.text.includes(word))
    && ["method", "arch", "data"].every((name) => !chosen[name].size || chosen[name].has(row[name]))
    && fitsBudget(row);
  const columns = () => board.columns.filter((column) => chosen.columns.has(`t${column.index}`)
    && (!chosen.family.size || chosen.family.has(column.family)));

  const narrowed = () => words.length || limit.most !== null
    || ["method", "arch", "data", "family"].some((name) => chosen[name].size)
    || chosen.columns.size !== standard.length || !standard.every((id) => chosen.columns.has(id));
  const apply = () => {
    const count = board.rows.filter(fits).length;
    const some = narrowed();
    byId("reset").hidden = !some;
    byId("count").textContent = some
      ? `${count} of ${board.rows.length} models, ${columns().length} of ${board.columns.length} tasks` : "";
    changed();
  };

  // "300", "1.2M", "5e18": nothing, or a number of what the list beside it names.
  const budget = byId("budget");
  const readBudget = () => {
    const text = budget.value.trim().replaceAll(",", "");
    const [, digits, unit] = text.match(/^(\d+\.?\d*(?:e\+?\d+)?)\s*([kMBGT]?)$/i) ?? [];
    const factor = { "": 1, k: 1e3, m: 1e6, b: 1e9, g: 1e9, t: 1e12 }[unit?.toLowerCase()];
    limit.most = digits ? Number(digits) * factor : null;
    const wrong = Boolean(text) && !digits;
    budget.setAttribute("aria-invalid", wrong);
    byId("budget-problem").textContent = wrong ? "expected a number such as 300, 1.2M or 5e18" : "";
    apply();
  };
  const listed = byId("budget-of");
  listed.append(...board.costs.map(({ name, title }) => h("option", { value: name }, title)));
  listed.addEventListener("change", () => {
    limit.of = listed.value;
    apply();
  });
  budget.addEventListener("input", readBudget);
  budget.closest(".budget").hidden = !board.costs.length;
  const costs = board.rows.map((row) => row.costs[limit.of]).filter(Boolean);
  if (costs.length) budget.placeholder = `e.g. ${quantity(Math.max(...costs))}`;

  const filter = byId("filter");
  filter.addEventListener("input", () => {
    words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    apply();
  });
  byId("reset").addEventListener("click", () => {
    filter.value = budget.value = "";
    words = [];
    readBudget();
    for (const { facet, name } of facets) facet.set(name === "columns" ? new Set(standard) : new Set());
    filter.focus();
  });

  for (const row of board.rows) row.text = [row.name, ...row.about].join("\n").toLowerCase();
  ofRows("Method", "method");
  ofRows("Architecture", "arch");
  ofRows("Pre-training data", "data");
  const families = distinct(board.columns.map((column) => column.family));
  add("Task family", "family", [{ options: families.map((v) => [v, v]) }], "all");
  add("Columns", "columns", [
    { name: "Models", options: extras.map(({ id, title }) => [id, title]) },
    { name: "Tasks", options: tasks },
  ], "none");
  return { fits, columns, extras: () => extras.filter(({ id }) => chosen.columns.has(id)) };
};
