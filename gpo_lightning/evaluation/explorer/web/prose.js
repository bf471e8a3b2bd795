// Markdown, maths and thoughts as DOM nodes. Line by line, because steps cut texts anywhere between lines.

import { h } from "./dom.js";

const INLINE = /(\$\$[^$]+\$\$|\\\[[^]+?\\\]|\\\([^]+?\\\)|\$(?=[^\s$])[^$\n]*[^\s$\\]\$(?!\d)|`[^`\n]+`|(?<![\w*])\*\*(?=\S)[^*\n]+\*\*(?![\w*])|(?<!\w)__(?=\S)[^_\n]+__(?!\w)|(?<![\w*])\*(?=\S)[^*\n]*[^\s*]\*(?![\w*]))/;

function maths(source, block) {
  const target = h("span", { class: block ? "maths block" : "maths" });
  try {
    temml.render(source, target, { displayMode: block, throwOnError: true, maxSize: [20, 400], maxExpand: 200 });
  } catch {
    target.textContent = block ? `$$${source}$$` : `$${source}$`;
  }
  return target;
}

function inline(text) {
  return text.split(INLINE).map((piece, i) => {
    if (i % 2 === 0) return piece;
    const canRender = typeof temml !== "undefined";
    if (piece.startsWith("$$") || piece.startsWith("\\[")) return canRender ? maths(piece.slice(2, -2), true) : piece;
    if (piece.startsWith("\\(")) return canRender ? maths(piece.slice(2, -2), false) : piece;
    if (piece.startsWith("$")) return canRender ? maths(piece.slice(1, -1), false) : piece;
    if (piece.startsWith("`")) return h("code", null, piece.slice(1, -1));
    if (piece.startsWith("**") || piece.startsWith("__")) return h("strong", null, inline(piece.slice(2, -2)));
    return h("em", null, inline(piece.slice(1, -1)));
  });
}

// Renders pieces of one text in order; what a piece leaves open (a code fence, a thought) the next goes on with.
export class Prose {
  constructor() {
    this.fenced = false;
    this.thinking = false;
  }

  render(text) {
    // Display maths may run over lines, and is one line to what follows.
    const lines = text.replace(/^\n+|\s+$/g, "").split(/(\$\$[^$]+\$\$|\\\[[^]+?\\\])|\n/).filter((line) => line !== undefined);
    return lines.flatMap((line) => this.line(line));
  }

  line(line) {
    const parts = line.split(/(<\/?think(?:ing)?>)/);
    if (parts.length > 1) return parts.flatMap((part) => this.thought(part));
    if (/^\s*(```|~~~)/.test(line)) {
      this.fenced = !this.fenced;
      return [];
    }
    return [this.dressed(line)];
  }

  thought(part) {
    if (/^<\/?think/.test(part)) {
      this.thinking = !part.startsWith("</");
      return [h("div", { class: "thought-edge" }, this.thinking ? "thinks" : "answers")];
    }
    return part.trim() ? this.line(part) : [];
  }

  dressed(line) {
    const thought = this.thinking ? " thought" : "";
    if (this.fenced) return h("div", { class: `line fenced${thought}` }, line || "\u00a0");
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (heading) return h("div", { class: `line heading${thought}` }, inline(heading[2]));
    const item = /^(\s*)([-*•]|\d+[.)])\s+(.*)$/.exec(line);
    if (item) {
      const bullet = /\d/.test(item[2]) ? item[2] : "•";
      return h("div", { class: `line item${thought}`, "--level": item[1].length / 2 }, h("span", { class: "bullet" }, bullet), h("span", null, inline(item[3])));
    }
    if (/^>\s?/.test(line)) return h("div", { class: `line quote${thought}` }, inline(line.replace(/^>\s?/, "")));
    return h("div", { class: `line${thought}` }, line.trim() ? inline(line) : "\u00a0");
  }
}

export const prose = (text) => new Prose().render(text);
