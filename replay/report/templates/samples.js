{
  const data = JSON.parse(document.getElementById("sample-data").textContent);
  const words = data.words;
  const PAGE = 24;
  const grid = document.getElementById("grid");
  const kind = document.getElementById("kind");
  const place = document.getElementById("place");
  const dialog = document.getElementById("sample");
  const all = data.samples.map(([where, sequence, seconds, edge, picture, items, truths]) => ({
    recording: data.recordings[where], where, sequence, seconds, edge, picture,
    items: items.map(([number, label, score, state, outcome, reasons, card, ...box]) => ({
      number, label: words[label], score, state: words[state], outcome: words[outcome],
      reasons: reasons.map((reason) => words[reason]), card, box,
    })),
    truths: truths.map(([label, condition, fate, ...box]) => ({
      label: words[label], condition: words[condition], fate: fate === null ? "" : words[fate], box,
    })),
  }));
  let shown = all, first = 0, open = 0, wanted = {};

  const isMissed = (truth) => truth.fate && !["found", "sent"].includes(truth.fate);
  const kinds = {
    "": () => true,
    missed: (sample) => sample.truths.some(isMissed),
    defect: (sample) => sample.truths.some((truth) => truth.fate),
    sent: (sample) => sample.items.some((item) => item.reasons.length),
    seen: (sample) => sample.items.length > 0,
  };
  const about = ["outcome", "state", "reasons", "label"];
  function stays(sample) {
    if (wanted.recording && !wanted.recording.has(sample.recording)) return false;
    const asked = about.filter((name) => wanted[name]);
    const holds = (item) => asked.every((name) =>
      name === "reasons" ? item.reasons.some((one) => wanted.reasons.has(one)) : wanted[name].has(item[name]));
    return kinds[kind.value](sample) && (!asked.length || sample.items.some(holds));
  }

  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const element = (name, text, style) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (style) made.className = style;
    return made;
  };
  const told = (truth) => [truth.label, truth.condition].filter(Boolean).join(", ");

  function size(sample) {
    if (data.frames[sample.where]) return data.frames[sample.where];
    const boxes = [...sample.items, ...sample.truths].map((one) => one.box);
    return [Math.max(64, ...boxes.map((box) => box[2])), Math.max(48, ...boxes.map((box) => box[3]))];
  }

  function drawn(sample, words) {
    const [width, height] = size(sample);
    const made = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
    if (typeof sample.picture === "string") made.append(svg("use", { href: "#" + sample.picture, width, height }));
    if (typeof sample.picture === "number")
      made.append(svg("image", { href: data.pictures[sample.picture], width, height, preserveAspectRatio: "none" }));
    const box = (kind, [x1, y1, x2, y2], words) => {
      const one = svg("rect", {
        class: "box " + kind, x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) });
      one.append(svg("title", {}));
      one.firstChild.textContent = words;
      made.append(one);
    };
    for (const truth of sample.truths) box(isMissed(truth) ? "truth missed" : "truth", truth.box,
      told(truth) + " (truth)" + (truth.fate && ": " + truth.fate));
    for (const item of sample.items) box(item.reasons.length ? "item" : "other", item.box, item.label);
    return made;
  }

  const name = (sample) => `${sample.recording}, ${sample.seconds.toFixed(1)} s`;
  function summary(sample) {
    const sent = sample.items.filter((item) => item.reasons.length).length;
    const missed = sample.truths.filter(isMissed).length;
    return `${sample.items.length} items` + (sent ? `, ${sent} sent` : "") + (missed ? `, ${missed} defects missed` : "");
  }

  function turn(to, focus) {
    first = Math.min(Math.max(0, to), Math.max(0, Math.floor((shown.length - 1) / PAGE) * PAGE));
    const page = shown.slice(first, first + PAGE);
    grid.replaceChildren(...page.map((sample, offset) => {
      const made = element("button", undefined, "thumb");
      made.type = "button";
      made.dataset.at = first + offset;
      const caption = element("span", name(sample));
      caption.append(element("small", summary(sample)));
      made.append(drawn(sample, `${name(sample)}: ${summary(sample)}`), caption);
      return made;
    }));
    if (!page.length) grid.append(element("p", "No sample is like that.", "none"));
    place.value = shown.length ? `${first + 1} to ${first + page.length} of ${shown.length}` : "0 of 0";
    for (const button of document.querySelectorAll("[data-turn]"))
      button.disabled = Number(button.dataset.turn) < 0 ? first === 0 : first + PAGE >= shown.length;
    if (focus !== undefined) grid.querySelector(`[data-at="${focus}"]`)?.focus();
  }

  function choose(detail) {
    wanted = detail;
    shown = all.filter(stays);
    turn(0);
  }

  function list(sample) {
    const made = element("table", undefined, "list");
    const heads = ["What", "Score", "State", "Why sent", "Answer", "Card"];
    made.createCaption().textContent = summary(sample);
    const head = made.createTHead().insertRow();
    for (const one of heads) { const cell = element("th", one); cell.scope = "col"; head.append(cell); }
    const body = made.createTBody();
    for (const item of sample.items) {
      const row = body.insertRow();
      for (const text of [item.label, item.score.toFixed(2), item.state, item.reasons.join(", "), item.outcome])
        row.insertCell().textContent = text;
      const cell = row.insertCell();
      if (item.card) {
        const link = element("a", "card");
        link.href = `#item-${sample.recording.replace(/[^A-Za-z0-9_.-]/g, "_")}-${sample.sequence}-${item.number}`;
        link.addEventListener("click", () => dialog.close());
        cell.append(link);
      }
    }
    for (const truth of sample.truths.filter((one) => one.fate)) {
      const row = body.insertRow();
      row.insertCell().textContent = `${told(truth)} (truth)`;
      row.insertCell();
      row.insertCell().textContent = truth.fate;
      for (let left = 3; left; left -= 1) row.insertCell();
    }
    return made;
  }

  function enlargeSample(at) {
    if (!shown.length) return;
    open = Math.min(Math.max(0, at), shown.length - 1);
    const sample = shown[open];
    document.getElementById("sample-name").textContent =
      `${name(sample)} · sample ${sample.sequence} · ${sample.edge} ms · ${open + 1} of ${shown.length}`;
    const parts = [drawn(sample, `${name(sample)}: ${summary(sample)}`)];
    if (sample.picture === null) parts.push(element("p", "Its picture is not in this file; boxes alone.", "none"));
    document.getElementById("sample-picture").replaceChildren(...parts);
    document.getElementById("sample-words").replaceChildren(list(sample));
    if (!dialog.open) dialog.showModal();
  }

  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  grid.addEventListener("click", (event) => {
    const thumb = event.target.closest(".thumb");
    if (thumb) enlargeSample(Number(thumb.dataset.at));
  });
  grid.addEventListener("keydown", (event) => {
    const thumb = event.target.closest(".thumb");
    if (!thumb) return;
    const at = Number(thumb.dataset.at);
    const across = Math.max(1, getComputedStyle(grid).gridTemplateColumns.split(" ").length);
    const to = { ...Object.fromEntries(Object.entries(steps).map(([key, step]) => [key, at + step])),
      ArrowDown: at + across, ArrowUp: at - across, PageDown: at + PAGE, PageUp: at - PAGE, Home: 0,
      End: shown.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = Math.min(Math.max(0, to), shown.length - 1);
    turn(Math.floor(next / PAGE) * PAGE, next);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key in steps) enlargeSample(open + steps[event.key]);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target.closest("[data-close]")) dialog.close();
    const step = event.target.closest("[data-step]");
    if (step) enlargeSample(open + Number(step.dataset.step));
  });
  dialog.addEventListener("close", () => turn(Math.floor(open / PAGE) * PAGE, open));
  for (const button of document.querySelectorAll("[data-turn]"))
    button.addEventListener("click", () => turn(first + PAGE * Number(button.dataset.turn)));
  kind.addEventListener("change", () => choose(wanted));
  addEventListener("chosen", (event) => choose(event.detail));

  const at = new Map(all.map((sample) => [`${sample.recording} ${sample.seconds.toFixed(3)}`, sample]));
  for (const button of document.querySelectorAll(".look")) {
    const sample = at.get(`${button.dataset.recording} ${button.dataset.time}`);
    button.hidden = !sample;
    button.addEventListener("click", () => {
      if (!shown.includes(sample)) { form.reset(); kind.value = ""; wanted = {}; shown = all; }
      enlargeSample(shown.indexOf(sample));
    });
  }
  turn(0);
}
