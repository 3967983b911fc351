// Markdown as elements. Every piece of text becomes a text node and no attribute but a link's checked address is taken
// from it, so nothing that a model or a user writes is ever read as HTML. While an answer grows, only the block that
// has changed, its last, is parsed again.

const shown = new WeakMap(); // element → the sources of its blocks

export function showMarkdown(element, text) {
  const before = shown.get(element) ?? [];
  const sources = blocks(text);
  sources.forEach((source, index) => {
    if (source === before[index]) return;
    const made = block(source);
    if (index < element.children.length) element.children[index].replaceWith(made);
    else element.append(made);
  });
  while (element.children.length > sources.length) element.lastElementChild.remove();
  shown.set(element, sources);
}

// The text's blocks: what stands between blank lines, a fence with all that is in it, a heading.
export function blocks(text) {
  const found = [];
  let lines = [];
  let fence = null;
  const end = () => {
    if (lines.length) found.push(lines.join("\n"));
    lines = [];
  };
  for (const line of text.split("\n")) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence) {
      lines.push(line);
      if (mark && mark.startsWith(fence) && line.trim() === mark) {
        fence = null;
        end();
      }
    } else if (mark) {
      end();
      fence = mark;
      lines.push(line);
    } else if (line.trim() === "") end();
    else if (/^#{1,6} /.test(line) || /^ {0,3}([-*_])( *\1){2,} *$/.test(line)) {
      end();
      lines.push(line);
      end();
    } else lines.push(line);
  }
  end();
  return found;
}

function block(source) {
  const lines = source.split("\n");
  const first = lines[0];
  if (/^ {0,3}(`{3,}|~{3,})/.test(first)) return code(lines);
  const heading = /^(#{1,6}) (.*)$/.exec(first);
  if (heading) return make(`h${Math.min(6, heading[1].length + 2)}`, ...inline(heading[2].replace(/ +#+ *$/, "")));
  if (/^ {0,3}([-*_])( *\1){2,} *$/.test(first) && lines.length === 1) return make("hr");
  if (lines.every((line) => line.startsWith(">")))
    return make("blockquote", ...inline(lines.map((line) => line.replace(/^> ?/, "")).join("\n")));
  if (lines.length > 1 && first.includes("|") && /^[\s|:-]+$/.test(lines[1]) && lines[1].includes("-")) return table(lines);
  if (ITEM.test(first)) return list(lines);
  return make("p", ...inline(source));
}

const ITEM = /^(\s*)([-*+]|\d{1,9}[.)]) (.*)$/;

function code(lines) {
  const closed = lines.length > 1 && /^ {0,3}(`{3,}|~{3,}) *$/.test(lines.at(-1));
  const inner = make("code", lines.slice(1, closed ? -1 : undefined).join("\n"));
  const outer = make("pre", inner);
  outer.tabIndex = 0; // long lines are scrolled to by keyboard, too
  return outer;
}

function list(lines) {
  const root = make(/\d/.test(ITEM.exec(lines[0])[2]) ? "ol" : "ul");
  const open = [{ indent: 0, element: root }];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (!item) {
      const last = open.at(-1).element.lastElementChild;
      last.append("\n", ...inline(line.trim()));
      continue;
    }
    const indent = item[1].length;
    while (open.length > 1 && indent < open.at(-1).indent) open.pop();
    if (indent > open.at(-1).indent + 1 && open.at(-1).element.lastElementChild) {
      const inner = make(/\d/.test(item[2]) ? "ol" : "ul");
      open.at(-1).element.lastElementChild.append(inner);
      open.push({ indent, element: inner });
    }
    if (/\d/.test(item[2]) && !open.at(-1).element.children.length && open.at(-1).element.tagName === "OL")
      open.at(-1).element.start = parseInt(item[2], 10);
    open.at(-1).element.append(make("li", ...inline(item[3])));
  }
  return root;
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const row = (line, name) => make("tr", ...cells(line).map((cell) => make(name, ...inline(cell))));
  const made = make("table", make("thead", row(lines[0], "th")), make("tbody", ...lines.slice(2).map((line) => row(line, "td"))));
  made.tabIndex = 0;
  return made;
}

const INLINE =
  /(`+)(.+?)\1(?!`)|\*\*(?=\S)(.+?)\*\*|(?<![\w*])\*(?=\S)([^*\n]+?)\*(?!\w)|(?<!\w)_(?=\S)([^_\n]+?)_(?!\w)|~~(.+?)~~|\[([^\]\n]+)\]\(([^\s()]+)\)|(https?:\/\/[^\s<>()]+)/s;

function inline(text) {
  const made = [];
  for (let rest = text; rest; ) {
    const match = INLINE.exec(rest);
    if (!match) {
      made.push(rest);
      break;
    }
    if (match.index) made.push(rest.slice(0, match.index));
    const [all, , codeText, bold, star, underscore, struck, label, target, bare] = match;
    if (codeText !== undefined) made.push(make("code", codeText));
    else if (bold !== undefined) made.push(make("strong", ...inline(bold)));
    else if (star !== undefined || underscore !== undefined) made.push(make("em", ...inline(star ?? underscore)));
    else if (struck !== undefined) made.push(make("del", ...inline(struck)));
    else made.push(link(label ?? bare, target ?? bare, all));
    rest = rest.slice(match.index + all.length);
  }
  return made;
}

// A link to the web; anything else, javascript: before all, stays the text that it is.
function link(label, target, source) {
  if (!/^https?:\/\//i.test(target)) return source;
  const made = make("a", label);
  made.href = target;
  made.target = "_blank";
  made.rel = "noopener noreferrer nofollow";
  return made;
}

function make(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}
