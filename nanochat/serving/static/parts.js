// An answer's parts: {type: "text" | "python" | "python_output", text, tool?}. tool: of a call by special tokens of its own.
import { showMarkdown } from "./markdown.js";

// Add an increment of a stream: one without text begins a part, others of its type join it.
export function join(parts, increment) {
  const last = parts.at(-1);
  if (increment.type === "text" && increment.text === "") return;
  if (increment.text !== "" && last && last.type === increment.type) last.text += increment.text;
  else parts.push({ ...increment });
}

export function plainText(content) {
  if (typeof content === "string") return content;
  return content.map((part) => (part.type === "text" ? part.text : part.type === "python" ? `[${callText(part)}]` : "")).join("");
}

function callText(part) {
  return part.tool ? `${part.tool}: ${part.text}` : part.text;
}

// Text as Markdown; a call as its expression and result. What is there already is kept.
export function showParts(element, parts) {
  const wanted = parts.filter((part) => part.type !== "python_output");
  wanted.forEach((part, index) => {
    const name = part.type === "text" ? "text" : "tool";
    let child = element.children[index];
    if (!child || child.className !== name) {
      const made = document.createElement(name === "text" ? "div" : "code");
      made.className = name;
      if (child) child.replaceWith(made);
      else element.append(made);
      child = made;
    }
    if (part.type === "text") showMarkdown(child, part.text);
    else {
      const next = parts[parts.indexOf(part) + 1];
      child.textContent = next && next.type === "python_output" ? `${callText(part)} = ${next.text}` : callText(part);
    }
  });
  while (element.children.length > wanted.length) element.lastElementChild.remove();
}
