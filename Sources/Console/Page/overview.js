// The first view: what is open, how well things tie out, how fresh the sources are. What no topic tells is said to be
// missing, never shown as zero.
import { get, seesAll } from "/api.js";
import { ages, amount, bars, columns, fromMicros, h, line, micros, panel, rate, severities, span, table, when, words } from "/dom.js";

/** Cells of an aggregate that are added up; where there are more, the page says so. */
const most = 1000;

const list = (query) => "#/breaks?" + new URLSearchParams({ state: "open,reopened", ...query });
const absent = (name, why) => h("p", { class: "empty" }, why ?? `Nothing has come on the topic of ${name} yet.`);

function sum(rows, key) {
  const sums = new Map();
  for (const row of rows) sums.set(row[key], (sums.get(row[key]) ?? 0) + row.count);
  return sums;
}

function values(rows) {
  const sums = new Map();
  for (const row of rows) sums.set(row.currency, (sums.get(row.currency) ?? 0n) + micros(row.amount));
  return [...sums].sort();
}

export async function overview(_, app) {
  const node = h("div");
  const open = h("div", { class: "grid" }), rest = h("div", { class: "grid" });
  node.append(h("h1", null, "Overview"), open, h("p"), rest);

  async function drawOpen() {
    const summary = await get("/v1/summary");
    const rows = summary.rows;
    const severity = sum(rows, "severity"), age = sum(rows, "age");
    const bar = (key, sums, names, label) => names.map((name) => ({ label: label(name), count: sums.get(name) ?? 0,
      text: amount(sums.get(name) ?? 0), href: list({ [key]: name }) }));
    const types = [...sum(rows, "type")].sort((a, b) => b[1] - a[1]);
    const pressing = (severity.get("critical") ?? 0) + (severity.get("high") ?? 0);
    open.replaceChildren(
      panel("w3", "Open breaks", h("a", { href: list({}), class: "figure", id: "open-count" }, amount(summary.open)), h("p", { class: "note" }, `at ${when(summary.at)} UTC`)),
      panel("w3", "High and critical", h("a", { href: list({ severity: "high,critical" }), class: "figure" }, amount(pressing)),
        h("p", { class: "note" }, `${amount(age.get("30+") ?? 0)} older than 30 days`)),
      panel("w6", "Open value, sum of |difference|", values(rows).length === 0 ? h("p", { class: "empty" }, "Nothing is open.")
        : h("dl", null, values(rows).map(([currency, value]) => [h("dt", null, currency || "–"), h("dd", { class: "n" }, fromMicros(value))]))),
      panel("w4", "By type", types.length === 0 ? h("p", { class: "empty" }, "Nothing is open.")
        : bars("Open breaks by type", bar("type", new Map(types), types.map(([type]) => type), words))),
      panel("w4", "By age in days", bars("Open breaks by age", bar("age", age, ages, (name) => name))),
      panel("w4", "By severity", bars("Open breaks by severity", bar("severity", severity, severities, (name) => name))));
  }

  async function cells(name) {
    return get(`/v1/aggregates/${name}?limit=${most}`).catch((error) => ({ items: [], problem: error.message }));
  }
  const partly = (found) => found.next ? h("p", { class: "note" }, `Of the first ${most} cells; there are more.`) : null;

  function tied(quality) {
    const told = quality.items.map((cell) => cell.value).filter((value) => value.source !== undefined);
    // One cell says how the orders stand over all sources, one for each source how those of it do; the others count the
    // records of a source and month.
    const all = told.find((value) => value.source === "(all)" && value.period === "(all)");
    const parts = told.filter((value) => value.source !== "(all)" && value.period !== "(all)");
    if (told.length === 0) {
      const why = quality.problem ?? "Unknown: nothing has come on the topic of quality yet.";
      return [panel("w4", "Tied out", h("p", { class: "empty" }, why)), panel("w8", "Control totals", h("p", { class: "empty" }, why))];
    }
    const total = (name) => parts.reduce((all, part) => all + BigInt(part[name] ?? 0), 0n);
    const money = parts.flatMap((part) => (part.amounts ?? []).map((entry) => ({ source: part.source, ...entry })));
    // A source has a cell for each month: its amounts are added up.
    const names = ["total", "matched"];
    const sums = new Map();
    for (const entry of money) {
      const key = JSON.stringify([entry.source, entry.currency]);
      const at = sums.get(key) ?? names.map(() => 0n);
      sums.set(key, names.map((name, index) => at[index] + micros(entry[name])));
    }
    const orders = all?.amounts ?? [];
    return [
      panel("w4", "Tied out", all === undefined ? h("p", { class: "empty" }, "Unknown: nothing has come of the orders yet.")
        : [h("div", { class: "figure", id: "tied-out" }, rate(all.orders_tied_out, all.orders_closed)), h("p", { class: "note" }, `by count, of ${amount(all.orders_closed)} orders whose window has passed`),
          h("dl", null, orders.map((entry) => [h("dt", null, entry.currency, " by value"), h("dd", { class: "n" }, rate(micros(entry.matched), micros(entry.total)))]))],
        h("p", { class: "note" }, `${rate(total("matched"), total("records"))} of ${amount(total("records"))} records have a counterpart`), partly(quality)),
      panel("w8", "Control totals", orders.length === 0 ? h("p", { class: "empty" }, "Unknown: nothing has come of the orders yet.") : table("Value of the orders that are due, tied out, in open breaks, and what neither explains, by currency",
        ["Currency", "#Value", "#Tied out", "#In open breaks", "#Control difference"],
        [...orders].sort((a, b) => (a.currency < b.currency ? -1 : 1)).map((entry) => [entry.currency, ...["total", "matched", "open_breaks", "control_difference"].map((name) => fromMicros(micros(entry[name])))])),
        money.length === 0 ? null : table("Debits taken in, and of these with a counterpart, by source and currency", ["Source", "Currency", "#Taken in", "#With a counterpart", "#Rate"],
          [...sums].sort().map(([key, [taken, matched]]) => [...JSON.parse(key), fromMicros(taken), fromMicros(matched), rate(matched, taken)])), partly(quality)),
    ];
  }

  function sources(quality, names) {
    // A source has a cell for each month: counts are added up, and the newest month says how far behind it is.
    const by = new Map();
    for (const { value } of quality.items) {
      const at = by.get(value.source) ?? { records: 0n, late: 0n, period: "" };
      at.records += BigInt(value.records ?? 0);
      at.late += BigInt(value.late ?? 0);
      const period = /^[0-9]/.test(value.period ?? "") ? value.period : "";
      if (period >= at.period) Object.assign(at, { period, freshness_lag_ms: value.freshness_lag_ms });
      by.set(value.source, at);
    }
    return table("How far behind the clock each source is", ["Source", "Kind", "#Records", "#Freshness lag", "#Late", "#Dead letters"],
      names.map((source) => {
        const found = by.get(source.name);
        return [source.name, source.kind, amount(found?.records), span(found?.freshness_lag_ms), amount(found?.late), source.dead_letters === null ? "–" : amount(source.dead_letters)];
      }));
  }

  const chosen = new Map();
  /** The amount of each place of the axis, by currency and view. */
  function charted(title, name, found, take, names) {
    const groups = new Map();
    for (const cell of found.items) {
      const key = [cell.value.currency, cell.value.view].filter(Boolean).join(", ");
      if (!groups.has(key)) groups.set(key, new Map());
      for (const [place, a, b] of take(cell.value)) {
        const at = groups.get(key).get(place) ?? { label: place, a: 0n, b: names.length > 1 ? 0n : undefined };
        at.a += micros(a);
        if (names.length > 1) at.b += micros(b);
        groups.get(key).set(place, at);
      }
    }
    const keys = [...groups.keys()].filter((key) => groups.get(key).size > 0).sort();
    if (keys.length === 0) return panel("w6", title, absent(name, found.problem));
    const box = h("div");
    const draw = (key) => {
      const items = [...groups.get(key).values()].sort((a, b) => (a.label < b.label ? -1 : 1)).slice(-26);
      const top = items.reduce((most, item) => [item.a, item.b ?? 0n].reduce((a, b) => (b > a ? b : a), most), 0n);
      box.replaceChildren(h("p", { class: "note" }, `Highest: ${fromMicros(top)}`), columns(`${title}, ${key}`, items, names),
        h("details", null, h("summary", null, "As a table"), table(`${title}, ${key}`, ["At", ...names.map((text) => "#" + text)],
          items.map((item) => [item.label, fromMicros(item.a), ...(names.length > 1 ? [fromMicros(item.b)] : [])]))));
    };
    const choice = h("select", { "aria-label": `${title}: currency`, onchange: () => draw(choice.value) }, keys.map((key) => h("option", { value: key }, key)));
    // The one with the most to show comes first, and a choice stays while the figures are read anew.
    const size = (key) => [...groups.get(key).values()].reduce((all, { a, b = 0n }) => all + (a < 0n ? -a : a) + (b < 0n ? -b : b), 0n);
    choice.value = keys.includes(chosen.get(name)) ? chosen.get(name) : keys.reduce((most, key) => (size(key) > size(most) ? key : most));
    choice.addEventListener("change", () => chosen.set(name, choice.value));
    draw(choice.value);
    return panel("w6", title, keys.length > 1 ? choice : h("p", { class: "note" }, keys[0]), box, partly(found));
  }

  async function drawRest() {
    const names = (await get("/v1/sources")).items;
    if (!seesAll()) {
      rest.replaceChildren(panel("w12", "Totals", h("p", { class: "empty" }, "Totals, aggregates and lag are told over all rows: they are not shown to those who see some rows only.")));
      return;
    }
    const known = (await get("/v1/aggregates")).items;
    const want = (name) => known.some((entry) => entry.name === name) ? cells(name) : { items: [], problem: `No aggregate named ${name} is configured.` };
    const [quality, revenue, cashflow, totals, status] = await Promise.all([want("quality"), want("revenue"), want("cashflow"), get("/v1/totals?prefix=open_breaks:"), get("/v1/status")]);
    const lines = await Promise.all(totals.items.slice(0, 1).map(() => {
      const largest = totals.items.reduce((a, b) => (Number(b.value.value) > Number(a.value.value) ? b : a));
      return get("/v1/totals/series?minutes=1440&cell=" + encodeURIComponent(largest.cell));
    }));
    rest.replaceChildren(
      ...tied(quality),
      panel("w8", "Sources", sources(quality, names)),
      panel("w4", "This server", h("dl", null, h("dt", null, "Store"), h("dd", null, status.is_ready ? "has caught up" : "is catching up"),
        h("dt", null, "Records behind"), h("dd", null, amount(status.lag)), h("dt", null, "Last change"), h("dd", null, when(status.applied_at)),
        h("dt", null, "Records refused"), h("dd", null, amount(status.faults)), h("dt", null, "Version"), h("dd", null, status.version)),
        status.missing_topics.length > 0 && h("p", { class: "note" }, `Topics not there yet: ${status.missing_topics.join(", ")}`),
        status.trouble && h("p", { class: "error" }, status.trouble)),
      panel("w6", "Totals of the reconciler", totals.items.length === 0 ? absent("totals") : bars("Open breaks as the reconciler counts them",
        totals.items.map((cell) => ({ label: words(cell.cell.replace("open_breaks:", "")), count: Math.max(0, Number(cell.value.value)), text: amount(cell.value.value) })))),
      panel("w6", "Totals over a day", lines.length && lines[0].points.length > 1
        ? [h("p", { class: "note" }, words(lines[0].cell.replace("open_breaks:", "open "))), line(`${lines[0].cell} over a day`, lines[0].points.map((point) => ({ at: point.at, value: Number(point.value.value) })))]
        : absent("totals", "There are not two points yet: one a minute is kept.")),
      charted("Recognised revenue by period", "revenue", revenue, (value) => value.by_posting_date ? [[value.period, value.by_posting_date.recognised_revenue]] : [], ["Recognised revenue"]),
      charted("Cash of the next 13 weeks", "cashflow", cashflow, (value) => (value.weeks ?? []).map((week) => [week.from, week.expected, week.by_due_date]), ["Expected", "By due date"]));
  }

  // The sums are kept for up to a second by the server: after a change they are read at once and once more a little later.
  let timers = [];
  const again = (after, what) => setTimeout(() => what().catch((error) => app.toast(error.message)), after);
  const live = (kind) => {
    if (kind !== "break" && kind !== "reset") return;
    if (timers.length === 0) timers = [again(0, drawOpen), again(700, drawOpen), setTimeout(() => { timers = []; }, 700)];
  };
  await Promise.all([drawOpen(), drawRest()]);
  const slow = setInterval(() => drawRest().catch(() => {}), 15000);
  return { title: "Overview", node, live, leave: () => { clearInterval(slow); timers.forEach(clearTimeout); } };
}
