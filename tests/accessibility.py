"""What a page must have for those who cannot see it or use no mouse, told by a browser: `page.evaluate` of these."""

TROUBLE = """() => {
  const told = [];
  const named = (element) => (element.getAttribute("aria-label") || element.textContent || "").trim();
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!field.labels.length || !named(field.labels[0])) told.push("no label: " + field.outerHTML.slice(0, 80));
  for (const button of document.querySelectorAll("button, a[href], summary"))
    if (!named(button)) told.push("no name: " + button.outerHTML.slice(0, 80));
  for (const drawing of document.querySelectorAll("svg"))
    if (drawing.getAttribute("aria-hidden") !== "true" && !(drawing.getAttribute("role") === "img" && named(drawing)))
      told.push("no words: " + drawing.outerHTML.slice(0, 80));
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption) told.push("no caption");
    for (const head of table.querySelectorAll("th")) if (!head.scope) told.push("no scope: " + head.outerHTML);
  }
  const levels = [...document.querySelectorAll("main h1, main h2, main h3")]
    .filter((one) => !one.closest("dialog")).map((one) => Number(one.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1 || levels[0] !== 1) told.push("headings begin " + levels);
  levels.forEach((level, place) => {
    if (place && level > levels[place - 1] + 1) told.push("headings skip " + levels);
  });
  for (const landmark of ["header", "main", "nav"])
    if (document.querySelectorAll(landmark).length !== 1) told.push("not one " + landmark);
  if (document.documentElement.lang !== "en") told.push("no language");
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) told.push("an id twice: " + ids);
  if (document.querySelector("[tabindex]:not([tabindex='0']):not([tabindex='-1'])")) told.push("its own tab order");
  return told;
}"""
CONTRAST = """() => {
  const channels = (text) => {
    const found = text.match(/[\\d.]+(?:e-?\\d+)?/g).map(Number), scale = text.startsWith("color(") ? 255 : 1;
    return [...found.slice(0, 3).map((v) => v * scale), found[3] ?? 1];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((v, i) => v * a + below[i] * (1 - a));
  const back = (element) => element === null ? [255, 255, 255]
    : over(channels(getComputedStyle(element).backgroundColor), back(element.parentElement));
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const told = new Set();
  let seen = 0;
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || ["SCRIPT", "NOSCRIPT", "OPTION"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), drawn = element.namespaceURI.endsWith("svg");
    const under = back(element), ink = light(over(channels(drawn ? style.fill : style.color), under));
    const paper = light(under);
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    seen += 1;
    if (!(ratio >= 4.5)) told.add(ratio.toFixed(2) + " " + element.outerHTML.slice(0, 90));
  }
  return {seen, told: [...told]};
}"""
