// A tune engraved by abcjs into an element.
import { soFar, title, facts, withoutDirectives } from "./tunes.js";

const FONTS = {
  titlefont: "Georgia, serif 19",
  subtitlefont: "Georgia, serif 14",
  composerfont: "Georgia, serif 13 italic",
  gchordfont: "Helvetica, sans-serif 12",
  tempofont: "Georgia, serif 13",
  partsfont: "Georgia, serif 14 box",
  infofont: "Georgia, serif 13 italic",
  textfont: "Georgia, serif 13",
  vocalfont: "Georgia, serif 13",
};

/** Draw four empty bars, where a tune will stand. */
export function drawEmpty(place) {
  const settings = { foregroundColor: "currentColor", staffwidth: 520, paddingtop: 0, paddingbottom: 0, add_classes: true };
  window.ABCJS.renderAbc(place, "X:1\nM:4/4\nL:1/1\nK:C\nx|x|x|x|]", settings);
}

export class Score {
  /** Draw into `paper`; `clicked(startChar)` is told which note was clicked, `redrawn()` that the room has changed. */
  constructor(paper, clicked, redrawn) {
    Object.assign(this, { paper, clicked, abc: "", partial: false, transpose: 0, visual: null, marks: [], cost: 0, due: 0 });
    let width = 0;
    new ResizeObserver(() => {
      if (Math.abs(paper.clientWidth - width) < 8) return;
      width = paper.clientWidth;
      if (!this.abc) return;
      this.draw();
      redrawn(this);
    }).observe(paper);
  }

  /** Draw a whole tune now. */
  show(abc, transpose = 0) {
    clearTimeout(this.due);
    this.due = 0;
    Object.assign(this, { abc, transpose, partial: false, marks: [] });
    this.draw();
  }

  /** Draw a tune that is being written, at most as often as drawing takes a quarter of the time. */
  follow(abc) {
    Object.assign(this, { abc, partial: true, transpose: 0, marks: [] });
    this.due ||= setTimeout(() => {
      this.due = 0;
      this.draw();
    }, Math.max(60, 3 * this.cost));
  }

  clear() {
    clearTimeout(this.due);
    Object.assign(this, { abc: "", visual: null, due: 0, marks: [] });
    this.paper.replaceChildren();
  }

  draw() {
    const width = this.paper.clientWidth;
    if (!width) return;
    const began = performance.now();
    const settings = this.settings(width);
    const text = withoutDirectives(this.partial ? soFar(this.abc) : this.abc);
    this.visual = engrave(this.paper, settings.wrap ? joinRepeats(text) : text, settings);
    for (const mark of this.marks) this.frame(mark);
    this.cost = performance.now() - began;
  }

  settings(width) {
    const narrow = width < 560;
    return {
      add_classes: true,
      ariaLabel: `Score: ${title(this.abc)}. ${facts(this.abc)}`,
      foregroundColor: "currentColor",
      selectionColor: "currentColor",
      format: { ...FONTS, stretchlast: 0.5 },
      paddingtop: 8, paddingbottom: 8, paddingleft: 1, paddingright: 2,
      staffwidth: width - 3,
      visualTranspose: this.transpose,
      wrap: wrapping(this.abc, narrow),
      clickListener: (element) => this.clicked(element.startChar),
    };
  }

  /** Frame the bars that are not as they should be: `{start, end, message}` by characters of the text. */
  mark(bars) {
    this.paper.querySelectorAll(".bar-problem").forEach((frame) => frame.remove());
    this.marks = bars;
    for (const bar of bars) this.frame(bar);
  }

  frame({ start, end, message }) {
    for (const box of boxes(this.visual, start, end)) {
      const frame = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const told = document.createElementNS("http://www.w3.org/2000/svg", "title");
      told.textContent = message;
      frame.append(told);
      frame.setAttribute("class", "bar-problem");
      for (const [name, value] of Object.entries(box)) frame.setAttribute(name, value);
      this.paper.querySelector("svg")?.prepend(frame);
    }
  }

  /** Light the sounding notes, and no others. */
  light(elements) {
    this.paper.querySelectorAll(".sounding").forEach((note) => note.classList.remove("sounding"));
    for (const note of elements.flat()) note?.classList.add("sounding");
    elements.flat()[0]?.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  /** The drawing as an SVG file's text: black, nothing lit or marked. */
  svg() {
    const copy = this.paper.querySelector("svg").cloneNode(true);
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.querySelectorAll(".bar-problem").forEach((frame) => frame.remove());
    for (const name of ["fill", "stroke"]) {
      for (const shape of [copy, ...copy.querySelectorAll(`[${name}=currentColor]`)]) {
        if (shape.getAttribute(name) === "currentColor") shape.setAttribute(name, "#000");
      }
    }
    return new XMLSerializer().serializeToString(copy);
  }
}

/** How to break lines anew: not where the tune's own lines, of three to six bars, fit. */
function wrapping(abc, narrow) {
  const music = abc.split("\n").filter((line) => !/^([A-Za-z]:|%)/.test(line) && line.includes("|"));
  const bars = Math.max(0, ...music.map((line) => line.split(/\|+/).filter((bar) => bar.trim()).length));
  if (!narrow && (bars > 2 || music.length < 2) && bars <= 6) return undefined;
  return { minSpacing: narrow ? 1.4 : 1.7, maxSpacing: 2.8, preferredMeasuresPerLine: narrow ? 2 : 4 };
}

/** `:|` and `|:` across a line's end as one sign, every other character where it was: a new line may not end there. */
const joinRepeats = (abc) => abc.replace(/:\|([ \n]+)\|:/g, (found, space) => `::${" ".repeat(space.length + 2)}`);

/** abcjs's tune object, or null where the text holds none. Wrapping lines fails on a few tunes: those stay as written. */
function engrave(paper, text, settings) {
  try {
    return window.ABCJS.renderAbc(paper, text, settings)[0] ?? null;
  } catch {
    return window.ABCJS.renderAbc(paper, text, { ...settings, wrap: undefined })[0] ?? null;
  }
}

/** Where the notes and rests written between two characters stand, a box for each staff they are on. */
function boxes(visual, start, end) {
  const found = [];
  for (const line of visual?.lines ?? []) {
    for (const staff of line.staff ?? []) {
      const drawn = staff.voices.flat()
        .filter((item) => item.el_type === "note" && item.startChar >= start && item.startChar < end)
        .flatMap((item) => item.abselem?.elemset ?? [])
        .filter((shape) => shape?.getBBox)
        .map((shape) => shape.getBBox());
      if (drawn.length) found.push(around(drawn));
    }
  }
  return found;
}

function around(drawn) {
  const left = Math.min(...drawn.map((box) => box.x)) - 6;
  const right = Math.max(...drawn.map((box) => box.x + box.width)) + 6;
  const top = Math.min(...drawn.map((box) => box.y)) - 8;
  const bottom = Math.max(...drawn.map((box) => box.y + box.height)) + 8;
  return { x: left, y: top, width: right - left, height: bottom - top, rx: 5 };
}
