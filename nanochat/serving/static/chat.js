// The chat page: a list of conversations, one of them open, an answer being written or not.
//
// A question belongs to its conversation as soon as it is sent. Nothing else changes in a conversation before the answer's
// first word is here: only then does the answer take the place of an older one, and an edited question that of the old.
import { ask, explain } from "./ask.js";
import * as conversations from "./conversations.js";
import { copy, edit, figures, messageElement, showActions, showBody } from "./messages.js";
import { join, plainText } from "./parts.js";
import { headers, openSettings } from "./settings.js";

const named = (id) => document.getElementById(id);
const [log, form, input, send, stop, status, model] = ["messages", "form", "input", "send", "stop", "status", "model"].map(named);
const SAVE_MILLISECONDS = 250;
const OPEN = "nanochat.open";
const MODEL = "nanochat.model";
const FULL = "This browser has no room left for conversations. Export and delete some.";
let current = conversations.newConversation();
let shown = []; // current.messages, or while an answer is awaited what they will be
let wanted = localStorage.getItem(MODEL); // the model that was chosen, which may not be there yet
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

function keep() {
  try {
    conversations.save(current);
    localStorage.setItem(OPEN, current.id);
  } catch {
    say(FULL, { wrong: true });
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

function show(messages) {
  shown = messages;
  log.replaceChildren(...messages.map(messageElement));
  messages.forEach((_, place) => showActionsOf(place));
  named("welcome").hidden = messages.length > 0;
  log.scrollTop = log.scrollHeight;
  showList();
}

function showConversation() {
  show(current.messages);
  const { edited } = current;
  if (current.messages[edited?.place]?.role === "user") editMessage(edited.place, edited.text);
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

function showActionsOf(place) {
  const message = shown[place];
  const last = place === shown.length - 1;
  const unanswered = message.role === "user" && shown[place + 1]?.role !== "assistant";
  const actions = [["Copy", (button) => copy(message, button)]];
  if (writing && last) return showActions(log.children[place], [], "");
  if (!writing && message.role === "user") actions.push(["Edit", () => editMessage(place, plainText(message.content)).focus()]);
  if (!writing && last && unanswered) actions.push(["Try again", () => answer(shown)]);
  if (!writing && last && !unanswered) actions.push(["Regenerate", () => answer(shown.slice(0, place), { anew: true })]);
  showActions(log.children[place], actions, unanswered ? "not answered" : figures(message));
}

// The text field, in the place of a question.
function editMessage(place, text) {
  return edit(log.children[place], text, (changed) => {
    if (changed === null) {
      delete current.edited;
      keep();
      return showConversation();
    }
    current.edited = { place, text: changed };
    answer([...current.messages.slice(0, place), { role: "user", content: changed }]);
  });
}

// Asks for an answer to the last of the messages `asked`. anew: another one than before.
async function answer(asked, { anew = false } = {}) {
  if (writing) return;
  const conversation = current;
  const controller = new AbortController();
  const message = { role: "assistant", content: [], unfinished: true };
  setWriting(controller);
  say("");
  keep();
  show([...asked, message]);
  const element = log.lastElementChild;
  element.classList.add("writing");
  let frame = 0;
  let saved = 0;
  try {
    const outcome = await ask(asked, { model: model.value, anew, signal: controller.signal }, (increment) => {
      join(message.content, increment);
      if (!message.content.length) return;
      conversations.begin(conversation, asked, message);
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        following(() => showBody(element, message));
        if (conversation === current && performance.now() - saved > SAVE_MILLISECONDS) {
          keep();
          saved = performance.now();
        }
      });
    });
    if (conversation !== current) return;
    Object.assign(message, { usage: outcome.usage, seconds: outcome.seconds });
    delete message.unfinished;
    say(outcome.finish_reason === "length" ? "The answer was cut: the longest answer, or the end of the context, was reached." : "Answered.");
    if (!message.content.length) say("The model had nothing to say.");
  } catch (fault) {
    if (conversation !== current) return;
    report(fault, asked);
  }
  cancelAnimationFrame(frame);
  finish(message, element);
}

function report(fault, asked) {
  if (fault.name === "AbortError") return say("Stopped.");
  if (fault.code !== "context_length_exceeded") return say(explain(fault), { wrong: true });
  const second = asked.findIndex((_, place) => asked[place - 1]?.role === "assistant");
  if (second < 0) return say("This message does not fit into the context. Shorten it.", { wrong: true });
  say(explain(fault), { wrong: true, offer: { label: "Leave out the oldest turns and send", act: () => answer(asked.slice(second)) } });
}

function finish(message, element) {
  setWriting(null);
  if (current.messages.at(-1) !== message) return showConversation(); // no answer began
  keep();
  following(() => {
    showBody(element, message);
    element.classList.remove("writing");
    shown.forEach((_, place) => showActionsOf(place));
  });
  showList();
}

function leave() {
  if (writing) keep();
  writing?.abort();
  setWriting(null);
  say("");
  named("sidebar").classList.remove("shown");
  named("menu").setAttribute("aria-expanded", "false");
}

function openConversation(id) {
  leave();
  current = conversations.load(id) ?? conversations.newConversation();
  try {
    localStorage.setItem(OPEN, current.id);
  } catch {
    // no room: the next visit opens another one
  }
  showConversation();
  input.focus();
}

// Another tab, or an import, may have gone on with the open conversation.
function takeNewer() {
  const kept = conversations.load(current.id);
  if (writing || !(kept?.updated > current.updated)) return showList();
  current = kept;
  showConversation();
}

function deleteConversation(id) {
  if (id === current.id) openConversation("");
  conversations.remove(id);
  showList();
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
  answer(current.messages);
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
model.addEventListener("change", () => {
  wanted = model.value;
  try {
    localStorage.setItem(MODEL, wanted);
  } catch {
    // no room: it holds until the page is left
  }
});
window.addEventListener("pagehide", () => writing && keep());
window.addEventListener("storage", takeNewer);

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
    const { given, taken, newer, full } = conversations.imported(await file.text());
    const here = newer ? " What was here is as new, or newer." : "";
    say(`${taken} of ${given} conversations were imported.${here}${full ? ` ${FULL}` : ""}`, { wrong: full });
  } catch {
    say(`${file.name} holds no exported conversations.`, { wrong: true });
  }
  named("file").value = "";
  takeNewer();
});

async function listModels() {
  try {
    const response = await fetch("/v1/models", { headers: headers() });
    const list = await response.json();
    if (!response.ok) throw Object.assign(new Error(list.error.message), list.error, { status: response.status });
    const ids = list.data.map(({ id }) => id);
    if (ids.join("\n") !== offered()) // else a list that is open would close
      model.replaceChildren(...ids.map((id) => new Option(id, id, false, id === wanted)));
    if (!writing) say(ids.length ? "" : "The model is still being loaded.");
  } catch (fault) {
    if (!writing) say(explain(fault), { wrong: true });
  }
}

const offered = () => Array.from(model.options, ({ value }) => value).join("\n");

// Looks for models that are loaded later, by what the server tells without a key. Whether it is ready is asked first: the
// last of them may come in between.
async function awaitModels() {
  try {
    const ready = await (await fetch("/ready")).json();
    const { models } = await (await fetch("/health")).json();
    if (models.join("\n") !== offered()) await listModels();
    if (ready.error?.code === "loading") setTimeout(awaitModels, 1000);
  } catch {
    setTimeout(awaitModels, 5000); // the server has gone: whoever asks it is told
  }
}

openSettings();
openConversation(localStorage.getItem(OPEN) ?? "");
listModels().then(awaitModels);
