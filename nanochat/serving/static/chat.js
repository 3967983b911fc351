// The chat page: one conversation, in memory, with the server's only model.
import { events } from "./events.js";
import { join, show } from "./parts.js";

const [log, form, input, send, stop, status] = ["messages", "form", "input", "send", "stop", "status"].map((id) =>
  document.getElementById(id),
);
const welcome = document.getElementById("welcome");
const FORGETS = "The model no longer sees the oldest turns.";
let messages = [];
let writing = null; // the AbortController of the answer in progress

function addMessage(role) {
  const element = document.createElement("div");
  element.className = `message ${role}`;
  const speaker = document.createElement("span");
  speaker.className = "for-screen-readers";
  speaker.textContent = role === "user" ? "You: " : "Model: ";
  const body = document.createElement("span");
  element.append(speaker, body);
  welcome.remove();
  log.append(element);
  return body;
}

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

function setWriting(controller) {
  writing = controller;
  send.hidden = controller !== null;
  stop.hidden = controller === null;
}

// Follows the end of the log unless the reader has scrolled up.
function following(change) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  change();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

async function ask(history, signal, onIncrement) {
  const response = await fetch("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ messages: history, stream: true }),
    signal,
  });
  if (!response.ok) throw Object.assign(new Error(), await response.json().then((body) => body.error));
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const [choice] = event.choices;
    for (const part of choice.delta.parts ?? [{ type: "text", text: choice.delta.content ?? "" }]) onIncrement(part);
    if (choice.finish_reason === "length") {
      const forgets = history.splice(0, history.length < 3 ? 0 : 2).length > 0;
      say(`The answer was cut: the context is full. ${forgets ? FORGETS : "Start a new chat to go on."}`);
    }
  }
}

// Asks; where the conversation no longer fits, its oldest turns give way, which is said.
async function askWhatFits(history, signal, onIncrement) {
  for (;;) {
    try {
      return await ask(history, signal, onIncrement);
    } catch (fault) {
      if (fault.code !== "context_length_exceeded" || history.length < 3) throw fault;
      history.splice(0, 2);
      say(`The context is full. ${FORGETS}`);
    }
  }
}

// Words for what went wrong, and what can be done.
function explain(fault) {
  if (fault.code === "context_length_exceeded") return "This message does not fit into the context. Shorten it.";
  if (fault instanceof TypeError) return "The server cannot be reached. Is it still running?";
  return fault.message || "The server could not answer.";
}

async function answer(text) {
  const controller = new AbortController();
  const parts = [];
  const mine = messages;
  mine.push({ role: "user", content: text });
  following(() => (addMessage("user").textContent = text));
  const body = addMessage("assistant");
  body.classList.add("writing");
  log.scrollTop = log.scrollHeight;
  setWriting(controller);
  say("");
  let frame = 0;
  try {
    await askWhatFits(mine, controller.signal, (increment) => {
      if (increment.type === "text" && increment.text === "") return;
      join(parts, increment);
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        following(() => show(body, parts));
      });
    });
    if (!parts.length && !status.textContent) say("The model had nothing to say.");
  } catch (fault) {
    if (mine === messages) {
      if (fault.name === "AbortError") say("Stopped.");
      else say(explain(fault), true);
    }
  }
  cancelAnimationFrame(frame);
  following(() => show(body, parts));
  body.classList.remove("writing");
  if (writing === controller) setWriting(null);
  if (parts.length) mine.push({ role: "assistant", content: parts });
  else {
    // Nothing was answered: the question goes back to where it can be sent again.
    mine.pop();
    if (mine === messages) {
      body.parentElement.previousElementSibling.remove();
      body.parentElement.remove();
      if (!input.value) input.value = text;
    }
  }
}

function fit() {
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text || writing) return;
  input.value = "";
  fit();
  answer(text);
});

input.addEventListener("input", fit);
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

stop.addEventListener("click", () => {
  writing?.abort();
  input.focus();
});

document.getElementById("new").addEventListener("click", () => {
  writing?.abort();
  setWriting(null);
  messages = [];
  log.replaceChildren(welcome);
  say("");
  input.focus();
});

fetch("/v1/models")
  .then((response) => response.json())
  .then((list) => (document.getElementById("model").textContent = list.data[0].id))
  .catch(() => say("The server cannot be reached.", true));
