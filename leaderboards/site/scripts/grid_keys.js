"use strict";
/* The keyboard in the leaderboard: one stop of the tab key, arrows from cell to cell. */
sslbench.gridKeys = (table, grid) => {
  const PAGE = 8; // lines that PageUp and PageDown move
  const target = (element) => element.querySelector("button, a") ?? element;
  const columns = table.getColumns();
  const names = columns.map((one) => one.getField());
  const headings = columns.map((one) => one.getElement());
  const holder = grid.querySelector(".tabulator-tableholder");
  let stop = null; // the element that the tab key reaches

  const stopAt = (element) => {
    stop?.setAttribute("tabindex", "-1");
    stop = element;
    stop.setAttribute("tabindex", "0");
  };
  const drawn = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

  // Scrolls sideways until the column is clear of the one that stays.
  const reveal = async (heading) => {
    if (heading === headings[0]) return;
    const view = holder.getBoundingClientRect();
    const left = view.left + headings[0].offsetWidth;
    const box = heading.getBoundingClientRect();
    if (box.left < left) holder.scrollLeft -= left - box.left;
    else if (box.right > view.right) holder.scrollLeft += box.right - view.right;
    else return;
    await drawn();
  };
  const focus = async (row, column) => {
    await reveal(headings[column]);
    if (row) await table.scrollToRow(row, "nearest", false).catch(() => { /* it is in sight */ });
    const inside = target(row ? row.getCell(names[column]).getElement() : headings[column]);
    stopAt(inside);
    inside.focus({ preventScroll: true });
  };

  // The line (-1: the headings) and the column of an element.
  const place = (element) => {
    const field = element.closest(".tabulator-cell, .tabulator-col")?.getAttribute("tabulator-field");
    const line = element.closest(".tabulator-row");
    return { line: line ? table.getRow(line).getPosition() - 1 : -1, column: names.indexOf(field) };
  };
  const onKey = (event) => {
    if (event.altKey || event.metaKey) return;
    const rows = table.getRows("active");
    let { line, column } = place(event.target);
    if (column < 0) return;
    const [last, right, far] = [rows.length - 1, names.length - 1, event.ctrlKey];
    switch (event.key) {
      case "ArrowDown": line += 1; break;
      case "ArrowUp": line -= 1; break;
      case "ArrowRight": column += 1; break;
      case "ArrowLeft": column -= 1; break;
      case "PageDown": line += PAGE; break;
      case "PageUp": line -= PAGE; break;
      case "Home": column = 0; line = far ? 0 : line; break;
      case "End": column = right; line = far ? last : line; break;
      default: return;
    }
    event.preventDefault();
    event.stopPropagation();
    line = Math.max(-1, Math.min(last, line));
    focus(line < 0 ? null : rows[line], Math.max(0, Math.min(right, column)));
  };
  const onFocus = (event) => {
    const cell = event.target.closest(".tabulator-cell, .tabulator-col");
    if (cell) stopAt(target(cell));
  };
  // After each drawing: lines say which they are, and the tab key has somewhere to stop.
  const settle = () => {
    grid.setAttribute("aria-rowcount", table.getDataCount("active") + 1);
    for (const row of table.getRows("visible")) {
      row.getElement().setAttribute("aria-rowindex", row.getPosition() + 1);
    }
    if (!stop?.isConnected) stopAt(target(headings[0]));
  };

  grid.setAttribute("aria-label", "Leaderboard");
  grid.setAttribute("aria-describedby", "grid-keys");
  grid.setAttribute("aria-colcount", names.length);
  headings.forEach((heading, i) => heading.setAttribute("aria-colindex", i + 1));
  // The grid outlives the table when columns change: its listeners go with the table.
  const gone = new AbortController();
  grid.addEventListener("keydown", onKey, { capture: true, signal: gone.signal });
  grid.addEventListener("focusin", onFocus, { signal: gone.signal });
  table.on("tableDestroyed", () => gone.abort());
  table.on("renderComplete", settle);
  table.on("scrollVertical", settle);
  settle();
};
