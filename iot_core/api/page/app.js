// The operator's page: what is wrong now, where, and who handles it.

import { ask } from "./api.js";
import { colour, DeviceMap, outline } from "./map.js";
import { clock, language, number, other, say, setLanguage, title } from "./words.js";

const SEVERITIES = ["critical", "high", "medium", "low"];
const COUNTED = ["alarm", "silent", "never", "ok"];
const CLASSES = ["fire_detector", "streetlight", "water_meter", "air_quality"];
const $ = (id) => document.getElementById(id);

const devices = new Map();
const alarms = new Map();
let mayAcknowledge = false;
let shown = null; // the device whose panel is open
let lostAt = null;
let source = null;
const map = new DeviceMap($("map"), (key) => showDevice(key));

function element(tag, text, attributes = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  if (text !== undefined) made.textContent = text;
  return made;
}

// ------------------------------------------------------------------ signing in
async function start() {
  translate();
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) {
    history.replaceState(null, "", "/"); // out of the address bar before anything else
    await signIn({ code });
    return;
  }
  try {
    enter(await ask("GET", "/me"));
  } catch {
    showSignIn();
  }
}

function showSignIn() {
  source?.close();
  $("console").hidden = true;
  $("sign-in").hidden = false;
  $("secret").focus();
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
  const secret = $("secret").value.trim();
  $("secret").value = "";
  $("sign-in-error").textContent = "";
  // A one-time code is three short groups; a token is long.
  signIn(/^[0-9A-Za-z]{4}([- ]?[0-9A-Za-z]{4}){2}$/.test(secret) ? { code: secret } : { token: secret });
});

$("sign-out").addEventListener("click", async () => {
  await ask("DELETE", "/session").catch(() => {});
  location.reload();
});

// ------------------------------------------------------------------ live
async function enter(me) {
  mayAcknowledge = me.actions.includes("acknowledge") || me.actions.includes("alarms.acknowledge");
  $("sign-in").hidden = true;
  $("console").hidden = false;
  map.resize();
  follow();
}

function follow() {
  source = new EventSource("/api/v1/events");
  source.addEventListener("open", async () => {
    try {
      await refresh();
      lostAt = null;
    } catch (problem) {
      if (problem.status === 401) showSignIn();
    }
    showLink();
  });
  source.addEventListener("error", () => {
    lostAt ??= new Date();
    showLink();
    if (source.readyState === EventSource.CLOSED) {
      ask("GET", "/me").then(() => setTimeout(follow, 3000), (problem) => {
        if (problem.status === 401) showSignIn();
        else setTimeout(follow, 3000);
      });
    }
  });
  source.addEventListener("alarm", (event) => {
    const { alarm } = JSON.parse(event.data);
    keep(alarm);
    showAlarms();
  });
  source.addEventListener("device", (event) => {
    const device = JSON.parse(event.data);
    devices.set(device.key, device);
    showDevices();
    if (shown === device.key) showDevice(shown);
  });
}

/** What the stream may have missed is read whole on every (re)connection. */
async function refresh() {
  const [found, open] = await Promise.all([ask("GET", "/map"), ask("GET", "/alarms?limit=1000")]);
  devices.clear();
  for (const device of found.items) devices.set(device.key, device);
  alarms.clear();
  open.items.forEach(keep);
  showAll();
}

function keep(alarm) {
  const before = alarms.get(alarm.id);
  if (before && before.version > alarm.version) return;
  if (alarm.state === "closed") alarms.delete(alarm.id);
  else alarms.set(alarm.id, alarm);
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
  if (shown) showDevice(shown);
}

function showLink() {
  $("link").className = lostAt ? "lost" : "";
  $("link").textContent = lostAt ? say("lost", { time: clock(lostAt) }) : `● ${say("live")}`;
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
  $("legend").replaceChildren(...CLASSES.map((name) => {
    const item = element("li");
    const sign = element("canvas", undefined, { width: 18, height: 14 });
    const context = sign.getContext("2d");
    outline(name, context, 9, 7.5, 4.5);
    context.fillStyle = "#9db2be";
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
  $("no-alarms").hidden = sorted.length > 0;
  $("alarms").replaceChildren(...sorted.map(alarmItem));
  const waiting = sorted.filter((alarm) => alarm.state === "unacknowledged").length;
  document.title = waiting ? `(${waiting}) ${say("title")}` : say("title");
}

function alarmItem(alarm) {
  const item = element("li", undefined, { className: `alarm ${alarm.severity} ${alarm.state}` });
  item.dataset.alarm = alarm.id;
  item.dataset.state = alarm.state;
  const head = element("span", say(`severity_${alarm.severity}`), { className: "severity" });
  for (const tag of ["simulated", "late"]) {
    if (alarm[tag]) head.append(element("span", say(tag), { className: "tag" }));
  }
  item.append(head, element("strong", title(alarm.title)));
  if (alarm.device) {
    const where = element("button", [alarm.device_name, alarm.area].filter(Boolean).join(" · "), { className: "where", type: "button" });
    where.addEventListener("click", () => showDevice(alarm.device));
    item.append(where);
  }
  item.append(element("span", alarmTimes(alarm), { className: "fine" }));
  if (mayAcknowledge && !alarm.acknowledged_at) {
    const button = element("button", say("acknowledge"), { type: "button" });
    button.addEventListener("click", () => acknowledge(alarm, button));
    item.append(button);
  }
  return item;
}

function alarmTimes(alarm) {
  const parts = [say("raised", { time: clock(alarm.raised_at) })];
  if (alarm.cleared_at) parts.push(say("returned"));
  if (alarm.acknowledged_at) {
    parts.push(say("acknowledged_by", { name: alarm.acknowledged_by, time: clock(alarm.acknowledged_at) }));
  }
  return parts.join(" · ");
}

async function acknowledge(alarm, button) {
  button.disabled = true;
  $("notice").textContent = "";
  try {
    keep(await ask("POST", `/alarms/${alarm.id}/acknowledge`, { version: alarm.version }));
  } catch (problem) {
    if (problem.status === 401) return showSignIn();
    $("notice").textContent = problem.status === 409 ? say("changed_meanwhile") : say("failed", { detail: problem.message });
    await refresh().catch(() => {});
  }
  showAlarms();
}

// ------------------------------------------------------------------ one device
async function showDevice(key) {
  shown = key;
  if (!key) {
    $("device").hidden = true;
    return;
  }
  map.centre(key);
  try {
    const device = await ask("GET", `/devices/${encodeURIComponent(key)}`);
    if (shown !== key) return; // another was picked meanwhile
    $("device").replaceChildren(...devicePanel(device));
    $("device").hidden = false;
  } catch (problem) {
    $("notice").textContent = say("failed", { detail: problem.message });
  }
}

function devicePanel(device) {
  const close = element("button", "×", { className: "close", type: "button", title: say("close") });
  close.setAttribute("aria-label", say("close"));
  close.addEventListener("click", () => {
    map.picked = null;
    map.draw();
    showDevice(null);
  });
  const place = [device.key, ...device.area_path, device.profile].filter(Boolean).join(" · ");
  const heard = device.last_received_at ? say("last_heard", { time: clock(device.last_received_at) }) : say("state_never");
  const table = element("table");
  for (const value of device.latest) {
    const row = table.insertRow();
    row.insertCell().textContent = title(value.title);
    row.insertCell().textContent = reading(value) + (value.bad ? ` (${say("bad_value")})` : "");
  }
  const body = device.latest.length ? table : element("p", say("nothing_stored"));
  return [close, element("h3", device.name), element("small", place), element("br"), element("small", heard), body];
}

function reading(value) {
  if (typeof value.value === "boolean") return say(value.value ? "yes" : "no");
  if (typeof value.value === "string") return value.value;
  const shownAs = { Cel: "°C", "ug/m3": "µg/m³", m3: "m³", "m3/h": "m³/h", "kW.h": "kWh", "[ppm]": "ppm", 1: "" };
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

start();
