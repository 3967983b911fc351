// Conversations in this browser: {id, title, updated, messages, edited?}, each under a key of its own, so that two tabs do
// not overwrite each other's. edited: {place, text} of a question that was changed, until an answer begins.
import { plainText } from "./parts.js";

const PREFIX = "nanochat.conversation.";

export function newConversation() {
  return { id: `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 8)}`, title: "", updated: 0, messages: [] };
}

export function save(conversation) {
  conversation.updated = Date.now();
  if (!conversation.title) conversation.title = plainText(conversation.messages[0]?.content ?? "").trim().slice(0, 60);
  localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
}

// The answer to the messages `asked` has begun: they and it are what the conversation holds.
export function begin(conversation, asked, answer) {
  conversation.messages = [...asked, answer];
  delete conversation.edited;
}

export function load(id) {
  return read(PREFIX + id);
}

export function remove(id) {
  localStorage.removeItem(PREFIX + id);
}

// Those in which every word is found, the latest first.
export function search(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  return all().filter((conversation) => {
    if (!wanted.length) return true;
    const text = JSON.stringify([conversation.title, ...conversation.messages.map((message) => message.content)]).toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}

export function exported() {
  return JSON.stringify({ format: "nanochat-conversations", version: 1, conversations: all() }, null, 2);
}

// Takes in an exported file's conversations, but for those that are no newer than what is here. Returns how many the
// file has, were taken, and were not for that reason, and whether there was no room. Throws where the file is none.
export function imported(text) {
  const given = JSON.parse(text);
  if (given?.format !== "nanochat-conversations" || !Array.isArray(given.conversations)) throw new Error("no conversations");
  const fitting = given.conversations.filter(isConversation);
  const wanted = fitting.filter(({ id, updated }) => updated > (load(id)?.updated ?? -Infinity));
  const outcome = { given: fitting.length, taken: 0, newer: fitting.length - wanted.length, full: false };
  for (const conversation of wanted) {
    try {
      localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
      outcome.taken += 1;
    } catch {
      outcome.full = true;
    }
  }
  return outcome;
}

function all() {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  return keys.map(read).filter(Boolean).sort((a, b) => b.updated - a.updated);
}

function read(key) {
  try {
    const found = JSON.parse(localStorage.getItem(key));
    return isConversation(found) ? found : null;
  } catch {
    return null;
  }
}

function isConversation(value) {
  const isPart = (part) => part && typeof part.type === "string" && typeof part.text === "string";
  const isMessage = (message) =>
    message &&
    (message.role === "user" || message.role === "assistant") &&
    (typeof message.content === "string" || (Array.isArray(message.content) && message.content.every(isPart)));
  return (
    value !== null &&
    typeof value === "object" &&
    typeof value.id === "string" &&
    typeof value.title === "string" &&
    typeof value.updated === "number" &&
    Array.isArray(value.messages) &&
    value.messages.every(isMessage) &&
    value.messages[0]?.role !== "assistant"
  );
}
