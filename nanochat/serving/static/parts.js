// An answer's parts: {type: "text" | "python" | "python_output", text}. Shown as text only: nothing a model or a user
// writes is ever read as HTML.

// Add an increment of a stream: one without text begins a part, others of its type join it.
export function join(parts, increment) {
  const last = parts.at(-1);
  if (increment.text !== "" && last && last.type === increment.type) last.text += increment.text;
  else parts.push({ ...increment });
}

export function show(element, parts) {
  const shown = [];
  parts.forEach((part, index) => {
    if (part.type === "text") shown.push(document.createTextNode(part.text));
    else if (part.type === "python") {
      const next = parts[index + 1];
      const tool = document.createElement("code");
      tool.className = "tool";
      tool.textContent = next && next.type === "python_output" ? `${part.text} = ${next.text}` : part.text;
      shown.push(tool);
    }
  });
  element.replaceChildren(...shown);
}
