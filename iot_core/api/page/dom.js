// Making elements: text is always text, never markup.

import { say } from "./words.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, text, attributes = {}) {
  const made = Object.assign(document.createElement(tag), attributes);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(text, onClick, attributes = {}) {
  const made = element("button", text, { type: "button", ...attributes });
  made.addEventListener("click", () => onClick(made));
  return made;
}

export function closing(onClick) {
  const made = button("×", onClick, { className: "close", title: say("close") });
  made.setAttribute("aria-label", say("close"));
  return made;
}

/** A labelled field; `input` is an <input>, a <select> or a <textarea>. */
export function field(code, input) {
  const label = element("label", undefined, { className: "field" });
  label.append(element("span", say(code)), input);
  return label;
}
