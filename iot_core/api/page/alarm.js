// One alarm in a panel: what it is, what to do about it, its history, and every deed on it, with the last one's undoing.

import { ask } from "./api.js";
import { button, closing, element, field } from "./dom.js";
import { areaName, clock, headline, number, person, say, title } from "./words.js";

const SPANS = { m30: 0.5, h1: 1, h4: 4, h8: 8, d1: 24, d3: 72, d7: 168, d30: 720 }; // hours
const UNDONE = ["acknowledged", "assigned", "shelved", "closed", "undone"]; // what the core looks at when it takes one back
const MOST_MEMBERS = 200;

export class AlarmPanel {
  /** `hooks`: me(), took(alarm), showDevice(key), ended(), back(id): where the focus belongs when the panel closes. */
  constructor(place, hooks) {
    this.place = place;
    this.hooks = hooks;
    this.id = null;
    this.form = null; // the deed whose words are being written
    for (const part of ["head", "deeds", "writing", "said", "rest"]) this[part] = element("div", undefined, { className: part });
    this.said.setAttribute("role", "status");
  }

  async open(id) {
    this.id = id;
    this.form = null;
    this.writing.replaceChildren();
    this.say("");
    if (!(await this.fill())) return;
    this.place.replaceChildren(closing(() => this.close()), this.head, this.deeds, this.writing, this.said, this.rest);
    this.place.hidden = false;
    this.place.scrollTop = 0;
    this.place.querySelector("button").focus({ preventScroll: true });
  }

  /** One step back: from the words that somebody writes, then from the panel. */
  escape() {
    if (this.form) this.leave();
    else this.close();
  }

  close() {
    const id = this.id;
    this.id = null;
    this.place.hidden = true;
    this.hooks.back(id);
  }

  /** Read it anew and show it; what somebody is writing stays. */
  async fill() {
    const id = this.id;
    try {
      const alarm = await ask("GET", `/alarms/${id}`);
      const members = alarm.members ? await ask("GET", `/alarms?open=false&incident=${id}&limit=${MOST_MEMBERS}`) : null;
      if (this.id !== id) return false;
      this.show(alarm, members);
      return true;
    } catch (problem) {
      if (problem.status === 401) this.hooks.ended();
      else this.hooks.failed(problem);
      return false;
    }
  }

  show(alarm, members) {
    this.alarm = alarm;
    this.place.className = `${alarm.severity} ${alarm.state}`;
    this.head.replaceChildren(...this.facts(alarm));
    const focused = this.deeds.contains(document.activeElement) ? document.activeElement.dataset.do : null;
    this.deeds.replaceChildren(...(this.hooks.me().may ? this.offered(alarm) : []));
    if (focused) (this.deeds.querySelector(`[data-do=${focused}]`) ?? this.place.querySelector("button"))?.focus();
    if (this.form && !this.deeds.querySelector(`[data-do=${this.form}]`)) this.write(null);
    this.rest.replaceChildren(...this.story(alarm, members));
  }

  facts(alarm) {
    const where = [alarm.device_name, areaName(alarm) ?? alarm.area].filter(Boolean).join(" · ");
    const lines = [
      element("span", `${say(`severity_${alarm.severity}`)} · ${say(`is_${alarm.state}`)}`, { className: "severity" }),
      element("h3", title(alarm.title), { id: "alarm-name" }),
    ];
    if (alarm.device) lines.push(button(where, () => this.hooks.showDevice(alarm.device), { className: "where" }));
    else if (where) lines.push(element("p", where));
    const known = [say("raised", { time: clock(alarm.raised_at) })];
    if (typeof alarm.value === "number") known.push(say("value_at", { value: number(alarm.value) }));
    if (typeof alarm.threshold === "number") known.push(say("limit_at", { value: number(alarm.threshold) }));
    const notes = [known.join(" · ")];
    if (alarm.acknowledged_at) notes.push(say("acknowledged_by", { name: person(alarm.acknowledged_by), time: clock(alarm.acknowledged_at) }));
    if (alarm.assigned_to) notes.push(say("assigned_to", { name: alarm.assigned_to }));
    if (alarm.shelved_until) notes.push(shelved(alarm));
    if (alarm.suppressed_by?.startsWith("maintenance")) notes.push(say("in_maintenance"));
    if (alarm.cause) notes.push(say("cause_was", { cause: alarm.cause }));
    lines.push(...notes.map((each) => element("p", each, { className: "fine" })));
    if (alarm.incident) lines.push(button(say("part_of", { id: alarm.incident }), () => this.open(alarm.incident), { className: "where" }));
    if (alarm.runbook) {
      const what = element("section", undefined, { className: "runbook" });
      what.append(element("h4", say("runbook")), element("p", title(alarm.runbook)));
      lines.push(what);
    }
    return lines;
  }

  offered(alarm) {
    const closed = alarm.state === "closed";
    const all = closed
      ? ["reopen", "comment"]
      : [
          ...(alarm.acknowledged_at ? [] : ["acknowledge"]), "assign", "comment",
          ...(alarm.shelved_until ? ["unshelve"] : ["shelve", "out_of_service"]), "close",
        ];
    const made = all.map((deed) => this.deed(deed, say(`do_${deed}`)));
    const last = alarm.events.filter((each) => each.by && UNDONE.includes(each.kind)).at(-1);
    if (last && last.kind !== "undone") made.push(this.deed("undo", say("do_undo", { what: say(`event_${last.kind}`) })));
    return made;
  }

  deed(deed, words) {
    const made = button(words, () => (deed in FIELDS ? this.write(deed) : this.act(deed, {})));
    made.dataset.do = deed;
    if (deed in FIELDS) made.setAttribute("aria-expanded", String(this.form === deed));
    return made;
  }

  /** Ask for the words that a deed needs. */
  write(deed) {
    this.form = deed;
    for (const each of this.deeds.querySelectorAll("[aria-expanded]")) each.setAttribute("aria-expanded", String(each.dataset.do === deed));
    if (!deed) return this.writing.replaceChildren();
    this.version = this.alarm.version; // what was seen when the writing began
    const form = element("form");
    form.append(...FIELDS[deed](this.hooks.me().name));
    const row = element("div", undefined, { className: "row" });
    row.append(element("button", say(`do_${deed}`)), button(say("cancel"), () => this.leave(), { className: "quiet" }));
    form.append(row);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.act(deed, read(new FormData(form)));
    });
    this.writing.replaceChildren(form);
    form.querySelector("input, select, textarea").focus();
  }

  leave() {
    const deed = this.form;
    this.write(null);
    this.deeds.querySelector(`[data-do=${deed}]`)?.focus();
  }

  async act(deed, words) {
    if (this.busy) return;
    this.busy = true;
    const id = this.id;
    const version = this.form === deed ? this.version : this.alarm.version;
    this.say("");
    try {
      const path = deed === "acknowledge" ? "acknowledge" : "do";
      const body = deed === "acknowledge" ? { version } : { do: deed, version, ...words };
      const alarm = await ask("POST", `/alarms/${id}/${path}`, body);
      this.hooks.took(alarm);
      if (this.id !== id) return;
      this.write(null);
      await this.fill();
      this.say(say("done"));
      (this.deeds.querySelector("[data-do=undo]") ?? this.place.querySelector("button")).focus();
    } catch (problem) {
      if (problem.status === 401) return this.hooks.ended();
      if (problem.status === 409) {
        await this.fill();
        this.version = this.alarm.version;
      }
      this.say(say("failed", { detail: problem.message }), true);
    } finally {
      this.busy = false;
    }
  }

  say(words, bad = false) {
    this.said.textContent = words;
    this.said.classList.toggle("error", bad);
  }

  story(alarm, members) {
    const parts = [];
    if (members) {
      const list = element("ul");
      for (const each of members.items) {
        const line = element("li");
        const words = [headline(each.title), each.device_name ?? each.device, say(`is_${each.state}`)].filter(Boolean).join(" · ");
        line.append(button(words, () => this.open(each.id), { className: "where" }));
        list.append(line);
      }
      if (alarm.members > members.items.length) list.append(element("li", say("members_more", { count: number(alarm.members - members.items.length) })));
      parts.push(element("h4", say("members", { count: number(alarm.members) })), list);
    }
    if (alarm.children.length) {
      parts.push(element("h4", say("silent_behind", { count: number(alarm.children.length) })), element("p", alarm.children.join(", "), { className: "fine" }));
    }
    const history = element("ol");
    for (const each of [...alarm.events].reverse()) {
      const line = element("li", `${clock(each.at)} · ${happened(each)}`);
      if (each.note && each.kind !== "assigned" && each.kind !== "severity" && each.note !== "late") line.append(element("br"), element("span", noted(each)));
      history.append(line);
    }
    parts.push(element("h4", say("history")), history);
    return parts;
  }

}

function happened(event) {
  const words = say(`event_${event.kind}`);
  const what = event.kind === "severity" ? `${words}: ${say(`severity_${event.note}`)}` : words;
  const whom = event.kind === "assigned" ? `${what}: ${event.note || say("nobody")}` : what;
  return event.by ? `${whom} (${person(event.by)})` : whom;
}

function noted(event) {
  if (event.kind === "cleared" || event.kind === "returned") return say(`ended_${event.note}`);
  return event.kind === "undone" ? say(`event_${event.note}`) : event.note;
}

export function shelved(alarm) {
  const facts = { name: person(alarm.shelved_by), reason: alarm.shelved_reason, time: clock(alarm.shelved_until) };
  return say(alarm.shelved_until.startsWith("9999") ? "is_out_of_service" : "is_shelved", facts);
}

const note = (code) => [field(code, element("textarea", undefined, { name: "note", required: true, maxLength: 2000, rows: 2 }))];
const FIELDS = {
  assign: (me) => [field("assign_whom", element("input", undefined, { name: "to", value: me, maxLength: 100, autocomplete: "off" }))],
  comment: () => note("comment_words"),
  shelve: () => {
    const spans = element("select", undefined, { name: "hours" });
    for (const [key, hours] of Object.entries(SPANS)) spans.append(new Option(say(`span_${key}`), hours, key === "h1", key === "h1"));
    return [field("shelve_span", spans), ...note("reason")];
  },
  out_of_service: () => note("reason"),
  close: () => note("cause"),
  reopen: () => note("reason"),
};

/** A form's words as the core wants them. A span, not a date: the core's zone may not be the browser's. */
function read(data) {
  const words = Object.fromEntries(data);
  if ("to" in words) words.to = words.to.trim() || null;
  if ("hours" in words) {
    words.until = new Date(Date.now() + Number(words.hours) * 3_600_000).toISOString();
    delete words.hours;
  }
  return words;
}
