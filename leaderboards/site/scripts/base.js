"use strict";
/* What all pages share: data that scripts put, elements, numbers as text, the theme. */
const sslbench = (() => {
  // Data. A page opened from disk may not fetch, but it may run a script that puts a value here.
  const held = new Map();
  const root = document.documentElement.dataset.root;
  const put = (name, value) => held.set(name, value);
  const get = (name) => held.get(name);
  const load = (name, path) => held.has(name) ? Promise.resolve(held.get(name))
    : new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const lost = () => reject(new Error(`${path} is missing: write the site again`));
      script.src = root + path;
      script.onload = () => (held.has(name) ? resolve(held.get(name)) : lost());
      script.onerror = lost;
      document.head.append(script);
    });

  // Elements. Text is only ever put as text: nothing that a record says can become markup.
  const h = (what, attributes = {}, ...children) => {
    const [tag, ...classes] = what.split(".");
    const element = document.createElement(tag || "div");
    if (classes.length) element.className = classes.join(" ");
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("--")) element.style.setProperty(name, value);
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat(2).filter((child) => child || child === 0));
    return element;
  };
  const byId = (id) => document.getElementById(id);
  // A name or spec that may wrap before a bracket and behind what joins its parts.
  const breakable = (text) => String(text).split(/(?<=[,+_/:&-])|(?=\[)/)
    .flatMap((part, i) => (i ? [document.createElement("wbr"), part] : [part]));
  const href = (page, query) => `${root}${page}?${new URLSearchParams(query)}`;
  // Keeps what is on show in the address, where the browser lets a page from disk do so.
  const remember = (query) => {
    const known = Object.entries(query).filter(([, value]) => value);
    try {
      history.replaceState(null, "", `?${new URLSearchParams(known)}`);
    } catch { /* the address stays as it was */ }
  };
  const modelLink = (row) => href("model.html", { model: row.key });

  // Numbers, to the same digits as the command prints: an exact half goes to the even digit.
  const fixed = (value, decimals) => {
    const halves = value * 2 ** (decimals + 1); // exact, so that 0.15, which is below, is no half
    const steps = value * 10 ** decimals;
    if (!Number.isInteger(halves) || Number.isInteger(steps)) return value.toFixed(decimals);
    return (2 * Math.round(steps / 2) / 10 ** decimals).toFixed(decimals);
  };
  const show = (column, value) => fixed(value * (column.percent ? 100 : 1), column.decimals);
  const interval = (column, cell) => cell.low === null ? ""
    : `[${show(column, cell.low)}, ${show(column, cell.high)}]`;
  // Of one pre-training its seeds; of several these, and all results where there are more.
  const seeds = (column, cell) => {
    const spread = (count, what, low, high) => `${count} ${what} ${show(column, low)}–${show(column, high)}`;
    if (cell.seeds < 2) return "";
    if (cell.trainings < 2) return spread(cell.seeds, "seeds", cell.seedLow, cell.seedHigh);
    const trained = spread(cell.trainings, "trainings", cell.trainingLow, cell.trainingHigh);
    return cell.seeds === cell.trainings ? trained
      : `${trained}, ${spread(cell.seeds, "results", cell.seedLow, cell.seedHigh)}`;
  };
  const general = (value, digits) => {
    const text = value.toPrecision(digits);
    return text.includes("e") ? text.replace(/\.?0+e/, "e")
      : text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  };
  const quantity = (value) => {
    if (value >= 1e12) {
      const power = Math.floor(Math.log10(value));
      return `${general(value / 10 ** power, 3)}e${power}`;
    }
    for (const [unit, name] of [[1e9, "B"], [1e6, "M"], [1e4, "k"]]) {
      if (value >= unit) return general(value / (name === "k" ? 1e3 : unit), 3) + name;
    }
    return value >= 10 ? Math.round(value).toLocaleString("en") : general(value, 3);
  };

  // Light and dark: the system's choice until the reader makes one. Storage may be forbidden.
  const wireTheme = () => {
    const button = byId("theme");
    const style = document.documentElement;
    const isDark = () => style.dataset.theme ? style.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    const tell = () => {
      button.textContent = isDark() ? "Light" : "Dark";
      document.dispatchEvent(new Event("sslbench-theme"));
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      style.dataset.theme = isDark() ? "light" : "dark";
      tell();
      try {
        localStorage.setItem("sslbench-theme", style.dataset.theme);
      } catch { /* the page works without a memory */ }
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
    tell();
  };
  try {
    const kept = localStorage.getItem("sslbench-theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch { /* as above */ }

  const fail = (error) => byId("main").prepend(
    h("p.warning", { role: "alert" }, `This page cannot be shown: ${error.message}.`));
  document.addEventListener("DOMContentLoaded", wireTheme);
  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("button.copy");
    if (!copy) return;
    try {
      await navigator.clipboard.writeText(copy.parentElement.querySelector("pre").textContent);
      copy.textContent = "Copied";
    } catch {
      copy.textContent = "Select and copy";
    }
  });

  return {
    put, get, load, h, byId, breakable, href, remember, modelLink,
    fixed, show, interval, seeds, general, quantity, fail,
  };
})();
