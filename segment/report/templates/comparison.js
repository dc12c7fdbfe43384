"use strict";
// The plots and the table of one pair of methods, scan by scan, drawn from the scores embedded in the page.
(() => {
  const data = JSON.parse(document.getElementById("scores").textContent);
  const get = (id) => document.getElementById(id);
  const selects = ["first", "second", "structure"].map(get);
  const text = (value) => (value === null ? "–" : value.toFixed(4));
  const signed = (value) => (value === null ? "–" : (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4));

  const draw = (name, attributes, parent, content) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (content !== undefined) element.textContent = content;
    if (parent) parent.append(element);
    return element;
  };

  // Scores of one scan; if only one method has a score, the other correctly left the structure empty.
  const both = (first, second, label, scan) => {
    const perfect = data.perfect;
    const a = data.scores[first][label][scan];
    const b = data.scores[second][label][scan];
    return a === null && b === null ? null : [a ?? perfect, b ?? perfect];
  };
  const scanScores = (first, second, structure) =>
    data.scans.flatMap((name, scan) => {
      const labels = structure > 0 ? [structure - 1] : data.scores[first].keys();
      const pairs = [...labels].map((label) => both(first, second, label, scan)).filter(Boolean);
      if (!pairs.length) return [];
      const [a, b] = [0, 1].map((side) => pairs.reduce((sum, pair) => sum + pair[side], 0) / pairs.length);
      return [{ name, a, b, difference: Math.round((a - b) * 1e6) / 1e6 }];
    });

  const statistics = (first, second, structure) => {
    const [difference, low, high, p, won, tied, lost, significant] =
      data.pairs[`${Math.min(first, second)} ${Math.max(first, second)}`][structure];
    if (first < second) return { difference, low, high, p, won, tied, lost, significant };
    const negated = (value) => (value === null ? null : -value);
    return { difference: negated(difference), low: negated(high), high: negated(low), p, won: lost, tied, lost: won, significant };
  };

  const ticks = (low, high) => {
    const rough = (high - low) / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k += 1) found.push(k * step);
    return [found, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))];
  };
  const range = (values, margin) => {
    const [low, high] = values.reduce(([l, h], v) => [Math.min(l, v), Math.max(h, v)], [Infinity, -Infinity]);
    const more = Math.max((high - low) * margin, 1e-3);
    return [low - more, high + more];
  };

  const [WIDTH, HEIGHT, LEFT, BELOW, TOP] = [360, 326, 46, 34, 8];
  const plot = (title, count, xs, ys, xlabel, ylabel) => {
    const svg = draw("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
    const x = (value) => LEFT + ((value - xs[0]) / (xs[1] - xs[0])) * (WIDTH - LEFT - TOP);
    const y = (value) => HEIGHT - BELOW - ((value - ys[0]) / (ys[1] - ys[0])) * (HEIGHT - BELOW - TOP);
    for (const [[values, digits], across] of [[ticks(...xs), true], [ticks(...ys), false]]) {
      for (const value of values) {
        const place = across ? x(value) : y(value);
        const ends = across ? [place, TOP, place, HEIGHT - BELOW] : [LEFT, place, WIDTH - TOP, place];
        draw("line", { class: "grid", x1: ends[0], y1: ends[1], x2: ends[2], y2: ends[3] }, svg);
        const at = across ? { x: place, y: HEIGHT - BELOW + 14, "text-anchor": "middle" } : { x: LEFT - 6, y: place + 3.5, "text-anchor": "end" };
        draw("text", at, svg, value.toFixed(digits).replace("-", "−"));
      }
    }
    const middle = (HEIGHT - BELOW + TOP) / 2;
    draw("text", { x: (LEFT + WIDTH - TOP) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, svg, xlabel);
    draw("text", { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, svg, ylabel);
    return { svg, x, y, radius: count > 300 ? 2.2 : count > 80 ? 3 : 3.8 };
  };

  const dot = (panel, scan, x, y) => {
    const better = data.lower ? -scan.difference : scan.difference;
    const side = better > 0 ? "won" : better < 0 ? "lost" : "";
    const circle = draw("circle", { class: `dot ${side}`, cx: panel.x(x).toFixed(1), cy: panel.y(y).toFixed(1), r: panel.radius }, panel.svg);
    draw("title", {}, circle, `${scan.name}: A ${text(scan.a)}, B ${text(scan.b)}, A − B ${signed(scan.difference)}`);
    circle.addEventListener("click", () => choose(scan));
    return circle;
  };

  let chosen = [];
  const choose = (scan) => {
    for (const element of chosen) element.classList.remove("chosen");
    chosen = [...scan.dots, scan.row];
    for (const element of chosen) element.classList.add("chosen");
    for (const circle of scan.dots) circle.parentElement.append(circle); // above the others
    document.querySelector("#pair .where").textContent = scan.dots[0].querySelector("title").textContent;
    const box = scan.row.closest(".tall");
    const seen = [box.scrollTop, box.scrollTop + box.clientHeight - 2 * scan.row.offsetHeight];
    if (scan.row.offsetTop < seen[0] || scan.row.offsetTop > seen[1]) box.scrollTop = scan.row.offsetTop - box.clientHeight / 2;
  };

  const short = (name) => (name.length > 32 ? `${name.slice(0, 31)}…` : name);
  const scatter = (scans, a, b) => {
    const ends = range(scans.flatMap((scan) => [scan.a, scan.b]), 0.05);
    const panel = plot(`${data.metric} of every scan, A against B`, scans.length, ends, ends, `A: ${short(a)}`, `B: ${short(b)}`);
    const { svg, x, y } = panel;
    draw("line", { class: "zero", x1: x(ends[0]), y1: y(ends[0]), x2: x(ends[1]), y2: y(ends[1]) }, svg);
    for (const scan of scans) scan.dots.push(dot(panel, scan, scan.a, scan.b));
    return svg;
  };
  const agreement = (scans, found) => {
    const ends = [found.low, found.high].filter((value) => value !== null);
    const ys = range([0, ...ends, ...scans.map((scan) => scan.difference)], 0.08);
    const xs = range(scans.map((scan) => (scan.a + scan.b) / 2), 0.05);
    const panel = plot("Difference of every scan against its mean", scans.length, xs, ys, `mean of A and B, ${data.metric}`, "A − B");
    const { svg, x, y } = panel;
    const sides = { x1: x(xs[0]), x2: x(xs[1]) };
    if (ends.length) draw("rect", { class: "band", x: sides.x1, y: y(found.high), width: sides.x2 - sides.x1, height: y(found.low) - y(found.high) }, svg);
    draw("line", { class: "zero", ...sides, y1: y(0), y2: y(0) }, svg);
    if (found.difference !== null) draw("line", { class: "mean", ...sides, y1: y(found.difference), y2: y(found.difference) }, svg);
    for (const scan of scans) scan.dots.push(dot(panel, scan, (scan.a + scan.b) / 2, scan.difference));
    return svg;
  };

  const fill = (scans) => {
    const table = get("changes");
    for (const header of table.tHead.rows[0].cells) header.removeAttribute("aria-sort");
    scans.sort((one, other) => Math.abs(other.difference) - Math.abs(one.difference));
    table.tBodies[0].replaceChildren(
      ...scans.map((scan) => {
        scan.row = document.createElement("tr");
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = scan.name;
        button.addEventListener("click", () => choose(scan));
        const first = scan.row.insertCell();
        first.className = "case";
        first.append(button);
        for (const [value, written] of [[scan.a, text(scan.a)], [scan.b, text(scan.b)], [scan.difference, signed(scan.difference)]]) {
          const cell = scan.row.insertCell();
          cell.className = "n";
          cell.dataset.value = value;
          cell.textContent = written;
        }
        return scan.row;
      }),
    );
    document.querySelector('.filter[data-for="changes"] input').dispatchEvent(new Event("input"));
  };

  const show = () => {
    const [first, second, structure] = selects.map((select) => Number(select.value));
    const [a, b] = [data.methods[first], data.methods[second]];
    const scans = scanScores(first, second, structure).map((scan) => ({ ...scan, dots: [] }));
    const found = statistics(first, second, structure);
    const p = found.p === null ? "not defined" : found.p < 0.0001 ? "< 0.0001" : `= ${found.p.toFixed(4)}`;
    get("pair-text").textContent =
      `A − B: ${signed(found.difference)} ${data.structures[structure]} ${data.metric} (${data.level} interval ` +
      `${found.low === null ? "not defined" : `${signed(found.low)} to ${signed(found.high)}`}; Holm-corrected p ${p}); ` +
      `A is better on ${found.won} scans, equal on ${found.tied}, worse on ${found.lost}. ` +
      (found.significant ? "The difference is significant." : "The difference is not significant.");
    chosen = [];
    document.querySelector("#pair .where").textContent = "Select a dot or a scan.";
    get("scatter").replaceChildren(...(scans.length ? [scatter(scans, a, b)] : []));
    get("agreement").replaceChildren(...(scans.length ? [agreement(scans, found)] : []));
    fill(scans);
  };

  let before = [0, 1];
  for (const select of selects) {
    select.addEventListener("change", () => {
      // A method is not compared with itself: selecting the other method swaps the two.
      if (selects[0].value === selects[1].value) selects[select === selects[0] ? 1 : 0].value = before[select === selects[0] ? 0 : 1];
      before = [selects[0].value, selects[1].value];
      show();
    });
  }
  selects[0].value = 0; // browsers keep earlier selections on reload
  selects[1].value = 1;
  selects[2].value = 0;
  get("without-scripts").hidden = true;
  get("pair").hidden = false;
  show();
})();
