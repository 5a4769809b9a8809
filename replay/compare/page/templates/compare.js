"use strict";
const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.classList.contains("dark") ||
    (!root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches);
  root.classList.toggle("dark", !dark);
  root.classList.toggle("light", dark);
});

const form = document.getElementById("filters");
const deck = document.getElementById("cards");
const cards = [...deck.querySelectorAll(".card")];
const rows = [...document.querySelectorAll(".list tbody tr")];

function chosen() {
  const wanted = {};
  for (const field of form.querySelectorAll("fieldset[data-filter]")) {
    const values = [...field.querySelectorAll("input:checked")].map((input) => input.value);
    if (values.length) wanted[field.dataset.filter] = new Set(values);
  }
  return wanted;
}

function show(elements, wanted) {
  let shown = 0;
  for (const element of elements) {
    element.hidden = !Object.entries(wanted).every(([name, values]) =>
      name === "recording" ? values.has(element.dataset[name])
        : element.dataset[name].split("|").some((value) => values.has(value)));
    if (!element.hidden) shown += 1;
  }
  return shown;
}

function apply() {
  const wanted = chosen();
  const counts = [show(cards, wanted), show(rows, wanted)];
  document.getElementById("shown").value =
    `${counts[0]} of ${cards.length} cards, ${counts[1]} of ${rows.length} rows`;
}

function arrange(order) {
  deck.append(...[...cards].sort((a, b) => a.dataset[order] - b.dataset[order]));
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => (event.target.name === "order" ? arrange(event.target.value) : apply()));
form.addEventListener("reset", () => setTimeout(() => { arrange("rank"); apply(); }));
addEventListener("hashchange", () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.hidden) { form.reset(); setTimeout(() => target.scrollIntoView(), 20); }
});

const zoom = document.getElementById("zoom");
function enlarge(picture) {
  const copy = picture.cloneNode(true);
  copy.removeAttribute("tabindex");
  zoom.querySelector("div").replaceChildren(copy);
  zoom.showModal();
}
deck.addEventListener("click", (event) => {
  const picture = event.target.closest("svg.cut");
  if (picture) enlarge(picture);
});
deck.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("svg.cut")) enlarge(event.target);
});
zoom.addEventListener("click", () => zoom.close());
