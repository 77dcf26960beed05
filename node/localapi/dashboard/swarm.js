import { ago, ask, h } from "./dom.js";
import { get, post } from "./api.js";
import { withTitles } from "./jobs.js";

let ticket = "";

// swarm is the farm: who is in it, how each is reached, and what they have.
export async function swarm(refresh) {
  const [f, doing] = await Promise.all([get("/v1/peers"), withTitles()]);
  if (!f.id) return outside(refresh);
  const others = f.members.filter((m) => !m.self);
  const names = Object.fromEntries(f.members.map((m) => [m.peer, m.name]));
  const way = (m) => [m.path, m.transport, m.via ? "via " + (names[m.via] || "…" + m.via.slice(-6)) : null].filter(Boolean).join(" ");
  const revoke = async (m) => {
    if (await ask("Take " + m.name + " out of the farm? Its connections close at once.", "Take it out")) {
      post("/v1/farm/revoke", { peer: m.peer }).then(() => refresh(), refresh);
    }
  };
  const invite = () => post("/v1/farm/invite", { valid_s: 86400 }).then((t) => { ticket = t.ticket; refresh(); }, refresh);
  return [
    h("div", { class: "row spread" }, h("h2", {}, f.name || "Farm"), f.owner ? h("button", { class: "main", onclick: invite }, "Invite a machine") : null),
    ticket ? h("section", { class: "card" }, h("p", {}, "For one machine, once, within a day. There, type:"),
      h("p", {}, h("code", {}, "idlewild farm join " + ticket)),
      h("button", { onclick: () => { ticket = ""; refresh(); } }, "Done")) : null,
    others.length ? h("section", { class: "card" }, map(f.members, way)) : h("p", {}, "Nobody else is in this farm yet."),
    h("section", { class: "card scroll", tabindex: 0, "aria-label": "Members" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Member", "Path", "Round trip", "Devices", "Results", f.owner ? "Membership" : null].filter((x) => x !== null).map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, f.members.map((m) => h("tr", { "data-key": m.peer },
        h("td", {}, m.name || "…" + m.peer.slice(-6), m.self ? h("span", { class: "soft" }, " (this machine)") : null, m.apart ? h("div", { class: "bad small" }, m.apart) : null),
        h("td", { class: m.self || m.connected ? "" : "soft" }, m.self ? "" : m.connected ? way(m) : m.last_seen ? "away, seen " + ago(m.last_seen) : "away"),
        h("td", {}, m.connected && m.rtt_ms ? m.rtt_ms.toFixed(1) + " ms" : ""),
        h("td", {}, (m.devices ?? []).map((d) => h("div", {}, (d.model || d.name) + ": ", h("span", { class: /^(idle|resting|disabled)/.test(d.doing) ? "soft" : "busy" }, doing(d.doing))))),
        h("td", { class: /^banned/.test(m.score ?? "") ? "bad" : "" }, m.score ?? "",
          m.standing?.precedence > 1.05 ? h("div", { class: "soft small" }, "worked for you: its jobs get " + m.standing.precedence.toFixed(1) + " shares here") : null),
        f.owner ? h("td", {}, m.self ? null : h("button", { class: "danger", onclick: () => revoke(m) }, "Take out")) : null))))),
    strangers(f, way, doing),
    h("p", { class: "soft small" }, "Whose jobs this machine takes is set with ", h("code", {}, "worker.only_from"), " and ", h("code", {}, "worker.never_from"), "; see ", h("a", { href: "#settings" }, "Settings"), "."),
  ];
}

// strangers are those who are here though nobody invited them, and what became of
// the others.
function strangers(f, way, doing) {
  const here = f.strangers ?? [];
  if (!f.open_until && !f.crowd && !f.stranger) return null;
  const until = f.open_until ? "until " + new Date(f.open_until).toLocaleString([], { dateStyle: "short", timeStyle: "short" }) : null;
  if (f.stranger) return h("section", { class: "card" }, h("h3", {}, "You are a stranger here"), h("p", {}, until ? "The farm is open " + until + ". A ticket of its owner's makes this machine a member." : "The farm is not open any more. Ask its owner for a ticket."));
  return h("section", { class: "card scroll", tabindex: 0, "aria-label": "Strangers" }, h("h3", {}, "Strangers"),
    h("p", {}, !until ? "The farm is closed to strangers." : "The farm is open to strangers " + until + (f.takes_strangers ? "." : "; this machine takes none (swarm.accept).")),
    f.crowd ? h("p", { class: "soft" }, f.crowd.text[0].toUpperCase() + f.crowd.text.slice(1) + ".") : null,
    here.length ? h("table", {},
      h("thead", {}, h("tr", {}, ["Stranger", "Path", "Round trip", "Devices", "Results"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, here.map((m) => h("tr", { "data-key": m.peer },
        h("td", {}, m.name, m.apart ? h("div", { class: "bad small" }, m.apart) : null),
        h("td", {}, way(m)), h("td", {}, m.rtt_ms ? m.rtt_ms.toFixed(1) + " ms" : ""),
        h("td", {}, (m.devices ?? []).map((d) => h("div", {}, (d.model || d.name) + ": ", h("span", { class: /^(idle|resting|disabled)/.test(d.doing) ? "soft" : "busy" }, doing(d.doing))))),
        h("td", { class: /^banned/.test(m.score ?? "") ? "bad" : "" }, m.score ?? ""))))) : null);
}

function outside(refresh) {
  const send = (path, body) => (e) => {
    e.preventDefault();
    post(path, body(e.target)).then(() => refresh(), refresh);
  };
  return [
    h("h2", {}, "No farm yet"),
    h("section", { class: "card" }, h("h3", {}, "Join one"), h("p", {}, "Its owner makes a ticket for this machine."),
      h("form", { class: "row", onsubmit: send("/v1/farm/join", (f) => ({ ticket: f.ticket.value.trim() })) },
        h("label", { for: "ticket" }, "Ticket"), h("input", { id: "ticket", name: "ticket", required: true, autocomplete: "off" }), h("button", { class: "main" }, "Join"))),
    h("section", { class: "card" }, h("h3", {}, "Make one"), h("p", {}, "This machine becomes its owner and invites others."),
      h("form", { class: "row", onsubmit: send("/v1/farm", (f) => ({ name: f.farm.value.trim() })) },
        h("label", { for: "farm" }, "Name"), h("input", { id: "farm", name: "farm", required: true, maxlength: 128 }), h("button", {}, "Make it"))),
  ];
}

// map draws members around this machine; how near is how fast they answer.
function map(members, way) {
  const me = members.find((m) => m.self);
  const others = members.filter((m) => !m.self).slice(0, 40);
  const W = 720, H = others.length > 2 ? 360 : 170, cx = W / 2, cy = H / 2 - 8;
  const place = others.map((m, i) => {
    const a = (i / others.length) * 2 * Math.PI;
    const far = !m.connected ? 1 : Math.min(1, 0.7 + 0.1 * Math.log10(1 + (m.rtt_ms ?? 1)));
    const up = Math.sin(a) < -0.1;
    return { m, x: cx + Math.cos(a) * far * (W / 2 - 90), y: cy + Math.sin(a) * far * (H / 2 - 50), up };
  });
  const kind = (m) => !m.connected ? "off" : /relay/.test(m.path ?? "") ? "relayed" : "";
  return h("svg", { class: "map", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Paths from this machine to the others; the table below says the same" },
    place.map(({ m, x, y }) => h("line", { x1: cx, y1: cy, x2: x, y2: y, class: kind(m) })),
    place.map(({ m, x, y, up }) => h("g", { "data-key": m.peer },
      h("circle", { cx: x, cy: y, r: 11, class: kind(m) }),
      h("text", { x, y: up ? y - 33 : y + 27, "text-anchor": "middle" }, m.name || "…" + m.peer.slice(-6)),
      h("text", { x, y: up ? y - 19 : y + 41, "text-anchor": "middle", class: "soft" }, m.connected ? [way(m), m.rtt_ms ? m.rtt_ms.toFixed(1) + " ms" : null].filter(Boolean).join(", ") : "away"))),
    h("circle", { cx, cy, r: 15 }), h("text", { x: cx, y: cy + 33, "text-anchor": "middle" }, me?.name ?? "this machine"));
}
