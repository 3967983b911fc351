// What the person has chosen: kept in this browser, sent with each request.
const KEY = "nanochat.settings";
const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"];
// The server's own are greedy, which small models answer best by, but always alike.
const ANEW = { temperature: 0.8, top_k: 50 };
const FIELDS = [...NUMBERS, "system", "theme", "key"];
const field = (name) => document.getElementById(name);
let cacheKey = "";

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
  cacheKey = kept.cacheKey ?? randomKey();
  field("anew").textContent =
    "Without a temperature the likeliest answer is given, and Regenerate draws another: " +
    `at temperature ${ANEW.temperature}, of the ${ANEW.top_k} likeliest tokens.`;
  keep();
}

// randomUUID would need https.
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function keep() {
  const chosen = Object.fromEntries(FIELDS.map((name) => [name, field(name).value]));
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...chosen, cacheKey }));
  } catch {
    // no room: they hold until the page is left
  }
  document.documentElement.dataset.theme = field("theme").value;
}

export function headers() {
  const key = field("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

export const system = () => field("system").value.trim();

// anew: another answer than before is wanted: where no temperature was chosen, one drawn by chance. Only requests of one
// key share the server's cache, so that nobody learns by its speed what others have asked.
export function sampling({ anew }) {
  const given = NUMBERS.filter((name) => field(name).value !== "").map((name) => [name, Number(field(name).value)]);
  const chosen = Object.fromEntries(given);
  const drawn = anew && chosen.temperature === undefined ? ANEW : {};
  return { ...drawn, ...chosen, prompt_cache_key: cacheKey };
}
