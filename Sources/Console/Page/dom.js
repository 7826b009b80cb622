// Elements, numbers and times. Whatever comes from data becomes a text node or a plain attribute, never markup.

/** Makes an element; `class`, `on…` and attributes in `props`, strings and nodes as children. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Makes an element of SVG. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(3)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

/** A decimal text as whole millionths: money is never floating point. */
export function micros(text) {
  const match = /^(-?)(\d+)(?:\.(\d*))?$/.exec(text ?? "");
  if (!match) return 0n;
  const value = BigInt(match[2] + (match[3] ?? "").padEnd(6, "0").slice(0, 6));
  return match[1] ? -value : value;
}

/** Millionths as text with at least `decimals` places, digits in groups. */
export function fromMicros(value, decimals = 2) {
  const digits = (value < 0n ? -value : value).toString().padStart(7, "0");
  let fraction = digits.slice(-6);
  while (fraction.length > decimals && fraction.endsWith("0")) fraction = fraction.slice(0, -1);
  return amount((value < 0n ? "-" : "") + digits.slice(0, -6) + (fraction ? "." + fraction : ""));
}

/** A decimal text with its digits in groups; an empty one as a dash. */
export function amount(text) {
  if (text === null || text === undefined || text === "") return "–";
  const [whole, fraction] = String(text).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f").replace("-", "\u2212");
  return fraction === undefined ? grouped : grouped + "." + fraction;
}

/** Part of a whole in per cent, of whole numbers. */
export function rate(part, whole) {
  const a = BigInt(part), b = BigInt(whole);
  if (b === 0n) return "–";
  const hundredths = (a * 10000n) / b;
  return `${hundredths / 100n}.${String(hundredths % 100n).padStart(2, "0")} %`;
}

export function when(text) {
  if (!text) return "–";
  return text.slice(0, 10) + " " + text.slice(11, 19);
}

export function age(text) {
  if (!text) return "–";
  // Calendar days, UTC, as the server counts them.
  const days = Math.floor(Date.now() / 86400000) - Math.floor(Date.parse(text) / 86400000);
  return days < 1 ? "today" : `${days} d`;
}

export function span(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1000) return `${ms} ms`;
  if (ms < 120000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7200000) return `${Math.round(ms / 60000)} min`;
  return ms < 172800000 ? `${Math.round(ms / 3600000)} h` : `${Math.round(ms / 86400000)} d`;
}

/** A part of a page, `w3` to `w12` twelfths wide. */
export const panel = (width, title, ...children) => h("section", { class: `panel ${width}` }, h("h2", null, title), children);
/** A term of a `dl` with its description. */
export const entry = (name, value) => [h("dt", null, name), h("dd", null, value)];

export const severities = ["critical", "high", "medium", "low"];
/** Days since the first event, as the API groups them. */
export const ages = ["0-1", "2-3", "4-7", "8-14", "15-30", "30+"];

export const words = (text) => String(text ?? "").replaceAll("_", " ").toLowerCase();

export function table(caption, heads, rows, props) {
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", props, h("caption", null, caption),
      h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col", class: head.startsWith("#") && "n" }, head.replace("#", ""))))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map((cell, at) => at === 0
        ? h("th", { scope: "row" }, cell) : h("td", { class: heads[at].startsWith("#") ? "n" : "wrap" }, cell)))))));
}

/** Horizontal bars with their labels and values; `items`: {label, count, text, href}. */
export function bars(label, items) {
  const most = items.reduce((top, item) => Math.max(top, item.count), 1);
  return h("ul", { class: "bars", "aria-label": label }, items.map((item) => h("li", null,
    item.href ? h("a", { href: item.href }, item.label) : h("span", null, item.label),
    s("svg", { class: "bar", viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
      s("rect", { class: "a", width: item.count > 0 ? Math.max(0.6, (100 * item.count) / most) : 0, height: 12 })),
    h("span", { class: "n" }, item.text))));
}

/** Units of a chart's width: about pixels, so that its texts are legible on a narrow screen too. */
const room = () => (window.innerWidth < 760 ? 340 : 600);

/** Upright bars, one or two a place; `items`: {label, a, b} in millionths. Positions are drawn, so they may be rounded. */
export function columns(label, items, names) {
  const values = items.flatMap((item) => [Number(item.a), Number(item.b ?? 0n)]);
  // Where all are zero, they lie on the axis at the foot.
  const bottom = Math.min(0, ...values), top = Math.max(0, ...values) || (bottom < 0 ? 0 : 1), range = top - bottom;
  const [width, height, foot] = [room(), 190, 22];
  const y = (value) => 8 + ((top - value) / range) * (height - foot - 8);
  const step = width / items.length, part = Math.min(26, step * (names.length > 1 ? 0.38 : 0.66));
  const one = (kind, value, at, shift) => s("rect", {
    class: kind, x: at * step + step / 2 - (part * names.length) / 2 + shift, width: part,
    y: Math.min(y(0), y(Number(value))), height: Math.max(1, Math.abs(y(0) - y(Number(value)))) },
    s("title", null, `${items[at].label}: ${fromMicros(value)}`));
  // A day needs no year on the axis.
  const short = (text) => (/^\d{4}-\d\d-\d\d$/.test(text) ? text.slice(5) : text);
  const every = Math.ceil(items.length / (width / 70));
  return h("figure", { class: "chartbox" },
    s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
      s("line", { class: "axis", x1: 0, x2: width, y1: y(0), y2: y(0) }),
      items.map((item, at) => [one("a", item.a, at, 0), item.b !== undefined && one("b", item.b, at, part),
        at % every === 0 && s("text", { x: Math.min(width - 24, Math.max(24, at * step + step / 2)), y: height - 5, "text-anchor": "middle" }, short(item.label))])),
    names.length > 1 && h("div", { class: "key" }, names.map((name, at) => h("span", null, h("i", { class: "ab"[at] }), name))));
}

/** A line through points {at, value} with its ends written out. */
export function line(label, points) {
  const [width, height] = [room(), 150];
  const values = points.map((point) => point.value), times = points.map((point) => Date.parse(point.at));
  const top = Math.max(1, ...values), from = times[0], range = times[times.length - 1] - from || 1;
  const place = (at) => `${((times[at] - from) / range) * (width - 20) + 10},${10 + (1 - values[at] / top) * (height - 40)}`;
  return s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    s("line", { class: "axis", x1: 0, x2: width, y1: height - 28, y2: height - 28 }),
    s("polyline", { class: "line", points: points.map((_, at) => place(at)).join(" ") }),
    s("text", { x: 4, y: 12 }, String(top)),
    s("text", { x: 4, y: height - 8 }, when(points[0].at).slice(5, 16)),
    s("text", { x: width - 4, y: height - 8, "text-anchor": "end" }, when(points[points.length - 1].at).slice(5, 16)));
}
