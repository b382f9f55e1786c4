"use strict";
(() => {
  const LEFT = 50, RIGHT = 16, NARROW = 430;

  // Data travel as columns and rows; charts want one object a row.
  const unfold = ({ columns, rows }) =>
    rows.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]]).filter(([, value]) => value !== null)));

  // Every chart is laid out for the width it gets: panels wrap, nothing is scaled.
  const fit = (view, width, excess) => {
    if (width < NARROW && view.title) view = { ...view, title: { ...view.title, text: "z, guides at ±2" } };
    if (view.vconcat) return { ...view, vconcat: view.vconcat.map((part) => fit(part, width, excess)) };
    const room = width - LEFT - RIGHT - excess;
    if (!view.facet) return { ...view, width: room, height: width < NARROW ? Math.min(view.height, 240) : view.height };
    if (view.facet.row) {
      const n = view.facet.column.sort.length, side = width < NARROW ? 30 : 90, gap = width < NARROW ? 8 : 16;
      const header = { ...view.facet.row.header, ...(width < NARROW ? { labelExpr: "datum.value" } : {}) };
      const facet = { ...view.facet, row: { ...view.facet.row, header } };
      return { ...view, facet, spacing: { row: 4, column: gap }, spec: { ...view.spec, width: (width - excess - side - RIGHT - gap * (n - 1)) / n } };
    }
    const gap = 18, most = view.columns || 1;
    const columns = Math.max(1, Math.min(most, Math.floor((width - LEFT) / 175)));
    return { ...view, columns, spacing: gap, spec: { ...view.spec, width: Math.floor((room - gap * (columns - 1)) / columns) } };
  };

  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  const showTip = (_, event, item, value) => {
    if (!value || typeof value !== "object") { tip.hidden = true; return; }
    tip.replaceChildren();
    for (const [name, text] of Object.entries(value)) {
      if (text === "undefined" || text === "null" || text === "NaN" || text === undefined) continue;
      const row = tip.appendChild(document.createElement("div"));
      if (name.trim()) row.appendChild(document.createElement("span")).textContent = name;
      row.appendChild(document.createElement("b")).textContent = text;
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, document.documentElement.clientWidth - box.width - 8);
    const y = event.clientY + 16 + box.height > window.innerHeight ? event.clientY - box.height - 12 : event.clientY + 16;
    tip.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
  };

  const fallBack = (box) => {
    const picture = box.parentElement.querySelector("noscript");
    if (picture) box.innerHTML = picture.textContent;
    box.classList.add("static");
  };

  const views = new Map();
  const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: showTip };
  const embed = async (box, width, excess) => {
    const { spec, data } = JSON.parse(document.getElementById(box.dataset.spec).textContent);
    const whole = { $schema: "https://vega.github.io/schema/vega-lite/v6.json", ...fit(spec, width, excess), datasets: { ...spec.datasets, rows: unfold(data) } };
    views.get(box)?.finalize();
    views.set(box, await vegaEmbed(box, whole, options));
    return box.querySelector("svg").width.baseVal.value;
  };
  const draw = async (box) => {
    const width = Math.floor(box.clientWidth);
    if (width < 50 || box.dataset.width === String(width)) return;
    box.dataset.width = String(width);
    try {
      // How much room labels take is known once they are drawn; the second time the chart fits.
      const excess = (await embed(box, width, 0)) - width;
      if (excess > 0 || excess < -8) await embed(box, width, excess + 3);
      box.dataset.drawn = "yes";
    } catch (error) {
      fallBack(box);
      throw error;
    }
  };

  const boxes = [...document.querySelectorAll(".chart")];
  const drawAll = async () => {
    for (const box of boxes) {
      await draw(box);
      await new Promise((resume) => setTimeout(resume));
    }
    document.documentElement.dataset.charts = "drawn";
  };
  let timer = 0;
  window.addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(drawAll, 120); });
  drawAll();

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  // The table of contents marks where the reader is; of several runs, it lists the sections of one.
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const rows = [...document.querySelectorAll("nav .sections")];
  const mark = (section) => {
    const run = section.closest(".run");
    for (const row of rows) row.hidden = row.dataset.run !== (run?.id ?? rows[0].dataset.run);
    for (const [id, link] of links) {
      if (id !== section.id && id !== run?.id) { link.removeAttribute("aria-current"); continue; }
      link.setAttribute("aria-current", "true");
      link.parentElement.scrollTo({ left: link.offsetLeft - link.parentElement.clientWidth / 3 });
    }
  };
  const spy = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) mark(entry.target);
  }, { rootMargin: "-20% 0px -70% 0px" });
  const sections = [...document.querySelectorAll("main section")];
  for (const section of sections) spy.observe(section);
  mark(sections[0]);
})();
