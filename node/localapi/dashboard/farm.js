import { ago, ask, h, plural, seconds } from "./dom.js";
import { get, post } from "./api.js";
import { TONE, WORD } from "./jobs.js";

// farm is all jobs of the farm, for its owner. Titles stay with their members.
export async function farm(refresh) {
  const v = await get("/v1/farm/jobs");
  const cancel = async (j) => {
    if (!await ask("Cancel job " + j.job + " of " + (j.name || j.peer) + "?", "Cancel it")) return;
    post("/v1/farm/jobs/cancel", { peer: j.peer, job: j.job }).then(() => refresh(), refresh);
  };
  const pool = (what, p) => p && p.count ? what + " " + p.names.map((n) => n.length > 24 ? "…" + n.slice(-6) : n).concat(p.count > p.names.length ? [p.count - p.names.length + " more"] : []).join(", ") : null;
  const limits = (j) => [
    j.interactive ? "somebody waits" : null,
    j.max_workers ? "at most " + plural(j.max_workers, "machine") : null,
    j.budget_s ? seconds(j.device_s) + " of " + seconds(j.budget_s) + " of devices" : null,
    j.deadline ? "due " + new Date(j.deadline).toLocaleString([], { dateStyle: "short", timeStyle: "short" }) : null,
    j.late_s ? h("span", { class: "warn" }, (over(j) ? "was " : "") + seconds(j.late_s) + " late") : null,
    pool("only", j.only), pool("not", j.not),
  ].filter(Boolean).map((t) => h("div", { class: "small" }, t));
  const over = (j) => ["finished", "failed", "cancelled"].includes(j.state);
  return [
    h("h2", {}, "Jobs of the farm"),
    h("p", { class: "soft" }, v.owner ? "You own this farm: these are all members' jobs. What they are called stays with their members."
      : "Only the farm's owner sees all members' jobs. These are this machine's."),
    v.silent.length ? h("p", { class: "warn" }, "Not heard of: " + v.silent.map((m) => (m.name || "…" + m.peer.slice(-6)) + " (" + m.why + ")").join(", ")) : null,
    v.jobs.length ? h("section", { class: "card scroll", tabindex: 0, "aria-label": "Jobs" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Job", "Member", "Kind", "State", "Priority", "Limits", "Frames", "Running", "Rendered", "Left", "Action"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, v.jobs.map((j) => h("tr", { "data-key": j.peer + j.job },
        h("td", { class: "key" }, h("code", {}, j.job), h("span", { class: "soft small" }, " " + ago(j.submitted))),
        h("td", {}, j.name || "…" + j.peer.slice(-6), j.self ? h("span", { class: "soft" }, " (this machine)") : null),
        h("td", {}, j.kind), h("td", {}, h("span", { class: "badge " + (TONE[j.state] ?? "soft") }, WORD[j.state] ?? j.state)),
        h("td", { class: "n" }, j.priority), h("td", { class: limits(j).length ? "wide" : "" }, limits(j)), h("td", { class: "n" }, j.delivered + " of " + j.tasks + (j.failed ? ", " + j.failed + " failed" : "")),
        h("td", { class: "n" }, j.running), h("td", { class: "n" }, seconds(j.render_s)), h("td", { class: "n" }, j.left_s ? seconds(j.left_s) : ""),
        h("td", {}, over(j) ? null : h("button", { type: "button", class: "danger", "aria-label": "Cancel job " + j.job, onclick: () => cancel(j) }, "Cancel"))))))) : h("p", {}, "No jobs."),
  ];
}
