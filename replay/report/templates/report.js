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
const rows = [...document.querySelectorAll(".items tbody tr")];
const others = [...document.querySelectorAll(".recordings tbody tr, .defects tbody tr, .line")];
const recording = document.getElementById("recording");

function chosen() {
  const wanted = recording && recording.value ? { recording: new Set([recording.value]) } : {};
  for (const field of form.querySelectorAll("fieldset[data-filter]")) {
    const values = [...field.querySelectorAll("input:checked")].map((input) => input.value);
    if (values.length) wanted[field.dataset.filter] = new Set(values);
  }
  return wanted;
}

function fits(element, wanted) {
  return Object.entries(wanted).every(([name, values]) => {
    const own = element.dataset[name];
    return name === "reasons" ? own.split("|").some((reason) => values.has(reason)) : values.has(own);
  });
}

function show(elements, wanted) {
  let shown = 0;
  for (const element of elements) {
    element.hidden = !fits(element, wanted);
    if (!element.hidden) shown += 1;
  }
  return shown;
}

function apply() {
  const wanted = chosen();
  show(others, wanted.recording ? { recording: wanted.recording } : {});
  const counts = [show(cards, wanted), show(rows, wanted)];
  document.getElementById("shown").value =
    `${counts[0]} of ${cards.length} cards, ${counts[1]} of ${rows.length} rows`;
  dispatchEvent(new CustomEvent("chosen", { detail: wanted }));
}

function arrange(order) {
  const rising = order === "rank" || order === "time";
  const sorted = [...cards].sort((a, b) => (rising ? 1 : -1) * (a.dataset[order] - b.dataset[order]));
  deck.append(...sorted);
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => (event.target.name === "order" ? arrange(event.target.value) : apply()));
form.addEventListener("reset", () => setTimeout(() => { arrange("rank"); apply(); }));
addEventListener("hashchange", () => {
  const target = document.getElementById(location.hash.slice(1));
  for (let one = target && target.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
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
  const picture = event.target.closest(".pictures > svg");
  if (picture) enlarge(picture);
});
deck.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches(".pictures > svg")) enlarge(event.target);
});
zoom.addEventListener("click", () => zoom.close());
