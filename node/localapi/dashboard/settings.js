import { ask, bytes, h, show } from "./dom.js";
import { get, patch, post } from "./api.js";

// settings is every setting with what it is for and where it comes from; those
// that may be changed here have a button.
export async function settings(refresh) {
  const v = await get("/v1/settings");
  const groups = Map.groupBy(v.settings, (s) => s.key.includes(".") ? s.key.split(".")[0] : "general");
  const restart = async () => {
    if (!await ask("Start the daemon again? Work for others is given back and goes on elsewhere.", "Start again")) return;
    try { await post("/v1/machine/restart"); } catch (e) { refresh(e); }
  };
  return [
    h("h2", {}, "Settings"),
    v.broken ? h("p", { class: "bad", role: "alert" }, "The file cannot be read, so the settings before go on to count: " + v.broken) : null,
    v.pending ? h("p", { class: "row", "data-key": "pending" }, h("span", { class: "warn" }, "Some changes count only once the daemon is started again."),
      h("button", { type: "button", onclick: restart }, "Start it again")) : null,
    h("p", {}, "They stand in ", h("code", {}, v.file), ". Flags and environment variables go before the file; what names a program to run is changed there alone."),
    [...groups].map(([name, list]) => h("section", { class: "card scroll", tabindex: 0, "aria-label": name, "data-key": name }, h("h3", {}, name), h("table", {},
      h("thead", {}, h("tr", {}, ["Setting", "Value", "What it is for", "From", "Action"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, list.map((s) => h("tr", { "data-key": s.key }, h("td", { class: "key" }, h("code", {}, s.key)),
        h("td", {}, h("code", {}, value(s.value)), s.value && /_bytes/.test(s.key) ? h("span", { class: "soft small" }, " " + bytes(s.value)) : null,
          "pending" in s ? h("span", { class: "warn small" }, " then ", h("code", {}, value(s.pending))) : null),
        h("td", {}, s.about), h("td", { class: s.from === "default" ? "soft" : "good" }, s.from.split(" ")[0]),
        h("td", {}, s.fixed ? h("span", { class: "soft small" }, s.fixed)
          : h("button", { type: "button", "aria-label": "Change " + s.key, onclick: () => change(s, refresh) }, "Change")))))))),
  ];
}

// change asks for another value in a dialog that stays until it fits.
function change(s, refresh) {
  const now = "pending" in s ? s.pending : s.value;
  const field = editor(s, now);
  const problem = h("div", { role: "alert" });
  const d = h("dialog", { "aria-labelledby": "edit-title" });
  const send = async (value) => {
    try {
      await patch("/v1/settings", { values: { [s.key]: value } });
      d.close();
    } catch (e) {
      show(problem, h("p", { class: "bad" }, e.message));
    }
  };
  d.append(h("h3", { id: "edit-title" }, h("code", {}, s.key)), h("p", { id: "edit-about" }, s.about),
    h("form", { onsubmit: (e) => { e.preventDefault(); send(field.read()); } },
      field.element,
      h("p", { class: "soft small" }, "Default: ", h("code", {}, value(s.default)), s.live ? ". A change counts at once." : ". A change counts once the daemon is started again."),
      problem,
      h("div", { class: "row" }, h("button", { class: "main" }, "Save"),
        s.from.startsWith("file") ? h("button", { type: "button", onclick: () => send(null) }, "Use the default") : null,
        h("button", { type: "button", onclick: () => d.close() }, "Cancel"))));
  d.onclose = () => { d.remove(); refresh(); };
  document.body.append(d);
  d.showModal();
}

// editor is an input for a setting, and read what was put in.
function editor(s, now) {
  const common = { id: "edit-value", "aria-describedby": "edit-about", autofocus: true };
  const label = (text, e) => h("p", {}, h("label", { for: "edit-value" }, text + " "), e);
  if (s.type === "switch") {
    const box = h("input", { ...common, type: "checkbox", checked: now });
    return { element: label("On", box), read: () => box.checked };
  }
  if (s.type === "list") {
    const area = h("textarea", { ...common, rows: 5 });
    area.value = (now ?? []).join("\n");
    return {
      element: [label("One on each line", area), s.choices ? h("p", { class: "soft small" }, "There are: " + s.choices.join(", ")) : null],
      read: () => area.value.split("\n").map((l) => l.trim()).filter(Boolean),
    };
  }
  if (s.choices) {
    const select = h("select", common, s.choices.map((c) => h("option", { value: c, selected: c === now }, c)));
    return { element: label("Value", select), read: () => select.value };
  }
  const input = h("input", { ...common, type: s.secret ? "password" : "text", inputmode: s.type === "text" ? "text" : "decimal", autocomplete: "off" });
  input.value = s.secret ? "" : String(now ?? "");
  return { element: label(s.secret ? "New value" : "Value", input), read: () => input.value.trim() };
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
