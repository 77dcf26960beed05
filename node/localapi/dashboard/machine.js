import { bytes, h, percent, seconds } from "./dom.js";
import { get, post } from "./api.js";
import { withTitles } from "./jobs.js";

const LEVEL = {
  free: ["good", "works for others"],
  share: ["good", "works beside you"],
  leave: ["warn", "ends its task"],
  stop: ["warn", "rests"],
};

// machine is what this machine does and why.
export async function machine(refresh) {
  const [s, why, doing] = await Promise.all([get("/v1/status"), get("/v1/machine/why"), withTitles()]);
  const m = s.machine;
  const byName = Object.fromEntries(why.devices.map((d) => [d.name, d]));
  const pause = (wish) => post("/v1/machine/pause", wish).then(() => refresh(), refresh);
  return [
    h("div", { class: "row spread" }, h("h2", {}, m.name), pauses(m, pause)),
    m.paused ? h("p", { class: "warn", role: "status" }, "Paused: ", m.paused, ". It takes no work from others.") : null,
    h("ul", { class: "tiles" }, m.devices.map((d) => tile(d, byName[d.name], why.signals, doing))),
    (m.warnings ?? []).length ? h("section", { class: "card" }, h("h3", {}, "Worth knowing"), h("ul", {}, m.warnings.map((w) => h("li", {}, w)))) : null,
    h("section", { class: "card" },
      h("h3", {}, "How it decides"),
      h("p", {}, why.mode === "off" ? "Only a pause counts (idle.mode is off)."
        : why.desk ? "This is somebody's desk: work makes way for whoever sits at it." : "Nobody's desk: input and screen do not count."),
      signals(why.signals),
      Object.keys(why.missing ?? {}).length ? h("details", {}, h("summary", {}, "What could not be sensed"),
        h("dl", {}, Object.entries(why.missing).sort().map(([k, v]) => [h("dt", {}, k), h("dd", {}, v)]))) : null),
    h("section", { class: "card" }, h("h3", {}, "About"),
      h("dl", {},
        h("dt", {}, "Farm"), h("dd", {}, s.farm.id ? s.farm.name : h("a", { href: "#swarm" }, "none yet")),
        h("dt", {}, "Own jobs"), h("dd", {}, s.jobs.open + " open, " + s.jobs.ended + " ended"),
        h("dt", {}, "Sandbox"), h("dd", {}, m.sandbox),
        h("dt", {}, "Blender"), h("dd", {}, (m.facts["blender.version"] ?? m.facts["blender"] ?? []).join(", ") || "none found"),
        h("dt", {}, "Running since"), h("dd", {}, new Date(m.started).toLocaleString()),
        h("dt", {}, "Peer"), h("dd", {}, h("code", {}, m.peer)))),
  ];
}

function pauses(m, pause) {
  if (m.paused) return h("button", { class: "main", onclick: () => pause({ paused: false }) }, "Resume");
  return h("div", { class: "row", role: "group", "aria-label": "Pause work for others" },
    h("button", { class: "main", onclick: () => pause({ paused: true }) }, "Pause"),
    h("button", { onclick: () => pause({ paused: true, for_s: 7200 }) }, "for 2 hours"),
    h("button", { onclick: () => pause({ paused: true, until_restart: true }) }, "until restart"));
}

function tile(d, why, signals, doing) {
  const gpu = signals?.gpus?.[d.name];
  const off = why?.signal === "settings";
  const [tone, text] = off ? ["soft", "disabled"] : LEVEL[why?.level] ?? ["soft", "for own jobs"];
  const busy = d.doing && !/^(idle|resting|disabled)/.test(d.doing);
  return h("li", { class: "card", "data-key": d.name },
    h("div", { class: "row spread" }, h("h3", {}, d.model || d.name), h("span", { class: "badge " + tone }, text)),
    h("p", { class: busy ? "busy" : "soft" }, doing(d.doing) || "idle"),
    why?.signal && !off ? h("p", {}, h("strong", {}, why.signal), ": ", why.reason, why.left_s ? " (free in " + seconds(why.left_s) + " at the earliest)" : "") : null,
    (why?.also ?? []).map((a) => h("p", { class: "soft small" }, "also ", a)),
    gpu ? h("dl", { class: "small" },
      gpu.busy !== undefined ? [h("dt", {}, "Load"), h("dd", {}, percent(gpu.busy))] : null,
      gpu.temp_c !== undefined ? [h("dt", {}, "Temperature"), h("dd", {}, Math.round(gpu.temp_c) + " °C")] : null,
      gpu.power_w !== undefined ? [h("dt", {}, "Power"), h("dd", {}, Math.round(gpu.power_w) + " W")] : null,
      gpu.others_bytes !== undefined ? [h("dt", {}, "Memory of others"), h("dd", {}, bytes(gpu.others_bytes) + " of " + bytes(gpu.memory_bytes))] : null) : null,
    h("p", { class: "soft small" }, d.type === "gpu" ? d.name : d.name === "home" ? "" : d.class, d.memory_bytes ? " · " + bytes(d.memory_bytes) : ""));
}

function signals(s) {
  const rows = [];
  const add = (k, v) => { if (v !== undefined && v !== null) rows.push(h("dt", {}, k), h("dd", {}, v)); };
  for (const x of s.sessions ?? []) {
    add("Session of " + x.user, [x.locked ? "locked" : x.active ? "in front" : "in the background", x.remote ? "remote" : null,
      x.untouched ? "no input since the machine started" : x.idle_s !== undefined ? "last input " + seconds(x.idle_s) + " ago" : null].filter(Boolean).join(", "));
  }
  add("Full screen", s.fullscreen || undefined);
  add("Keeps the screen on", s.inhibitor || undefined);
  add("Programs", s.programs?.length ? s.programs.map((p) => p.name + " (" + p.why + ")").join(", ") : undefined);
  add("CPU load of others", s.cpu_others === undefined ? undefined : percent(s.cpu_others));
  add("CPU temperature", s.cpu_temp_c === undefined ? undefined : Math.round(s.cpu_temp_c) + " °C");
  add("Power", s.on_battery === undefined ? undefined : s.on_battery ? "battery" : "mains");
  add("Network", s.metered === undefined ? undefined : s.metered ? "metered" : "not metered");
  add("Disk free", s.disk_free_bytes === undefined ? undefined : bytes(s.disk_free_bytes));
  add("GPU energy today", s.gpu_today_wh ? (s.gpu_today_wh / 1000).toFixed(2) + " kWh" : undefined);
  return rows.length ? h("dl", {}, rows) : null;
}
