// Which view is shown, who is signed in, keys, theme, and the stream of changes.
import { can, forget, listen, resume, seesAll, session, signIn, signOut, wasSignedIn, whenSignedOut } from "/api.js";
import { detail, list } from "/breaks.js";
import { h } from "/dom.js";
import { overview } from "/overview.js";
import { audit, order, sources } from "/pages.js";

const main = document.getElementById("main"), nav = document.getElementById("nav"), live = document.getElementById("live");
const who = document.getElementById("who"), leave = document.getElementById("leave"), toast = document.getElementById("toast");
let view = null, stop = null, turn = 0, lastList = "#/breaks", toastTimer = null;

const app = {
  toast(text) {
    toast.textContent = text;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => { toast.textContent = ""; }, 6000);
  },
  backToList: () => lastList,
};

const views = { overview, breaks: list, break: detail, orders: order, order, sources, audit };
const entries = () => [["overview", "Overview"], ["breaks", "Breaks"], ["orders", "Orders"], ["sources", "Sources"],
  ...(can("admin") && seesAll() ? [["audit", "Audit"]] : [])];

function drawNav(name) {
  const now = { break: "breaks", order: "orders" }[name] ?? name;
  nav.replaceChildren(...entries().map(([key, text]) => h("a", { href: `#/${key}`, "aria-current": key === now ? "page" : null }, text)));
  nav.hidden = false;
}

async function show() {
  if (!session.me) return;
  const mine = ++turn;
  const [, name = "overview", rest] = /^#\/(\w+)(?:[/?](.*))?$/.exec(location.hash) ?? [];
  const make = views[name] ?? overview;
  if (name === "breaks") lastList = location.hash;
  drawNav(name);
  let next;
  try {
    next = await make(name === "break" || name === "order" ? decodeURIComponent(rest ?? "") : rest ?? "", app);
  } catch (error) {
    next = { title: "Error", node: h("div", null, h("p", { class: "error", role: "alert" }, error.message),
      h("button", { type: "button", onclick: show }, "Try again")) };
  }
  if (mine !== turn || !session.me) return void next.leave?.();
  view?.leave?.();
  view = next;
  document.title = `${next.title} · tieout`;
  main.replaceChildren(next.node);
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function follow() {
  stop?.();
  stop = listen((kind, data) => {
    if (kind === "open" || kind === "status") {
      live.classList.add("on");
      live.textContent = kind === "status" && data.lag > 0 ? `${data.lag} behind` : "Live";
    } else if (kind === "lost" || kind === "closed") {
      live.classList.remove("on");
      live.textContent = "Not live";
      // A stream that was refused is not tried again by the browser: maybe the session has ended.
      if (kind === "closed") setTimeout(() => resume().then(follow).catch((error) => { if (error.status === 401) signedOut(); else setTimeout(follow, 5000); }), 2000);
    }
    view?.live?.(kind, data);
  });
  live.hidden = false;
}

function signedIn() {
  who.textContent = `${session.me.principal} · ${session.me.roles.join(", ")}`;
  leave.hidden = false;
  follow();
  show();
}

function signedOut() {
  stop?.();
  stop = null;
  view?.leave?.();
  view = null;
  turn++;
  forget();
  nav.hidden = leave.hidden = live.hidden = true;
  who.textContent = "";
  const token = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true });
  const problem = h("p", { class: "error", role: "alert" });
  const button = h("button", { class: "main", type: "submit" }, "Sign in");
  main.replaceChildren(h("form", { class: "panel sign", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await signIn(token.value.trim());
      signedIn();
    } catch (error) {
      problem.textContent = error.status === 401 ? "This token is not known." : error.message;
      button.disabled = false;
    }
  } }, h("h1", null, "Sign in to tieout"), h("p", { class: "note" }, "With an API token, or a signed one of your identity provider."),
  h("label", null, "Token", token), problem, button));
  document.title = "Sign in · tieout";
  token.focus();
}

// MARK: - Keys

const keys = [["j / k", "next, previous break"], ["x", "select it"], ["Enter or o", "open it"], ["/", "search"], ["Escape", "clear the selection"],
  ["g", "overview"], ["b", "breaks"], ["?", "these keys"]];

function help() {
  const box = h("dialog", { "aria-labelledby": "help" }, h("h2", { id: "help" }, "Keys"),
    h("dl", null, keys.map(([key, text]) => [h("dt", null, h("kbd", null, key)), h("dd", null, text)])),
    h("p", null, h("button", { type: "button", class: "main", onclick: () => box.close() }, "Close")));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

document.addEventListener("keydown", (event) => {
  if (!session.me || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isWriting = event.target.matches?.("input:not([type=checkbox]), textarea, select");
  if (isWriting) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "?") help();
  else if (event.key === "g") location.hash = "#/overview";
  else if (event.key === "b") location.hash = lastList;
  else if (!view?.keys?.(event.key)) return;
  event.preventDefault();
});

// MARK: - Theme

const dark = matchMedia("(prefers-color-scheme: dark)");
function paint() {
  const theme = localStorage.getItem("tieout.theme") ?? (dark.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = theme === "dark" ? "Light" : "Dark";
  button.setAttribute("aria-label", theme === "dark" ? "Use light colours" : "Use dark colours");
}
document.getElementById("theme").addEventListener("click", () => {
  localStorage.setItem("tieout.theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  paint();
});
dark.addEventListener("change", paint);
paint();

// The address after # says which view is shown: the link cannot be a common one.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
leave.addEventListener("click", () => signOut().then(signedOut));
whenSignedOut(signedOut);
window.addEventListener("hashchange", show);
if (wasSignedIn()) resume().then(signedIn).catch(signedOut); else signedOut();
