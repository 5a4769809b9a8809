"use strict";
const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.classList.contains("dark") ||
    (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
  root.classList.toggle("dark", !dark);
  root.classList.toggle("light", dark);
});

const body = document.querySelector("table.grid tbody");
const rows = [...body.rows];

function key(row, column) {
  const told = row.cells[column].dataset.order;
  return told === "" ? null : Number(told);
}

/* What has no figure comes last, whichever way round. */
function arrange(column, sign) {
  const sorted = [...rows].sort((a, b) => {
    const one = key(a, column), other = key(b, column);
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (one - other);
  });
  body.append(...sorted);
}

for (const button of document.querySelectorAll("table.grid thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const order = head.ariaSort === "ascending" ? "descending" : "ascending";
    for (const other of head.parentElement.cells) other.ariaSort = "none";
    head.ariaSort = order;
    arrange(Number(button.dataset.column), order === "ascending" ? 1 : -1);
  });
}

const points = new Map([...document.querySelectorAll("circle[data-name]")].map((one) => [one.dataset.name, one]));
for (const row of rows) {
  const point = points.get(row.dataset.name);
  if (!point) continue;
  const light = (on) => { row.classList.toggle("lit", on); point.classList.toggle("lit", on); };
  for (const one of [row, point]) {
    one.addEventListener("mouseenter", () => light(true));
    one.addEventListener("mouseleave", () => light(false));
  }
  point.addEventListener("click", () => row.scrollIntoView({ block: "center" }));
}
