// The chat page: a list of conversations, one of them open, an answer being written or not.
import { ask, explain } from "./ask.js";
import * as conversations from "./conversations.js";
import { copy, edit, messageElement, showActions, showBody } from "./messages.js";
import { join } from "./parts.js";
import { headers, openSettings } from "./settings.js";

const named = (id) => document.getElementById(id);
const [log, form, input, send, stop, status, model] = ["messages", "form", "input", "send", "stop", "status", "model"].map(named);
const SAVE_MILLISECONDS = 250;
const OPEN = "nanochat.open";
let current = conversations.newConversation();
let writing = null; // the AbortController of the answer in progress

function say(text, { wrong = false, offer = null } = {}) {
  status.replaceChildren(text);
  if (offer) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = offer.label;
    button.addEventListener("click", offer.act);
    status.append(" ", button);
  }
  status.classList.toggle("wrong", wrong);
}

function keep(conversation) {
  try {
    conversations.save(conversation);
    if (conversation === current) localStorage.setItem(OPEN, current.id);
  } catch {
    say("This browser has no room left for conversations. Export and delete some.", { wrong: true });
  }
}

function setWriting(controller) {
  writing = controller;
  send.hidden = controller !== null;
  stop.hidden = controller === null;
}

// Follows the end of the log unless the reader has scrolled up.
function following(change) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  change();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function showConversation() {
  log.replaceChildren(...current.messages.map((message, place) => messageElement(message, actionsOf(place))));
  named("welcome").hidden = current.messages.length > 0;
  log.scrollTop = log.scrollHeight;
  showList();
}

function showList() {
  const items = conversations.search(named("search").value).map((conversation) => {
    const item = document.createElement("li");
    const open = document.createElement("button");
    open.className = "open";
    open.textContent = conversation.title || "Untitled";
    open.setAttribute("aria-current", String(conversation.id === current.id));
    open.addEventListener("click", () => openConversation(conversation.id));
    const drop = document.createElement("button");
    drop.textContent = "×";
    drop.setAttribute("aria-label", `Delete ${conversation.title || "Untitled"}`);
    drop.addEventListener("click", () => deleteConversation(conversation.id));
    item.append(open, drop);
    return item;
  });
  named("conversations").replaceChildren(...items);
}

function actionsOf(place) {
  const message = current.messages[place];
  const actions = [["Copy", (button) => copy(message, button)]];
  if (message.role === "user") actions.push(["Edit", () => editMessage(place)]);
  else if (place === current.messages.length - 1) actions.push(["Regenerate", () => answerFrom(place)]);
  return actions;
}

function editMessage(place) {
  if (writing) return;
  edit(log.children[place], current.messages[place], (text) => {
    if (text === null) showConversation();
    else {
      current.messages[place].content = text;
      answerFrom(place + 1);
    }
  });
}

// Leaves out every message from `place` on and asks for an answer to those before.
function answerFrom(place) {
  if (writing) return;
  current.messages.splice(place);
  keep(current);
  showConversation();
  answer();
}

async function answer() {
  const conversation = current;
  const controller = new AbortController();
  const message = { role: "assistant", content: [], unfinished: true };
  const history = [...conversation.messages];
  conversation.messages.push(message);
  const element = messageElement(message, []);
  element.classList.add("writing");
  following(() => log.append(element));
  setWriting(controller);
  say("");
  let frame = 0;
  let saved = 0;
  try {
    const outcome = await ask(history, model.value, controller.signal, (increment) => {
      join(message.content, increment);
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        following(() => showBody(element, message));
        if (performance.now() - saved > SAVE_MILLISECONDS) {
          keep(conversation);
          saved = performance.now();
        }
      });
    });
    Object.assign(message, { usage: outcome.usage, seconds: outcome.seconds });
    delete message.unfinished;
    say(outcome.finish_reason === "length" ? "The answer was cut: the longest answer, or the end of the context, was reached." : "Answered.");
    if (!message.content.length) say("The model had nothing to say.");
  } catch (fault) {
    report(fault, conversation);
  }
  cancelAnimationFrame(frame);
  finish(conversation, message, element, controller);
}

function report(fault, conversation) {
  if (fault.name === "AbortError") return say("Stopped.");
  const offer = { label: "Leave out the oldest turns and send", act: () => dropOldest(conversation) };
  const tooLong = fault.code === "context_length_exceeded";
  if (tooLong && conversation.messages.length > 3) return say(explain(fault), { wrong: true, offer });
  return say(tooLong ? "This message does not fit into the context. Shorten it." : explain(fault), { wrong: true });
}

function dropOldest(conversation) {
  if (writing || conversation !== current) return;
  const text = input.value.trim();
  input.value = "";
  current.messages.splice(0, 2);
  current.messages.push({ role: "user", content: text });
  answerFrom(current.messages.length);
}

function finish(conversation, message, element, controller) {
  if (!message.content.length) {
    // Nothing was answered: the question goes back to where it can be sent again.
    conversation.messages.pop();
    const question = conversation.messages.pop();
    if (conversation === current && !input.value) input.value = question.content;
    if (!conversation.messages.length) conversations.remove(conversation.id);
  }
  if (conversation.messages.length) keep(conversation);
  if (writing === controller) setWriting(null);
  if (conversation !== current) return;
  if (!message.content.length) return showConversation();
  following(() => {
    showBody(element, message);
    element.classList.remove("writing");
    const last = current.messages.length - 1;
    showActions(element, message, actionsOf(last));
    const before = log.children[last - 2];
    if (before) showActions(before, current.messages[last - 2], actionsOf(last - 2));
  });
  showList();
}

function leave() {
  writing?.abort();
  setWriting(null);
  say("");
  named("sidebar").classList.remove("shown");
  named("menu").setAttribute("aria-expanded", "false");
}

function openConversation(id) {
  leave();
  current = conversations.load(id) ?? conversations.newConversation();
  localStorage.setItem(OPEN, current.id);
  showConversation();
  input.focus();
}

function deleteConversation(id) {
  conversations.remove(id);
  if (id === current.id) openConversation("");
  else showList();
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
  current.messages.push({ role: "user", content: text });
  answerFrom(current.messages.length);
});

input.addEventListener("input", fit);
input.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && writing && !named("settings").open) writing.abort();
});
window.addEventListener("pagehide", () => writing && keep(current));

stop.addEventListener("click", () => {
  writing?.abort();
  input.focus();
});
named("new").addEventListener("click", () => openConversation(""));
named("search").addEventListener("input", showList);
named("menu").addEventListener("click", () => {
  const shown = named("sidebar").classList.toggle("shown");
  named("menu").setAttribute("aria-expanded", String(shown));
});
named("open-settings").addEventListener("click", () => named("settings").showModal());
named("settings").addEventListener("close", listModels);

named("export").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([conversations.exported()], { type: "application/json" }));
  link.download = "nanochat-conversations.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
named("import").addEventListener("click", () => named("file").click());
named("file").addEventListener("change", async () => {
  const [file] = named("file").files;
  if (!file) return;
  try {
    say(`${conversations.imported(await file.text())} conversations were imported.`);
  } catch {
    say(`${file.name} holds no exported conversations.`, { wrong: true });
  }
  named("file").value = "";
  showList();
});

async function listModels() {
  try {
    const response = await fetch("/v1/models", { headers: headers() });
    const list = await response.json();
    if (!response.ok) throw Object.assign(new Error(list.error.message), list.error, { status: response.status });
    const chosen = model.value;
    model.replaceChildren(...list.data.map(({ id }) => new Option(id, id, false, id === chosen)));
    if (!list.data.length) {
      say("The model is still being loaded.");
      setTimeout(listModels, 1000);
    } else if (!writing) say("");
  } catch (fault) {
    say(explain(fault), { wrong: true });
  }
}

openSettings();
openConversation(localStorage.getItem(OPEN) ?? "");
listModels();
