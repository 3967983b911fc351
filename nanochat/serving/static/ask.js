// One question to the server: the answer's parts as they come, and how it went.
import { events } from "./events.js";
import { headers, sampling, system } from "./settings.js";

// Calls onIncrement with each part; returns {finish_reason, usage, seconds} where seconds are those of the writing.
// Users and assistants take turns: an earlier question that got no answer is left out.
export async function ask(messages, { model, anew, signal }, onIncrement) {
  const said = system();
  const turns = messages.filter(({ role }, place) => role !== messages[place + 1]?.role);
  const history = turns.map(({ role, content }) => ({ role, content }));
  const body = {
    ...sampling({ anew }),
    messages: said ? [{ role: "system", content: said }, ...history] : history,
    stream: true,
    stream_options: { include_usage: true },
    ...(model ? { model } : {}),
  };
  const response = await fetch("/v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  if (!response.ok) throw await refusal(response);
  const outcome = { finish_reason: null, usage: null, seconds: 0 };
  let began = 0;
  for await (const event of events(response)) {
    if (event.error) throw Object.assign(new Error(event.error.message), event.error);
    if (event.usage) outcome.usage = event.usage;
    const [choice] = event.choices;
    if (!choice) continue;
    const parts = choice.delta.parts ?? [{ type: "text", text: choice.delta.content ?? "" }];
    for (const { index, ...part } of parts) onIncrement(part);
    outcome.finish_reason = choice.finish_reason ?? outcome.finish_reason;
    if (choice.delta.role === undefined) {
      began ||= performance.now();
      outcome.seconds = (performance.now() - began) / 1000;
    }
  }
  if (!outcome.finish_reason) throw new Error("The answer broke off. Is the server still running?");
  return outcome;
}

async function refusal(response) {
  const retry = response.headers.get("Retry-After");
  const error = await response.json().then((body) => body.error).catch(() => ({}));
  return Object.assign(new Error(error?.message), error, { status: response.status, retry });
}

// Words for what went wrong, and what can be done.
export function explain(fault) {
  if (fault.code === "context_length_exceeded") return "This conversation no longer fits into the context.";
  if (fault.status === 429) return `The server is busy. Try again in ${fault.retry ?? "a few"} seconds.`;
  if (fault.code === "loading") return "The model is still being loaded. Try again in a moment.";
  if (fault.status === 401) return "This server asks for an API key: give it under Settings.";
  if (fault instanceof TypeError) return "The server cannot be reached. Is it still running?";
  return fault.message || "The server could not answer.";
}
