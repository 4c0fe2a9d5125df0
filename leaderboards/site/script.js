"use strict";
(() => {
  const table = document.getElementById("board");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];

  // Sorting. The first click shows the best first; a missing cell stays last either way.
  const valueOf = (row, column) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };
  const sortBy = (column) => {
    const header = headers[column];
    const now = header.getAttribute("aria-sort");
    const first = header.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const order = now === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const sorted = [...body.rows].sort((left, right) => {
      const [a, b] = [valueOf(left, column), valueOf(right, column)];
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      return sign * compare(a, b);
    });
    headers.forEach((cell) => cell.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", order);
    body.append(...sorted);
  };
  headers.forEach((header, column) =>
    header.querySelector("button").addEventListener("click", () => sortBy(column)));

  // Filtering: every word must occur in what the first column says of the model.
  const filter = document.getElementById("filter");
  const count = document.getElementById("count");
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.cells[0].textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${rows.length} models` : "";
  };
  filter.addEventListener("input", apply);
  apply();

  // Details of a cell, copied from its template.
  const dialog = document.getElementById("details");
  const inside = document.getElementById("details-body");
  body.addEventListener("click", (event) => {
    const cell = event.target.closest("button.cell");
    if (!cell) return;
    inside.replaceChildren(document.getElementById(cell.dataset.details).content.cloneNode(true));
    dialog.showModal();
    dialog.scrollTop = 0;
  });
  dialog.addEventListener("click", async (event) => {
    if (event.target === dialog) dialog.close();
    const copy = event.target.closest("button.copy");
    if (!copy) return;
    try {
      await navigator.clipboard.writeText(copy.nextElementSibling.textContent);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Select and copy";
    }
  });

  // Light and dark: the system's choice until the reader makes one. Storage may be forbidden.
  const theme = document.getElementById("theme");
  const root = document.documentElement;
  const show = () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    theme.textContent = dark ? "Light" : "Dark";
    return dark;
  };
  try {
    const kept = localStorage.getItem("sslbench-theme");
    if (kept) root.dataset.theme = kept;
  } catch { /* the page works without a memory */ }
  show();
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = show() ? "light" : "dark";
    show();
    try {
      localStorage.setItem("sslbench-theme", root.dataset.theme);
    } catch { /* as above */ }
  });
})();
