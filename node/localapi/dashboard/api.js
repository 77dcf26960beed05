// The daemon's local API. The token stays in this tab: it is gone when the tab
// is closed, and no other page, and no other port of this machine, is shown it.

const KEY = "idlewild-token";

export class LoggedOut extends Error {}

export const loggedIn = () => Boolean(sessionStorage.getItem(KEY));
export const logOut = () => sessionStorage.removeItem(KEY);
export const useToken = (t) => sessionStorage.setItem(KEY, t);

// login exchanges the code of a link, which works once.
export async function login(code) {
  const r = await fetch("/login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }) });
  const v = await r.json();
  if (!r.ok) throw new LoggedOut(v.detail);
  useToken(v.token);
}

async function send(method, path, body, signal) {
  const headers = { Authorization: "Bearer " + sessionStorage.getItem(KEY) };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const r = await fetch(path, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body) });
  if (r.ok) return r;
  if (r.status === 401) {
    logOut();
    throw new LoggedOut("The daemon was started again, or the token is wrong.");
  }
  let why = r.statusText;
  try {
    const v = await r.json();
    why = (v.problems ?? []).map((p) => [p.where, p.message, p.remedy].filter(Boolean).join(": ")).join("; ") || v.detail;
  } catch { /* no document: the status text is all there is */ }
  throw new Error(why);
}

export const get = async (path) => (await send("GET", path)).json();
export const post = async (path, body = {}) => (await send("POST", path, body)).json();
export const patch = async (path, body) => (await send("PATCH", path, body)).json();
export const text = async (path) => (await send("GET", path)).text();
export const picture = async (path) => URL.createObjectURL(await (await send("GET", path)).blob());

// events calls on for each event of any job, until signal; it comes back by
// itself after a cut. EventSource cannot send a token, so the stream is read.
export async function events(on, signal) {
  const r = await send("GET", "/v1/events", undefined, signal);
  const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const p of parts) {
      const data = p.split("\n").find((l) => l.startsWith("data: "));
      if (data) on(JSON.parse(data.slice(6)));
    }
  }
}
