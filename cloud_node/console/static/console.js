// Keys, live numbers and news of others. Everything here also works without it, by forms and links.
"use strict";

const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];

// ---- live numbers
function follow(section) {
  const stream = new EventSource(section.dataset.stream);
  const stale = one("#stale");
  stream.onmessage = (event) => {
    const told = JSON.parse(event.data);
    for (const place of all("[data-live]")) {
      const value = told[place.dataset.live];
      if (value !== undefined && place.textContent !== value) place.textContent = value;
    }
    for (const line of all("[data-points]")) {
      if (told[line.dataset.points] !== undefined) line.setAttribute("points", told[line.dataset.points]);
    }
    stale.hidden = true;
  };
  stream.onerror = () => { stale.hidden = false; };
  addEventListener("pagehide", () => stream.close());
}

// ---- a list: j and k move, Enter opens
const rows = all("[data-list] tbody a");
let row = -1;
function move(step) {
  if (!rows.length) return;
  row = Math.max(0, Math.min(rows.length - 1, row + step));
  all("tr.chosen").forEach((other) => other.classList.remove("chosen"));
  rows[row].closest("tr").classList.add("chosen");
  rows[row].focus();
}

// ---- an item
const slots = all("[data-slot]:not([disabled])");
const options = (slot) => [...slot.querySelectorAll("input[type=radio]")];
const place = () => Math.max(0, slots.findIndex((slot) => slot.contains(document.activeElement)));
const go = (link) => { if (link && link.href) location.href = link.href; };
function enter(slot, still = false) {
  if (slot) (options(slot).find((option) => option.checked) || options(slot)[0]).focus({preventScroll: still});
}
function choose(slot, index) {
  const option = options(slot).at(index);
  if (!option) return;
  option.checked = true;
  option.focus();
}
function press(key) {
  const slot = slots[place()];
  switch (key) {
    case "j": return rows.length ? move(1) : go(one("#next"));
    case "k": return rows.length ? move(-1) : go(one("#previous"));
    case "s": return one("#save")?.click();
    case "c": return one("#confirm")?.click();
    case "u": return slot && choose(slot, -1);
    case "n": return one("#note")?.focus();
    case "ArrowRight": return slot && enter(slots[(place() + 1) % slots.length]);
    case "ArrowLeft": return slot && enter(slots[(place() + slots.length - 1) % slots.length]);
    case "?": return one("#help")?.showModal();
    default:
      if (/^[1-9]$/.test(key) && slot && Number(key) < options(slot).length) choose(slot, Number(key) - 1);
  }
}
const KEYS = /^([1-9jkscun?]|ArrowLeft|ArrowRight)$/;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || one("dialog[open]")) return;
  const target = event.target;
  const writes = target.matches("textarea, select, input:not([type=radio]):not([type=checkbox])");
  if (writes) {
    if (event.key === "Escape") enter(slots[0]) ?? target.blur();
    return;
  }
  if (event.key === "Enter" && slots.length && !target.matches("a, button, summary")) {
    event.preventDefault();
    one("#save")?.click();
  } else if (KEYS.test(event.key)) {
    event.preventDefault();
    press(event.key);
  }
});

// A form is sent once, however often a key is pressed.
all("form[method=post]").forEach((form) => form.addEventListener("submit", (event) => {
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
}));
addEventListener("pageshow", () => all("form[data-sent]").forEach((form) => delete form.dataset.sent));

// ---- what others say about the item meanwhile
function watch(line) {
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(line.dataset.json);
      const said = (await answer.json()).corrections;
      if (said.length > Number(line.dataset.seen)) {
        line.textContent = `${said.at(-1).author} said something about this item meanwhile. Reload to see it.`;
        line.hidden = false;
      }
    } catch { /* logged out, or the service is away: saving will tell */ }
  }, 3000);
}

if (one("[data-stream]")) follow(one("[data-stream]"));
if (one("#meanwhile")) watch(one("#meanwhile"));
if (one("#keys")) {
  one("#keys").hidden = false;
  one("#keys").addEventListener("click", () => one("#help").showModal());
}
if (slots.length && !location.hash) enter(slots[0], true);
