// Tunes in ABC inside a text that may hold prose as well, whole or still being written.

const FIELD = /^[A-Za-z]:/;
const HEADER = /^([A-Za-z]:|%)/;
const NOT_MUSIC = /"[^"]*"|![^!\s]*!|\[[A-Za-z]:[^\]]*\]|%.*$/g;

/** A word with a letter that is no note, rest, spacer or abbreviated ornament: the line is prose. */
const isProse = (line) => !FIELD.test(line) && /\b(?=[a-zA-Z]*[h-tw])[a-zA-Z]{3,}/.test(line.replace(NOT_MUSIC, ""));

/**
 * The text cut into `{kind: "prose" | "tune", text}`; concatenated they are the text, but for fences of code.
 * A tune begins with `X:`, or with fields of which one is `K:`; a blank line, a fence, prose or the next `X:` ends it.
 */
export function split(text) {
  const parts = [];
  const lines = text.split("\n");
  let tune = false;
  let body = false;
  lines.forEach((line, at) => {
    const starts = /^X:/.test(line) || (!tune && startsBare(lines, at));
    const ends = tune && (!line.trim() || line.startsWith("```") || (body && isProse(line)));
    if (starts || ends) [tune, body] = [starts, false];
    if (tune && line.startsWith("K:")) body = true;
    if (line.startsWith("```")) return;
    add(parts, tune ? "tune" : "prose", line, starts);
  });
  return parts.map((part) => ({ ...part, text: part.lines.join("\n") })).filter((part) => part.text.trim());
}

function startsBare(lines, at) {
  for (let next = at; next < lines.length && HEADER.test(lines[next]); next += 1) {
    if (lines[next].startsWith("K:")) return true;
  }
  return false;
}

function add(parts, kind, line, fresh) {
  const last = parts.at(-1);
  if (last?.kind === kind && !fresh) last.lines.push(line);
  else parts.push({ kind, lines: [line] });
}

/** The first value of a field, such as `T`; empty where there is none. */
export const field = (abc, letter) => abc.match(new RegExp(`^${letter}:\\s*(.*?)\\s*$`, "m"))?.[1] ?? "";

/** What to call a tune. */
export const title = (abc) => field(abc, "T") || "Untitled tune";

/** Key, meter and the like in one line. */
export function facts(abc) {
  const kind = field(abc, "R");
  return [kind, field(abc, "K"), field(abc, "M")].filter(Boolean).join(" · ");
}

/** The same text, every character where it was, without `%%` and `I:` directives: they could change the drawing. */
export const withoutDirectives = (abc) =>
  abc.replace(/^(%%|I:).*$/gm, (line) => "%" + " ".repeat(line.length - 1)).replace(/\[I:[^\]\n]*\]/g, (inline) => " ".repeat(inline.length));

/** A tune that is still being written, up to its last whole bar or word, so that half a sign does not flicker. */
export function soFar(abc) {
  const end = Math.max(abc.lastIndexOf(" "), abc.lastIndexOf("\n"), abc.lastIndexOf("|"));
  return end < 0 ? "" : abc.slice(0, end + 1);
}
