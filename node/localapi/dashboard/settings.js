import { bytes, h } from "./dom.js";
import { get } from "./api.js";

// settings is every setting with what it is for and where it comes from.
export async function settings() {
  const v = await get("/v1/settings");
  const groups = Map.groupBy(v.settings, (s) => s.key.includes(".") ? s.key.split(".")[0] : "general");
  return [
    h("h2", {}, "Settings"),
    h("p", {}, "Change them in ", h("code", {}, v.file), "; they count once the daemon is started again. There, ", h("code", {}, "worker.threads"), " is ",
      h("code", {}, "threads"), " under ", h("code", {}, "[worker]"), ". Flags and environment variables go before the file."),
    [...groups].map(([name, list]) => h("section", { class: "card scroll", "data-key": name }, h("h3", {}, name), h("table", {},
      h("thead", {}, h("tr", {}, ["Setting", "Value", "What it is for", "From"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, list.map((s) => h("tr", { "data-key": s.key }, h("td", { class: "key" }, h("code", {}, s.key)), h("td", {}, h("code", {}, value(s.value)), s.value && /_bytes/.test(s.key) ? h("span", { class: "soft small" }, " " + bytes(s.value)) : null),
        h("td", {}, s.about), h("td", { class: s.from === "default" ? "soft" : "good" }, s.from.split(" ")[0]))))))),
  ];
}

function value(v) {
  if (v === null || Array.isArray(v) && !v.length) return "[]";
  return typeof v === "string" ? JSON.stringify(v) : Array.isArray(v) ? JSON.stringify(v) : String(v);
}

// logs is the end of the daemon's own log.
export async function logs() {
  const v = await get("/v1/machine/log");
  return [h("h2", {}, "Log of the daemon"), h("p", { class: "soft" }, "The newest lines, the newest last. Logs of renders stand with their jobs."),
    h("pre", { tabindex: 0, "aria-label": "Newest lines of the log" }, v.lines.join("\n"))];
}
