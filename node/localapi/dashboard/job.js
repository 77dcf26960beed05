import { ask, bytes, h, percent, seconds } from "./dom.js";
import { get, picture, post, text } from "./api.js";
import { TONE, WORD, bar, holder, left } from "./jobs.js";

const SHOWN = 24; // pictures, and lines of each list

// Pictures stay while the job is looked at; one that is rendered again is
// fetched again.
const pictures = new Map();
let picturesOf = "";

// jobDetail is one job: pictures, frames that are under way or went wrong, who
// works, and what it cost.
export async function jobDetail(id, refresh) {
  const path = "/v1/jobs/" + encodeURIComponent(id);
  const frames = (state) => get(path + "/frames?state=" + state + "&limit=" + SHOWN);
  const j = await get(path + "?frames=false");
  const [ready, leased, failed] = await Promise.all([frames("delivered"), frames("leased"), j.failed ? frames("failed") : { frames: [], total: 0 }]);
  if (picturesOf !== id) {
    for (const p of pictures.values()) p.then((u) => u && URL.revokeObjectURL(u));
    pictures.clear();
    picturesOf = id;
  }
  const names = Object.fromEntries(((await get("/v1/peers")).members ?? []).map((m) => [m.peer, m.self ? m.name + " (this machine)" : m.name]));
  const who = (p) => names[p] ?? (p ? "…" + p.slice(-6) : "");
  const steer = (action) => post(path + "/" + action).then(() => refresh(), refresh);
  const cancel = async () => { if (await ask("Cancel this job? What was delivered stays.", "Cancel the job")) steer("cancel"); };
  const again = (label) => post(path + "/requeue", { task: label }).then(() => refresh(), refresh);
  const open = !["finished", "failed", "cancelled"].includes(j.state);
  const shown = await Promise.all(ready.frames.map(async (f) => [f, await thumbnail(path, f)]));
  return [
    h("p", {}, h("a", { href: "#jobs" }, "All jobs")),
    h("div", { class: "row spread" },
      h("h2", {}, j.title || id, " ", h("span", { class: "badge " + (TONE[j.state] ?? "soft") }, WORD[j.state] ?? j.state)),
      h("div", { class: "row" },
        open && j.state !== "paused" ? h("button", { onclick: () => steer("pause") }, "Pause") : null,
        j.state === "paused" ? h("button", { class: "main", onclick: () => steer("resume") }, "Resume") : null,
        open ? h("button", { class: "danger", onclick: cancel }, "Cancel") : null)),
    j.reason ? h("p", { class: j.state === "failed" ? "bad" : "soft" }, j.reason) : null,
    (j.problems ?? []).map((p) => h("p", { class: p.severity === "error" ? "bad" : "warn" }, [p.where, p.message, p.remedy].filter(Boolean).join(": "))),
    h("section", { class: "card" }, bar(j),
      h("dl", {},
        h("dt", {}, "Frames"), h("dd", {}, `${j.delivered} of ${j.tasks} delivered` + (j.skipped ? `, ${j.skipped} were there` : "") + `, ${j.running} running, ${j.waiting} waiting, ${j.failed} failed`),
        holder(j) ? [h("dt", {}, "Steward"), h("dd", {}, [holder(j), ...(j.stewards ?? []).map((s) => who(s.peer) + ": " + s.state)].join(", "))] : null,
        open && j.left_s ? [h("dt", {}, "Time left"), h("dd", {}, left(j))] : null,
        h("dt", {}, "Took"), h("dd", {}, seconds(j.wall_s) + ", of rendering " + seconds(j.render_s) + (j.efficiency ? ", efficiency " + percent(j.efficiency) : "")),
        h("dt", {}, "Checked"), h("dd", {}, j.rechecked ? `${j.rechecked} of ${j.accepted + j.rejected + j.unsure} results; ${j.rejected} rejected, ${j.unsure} unsure` : "nothing"),
        h("dt", {}, "Moved"), h("dd", {}, bytes(j.uploaded_bytes) + " sent of " + bytes(j.content_bytes) + ", results " + bytes(j.result_bytes)),
        h("dt", {}, "File"), h("dd", {}, j.file ?? ""), h("dt", {}, "Output"), h("dd", {}, j.output ?? ""))),
    shown.length ? h("section", { class: "card" }, h("h3", {}, "Newest frames" + (ready.total > shown.length ? " (" + shown.length + " of " + ready.total + ")" : "")),
      h("ul", { class: "thumbs" }, shown.map(([f, url]) => h("li", { "data-key": f.label }, h("figure", {},
        url ? h("img", { src: url, alt: "frame " + f.label }) : h("div", { class: "none" }),
        h("figcaption", {}, h("span", {}, f.label), f.render_s ? h("span", {}, seconds(f.render_s)) : null)))))) : null,
    leased.frames.length ? h("section", { class: "card" }, h("h3", {}, "Under way"),
      h("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Frames" }, h("table", {}, h("thead", {}, h("tr", {}, ["Frame", "On", "Progress"].map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, leased.frames.map((f) => h("tr", { "data-key": f.label }, h("td", {}, f.label), h("td", {}, who(f.worker)),
          h("td", {}, h("progress", { max: 1, value: f.fraction ?? 0, "aria-label": "frame " + f.label }), f.fraction ? " " + percent(f.fraction) : null)))))))
      : null,
    trouble("Failed", failed, again, who),
    await rejected(j, path, who),
    (j.workers ?? []).length ? h("section", { class: "card" }, h("h3", {}, "Who works"),
      h("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Members" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Member"), h("th", { scope: "col" }, "Device"),
        h("th", { scope: "col", class: "n" }, "Tasks"), h("th", { scope: "col", class: "n" }, "Rendering"), h("th", { scope: "col", class: "n" }, "Rejected"))),
        h("tbody", {}, j.workers.map((w) => h("tr", { "data-key": w.peer + w.device }, h("td", {}, who(w.peer), w.resting ? h("span", { class: "soft" }, " rests: " + w.resting) : null),
          h("td", {}, w.device), h("td", { class: "n" }, w.tasks), h("td", { class: "n" }, seconds(w.render_s)), h("td", { class: w.rejected ? "n bad" : "n" }, w.rejected)))))))
      : null,
    logBox(path),
  ];
}

function thumbnail(path, f) {
  const key = f.label + "/" + f.attempts + "/" + f.render_s;
  if (!pictures.has(key)) {
    pictures.set(key, picture(path + "/thumbnail?side=320&task=" + encodeURIComponent(f.label)).catch(() => ""));
  }
  return pictures.get(key);
}

function trouble(title, list, again, who) {
  if (!list.frames.length) return null;
  return h("section", { class: "card" }, h("h3", { class: "bad" }, title + " (" + list.total + ")"),
    h("ul", {}, list.frames.map((f) => h("li", { "data-key": f.label }, "Frame " + f.label + ": " + (f.reason ?? "") + " " + who(f.worker) + " ",
      h("button", { onclick: () => again(f.label) }, "Render again")))));
}

// rejected is the evidence against results that were not accepted. A frame
// keeps its verdict while it is rendered again.
async function rejected(j, path, who) {
  if (!j.rejected && !j.unsure) return null;
  const all = (await get(path + "/frames?limit=1000")).frames.filter((f) => f.verdict && f.verdict.verdict !== "accepted");
  return h("section", { class: "card" }, h("h3", {}, "Not accepted"),
    h("p", { class: "soft small" }, `${j.rejected} rejected and ${j.unsure} unsure; such a frame is rendered again by somebody else.`),
    all.map((f) => h("details", { "data-key": f.label }, h("summary", {}, "Frame " + f.label + ", " + f.verdict.verdict + ": " + f.verdict.reason),
      h("dl", {}, h("dt", {}, "By"), h("dd", {}, f.verdict.method), f.worker ? [h("dt", {}, "Worker"), h("dd", {}, who(f.worker))] : null,
        Object.entries(f.verdict.evidence ?? {}).sort().map(([k, v]) => [h("dt", {}, k), h("dd", {}, Number(v.toPrecision(4)))])))));
}

function logBox(path) {
  const load = async (e) => {
    const box = e.target.nextElementSibling;
    try {
      box.textContent = (await text(path + "/log")) || "No log is kept.";
    } catch (err) {
      box.textContent = err.message;
    }
    box.hidden = false;
  };
  return h("section", { class: "card", "data-own": true }, h("button", { onclick: load }, "Show what the renders said"), h("pre", { hidden: true, tabindex: 0, "aria-label": "Logs of the job" }));
}
