"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, place) => row.cells[place].dataset.sort ?? row.cells[place].textContent;
  const compare = (x, y) => {
    if (x === "" || y === "") return x === y ? 0 : x === "" ? 2 : -2;
    const [a, b] = [Number(x), Number(y)];
    return Number.isNaN(a) || Number.isNaN(b) ? x.localeCompare(y) : Math.sign(a - b);
  };
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const order = (one, other) => {
        const found = compare(value(one, place), value(other, place));
        return Math.abs(found) === 2 ? found : sign * found;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
const closed = () => document.querySelectorAll("details:not([open])");
let opened = [];
addEventListener("beforeprint", () => { opened = [...closed()]; for (const one of opened) one.open = true; });
addEventListener("afterprint", () => { for (const one of opened) one.open = false; });
