import { h, show } from "./dom.js";
import { LoggedOut, events, get, loggedIn, login, useToken } from "./api.js";
import { machine } from "./machine.js";
import { jobs } from "./jobs.js";
import { jobDetail } from "./job.js";
import { swarm } from "./swarm.js";
import { farm } from "./farm.js";
import { history } from "./history.js";
import { logs, settings } from "./settings.js";

const views = [["machine", "Machine", machine], ["jobs", "Jobs", jobs], ["swarm", "Swarm", swarm], ["farm", "Farm jobs", farm],
  ["history", "History", history], ["settings", "Settings", settings], ["logs", "Log", logs]];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const link = document.getElementById("link");

// A view draws itself again when something happened to a job, and now and
// then; a page that nobody looks at asks for nothing.
const EVERY = 3000, AT_MOST = 400;
let timer = 0, drawing = false, again = false, place = "", stream = null;

async function draw() {
  clearTimeout(timer);
  if (drawing) { again = true; return; }
  drawing = true;
  again = false;
  const [name, ...rest] = (location.hash.slice(1) || "machine").split("/");
  const view = views.find((v) => v[0] === name) ?? views[0];
  const where = [view[0], ...rest].join("/");
  for (const a of nav.children) a.hash === "#" + view[0] ? a.setAttribute("aria-current", "page") : a.removeAttribute("aria-current");
  try {
    const id = view[0] === "jobs" && rest[0];
    const content = await (id ? jobDetail(decodeURIComponent(id), refresh) : view[2](refresh));
    if (where !== place) {
      place = where;
      document.title = view[1] + " · idlewild";
      show(main);
      main.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    if (!document.querySelector("dialog[open]")) show(main, content);
    say("");
  } catch (e) {
    if (e instanceof LoggedOut) { drawing = false; return askLogin(e.message); }
    if (e instanceof TypeError) say("The daemon does not answer. Start it with: idlewild up", true);
    else say(e.message, true);
  }
  drawing = false;
  timer = setTimeout(draw, again ? AT_MOST : EVERY);
  if (document.hidden) clearTimeout(timer);
}

// refresh is for views: something was changed, look again at once.
function refresh(error) {
  if (error instanceof LoggedOut) return askLogin(error.message);
  if (error) say(error.message, true);
  else draw();
}

function say(what, bad = false) {
  if (link.textContent === what) return;
  link.textContent = what;
  link.classList.toggle("bad", bad);
}

function soon() {
  if (document.hidden) return;
  again = true;
  if (!drawing) { clearTimeout(timer); timer = setTimeout(draw, AT_MOST); }
}

async function follow() {
  stream?.abort();
  stream = new AbortController();
  const signal = stream.signal;
  while (!signal.aborted && loggedIn()) {
    try {
      await events(soon, signal);
    } catch { /* cut, or not there: draw says so */ }
    await new Promise((r) => setTimeout(r, 2000));
  }
}

function askLogin(message) {
  clearTimeout(timer);
  stream?.abort();
  nav.hidden = true;
  place = "";
  document.title = "idlewild";
  const field = h("input", { id: "token", name: "token", type: "password", autocomplete: "off", required: true });
  const enter = async (e) => {
    e.preventDefault();
    useToken(document.getElementById("token").value.trim());
    try {
      await get("/v1/status");
      start();
    } catch (err) {
      askLogin(err instanceof LoggedOut ? "That is not the token." : "The daemon does not answer.");
    }
  };
  show(main, h("section", { class: "card login" },
    h("h2", {}, "Open the dashboard"),
    message ? h("p", { class: "bad", role: "alert" }, message) : null,
    h("p", {}, "On this machine, type: ", h("code", {}, "idlewild dashboard")),
    h("p", { class: "soft" }, "Or paste the token that stands in ", h("code", {}, "api.json"), " of the data folder:"),
    h("form", { onsubmit: enter }, h("label", { for: "token" }, "Token "), field, h("button", { class: "main" }, "Open"))));
  say("");
}

function start() {
  nav.hidden = false;
  show(nav, views.map(([name, title]) => h("a", { href: "#" + name }, title)));
  draw();
  follow();
}

const themes = ["automatic", "light", "dark"];
const themeButton = document.getElementById("theme");
function setTheme(t) {
  if (t === "automatic") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = t;
  themeButton.textContent = "Theme: " + t;
  localStorage.setItem("idlewild-theme", t);
}
themeButton.onclick = () => setTheme(themes[(themes.indexOf(localStorage.getItem("idlewild-theme") ?? "automatic") + 1) % 3]);
setTheme(themes.includes(localStorage.getItem("idlewild-theme")) ? localStorage.getItem("idlewild-theme") : "automatic");

addEventListener("hashchange", () => { if (loggedIn()) draw(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && loggedIn()) draw(); });

// A link of `idlewild dashboard` carries a code that works once. It leaves the
// address at once, and the history with it.
const code = location.hash.slice(1);
if (/^[A-Z2-7]{26}$/.test(code)) {
  window.history.replaceState(null, "", "/");
  login(code).then(start, (e) => loggedIn() ? start() : askLogin(e.message));
} else if (loggedIn()) {
  start();
} else {
  askLogin("");
}
