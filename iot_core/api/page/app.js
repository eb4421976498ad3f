// The operator's page: what is wrong now, where, and who handles it.

import { AlarmPanel, shelved } from "./alarm.js";
import { ask } from "./api.js";
import { $, button, closing, element } from "./dom.js";
import { handOver } from "./handover.js";
import { colour, DeviceMap, named, outline } from "./map.js";
import { areaName, clock, headline, language, number, other, person, say, setLanguage, setZone, title } from "./words.js";

const SEVERITIES = ["critical", "high", "medium", "low"];
const COUNTED = ["alarm", "silent", "never", "ok"];
const CLASSES = [ // in the order of the legend
  "fire_detector", "panic_button", "flood_gauge", "streetlight", "lighting_cabinet",
  "water_meter", "water_quality", "air_quality", "weather", "camera_health",
];
const QUIET_MS = 40_000; // the core says something at least every 15 s: longer silence is a dead connection
const LOOK_MS = 5_000;
const FRESH_MS = 10_000;
const AGAIN_MS = 3_000;
const DRAW_MS = 100;
const COMMANDS = 5; // of a device, the newest
const LONGEST = 24; // of a parameter: a signature says nobody anything

const devices = new Map();
const alarms = new Map();
let me = { name: "", may: false };
let view = "open"; // which alarms are listed: open, quiet, closed
let listed = []; // what the core said of a view other than the open ones
let unlisted = 0; // open alarms beyond what one answer holds
let shown = null; // the device whose panel is open
let lostAt = null;
let storeLostAt = null; // the core answers, its database does not
let source = null;
let heardAt = 0;
let panel = ""; // what the device panel was drawn from
const refreshes = new Set(); // for each whole read under way, what the stream says meanwhile
const items = new Map(); // alarm id -> its list item and what it was drawn from
const taking = new Set(); // alarms whose acknowledgement is on its way
const map = new DeviceMap($("map"), (key) => showDevice(key));

const panelOf = new AlarmPanel($("alarm"), {
  me: () => me,
  took: (alarm) => {
    keep(alarm);
    showAlarms();
  },
  showDevice: (key) => showDevice(key),
  ended: () => sessionEnded(),
  failed: (problem) => ($("notice").textContent = say("failed", { detail: problem.message })),
  back: (id) => (items.get(id)?.item.querySelector(".details") ?? $("view")).focus(),
});

// ------------------------------------------------------------------ signing in
async function start() {
  translate();
  await begin();
}

async function begin() {
  const code = codeInAddress();
  let refused = null;
  if (code) {
    history.replaceState(null, "", "/"); // out of the address bar before anything else
    try {
      return enter(await ask("POST", "/session", { code }));
    } catch (problem) {
      refused = problem; // it signs in once: this browser may have been that once
    }
  }
  try {
    enter(await ask("GET", "/me"));
  } catch (problem) {
    showSignIn();
    if (problem.status === 403) refused ??= problem; // a user who may see nothing
    if (refused) $("sign-in-error").textContent = refused.message;
  }
}

function codeInAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("code");
}

/** An address with a code that is opened where the page already is loads nothing anew. */
addEventListener("hashchange", () => {
  if (!codeInAddress()) return;
  showSignIn();
  begin();
});

function showSignIn() {
  source?.close();
  source = null;
  forget();
  $("console").hidden = true;
  $("sign-in").hidden = false;
  $($("user").value ? "password" : "user").focus();
}

/** The next person begins with nothing of the last one's. */
function forget() {
  for (const each of [devices, alarms, items]) each.clear();
  [listed, unlisted, view, shown, panel] = [[], 0, "open", null, ""];
  $("view").value = view;
  panelOf.id = null;
  for (const each of ["alarm", "device"]) {
    $(each).hidden = true;
    $(each).replaceChildren();
  }
  map.picked = null;
  showDevices();
  showAlarms();
}

async function signIn(what) {
  try {
    enter(await ask("POST", "/session", what));
  } catch (problem) {
    showSignIn();
    $("sign-in-error").textContent = problem.message;
  }
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const [user, password, secret] = ["user", "password", "secret"].map((name) => $(name).value);
  for (const name of ["password", "secret"]) $(name).value = ""; // an operator's screen is on a wall
  $("sign-in-error").textContent = "";
  signIn(secret.trim() ? codeOrToken(secret.trim()) : { user: user.trim(), password });
});

/** A one-time code is three short groups; a token is long. */
function codeOrToken(secret) {
  return /^[0-9A-Za-z]{4}([- ]?[0-9A-Za-z]{4}){2}$/.test(secret) ? { code: secret } : { token: secret };
}

$("sign-out").addEventListener("click", async () => {
  await ask("DELETE", "/session").catch(() => {});
  location.reload();
});

// ------------------------------------------------------------------ live
async function enter(who) {
  setZone(who.timezone);
  me = { name: who.name, may: who.actions.includes("acknowledge") };
  $("hand-over").hidden = !me.may;
  $("sign-in").hidden = true;
  $("console").hidden = false;
  map.resize();
  $("sign-in-error").textContent = "";
  follow();
}

function sessionEnded(why = say("session_ended")) {
  showSignIn();
  $("sign-in-error").textContent = why;
}

function follow() {
  source?.close();
  const mine = new EventSource("/api/v1/events");
  source = mine;
  heardAt = Date.now();
  mine.addEventListener("open", async () => {
    heardAt = Date.now();
    try {
      await refresh();
      if (source === mine) lostAt = null;
      $("notice").textContent = ""; // what failed meanwhile can be tried again
    } catch (problem) {
      if (source === mine) lose(problem);
    }
    showLink();
  });
  mine.addEventListener("error", () => {
    if (source !== mine) return;
    lostAt ??= new Date();
    showLink();
    if (mine.readyState === EventSource.CLOSED) ask("GET", "/me").then(() => lose(), lose);
  });
  mine.addEventListener("alive", () => (heardAt = Date.now()));
  for (const [kind, take] of Object.entries(TAKE)) {
    mine.addEventListener(kind, (event) => {
      heardAt = Date.now();
      const said = JSON.parse(event.data);
      for (const meanwhile of refreshes) meanwhile.push([take, said]);
      take(said);
      SHOW[kind](said);
    });
  }
}

const TAKE = {
  alarm: ({ alarm }) => keep(alarm),
  device: (device) => (device.state === "retired" ? devices.delete(device.key) : devices.set(device.key, device)),
  command: () => {},
};
const SHOW = {
  alarm: ({ alarm }) => {
    drawSoon(showAlarms);
    if (view !== "open") listSoon();
    if (panelOf.id !== null && [alarm.id, alarm.incident].includes(panelOf.id)) drawSoon(fillPanels);
  },
  device: (device) => {
    drawSoon(showDevices);
    if (shown === device.key) drawSoon(fillPanels);
  },
  command: (step) => {
    if (shown === step.device) drawSoon(fillPanels);
  },
};
const stale = new Set(); // what to draw anew
let drawing = null;

/** Draw what events changed, once for all that come together. */
function drawSoon(part) {
  stale.add(part);
  drawing ??= setTimeout(() => {
    drawing = null;
    const parts = [...stale];
    stale.clear();
    for (const each of parts) each();
  }, DRAW_MS);
}

function fillPanels() {
  if (shown) fillDevice(shown);
  if (panelOf.id !== null) panelOf.fill();
}

/** The connection is of no use: begin again, or sign in again. */
function lose(problem) {
  source?.close();
  source = null;
  if (problem?.status === 401) return sessionEnded();
  if (problem?.status === 403) return sessionEnded(problem.message); // the last right was taken
  lostAt ??= new Date(heardAt);
  showLink();
  setTimeout(() => {
    if (!source && !$("console").hidden) follow();
  }, AGAIN_MS);
}

// A connection can die without a word (a sleeping laptop, a router that forgot it): then nothing more comes, ever.
setInterval(() => {
  if (source && Date.now() - heardAt > QUIET_MS) lose();
}, LOOK_MS);

// A stream can be alive while nothing can be stored, and so no alarm be raised: "Live" would be a lie.
setInterval(async () => {
  if (!source || lostAt) return;
  const answer = await fetch("/readyz", { signal: AbortSignal.timeout(LOOK_MS) }).then((it) => it.json()).catch(() => null);
  if (typeof answer?.ready !== "boolean") return; // the stream says it when the core is gone
  if (answer.ready && storeLostAt) refresh().catch(() => {});
  storeLostAt = answer.ready ? null : storeLostAt ?? new Date();
  showLink();
}, LOOK_MS);

setInterval(() => {
  if (shown && source && !document.hidden) fillDevice(shown);
}, FRESH_MS);

/** What the stream may have missed is read whole on every (re)connection; what it says meanwhile is newer. */
async function refresh() {
  const meanwhile = [];
  refreshes.add(meanwhile);
  try {
    const [found, open] = await Promise.all([ask("GET", "/map"), ask("GET", "/alarms?limit=1000")]);
    devices.clear();
    for (const device of found.items) devices.set(device.key, device);
    alarms.clear();
    open.items.forEach(keep);
    unlisted = Math.max(0, open.total - open.items.length);
    for (const [take, said] of meanwhile) take(said);
  } finally {
    refreshes.delete(meanwhile);
  }
  showAll();
}

function keep(alarm) {
  const before = alarms.get(alarm.id);
  if (before && before.version > alarm.version) return;
  if (alarm.state === "closed" || isQuiet(alarm)) alarms.delete(alarm.id);
  else alarms.set(alarm.id, alarm);
}

/** What the core leaves off the open list: inside an incident, in maintenance, shelved. */
function isQuiet(alarm) {
  return alarm.incident !== null || alarm.suppressed_by !== null || Date.parse(alarm.shelved_until) > Date.now();
}

const VIEWS = {
  quiet: ["/alarms?quiet=true&limit=1000", (alarm) => alarm.incident === null && isQuiet(alarm)],
  closed: ["/alarms?open=false&limit=200", (alarm) => alarm.state === "closed"],
};
let listing = null;

/** Read a view other than the open ones; at most once a second while much happens. */
function listSoon() {
  listing ??= setTimeout(() => {
    listing = null;
    list();
  }, 1_000);
}

async function list() {
  const asked = view;
  if (asked === "open") return showAlarms();
  try {
    const [path, wanted] = VIEWS[asked];
    const found = await ask("GET", path);
    if (view !== asked) return;
    listed = found.items.filter(wanted);
    showAlarms();
  } catch (problem) {
    if (problem.status === 401) return sessionEnded();
    $("notice").textContent = say("failed", { detail: problem.message });
  }
}

// ------------------------------------------------------------------ showing
function translate() {
  document.documentElement.lang = language;
  for (const each of document.querySelectorAll("[data-say]")) each.textContent = say(each.dataset.say);
  for (const each of document.querySelectorAll("[data-label]")) {
    each.title = say(each.dataset.label);
    each.setAttribute("aria-label", each.title);
  }
  document.title = say("title");
}

function showAll() {
  translate();
  showDevices();
  showAlarms();
  showLink();
  fillPanels();
}

function showLink() {
  $("link").className = lostAt || storeLostAt ? "lost" : "";
  if (lostAt) $("link").textContent = say("lost", { time: clock(lostAt) });
  else $("link").textContent = storeLostAt ? say("store_lost", { time: clock(storeLostAt) }) : `● ${say("live")}`;
}

function showDevices() {
  const all = [...devices.values()];
  const count = (state) => all.filter((device) => device.state === state).length;
  $("counts").replaceChildren(...COUNTED.map((state) => {
    const item = element("li");
    item.append(element("b", number(count(state))), ` ${say(`state_${state}`)}`);
    item.dataset.state = state;
    item.style.color = count(state) ? colour({ state, severity: "critical" }) : "var(--soft)";
    return item;
  }));
  const unplaced = all.filter((device) => device.latitude === null).length;
  const notes = [all.length ? say("map_help") : say("no_devices")];
  if (unplaced) notes.push(say("no_positions", { count: number(unplaced) }));
  $("map-note").textContent = notes.join(" · ");
  $("map").setAttribute("aria-label", say("map_summary", { count: all.length - unplaced, alarm: count("alarm") }));
  map.show(all);
  showLegend();
}

function showLegend() {
  const there = new Set([...devices.values()].map((device) => device.class));
  $("legend").replaceChildren(...CLASSES.filter((name) => there.has(name)).map((name) => {
    const item = element("li");
    const sign = element("canvas", undefined, { width: 18, height: 14 });
    const context = sign.getContext("2d");
    outline(name, context, 9, 7.5, 4.5);
    context.fillStyle = named("soft");
    context.fill();
    item.append(sign, ` ${say(`class_${name}`)}`);
    return item;
  }));
}

function rank(alarm) {
  const waiting = alarm.state === "unacknowledged" ? 0 : 1;
  return [waiting, SEVERITIES.indexOf(alarm.severity), -Date.parse(alarm.raised_at)];
}

function showAlarms() {
  const sorted = [...alarms.values()].sort((a, b) => {
    const [x, y] = [rank(a), rank(b)];
    return x[0] - y[0] || x[1] - y[1] || x[2] - y[2];
  });
  const wanted = view === "open" ? sorted : listed;
  $("no-alarms").hidden = wanted.length > 0;
  $("no-alarms").textContent = say(`no_alarms_${view}`);
  $("more-alarms").textContent = unlisted && view === "open" ? say("more", { count: number(unlisted) }) : "";
  arrange($("alarms"), wanted.map(kept));
  const there = new Set(wanted.map((alarm) => alarm.id));
  for (const id of items.keys()) if (!there.has(id)) items.delete(id);
  const waiting = sorted.filter((alarm) => alarm.state === "unacknowledged").length;
  const more = unlisted && waiting === sorted.length ? "+" : ""; // who waits is listed first
  document.title = waiting ? `(${waiting}${more}) ${say("title")}` : say("title");
}

/** Give an alarm's list item, the same one for as long as it says the same: focus and a half-made click stay on it. */
function kept(alarm) {
  const drawnFrom = `${language} ${me.may} ${JSON.stringify(alarm)}`;
  const before = items.get(alarm.id);
  if (before?.drawnFrom === drawnFrom) return before.item;
  const item = alarmItem(alarm);
  items.set(alarm.id, { item, drawnFrom });
  return item;
}

/** Put items in this order, touching only what moved; a screen reader then says only what is new. */
function arrange(list, wanted) {
  const at = [...list.children].indexOf(document.activeElement.closest("#alarms > li"));
  const stay = new Set(wanted);
  for (const child of [...list.children]) if (!stay.has(child)) child.remove();
  wanted.forEach((item, index) => {
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
  });
  // The focused one went (acknowledged, closed): go on at its place, on the button that does no harm.
  if (at >= 0 && !list.contains(document.activeElement)) {
    list.children[Math.min(at, wanted.length - 1)]?.querySelector(".where, .details")?.focus();
  }
}

function alarmItem(alarm) {
  const item = element("li", undefined, { className: `alarm ${alarm.severity} ${alarm.state}` });
  item.dataset.alarm = alarm.id;
  item.dataset.state = alarm.state;
  const head = element("span", say(`severity_${alarm.severity}`), { className: "severity" });
  for (const tag of ["simulated", "late", "test"]) {
    if (alarm[tag]) head.append(element("span", say(tag), { className: "tag" }));
  }
  item.append(head, element("strong", headline(alarm.title)));
  const where = [alarm.device_name, areaName(alarm) ?? alarm.area].filter(Boolean).join(" · ");
  if (alarm.device) item.append(button(where, () => showDevice(alarm.device), { className: "where" }));
  else if (where) item.append(element("span", where));
  item.append(element("span", alarmTimes(alarm), { className: "fine" }));
  const row = element("div", undefined, { className: "row" });
  if (me.may && !alarm.acknowledged_at) {
    row.append(button(say("acknowledge"), (pressed) => acknowledge(alarm, pressed)));
  }
  row.append(button(say("details"), () => openAlarm(alarm.id), { className: "details quiet" }));
  item.append(row);
  return item;
}

function alarmTimes(alarm) {
  const parts = [say("raised", { time: clock(alarm.raised_at) })];
  if (alarm.cleared_at) parts.push(say("returned"));
  if (alarm.acknowledged_at) {
    parts.push(say("acknowledged_by", { name: person(alarm.acknowledged_by), time: clock(alarm.acknowledged_at) }));
  }
  if (alarm.assigned_to) parts.push(say("assigned_to", { name: alarm.assigned_to }));
  if (alarm.shelved_until) parts.push(shelved(alarm));
  if (alarm.members) parts.push(say("members", { count: number(alarm.members) }));
  return parts.join(" · ");
}

function openAlarm(id) {
  if (shown) closeDevice();
  panelOf.open(id);
}

async function acknowledge(alarm, button) {
  if (taking.has(alarm.id)) return;
  taking.add(alarm.id);
  button.setAttribute("aria-disabled", "true"); // `disabled` would throw the keyboard's focus away
  $("notice").textContent = "";
  try {
    keep(await ask("POST", `/alarms/${alarm.id}/acknowledge`, { version: alarm.version }));
  } catch (problem) {
    button.removeAttribute("aria-disabled");
    if (problem.status === 401) return sessionEnded();
    $("notice").textContent = problem.status === 409 ? say("changed_meanwhile") : say("failed", { detail: problem.message });
    await refresh().catch(() => {});
  } finally {
    taking.delete(alarm.id);
  }
  showAlarms();
}

// ------------------------------------------------------------------ one device
function showDevice(key) {
  shown = key;
  panel = "";
  if (!key) {
    $("device").hidden = true;
    return;
  }
  map.centre(key);
  fillDevice(key);
}

function closeDevice() {
  map.picked = null;
  map.draw();
  showDevice(null);
}

async function fillDevice(key) {
  try {
    const part = encodeURIComponent(key);
    const [device, commands] = await Promise.all([
      ask("GET", `/devices/${part}`), ask("GET", `/commands?device=${part}&limit=${COMMANDS}`),
    ]);
    const drawnFrom = `${language} ${JSON.stringify([device, commands])}`;
    if (shown !== key || panel === drawnFrom) return; // another was picked meanwhile, or nothing is new
    panel = drawnFrom;
    const focused = $("device").contains(document.activeElement);
    $("device").replaceChildren(...devicePanel(device), ...commandList(commands.items));
    $("device").hidden = false;
    if (focused) $("device").querySelector("button").focus();
  } catch (problem) {
    if (problem.status === 401) return sessionEnded();
    $("notice").textContent = say("failed", { detail: problem.message });
  }
}

function devicePanel(device) {
  const place = [device.key, ...(language === "en" ? device.area_path_en : device.area_path), device.profile].filter(Boolean).join(" · ");
  const heard = device.last_received_at ? say("last_heard", { time: clock(device.last_received_at) }) : say("state_never");
  const table = element("table");
  const newest = Math.max(...device.latest.map((value) => Date.parse(value.time)));
  for (const value of device.latest) {
    const row = table.insertRow();
    const name = row.insertCell();
    name.textContent = title(value.title);
    // Each metric has its own time; it is said where it is not that of the newest.
    if (Date.parse(value.time) < newest) name.append(element("br"), element("small", clock(value.time)));
    row.insertCell().textContent = reading(value) + (value.bad ? ` (${say("bad_value")})` : "");
  }
  const body = device.latest.length ? table : element("p", say(device.withheld ? "withheld" : "nothing_stored"));
  return [closing(closeDevice), element("h3", device.name), element("small", place), element("br"), element("small", heard), body];
}

/** What was asked of it lately, and what became of that. */
function commandList(commands) {
  if (!commands.length) return [];
  const list = element("ul", undefined, { className: "commands" });
  for (const each of commands) {
    const params = Object.entries(each.params).map(([name, value]) => `${name}=${String(value).slice(0, LONGEST)}`);
    const said = [each.detail, each.said].filter(Boolean).join(" ");
    const item = element("li");
    item.dataset.state = each.state;
    item.append(element("span", [each.name, ...params].join(" ")), ` · ${say(`command_${each.state}`)} · `);
    item.append(element("small", [clock(each.ended_at ?? each.queued_at), person(each.by), said].filter(Boolean).join(" · ")));
    list.append(item);
  }
  return [element("h4", say("commands")), list];
}

function reading(value) {
  if (typeof value.value === "boolean") return say(value.value ? "yes" : "no");
  if (typeof value.value === "string") return value.value;
  const shownAs = { Cel: "°C", "ug/m3": "µg/m³", m3: "m³", "m3/h": "m³/h", "kW.h": "kWh", "[ppm]": "ppm", deg: "°", "uS/cm": "µS/cm", "ug/L": "µg/L", "m3/s": "m³/s",
    "dB[SPL]": "dB", "[pH]": "", "{NTU}": "NTU", "V.A": "VA", "V.A{reactive}": "var", "kV.A.h{reactive}": "kvarh", "W/m2": "W/m²", 1: "" };
  return `${number(value.value)} ${shownAs[value.ucum] ?? value.ucum}`.trim();
}

// ------------------------------------------------------------------ controls
for (const button of document.querySelectorAll(".language")) {
  button.addEventListener("click", () => {
    setLanguage(other());
    showAll();
  });
}
$("zoom-in").addEventListener("click", () => map.zoom(1.4));
$("zoom-out").addEventListener("click", () => map.zoom(1 / 1.4));
$("fit").addEventListener("click", () => {
  map.fit();
  map.draw();
});

$("view").addEventListener("change", () => {
  view = $("view").value;
  listed = [];
  list();
});
$("hand-over").addEventListener("click", () => {
  if (panelOf.id !== null) panelOf.close();
  handOver($("alarm"), () => $("hand-over").focus(), sessionEnded);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (panelOf.id !== null) panelOf.escape();
  else if (!$("alarm").hidden) $("alarm").querySelector(".close").click();
  else if (shown) closeDevice();
});

// What is drawn on a canvas does not follow the style sheet by itself.
matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => {
  if (!$("console").hidden) showDevices();
});

start();
