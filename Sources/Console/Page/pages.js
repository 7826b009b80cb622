// Orders, sources, the audit log.
import { can, get, seesAll } from "/api.js";
import { amount, entry, fromMicros, h, micros, panel, rate, span, table, when, words } from "/dom.js";
import { breakLink, severity, state } from "/breaks.js";

const outcome = { ties: "ties out", not_posted: "not posted", not_expected: "not expected", differs: "differs" };

/** One order explained; without a key, a field to ask for one. */
export async function order(key, app) {
  const field = h("input", { type: "search", name: "order", value: key ?? "", autocomplete: "off", required: true });
  const form = h("form", { class: "row", onsubmit: (event) => {
    event.preventDefault();
    location.hash = "#/order/" + encodeURIComponent(field.value.trim());
  } }, h("label", null, "Order key", field), h("button", { class: "main", type: "submit" }, "Explain"));
  const box = h("div");
  async function load() {
    if (!key) return;
    let found;
    try {
      found = await get("/v1/orders/" + encodeURIComponent(key));
    } catch (error) {
      if (error.status !== 404) throw error;
      box.replaceChildren(h("p", { class: "empty" }, "Nothing of this order is known: it ties out, or has not come yet."));
      return;
    }
    const records = found.records.length > 0 && panel("w12", "Its records", h("p", { class: "note" }, "Every event and posting, as it came"),
      h("ol", { class: "time" }, found.records.map((record) => h("li", null, h("div", { class: "note" },
        `${when(record.at)} · ${record.source} · ${record.topic}, partition ${record.partition}, offset ${record.offset}`), h("code", { class: "record" }, record.text)))));
    if (found.breaks.length === 0) {
      box.replaceChildren(h("p", { class: "empty" }, "No break of this order is known: it ties out, or its time has not come yet."), h("div", { class: "grid" }, records));
      return;
    }
    box.replaceChildren(h("div", { class: "grid" },
      panel("w8", found.is_tied_out ? "It ties out" : "It does not tie out",
        table("Expected and posted by account role", ["Role", "Currency", "#Expected", "#Posted", "#Difference", "Outcome"],
          found.roles.map((role) => [words(role.role), role.currency, amount(role.expected), amount(role.posted), amount(role.delta), outcome[role.status] ?? role.status])),
        found.missing.length > 0 && [h("h2", null, "What is missing"), h("ul", null, found.missing.map((text) => h("li", null, text)))]),
      panel("w4", "About it", h("dl", null, entry("Customer", found.customer || "–"),
        Object.entries(found.dimensions).map(([name, value]) => entry(name, value || "–")), entry("As of", when(found.as_of)),
        entry("Events", found.events.join(", ") || "none"), entry("Journals", found.journals.join(", ") || "none"))),
      panel("w12", "Its breaks", table("Breaks of this order", ["Break", "Type", "Severity", "State", "#Difference"],
        found.breaks.map(({ break: item }) => [breakLink(item.id), words(item.type), severity(item.severity), state(item),
          `${amount(item.delta)} ${item.currency}`]))), records));
  }
  await load();
  return { title: key ? `Order ${key}` : "Orders", node: h("div", null, h("h1", null, key ? `Order ${key}` : "Explain an order"), form, box),
    live: (kind, data) => { if (kind === "break" && data.order === key) load().catch((error) => app.toast(error.message)); } };
}

/** How the orders stand in which each source has a record, from the aggregate of quality. */
async function standing(names) {
  const title = "Orders in which a source has a record";
  const say = (text) => panel("w12", title, h("p", { class: "empty" }, text));
  if (!seesAll()) return say("They are told over all rows: they are not shown to those who see some rows only.");
  const known = (await get("/v1/aggregates")).items;
  if (!known.some((entry) => entry.name === "quality")) return say("No aggregate named quality is configured.");
  // A bar or a backslash inside a part of a key is escaped.
  const key = (name) => name.replaceAll("\\", "\\\\").replaceAll("|", "\\|") + "|(all)";
  const found = await Promise.all(names.map((name) => get("/v1/aggregates/quality?limit=1&prefix=" + encodeURIComponent(key(name)))));
  const told = found.flatMap((page) => page.items.map((item) => item.value));
  if (told.length === 0) return say("Nothing has come on the topic of quality yet.");
  const rows = told.flatMap((value) => {
    const money = (value.amounts ?? []).length > 0 ? [...value.amounts].sort((a, b) => (a.currency < b.currency ? -1 : 1)) : [{ currency: "–" }];
    return money.map((part) => [value.source, amount(value.orders_closed), rate(value.orders_tied_out, value.orders_closed), amount(value.open_break_count),
      part.currency, rate(micros(part.matched), micros(part.total)), fromMicros(micros(part.open_breaks)), span(part.weighted_break_age_ms), fromMicros(micros(part.control_difference))]);
  });
  return panel("w12", title, table("Orders whose window has passed, those that tie out, and what is in open breaks; an order counts for each of its sources",
    ["Source", "#Orders due", "#Tied out", "#Open breaks", "Currency", "#Tied out by value", "#In open breaks", "#Their age", "#Control difference"], rows));
}

export async function sources() {
  const [found, words_] = await Promise.all([get("/v1/sources"), get("/v1/catalogue")]);
  const orders = await standing(found.items.map((item) => item.name));
  const letters = seesAll() ? (await get("/v1/dead-letters?limit=20")).items : null;
  const text = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "–"));
  return { title: "Sources", node: h("div", null, h("h1", null, "Sources and mappings"), h("div", { class: "grid" },
    panel("w12", "Sources", table("Where records come from", ["Source", "Kind", "Topic", "Format", "Intake by API", "#Dead letters"],
      found.items.map((item) => [item.name, item.kind, item.topic, item.format, item.accepts_intake ? "yes" : "no",
        item.dead_letters === null ? "–" : item.dead_letters >= 500 ? "500 or more" : amount(item.dead_letters)]))),
    orders,
    words_.sources.map((source) => panel("w6", `Mapping of ${source.source}`, table(`${source.kind}: canonical field and where it comes from`,
      ["Field", "From", "Table", "Default"], source.fields.map((field) => [field.canonical, field.from, field.table ?? "–", field.default ?? "–"])))),
    panel("w12", "Dead letters, newest first", letters === null ? h("p", { class: "empty" }, "They are not shown to those who see some rows only.")
      : letters.length === 0 ? h("p", { class: "empty" }, "There are none.")
        : table("Records that could not be taken in", ["Source", "Reason", "Field", "Place", "Detail"], letters.map((letter) =>
          [text(letter.source), text(letter.reason), text(letter.field), `${text(letter.topic)} ${text(letter.partition)} ${text(letter.offset)}`, text(letter.detail)]))),
    panel("w12", "Types of breaks", table("When each type is raised", ["Type", "Raised when"], words_.break_types.map((type) => [words(type.type), type.raised_when]))))) };
}

export async function audit() {
  if (!can("admin") || !seesAll()) return { title: "Audit", node: h("p", { class: "empty" }, "The audit log is for admins.") };
  const found = await get("/v1/audit?limit=200");
  const known = new Set(["n", "number", "hash", "prev", "at", "actor", "event", "outcome", "address"]);
  const rest = (entry) => Object.entries(entry).filter(([name]) => !known.has(name))
    .map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
  return { title: "Audit", node: h("div", null, h("h1", null, "Audit log"),
    h("p", { class: "note" }, `${amount(found.number)} entries; the newest has the hash ${found.hash}`),
    h("div", { class: "panel" }, table("Newest entries first", ["At", "Who", "What", "Outcome", "Address", "Detail"],
      found.items.map((entry) => [when(entry.at), entry.actor || "–", entry.event, entry.outcome, entry.address ?? "–", rest(entry) || "–"])))) };
}
