// The API as this page uses it: a session cookie that no script can read, and its second secret for changes.

export const session = { me: null, csrf: null };
const order = ["viewer", "analyst", "controller", "admin"];

export const can = (role) => (session.me?.roles ?? []).some((mine) => order.indexOf(mine) >= order.indexOf(role));
/** Totals, aggregates, dead letters and status are refused to whoever may see some rows only. */
export const seesAll = () => Object.keys(session.me?.scope ?? {}).length === 0;

export class ApiError extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

let onSignedOut = () => {};
export const whenSignedOut = (then) => { onSignedOut = then; };

async function call(method, path, body, headers) {
  let response;
  try {
    response = await fetch(path, {
      method, headers: { ...(body ? { "Content-Type": "application/json" } : {}), ...headers },
      body: body ? JSON.stringify(body) : undefined, credentials: "same-origin",
    });
  } catch {
    throw new ApiError(0, "unreachable", "the server cannot be reached");
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer.code, answer.detail ?? `status ${response.status}`);
  return answer;
}

export async function get(path) {
  try {
    return await call("GET", path);
  } catch (error) {
    if (error.status === 401) onSignedOut();
    throw error;
  }
}

/** A change; where the secret was renewed by another tab it is asked for again, once. */
async function change(method, path, body, headers = {}) {
  try {
    return await call(method, path, body, { ...headers, "X-CSRF-Token": session.csrf ?? "" });
  } catch (error) {
    if (error.status === 401) onSignedOut();
    if (error.status !== 403 || !error.message.includes("X-CSRF-Token")) throw error;
    await resume();
    return await call(method, path, body, { ...headers, "X-CSRF-Token": session.csrf ?? "" });
  }
}

function begun(answer) {
  session.me = answer;
  session.csrf = answer.csrf;
  localStorage.setItem("tieout.session", "1");
}

export const signIn = async (token) => begun(await call("POST", "/v1/session", { token }));
export const resume = async () => begun(await call("GET", "/v1/session"));
export const wasSignedIn = () => localStorage.getItem("tieout.session") !== null;
export function forget() {
  session.me = session.csrf = null;
  localStorage.removeItem("tieout.session");
}
export async function signOut() {
  await change("DELETE", "/v1/session").catch(() => {});
  forget();
}

const unique = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

export const act = (id, action) =>
  change("POST", `/v1/breaks/${encodeURIComponent(id)}/actions`, action, { "Idempotency-Key": unique() });
export const actOnMany = (ids, action) =>
  change("POST", "/v1/actions", { breaks: ids, ...action }, { "Idempotency-Key": unique() });

let catalogueAnswer = null;
export function catalogue() {
  catalogueAnswer ??= get("/v1/catalogue").catch((error) => { catalogueAnswer = null; throw error; });
  return catalogueAnswer;
}

/** Live changes; `on` gets (kind, data). The browser connects again by itself and goes on where it was. */
export function listen(on) {
  const stream = new EventSource("/v1/events");
  for (const kind of ["break", "status", "reset"]) {
    stream.addEventListener(kind, (event) => on(kind, JSON.parse(event.data)));
  }
  stream.onopen = () => on("open");
  stream.onerror = () => on(stream.readyState === EventSource.CLOSED ? "closed" : "lost");
  return () => stream.close();
}
