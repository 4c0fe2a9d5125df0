"use strict";
/* Pictures by plotly.js in the page's colours, and beside each of them its numbers as a table. */
(() => {
  const { h, byId } = sslbench;
  // Okabe and Ito's colours and the markers of `sslbench curve`; black turns white in the dark.
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "--text"];
  const MARKERS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-left", "triangle-right"];

  const probe = h("span", { hidden: true });
  const colour = (name) => {
    if (!name.startsWith("--")) return name;
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const seriesColour = (i) => colour(COLOURS[i % COLOURS.length]);
  const marker = (i) => MARKERS[(i + Math.floor(i / COLOURS.length)) % MARKERS.length];
  const pale = (text, share) => {
    const [r, g, b] = text.startsWith("#") ? text.match(/\w\w/g).map((part) => parseInt(part, 16))
      : text.match(/\d+/g).map(Number);
    return `rgba(${r}, ${g}, ${b}, ${share})`;
  };
  // Plotly reads some markup in its texts: all that could be one is written as what it stands for.
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  const axis = (title, more) => ({
    title: { text: plain(title) }, gridcolor: colour("--line"), linecolor: colour("--line"), zeroline: false,
    tickcolor: colour("--line"), automargin: true, ...more,
  });
  const layout = (x, y, more = {}) => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: colour("--text"), family: getComputedStyle(document.body).fontFamily, size: 13 },
    margin: { l: 60, r: 20, t: 20, b: 60 }, hovermode: "closest",
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--line"), font: { color: colour("--text") }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--text") },
    xaxis: x, yaxis: y, legend: { orientation: "h", yref: "container", y: 0.01, yanchor: "bottom" }, ...more,
  });
  const draw = (id, traces, shape, label) => {
    const element = byId(id);
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", `${label}. The numbers are in the table below.`);
    // Plotly's button that sends a picture's data to its makers is off, and has no address.
    return Plotly.react(element, traces, shape, {
      showSendToCloud: false, plotlyServerURL: "", displaylogo: false, responsive: true,
      modeBarButtonsToRemove: ["select2d", "lasso2d"],
      toImageButtonOptions: { format: "svg", filename: "sslbench" },
    });
  };
  const narrow = matchMedia("(max-width: 600px)");
  const ticks = (values) => {
    const powers = [];
    const [from, to] = [Math.min(...values), Math.max(...values)].map(Math.log10);
    const decades = (to - from) * (narrow.matches ? 2.5 : 1);
    const steps = decades < 1.5 ? [1, 2, 3, 5] : decades < 3.5 ? [1, 3] : [1];
    for (let power = Math.floor(from); power <= Math.ceil(to); power += 1) {
      powers.push(...steps.map((step) => step * 10 ** power));
    }
    return { type: "log", tickangle: 0, tickvals: powers, ticktext: powers.map(sslbench.quantity) };
  };
  const table = (headings, lines) => h("div.scroll", { role: "region", "aria-label": "Numbers", tabindex: "0" },
    h("table", {},
      h("thead", {}, h("tr", {}, headings.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, lines.map(([first, ...rest]) => h("tr", {},
        h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell)))))));
  const options = (select, pairs) => select.replaceChildren(
    ...pairs.map(([value, text]) => h("option", { value }, text)));
  const onTheme = (redraw) => document.addEventListener("sslbench-theme", redraw);

  sslbench.plot = { colour, seriesColour, marker, pale, plain, axis, layout, draw, ticks, table, options, onTheme };
})();
