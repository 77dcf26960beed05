import { ago, bytes, h, percent, plural, seconds } from "./dom.js";
import { get } from "./api.js";

export const TONE = { accepted: "busy", planned: "busy", paused: "warn", finished: "good", failed: "bad", cancelled: "soft" };
export const WORD = { accepted: "preparing", planned: "running" };

// jobs is every job of this machine.
export async function jobs() {
  const all = (await get("/v1/jobs?ended=50")).jobs;
  if (!all.length) {
    return [h("h2", {}, "Jobs"), h("p", {}, "Nothing was submitted on this machine yet. In Blender: Properties > Output > idlewild. From a shell:"),
      h("p", {}, h("code", {}, "idlewild submit scene.blend -f 1-48 -o out"))];
  }
  const ended = (j) => ["finished", "failed", "cancelled"].includes(j.state);
  const list = (l) => h("ul", { class: "tiles" }, l.map(card));
  const open = all.filter((j) => !ended(j)), done = all.filter(ended);
  return [
    h("h2", {}, "Jobs"), open.length ? list(open) : h("p", { class: "soft" }, "None is open."),
    done.length ? [h("h2", {}, "Ended"), list(done)] : null,
  ];
}

function card(j) {
  return h("li", { class: "card", "data-key": j.job },
    h("div", { class: "row spread" }, h("h3", {}, h("a", { href: "#jobs/" + j.job }, j.title || j.file || j.job)),
      h("span", { class: "badge " + (TONE[j.state] ?? "soft") }, WORD[j.state] ?? j.state)),
    bar(j),
    h("p", { class: "soft small" }, summary(j)),
    j.reason ? h("p", { class: j.state === "failed" ? "bad small" : "small" }, j.reason) : null);
}

export function bar(j) {
  const done = j.delivered + j.skipped;
  return j.tasks ? h("progress", { max: j.tasks, value: Math.min(j.tasks, done + (j.under_way ?? 0)), "aria-label": done + " of " + j.tasks + " delivered" }) : null;
}

export function summary(j) {
  return [
    j.tasks ? (j.delivered + j.skipped) + " of " + j.tasks : null,
    j.running ? j.running + " running" + (j.under_way ? " (" + percent(j.under_way / j.running) + ")" : "") : null,
    j.failed ? j.failed + " failed" : null,
    j.rejected ? plural(j.rejected, "result") + " rejected" : null,
    holder(j),
    j.left_s ? left(j) : null,
    "took " + seconds(j.wall_s),
    j.uploaded_bytes ? bytes(j.uploaded_bytes) + " sent" : null,
    ago(j.submitted),
  ].filter(Boolean).join(" · ");
}

// holder says in a word who grants the job's tasks, where it may be another.
export function holder(j) {
  if (j.origin) return "as steward for another member";
  if (j.holder) return "held by its steward";
  if (!(j.stewards ?? []).length) return null;
  return j.stewards.some((s) => s.state === "ready") ? "steward ready" : "steward " + j.stewards[0].state;
}

export function left(j) {
  const range = j.left_low_s && j.left_high_s ? " (" + seconds(j.left_low_s) + " to " + seconds(j.left_high_s) + ")" : "";
  return seconds(j.left_s) + " left" + range;
}

// withTitles returns a function that puts titles of own jobs in the place of
// their ids.
export async function withTitles() {
  const titles = Object.fromEntries((await get("/v1/jobs?ended=10")).jobs.map((j) => [j.job, j.title]));
  return (text) => (text ?? "").replace(/[0-9A-HJKMNP-TV-Z]{26}/g, (id) => titles[id] || "…" + id.slice(-6));
}
