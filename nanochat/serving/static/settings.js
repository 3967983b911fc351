// What the person has chosen: kept in this browser, sent with each request.
const KEY = "nanochat.settings";
const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"];
const FIELDS = [...NUMBERS, "system", "theme", "key"];
const field = (name) => document.getElementById(name);

export function openSettings() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    // what cannot be read is as if it had not been kept
  }
  for (const name of FIELDS) {
    field(name).value = kept[name] ?? "";
    field(name).addEventListener("change", keep);
  }
  keep();
}

function keep() {
  localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(FIELDS.map((name) => [name, field(name).value]))));
  document.documentElement.dataset.theme = field("theme").value;
}

export function headers() {
  const key = field("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

export const system = () => field("system").value.trim();

export function sampling() {
  const given = NUMBERS.filter((name) => field(name).value !== "").map((name) => [name, Number(field(name).value)]);
  return Object.fromEntries(given);
}
