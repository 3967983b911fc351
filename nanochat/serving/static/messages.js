// Messages as elements, with what one can do with each.
import { plainText, showParts } from "./parts.js";

const ROLES = { user: "You", assistant: "Model" };

export function messageElement(message) {
  const element = make("article", `message ${message.role}`);
  const speaker = make("h2", "for-screen-readers", ROLES[message.role]);
  const body = make("div", "body");
  element.append(speaker, body, make("div", "actions"));
  showBody(element, message);
  return element;
}

export function showBody(element, message) {
  const body = element.querySelector(".body");
  if (typeof message.content === "string") body.textContent = message.content;
  else showParts(body, message.content);
}

// actions: [[label, function]]
export function showActions(element, actions, note) {
  const buttons = actions.map(([label, act]) => {
    const button = make("button", "", label);
    button.type = "button";
    button.addEventListener("click", () => act(button));
    return button;
  });
  element.querySelector(".actions").replaceChildren(...buttons, make("span", "figures", note));
}

export function figures({ usage, seconds, unfinished }) {
  if (unfinished) return "broken off";
  if (!Number.isFinite(usage?.completion_tokens)) return ""; // an imported message may have anything there
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const speed = seconds > 0 ? ` · ${((usage.completion_tokens - 1) / seconds).toFixed(0)} tokens/s` : "";
  return `${usage.completion_tokens} tokens${speed} · prompt ${usage.prompt_tokens}${cached ? `, ${cached} of them cached` : ""}`;
}

export async function copy(message, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(plainText(message.content));
    button.textContent = "Copied";
  } catch {
    button.textContent = "Cannot copy here";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

// A text field in the message's place, which is returned; onDone with the new text, or with null.
export function edit(element, text, onDone) {
  const field = make("textarea");
  field.value = text;
  field.setAttribute("aria-label", "Edit the message");
  const send = make("button", "", "Send again");
  const leave = make("button", "", "Cancel");
  send.addEventListener("click", () => onDone(field.value.trim() || null));
  leave.addEventListener("click", () => onDone(null));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send.click();
    } else if (event.key === "Escape") leave.click();
  });
  element.querySelector(".body").replaceChildren(field);
  element.querySelector(".actions").replaceChildren(send, leave);
  element.scrollIntoView({ block: "nearest" });
  return field;
}

function make(name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}
