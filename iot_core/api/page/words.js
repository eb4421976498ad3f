// The page's sentences. Their one home is the catalogue; words.json is made from it.

const words = await (await fetch("/static/words.json")).json();
const KEPT = "iot-language";

function first() {
  const kept = localStorage.getItem(KEPT);
  if (kept in words) return kept;
  return navigator.language.toLowerCase().startsWith("vi") ? "vi" : "en";
}

export let language = first();

export function setLanguage(name) {
  language = name;
  localStorage.setItem(KEPT, name);
}

export function other() {
  return language === "vi" ? "en" : "vi";
}

export function say(code, facts = {}) {
  const sentence = words[language][code] ?? code;
  return sentence.replace(/\{(\w+)(?::([^|}]*)\|([^}]*))?\}/g, (all, name, one, many) =>
    many === undefined ? facts[name] ?? all : String(facts[name]) === "1" ? one : many);
}

/** A title from data: {vi, en}. */
export function title(both) {
  return both[language];
}

const HEADLINE = 120;

/** A title where others stand beside it: what is longer is cut, the whole is where its alarm stands alone. */
export function headline(both) {
  const letters = [...title(both)];
  return letters.length <= HEADLINE ? letters.join("") : `${letters.slice(0, HEADLINE - 1).join("")}…`;
}

/** Who did it: what is no person's name, in the reader's language. */
export function person(name) {
  return name === "local command line" ? say("local_person") : name;
}

/** The name of an alarm's area: its English one where there is one. */
export function areaName(alarm) {
  return (language === "en" && alarm.area_name_en) || alarm.area_name;
}

let zone; // the core's own, so that a wall and a technician's screen say the same; until it is known, the browser's

export function setZone(name) {
  zone = name;
}

const day = (time) => time.toLocaleDateString("en", { timeZone: zone });

/** A time in the core's zone, the zone shown; the date only when it is not today. */
export function clock(text) {
  const time = new Date(text);
  const options = {
    hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZone: zone, timeZoneName: "short",
  };
  // 11/12 is December to one half of the readers of English and November to the other.
  const month = language === "en" ? "short" : "2-digit";
  if (day(time) !== day(new Date())) Object.assign(options, { day: "2-digit", month, year: "numeric" });
  return new Intl.DateTimeFormat(language === "en" ? "en-GB" : language, options).format(time);
}

export function number(value) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: 3 }).format(value);
}
