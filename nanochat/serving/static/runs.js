// The page of runs: a list, one run's stages and curves, asked for again every few seconds while they may change.
import { curve } from "./curve.js";

const named = (id) => document.getElementById(id);
const SECONDS = 5;
const THOUSANDS = new Intl.NumberFormat("en");

function kept() {
  try {
    return JSON.parse(localStorage.getItem("nanochat.settings")) ?? {};
  } catch {
    return {};
  }
}

async function ask(path) {
  const { key } = kept();
  const response = await fetch(path, { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  if (response.status === 401) throw new Error("The server asks for an API key: give it in the settings of the chat page.");
  throw Object.assign(new Error(body.error?.message ?? `The server answered ${response.status}.`), { status: response.status });
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function number(value) {
  if (typeof value !== "number") return value === null ? "not finite" : String(value);
  return Number.isInteger(value) ? THOUSANDS.format(value) : String(Number(value.toPrecision(4)));
}

function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${THOUSANDS.format(Math.floor(whole / 3600))} h ${Math.floor((whole % 3600) / 60)} min`;
}

const pairs = (told) => Object.entries(told).map(([name, value]) => `${name} ${number(value)}`).join(" · ");

function showList(runs, open) {
  named("runs").replaceChildren(
    ...runs.map((run) => {
      const link = element("a", run.id);
      link.href = `#${encodeURIComponent(run.id)}`;
      if (run.id === open) link.setAttribute("aria-current", "true");
      const parts = [run.state, `${run.done} of ${run.planned} stages`, duration(run.seconds), pairs(run.figures)];
      link.append(element("span", parts.filter(Boolean).join(" · "), "told"));
      const item = element("li");
      item.append(link);
      return item;
    }),
  );
}

function facts(stage) {
  const { figures, evaluation, memory, progress } = stage;
  const speed = [
    stage.tokens_per_second && `${number(Math.round(stage.tokens_per_second))} tokens/s`,
    figures.mfu && `MFU ${(100 * figures.mfu).toFixed(1)}%`,
    figures.data_wait !== undefined && `${(100 * figures.data_wait).toFixed(1)}% waiting for data`,
    figures.tokens && `${number(figures.tokens)} tokens seen`,
  ];
  const size = (bytes) => `${(bytes / 1e9).toFixed(2)} GB`;
  const held = Object.entries(memory).map(([rank, bytes]) => `rank ${rank} ${size(bytes)}`);
  if (figures.peak_memory_bytes) held.push(`peak ${size(figures.peak_memory_bytes)}`);
  const { step, time, ...evaluated } = evaluation;
  return {
    progress: progress && [`${number(progress.done)} of ${number(progress.total)} ${progress.unit}`, stage.seconds_left !== null && `${duration(stage.seconds_left)} left`].filter(Boolean).join(" · "),
    speed: speed.filter(Boolean).join(" · "),
    rates: pairs(stage.rates),
    data: pairs(stage.data),
    memory: held.join(" · "),
    evaluations: step === undefined ? "" : `step ${number(step)} · ${pairs(evaluated)}`,
    results: pairs(stage.results),
  };
}

function showStage(stage) {
  const section = element("section", undefined, "stage");
  const head = element("h3", stage.stage);
  head.append(element("span", ` ${[stage.state, stage.seconds !== null && duration(stage.seconds)].filter(Boolean).join(", ")}`, "told"));
  section.append(head);
  if (stage.progress) {
    const bar = element("progress");
    bar.max = stage.progress.total;
    bar.value = stage.progress.done;
    bar.setAttribute("aria-label", `Progress of ${stage.stage}`);
    section.append(bar);
  }
  const list = element("dl");
  for (const [name, told] of Object.entries(facts(stage))) if (told) list.append(element("dt", name), element("dd", told));
  if (list.children.length) section.append(list);
  const curves = Object.entries(stage.curves).filter(([, points]) => points.length > 1);
  if (curves.length) {
    const drawn = element("div", undefined, "curves");
    drawn.append(...curves.map(([name, points]) => curve(name, points, number)));
    section.append(drawn);
  }
  return section;
}

function showRun(run) {
  named("run").hidden = !run;
  if (!run) return;
  named("name").textContent = run.id;
  named("state").textContent = `${run.state}, ${run.done} of ${run.planned} stages, ${duration(run.seconds)}`;
  const { error } = run;
  named("error").hidden = !error;
  const said = error ? [`error[${error.code}] in ${error.stage}: ${error.message}`, error.help, `the log: ${error.log}`] : [];
  const text = said.filter(Boolean).join("\n");
  if (named("error").textContent !== text) named("error").textContent = text; // said aloud once
  named("stages").replaceChildren(...run.stages.map(showStage));
}

let asked = 0;

async function refresh() {
  const own = ++asked;
  let status = "";
  try {
    const { data } = await ask("/v1/runs");
    const open = decodeURIComponent(location.hash.slice(1)) || data[0]?.id;
    const run = open === undefined ? null : await ask(`/v1/runs/${encodeURIComponent(open)}`).catch((fault) => {
      if (fault.status !== 404) throw fault;
      status = `${fault.message}.`;
      return null;
    });
    if (own !== asked) return; // another run was chosen meanwhile
    if (!data.length) status = "No runs yet.";
    showList(data, open);
    showRun(run);
  } catch (fault) {
    status = fault instanceof TypeError ? "The server does not answer. Is it still running?" : fault.message;
  }
  if (own !== asked) return;
  if (named("status").textContent !== status) named("status").textContent = status;
  named("status").classList.toggle("wrong", status !== "" && status !== "No runs yet.");
  setTimeout(() => own === asked && refresh(), 1000 * SECONDS);
}

document.documentElement.dataset.theme = kept().theme ?? "";
addEventListener("hashchange", refresh);
refresh();
