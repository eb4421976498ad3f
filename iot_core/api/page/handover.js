// Handing a shift over: to whom, with which words; then the report, as it is kept.

import { ask } from "./api.js";
import { button, closing, element, field } from "./dom.js";
import { clock, headline, number, person, say } from "./words.js";

/** Ask for it in `place`; `done` is called when the panel closes, `ended` when the session is over. */
export function handOver(place, done, ended) {
  const close = () => {
    place.hidden = true;
    done();
  };
  const form = element("form");
  const to = element("input", undefined, { name: "to", maxLength: 100, autocomplete: "off", required: true });
  const words = element("textarea", undefined, { name: "note", maxLength: 2000, rows: 3 });
  const row = element("div", undefined, { className: "row" });
  const said = element("p", "", { className: "error" });
  said.setAttribute("role", "alert");
  row.append(element("button", say("hand_over")), button(say("cancel"), close, { className: "quiet" }));
  form.append(field("hand_to", to), field("hand_note", words), row, said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const report = await ask("POST", "/alarms/handover", { to: to.value.trim(), note: words.value.trim() || null });
      place.replaceChildren(closing(close), ...told(report));
      place.querySelector("button").focus();
    } catch (problem) {
      if (problem.status === 401) return ended();
      said.textContent = say("failed", { detail: problem.message });
    }
  });
  place.className = "handover";
  place.replaceChildren(closing(close), element("h3", say("hand_over"), { id: "alarm-name" }), form);
  place.hidden = false;
  to.focus();
}

function told(report) {
  const facts = { by: person(report.by), to: report.to, time: clock(report.at) };
  const counts = { since: clock(report.since), raised: number(report.raised), closed: number(report.closed) };
  const list = element("ol");
  for (const alarm of report.open) {
    const seen = alarm.seen_by.length ? say("seen_by", { names: alarm.seen_by.map(person).join(", ") }) : say("seen_by_nobody");
    const line = element("li", `${say(`severity_${alarm.severity}`)} · ${headline(alarm.title)} · ${alarm.device ?? alarm.place ?? "-"}`, { className: alarm.severity });
    const taken = alarm.acknowledged_by ? [say("taken_by", { name: person(alarm.acknowledged_by) })] : [];
    const charged = alarm.assigned_to ? [say("assigned_to", { name: alarm.assigned_to })] : [];
    line.append(element("br"), element("span", [say(`is_${alarm.state}`), seen, ...taken, ...charged].join(" · "), { className: "fine" }));
    list.append(line);
  }
  return [
    element("h3", say("handed_over", facts), { id: "alarm-name" }),
    element("p", say("shift_counts", counts), { className: "fine" }),
    ...(report.note ? [element("p", report.note)] : []),
    element("h4", say("handed_open", { count: number(report.open.length) })),
    list,
  ];
}
