// Draws each element with `data-plot` by uPlot, from the points at that address, and again when what `data-plot-live` names has changed.
"use strict";
(() => {
  const STROKES = ["#1f77b4", "#d9730d", "#2a8f4d", "#a345c4"], DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];
  const HEIGHT = 220, LEAST_MS = 1000;
  const drawn = new Map();

  function options(element, lines) {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--faint").trim(), line = style.getPropertyValue("--line").trim();
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
    return {
      width: Math.max(200, element.clientWidth), height: HEIGHT, cursor: { drag: { x: true, y: false } },
      series: [{}, ...lines.map((one, index) => ({
        label: one.name, stroke: STROKES[index % STROKES.length], dash: DASHES[index % DASHES.length], width: 2,
        value: (_, value) => value == null ? "–" : Number(value.toPrecision(4)).toString(),
      }))],
      axes: [axis, { ...axis, size: 60 }],
    };
  }

  async function draw(element) {
    const kept = drawn.get(element) || { plot: null, at: 0, waiting: false };
    drawn.set(element, kept);
    if (kept.waiting) return;
    kept.waiting = true;
    await new Promise((done) => setTimeout(done, Math.max(0, kept.at + LEAST_MS - Date.now())));
    kept.waiting = false;
    kept.at = Date.now();
    if (!element.isConnected) { drawn.delete(element); return; }
    try {
      const answer = await fetch(element.dataset.plot, { headers: { "M2M-Live": "1" }, cache: "no-store" });
      if (!answer.ok) return;
      const { x, lines } = await answer.json();
      const data = [x, ...lines.map((one) => one.values)];
      if (kept.plot && kept.plot.series.length === data.length) kept.plot.setData(data);
      else {
        if (kept.plot) kept.plot.destroy();
        element.replaceChildren();
        kept.plot = new uPlot(options(element, lines), data, element);
      }
      element.dataset.points = x.length;
    } catch { /* The connection's state is told at the top. */ }
  }

  const all = () => document.querySelectorAll("[data-plot]");
  document.addEventListener("m2mapp:changed", ({ detail }) => {
    for (const element of all()) if (detail(element.dataset.plotLive || "")) draw(element);
  });
  document.addEventListener("m2mapp:settled", () => {
    for (const element of all()) if (!drawn.has(element)) draw(element);
  });
  addEventListener("resize", () => {
    for (const [element, { plot }] of drawn) if (plot) plot.setSize({ width: Math.max(200, element.clientWidth), height: HEIGHT });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const [element, kept] of drawn) { if (kept.plot) { kept.plot.destroy(); kept.plot = null; } draw(element); }
  });
  for (const element of all()) draw(element);
})();
