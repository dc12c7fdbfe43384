"use strict";
// Tables of class "sortable": headers sort by click or keyboard; an optional box above filters the rows.
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell.classList.contains("n")) return cell.textContent.trim();
    return "value" in cell.dataset ? Number(cell.dataset.value) : null;
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);

  const sort = (table, header) => {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [value(row, header.cellIndex), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // rows without a value stay last
      return ascending ? compare(a, b) : compare(b, a);
    });
    body.append(...rows.map(([, row]) => row));
  };

  const filter = (table, box, count) => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const text = words.length && row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${table.tBodies[0].rows.length}`;
  };

  // A table that is wider than the window says so and can be scrolled by the keyboard.
  const watch = new ResizeObserver((boxes) => {
    for (const { target } of boxes) {
      const scrolls = target.scrollWidth > target.clientWidth + 1;
      target.classList.toggle("scrolls", scrolls);
      if (scrolls) target.tabIndex = 0;
    }
  });
  for (const box of document.querySelectorAll(".wide")) watch.observe(box);

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sort(table, header));
    }
    const bar = document.querySelector(`.filter[data-for="${table.id}"]`);
    if (!bar) continue;
    const box = bar.querySelector("input");
    const count = bar.querySelector("output");
    bar.hidden = false;
    box.addEventListener("input", () => filter(table, box, count));
    filter(table, box, count);
  }
})();
