// Lists of breaks, one break, and what people do to them.
import { act, actOnMany, can, catalogue, get, session } from "/api.js";
import { age, ages, amount, entry, h, severities, table, when, words } from "/dom.js";

export const states = ["expected", "open", "reopened", "explained", "accepted", "auto_cleared", "closed", "force_closed"];
const sorts = { "-amount": "largest first", amount: "smallest first", "-age": "oldest first", age: "newest first",
  "-updated": "changed last", updated: "changed first" };

/** Kinds of actions with who may do them and what they need. */
const kinds = {
  assign: { name: "Assign", from: "analyst", fields: ["assignee", "comment"] },
  comment: { name: "Comment", from: "analyst", fields: ["comment"] },
  explain: { name: "Explain", from: "analyst", fields: ["reason_code", "comment"] },
  accept: { name: "Accept", from: "controller", fields: ["reason_code", "comment"] },
  write_off: { name: "Propose write-off", from: "analyst", fields: ["reason_code", "comment"] },
  force_close: { name: "Force close", from: "controller", fields: ["reason_code", "comment"] },
  reopen: { name: "Reopen", from: "analyst", fields: ["comment"] },
};
const allowed = () => Object.keys(kinds).filter((kind) => can(kinds[kind].from));

export const severity = (text) => h("span", { class: `tag ${severities.includes(text) ? text : ""}` }, text);
export const state = (item) => h("span", null, h("span", { class: "tag" }, words(item.state)),
  item.pending_approval && h("span", { class: "tag high" }, "waits for approval"));
export const breakLink = (id, text) => h("a", { href: `#/break/${encodeURIComponent(id)}` }, text ?? id);
export const orderLink = (order) => h("a", { href: `#/order/${encodeURIComponent(order)}` }, order);

/** Asks for the details of an action; gives what the API takes, or null. */
async function ask(kind, subject) {
  const { name, fields } = kinds[kind];
  const codes = fields.includes("reason_code") ? (await catalogue()).reason_codes : [];
  return new Promise((done) => {
    const code = codes.length > 0 && h("select", { name: "reason_code", required: kind === "explain" },
      h("option", { value: "" }, "–"), codes.map((text) => h("option", { value: text }, words(text))));
    const who = fields.includes("assignee") && h("input", { name: "assignee", value: session.me.principal, maxlength: 128, autocomplete: "off" });
    const comment = h("textarea", { name: "comment", maxlength: 4000, required: kind === "comment" });
    const problem = h("p", { class: "error", role: "alert", hidden: true });
    const send = (event) => {
      event.preventDefault();
      if (["accept", "write_off", "force_close"].includes(kind) && !code.value && !comment.value.trim()) {
        problem.textContent = "A reason or a comment must say why.";
        problem.hidden = false;
        return;
      }
      const action = { kind };
      if (who) action.assignee = who.value.trim();
      if (code?.value) action.reason_code = code.value;
      if (comment.value.trim()) action.comment = comment.value.trim();
      box.close();
      done(action);
    };
    const box = h("dialog", { "aria-labelledby": "ask" },
      h("form", { onsubmit: send }, h("h2", { id: "ask" }, name), h("p", { class: "note" }, subject),
        who && h("label", null, "Assignee (empty: nobody)", who), code && h("label", null, "Reason", code),
        h("label", null, "Comment", comment), problem,
        h("div", { class: "row" }, h("button", { class: "main", type: "submit" }, name),
          h("button", { type: "button", onclick: () => { box.close(); done(null); } }, "Cancel"))));
    box.addEventListener("cancel", () => done(null));
    box.addEventListener("close", () => box.remove());
    document.body.append(box);
    box.showModal();
  });
}

function told(answer) {
  const done = answer.actions.filter((action) => action.status === "done").length;
  const waiting = answer.actions.length - done;
  return [done > 0 && `${done} done`, waiting > 0 && `${waiting} ${waiting === 1 ? "waits" : "wait"} for a second person`,
    answer.errors.length > 0 && `${answer.errors.length} refused: ${answer.errors[0].detail}`].filter(Boolean).join("; ");
}

// MARK: - The list

/** The list; its filters live in the address. Returns what the page needs of a view: node, live, keys. */
export async function list(query, app) {
  const params = new URLSearchParams(query);
  if ([...params.keys()].length === 0) params.set("state", "open,reopened");
  const dimensions = (await catalogue()).dimensions;
  const types = (await catalogue()).break_types.map((entry) => entry.type);
  const chosen = new Set();
  let items = [], next = null, here = 0, pages = 0;

  const set = (name, value) => {
    const now = new URLSearchParams(params);
    if (value) now.set(name, value); else now.delete(name);
    if ([...now.keys()].length === 0) now.set("sort", "-amount");
    location.hash = "#/breaks?" + now;
  };
  const pick = (name, label, values, none = "any") => {
    const now = params.get(name) ?? "";
    const all = now && !values.some(([value]) => value === now) ? [[now, now], ...values] : values;
    const node = h("select", { name, onchange: () => set(name, node.value) }, none && h("option", { value: "" }, none),
      all.map(([value, text]) => h("option", { value }, text)));
    node.value = now || (none ? "" : values[0][0]);
    return h("label", null, label, node);
  };
  const text = (name, label, props) => {
    const node = h("input", { name, value: params.get(name) ?? "", onchange: () => set(name, node.value.trim()), autocomplete: "off", ...props });
    return h("label", null, label, node);
  };
  const plain = (values) => values.map((value) => [value, words(value)]);
  const more = ["role", "currency", "customer", "assignee", "min_amount", "max_amount", "pending_approval", ...dimensions.map((name) => "dimension." + name)];
  const search = text("q", "Search", { type: "search", maxlength: 200, placeholder: "order, id, customer, document" });
  const filters = h("div", null,
    h("div", { class: "row", role: "search" }, search,
      pick("state", "State", [["open,reopened", "open"], ...plain(states.filter((name) => name !== "open"))]),
      pick("type", "Type", plain(types)), pick("severity", "Severity", [...plain(severities), ["high,critical", "high or critical"]]),
      pick("age", "Age in days", ages.map((name) => [name, name])), pick("sort", "Sorted by", Object.entries(sorts), null),
      h("button", { type: "button", onclick: () => { location.hash = "#/breaks"; } }, "Reset")),
    h("details", { class: "more", open: more.some((name) => params.has(name)) }, h("summary", null, "More filters and export"),
      h("div", { class: "row" }, text("customer", "Customer"), text("assignee", "Assignee"), text("currency", "Currency", { size: 5 }),
        text("min_amount", "Amount from", { inputmode: "decimal", size: 9 }), text("max_amount", "to", { inputmode: "decimal", size: 9 }),
        pick("pending_approval", "Waits for approval", [["true", "yes"], ["false", "no"]]),
        dimensions.map((name) => text("dimension." + name, name, { size: 10 })),
        ["csv", "jsonl"].map((format) => {
          const all = new URLSearchParams(params);
          all.set("format", format);
          return h("a", { href: "/v1/export/breaks?" + all, download: `breaks.${format}` }, `Export ${format.toUpperCase()}`);
        }))));

  const body = h("tbody");
  const all = h("input", { type: "checkbox", "aria-label": "Select all shown", onchange: () => {
    for (const item of items) if (all.checked) chosen.add(item.id); else chosen.delete(item.id);
    draw();
  } });
  const heads = ["Order", "Type", "Severity", "State", "#Difference", "#Expected", "#Posted", "Age", "Customer", "Assignee"];
  const grid = h("div", { class: "scroll" }, h("table", { class: "cards" },
    h("thead", null, h("tr", null, h("th", { scope: "col" }, all),
      heads.map((head) => h("th", { scope: "col", class: head.startsWith("#") && "n" }, head.replace("#", ""))))), body));
  const count = h("p", { class: "note", "aria-live": "polite" });
  const moreButton = h("button", { type: "button", onclick: () => load(true) }, "Show more");
  const bulk = h("div", { class: "bulk", role: "toolbar", "aria-label": "Actions on the selected breaks" });
  const problem = h("p", { class: "error", role: "alert" });

  function rowOf(item, at) {
    const box = h("input", { type: "checkbox", "aria-label": `Select ${item.id}`, checked: chosen.has(item.id),
      onchange: () => { here = at; toggle(item.id); } });
    return h("tr", { "data-id": item.id, class: at === here && "here" },
      h("td", { class: "first" }, box), h("th", { scope: "row" }, breakLink(item.id, item.order)),
      h("td", { class: "side" }, words(item.type)), h("td", null, severity(item.severity)), h("td", { class: "side" }, state(item)),
      h("td", { class: "n" }, amount(item.delta), " ", item.currency), h("td", { class: "n far" }, amount(item.expected)),
      h("td", { class: "n far" }, amount(item.posted)), h("td", { class: "far" }, age(item.first_event_time)),
      h("td", { class: "far wrap" }, item.customer), h("td", { class: "far wrap" }, item.assignee ?? "–"));
  }

  function toggle(id) {
    if (!chosen.delete(id)) chosen.add(id);
    draw();
  }

  function draw(fresh = new Set()) {
    const focused = document.activeElement?.closest?.("tr")?.dataset.id;
    const kind = document.activeElement?.tagName;
    here = Math.max(0, Math.min(here, items.length - 1));
    body.replaceChildren(...items.map(rowOf));
    for (const row of body.children) {
      if (fresh.has(row.dataset.id)) row.classList.add("fresh");
      if (row.dataset.id === focused) row.querySelector(kind === "A" ? "a" : "input").focus();
    }
    all.checked = items.length > 0 && items.every((item) => chosen.has(item.id));
    grid.hidden = items.length === 0;
    moreButton.hidden = next === null;
    count.textContent = items.length === 0 ? "No break passes these filters." : `${items.length} shown${next ? ", there are more" : ""}`;
    bulk.hidden = chosen.size === 0;
    bulk.replaceChildren(h("strong", null, `${chosen.size} selected`),
      ...allowed().map((name) => h("button", { type: "button", "data-kind": name, onclick: () => doBulk(name) }, kinds[name].name)),
      h("button", { type: "button", class: "quiet", onclick: () => { chosen.clear(); draw(); } }, "Clear"));
  }

  async function load(isMore = false, fresh) {
    const ask = new URLSearchParams(params);
    if (isMore && next) ask.set("cursor", next);
    try {
      const page = await get("/v1/breaks?" + ask);
      items = isMore ? items.concat(page.items) : page.items;
      pages = isMore ? pages + 1 : 1;
      next = page.next;
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
    draw(fresh);
  }

  async function doBulk(kind) {
    const ids = [...chosen];
    const action = await ask(kind, ids.length === 1 ? ids[0] : `${ids.length} breaks`);
    if (!action) return;
    try {
      const answer = await actOnMany(ids, action);
      chosen.clear();
      app.toast(told(answer));
      await load();
    } catch (error) {
      app.toast(error.message);
    }
  }

  // A row that is shown is changed where it stands; the first page is read anew at most once a second.
  let waiting = new Set(), timer = null, last = 0;
  function live(kind, data) {
    if (kind === "reset") return void load();
    if (kind !== "break") return;
    waiting.add(data.id);
    const at = items.findIndex((item) => item.id === data.id);
    if (at >= 0 && (items[at].revision <= data.revision)) items[at] = data;
    timer ??= setTimeout(() => {
      timer = null;
      last = Date.now();
      const fresh = waiting;
      waiting = new Set();
      if (pages === 1) load(false, fresh); else draw(fresh);
    }, Math.max(0, 1000 - (Date.now() - last)));
  }

  function keys(key) {
    if (key === "j" || key === "k") {
      here += key === "j" ? 1 : -1;
      draw();
      const row = body.children[here];
      row?.scrollIntoView({ block: "nearest" });
      row?.querySelector("a").focus({ preventScroll: true });
    } else if (key === "x" && items[here]) toggle(items[here].id);
    else if (key === "o" && items[here]) location.hash = `#/break/${encodeURIComponent(items[here].id)}`;
    else if (key === "Enter" && items[here] && ["BODY", "MAIN"].includes(document.activeElement.tagName)) {
      location.hash = `#/break/${encodeURIComponent(items[here].id)}`;
    } else if (key === "/") search.querySelector("input").focus();
    else if (key === "Escape") { chosen.clear(); draw(); }
    else return false;
    return true;
  }

  await load();
  return { title: "Breaks", live, keys, leave: () => clearTimeout(timer),
    node: h("div", null, h("div", { class: "row" }, h("h1", null, "Breaks"), h("span", { class: "note" }, h("kbd", null, "?"), " keys")),
      filters, problem, grid, count, moreButton, bulk) };
}

// MARK: - One break

export async function detail(id, app) {
  const node = h("div");
  async function run(action) {
    try {
      app.toast(told(await act(id, action)));
      await load();
    } catch (error) {
      app.toast(error.message);
    }
  }
  async function start(kind, revision) {
    const action = await ask(kind, id);
    if (action) await run({ ...action, revision });
  }
  async function load() {
    const found = await get("/v1/breaks/" + encodeURIComponent(id));
    const item = found.break, evidence = found.message.evidence ?? {};
    const pending = found.actions.filter((action) => found.pending.includes(action.id));
    const approvals = pending.map((action) => {
      const isMine = action.actor === session.me.principal;
      return h("section", { class: "panel w12" }, h("h2", null, "Waits for a second person"),
        h("p", null, `${action.actor} asked: ${words(action.kind)}`, action.reason_code && `, ${words(action.reason_code)}`,
          action.comment && `: ${action.comment}`),
        can("controller") ? h("div", { class: "row" },
          h("button", { type: "button", class: "main", disabled: isMine, onclick: () => run({ kind: "approve", of: action.id }) }, "Approve"),
          h("button", { type: "button", onclick: () => run({ kind: "reject", of: action.id }) }, "Reject"),
          isMine && h("span", { class: "note" }, "Somebody else must approve what you asked for."))
          : h("p", { class: "note" }, "A controller approves or rejects it."));
    });
    const events = [
      ...found.history.map((entry) => ({ at: entry.at, what: h("span", null, h("strong", null, `Revision ${entry.revision}: ${words(entry.state)}`),
        entry.provisional && " (provisional)", ` · expected ${amount(entry.expected)}, posted ${amount(entry.posted)}. ${entry.reason}`) })),
      ...found.actions.map((action) => ({ at: action.at, what: h("span", null, h("strong", null, `${action.actor}: ${words(action.kind)}`),
        action.assignee !== undefined && ` to ${action.assignee || "nobody"}`, action.reason_code && ` · ${words(action.reason_code)}`,
        action.needs_approval && " · needs approval", action.comment && ` · ${action.comment}`) })),
    ].sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
    const papers = (name, all) => entry(name, all?.length ? all.join(", ") : "none");
    node.replaceChildren(
      h("p", { class: "note" }, h("a", { href: app.backToList() }, "← Breaks")),
      h("div", { class: "row" }, h("h1", null, item.id), severity(item.severity), state(item)),
      h("div", { class: "grid" },
        approvals,
        h("section", { class: "panel w4 half" }, h("h2", null, "Expected"), h("div", { class: "figure" }, amount(item.expected)), h("p", { class: "note" }, item.currency, " by the orders")),
        h("section", { class: "panel w4 half" }, h("h2", null, "Posted"), h("div", { class: "figure" }, amount(item.posted)), h("p", { class: "note" }, item.posted_currency ?? item.currency, " in the ledger")),
        h("section", { class: "panel w4" }, h("h2", null, "Difference"), h("div", { class: "figure" }, amount(item.delta)), h("p", { class: "note" }, item.reason)),
        h("section", { class: "panel w8" }, h("h2", null, "Evidence"),
          evidence.roles?.length ? table("Expected and posted by account role", ["Role", "Currency", "#Expected", "#Posted", "#Difference"],
            evidence.roles.map((role) => [words(role.role), role.currency, amount(role.expected), amount(role.posted), amount(role.delta)]))
            : h("p", { class: "empty" }, "The message holds no amounts by role."),
          h("dl", null, papers("Order events", evidence.events), papers("Journals", evidence.journals), papers("Hints", item.hints.map(words)))),
        h("section", { class: "panel w4" }, h("h2", null, "About it"), h("dl", null, entry("Order", orderLink(item.order)), entry("Type", words(item.type)),
          entry("Role", words(item.role)), entry("Customer", item.customer || "–"),
          Object.entries(item.dimensions).map(([name, value]) => entry(name, value || "–")), entry("Assignee", item.assignee ?? "nobody"),
          item.reason_code && entry("Reason", words(item.reason_code)), entry("By the reconciler", words(item.reconciler_state)),
          entry("First event", when(item.first_event_time)), entry("Deadline", when(item.deadline)), entry("As of", when(item.as_of)),
          entry("Write-off", item.proposed_write_off ? "proposed to the ERP" : "none"))),
        allowed().length > 0 && h("section", { class: "panel w12" }, h("h2", null, "Actions"), h("div", { class: "row" }, allowed().map((kind) =>
          h("button", { type: "button", "data-kind": kind, onclick: () => start(kind, item.revision) }, kinds[kind].name)))),
        h("section", { class: "panel w12" }, h("h2", null, "History"),
          h("ol", { class: "time" }, events.map((event) => h("li", null, h("time", { datetime: event.at }, when(event.at)), event.what))))));
  }
  await load();
  return { title: id, node, live: (kind, data) => {
    if (kind === "reset" || (kind === "break" && data.id === id)) load().catch((error) => app.toast(error.message));
  } };
}
