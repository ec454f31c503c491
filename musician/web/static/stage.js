// The stage: one tune, or two of a duel, engraved, played, edited and taken away.
import * as api from "./api.js";
import { after, byId, icon, save } from "./dom.js";
import { Panels } from "./panels.js";
import { Player } from "./player.js";
import { drawEmpty, Score } from "./score.js";
import { link } from "./share.js";
import { title, withoutDirectives } from "./tunes.js";

/** General MIDI's names of the instruments that the web app offers, by their number from 0. */
const INSTRUMENTS = {
  0: "acoustic_grand_piano", 19: "church_organ", 21: "accordion", 25: "acoustic_guitar_steel", 40: "violin", 73: "flute",
};

/** What is seen when there is a tune. */
const PARTS = ["sheets", "transport", "workbench"];

export class Stage {
  /** `error(line)` and `status(line)` go to the message box. */
  constructor(setup, { error, status }) {
    Object.assign(this, { error, status, limits: setup.limits, active: 0, transpose: 0, texts: ["", ""] });
    this.sheets = [byId("sheet-a"), byId("sheet-b")];
    const redrawn = (score) => score === this.score && !score.partial && this.player.redrawn(score.visual);
    this.scores = this.sheets.map((sheet, at) => new Score(sheet.querySelector(".paper"), (start) => this.pick(at, start), redrawn));
    this.player = new Player({
      state: (state) => this.showState(state),
      time: (now, whole) => this.showTime(now, whole),
      sounding: (elements) => this.score.light(elements),
      error,
    });
    this.panels = new Panels({
      originality: setup.originality,
      marked: (bars) => this.score.mark(bars),
      go: ({ start, end }) => this.select(start, end),
    });
    this.listen();
    drawEmpty(document.querySelector("#empty .staff"));
  }

  get score() {
    return this.scores[this.active];
  }

  get abc() {
    return this.texts[this.active];
  }

  listen() {
    const click = (id, action) => byId(id).addEventListener("click", action);
    click("play", () => this.toggle());
    click("rewind", () => this.player.seek(0));
    click("loop", () => this.toggleLoop());
    click("slower", () => this.changeTempo(-4));
    click("faster", () => this.changeTempo(4));
    click("lower", () => this.changeKey(-1));
    click("higher", () => this.changeKey(1));
    click("share", () => this.share());
    byId("instrument").addEventListener("change", (event) => this.player.setProgram(Number(event.target.value)));
    byId("seek").addEventListener("input", (event) => this.player.seek(event.target.value / 1000));
    byId("downloads").addEventListener("click", (event) => this.download(event.target.closest("[data-file]")?.dataset.file));
    byId("editor").addEventListener("input", () => this.edited(byId("editor").value));
    this.sheets.forEach((sheet, at) => sheet.addEventListener("click", () => this.activate(at)));
    document.addEventListener("keydown", (event) => {
      if (event.altKey && event.code === "KeyP" && this.abc) this.toggle();
    });
    this.redraw = after(200, () => this.reload(true));
  }

  /** Show a whole tune, alone or on one side of a duel. */
  show(abc, side = null) {
    const at = this.prepare(abc, side);
    this.scores[at].show(abc, this.transpose);
    if (at === this.active) this.settle();
  }

  /** Show a tune that is being written. */
  follow(abc, side = null) {
    const at = this.prepare(abc, side);
    this.scores[at].follow(abc);
    if (at !== this.active) return;
    byId("editor").value = abc;
    this.writing(true);
  }

  /** A tune that is being written can be neither played nor changed. */
  writing(unfinished) {
    for (const id of ["transport", "workbench"]) byId(id).inert = unfinished;
  }

  /** Clear the stage; a new tune or duel may come. */
  begin(sides = 1) {
    byId("empty").hidden = false;
    for (const id of [...PARTS, "verdict"]) byId(id).hidden = true;
    this.player.load(null);
    this.panels.clear();
    this.writing(false);
    this.changeKey(-this.transpose);
    this.texts = ["", ""];
    this.scores.forEach((score) => score.clear());
    this.two(sides === 2);
  }

  two(both) {
    byId("sheets").classList.toggle("two", both);
    this.sheets[1].hidden = !both;
    this.sheets[0].querySelector(".side").hidden = !both;
    this.focus(0);
  }

  /** The sheet that is played and edited. */
  focus(at) {
    this.active = at;
    this.sheets.forEach((sheet, each) => sheet.classList.toggle("active", each === at));
  }

  /** Make room for a tune; which sheet it gets. */
  prepare(abc, side) {
    if (side === null && !this.sheets[1].hidden) this.two(false);
    const at = side ?? 0;
    if (!this.abc) this.focus(at);
    this.texts[at] = abc;
    byId("empty").hidden = true;
    for (const id of PARTS) byId(id).hidden = false;
    return at;
  }

  activate(at) {
    if (this.sheets[1].hidden || at === this.active || !this.texts[at]) return;
    this.player.pause();
    this.focus(at);
    this.settle();
  }

  settle() {
    byId("editor").value = this.abc;
    this.writing(false);
    this.reload(false);
  }

  reload(keepTempo) {
    this.scores[this.active].show(this.abc, this.transpose);
    this.player.load(this.score.visual, { transpose: this.transpose, keepTempo });
    byId("tempo").textContent = this.player.bpm;
    this.panels.clear();
    this.panels.later(this.abc);
  }

  edited(abc) {
    this.texts[this.active] = abc.slice(0, this.limits.max_abc_chars);
    if (abc.length > this.limits.max_abc_chars) this.error(`A tune may have ${this.limits.max_abc_chars} characters; the rest is not used.`);
    this.redraw();
  }

  async toggle() {
    if (this.player.source) return this.player.pause();
    this.error(null);
    return this.player.play();
  }

  toggleLoop() {
    this.player.loop(!this.player.looped);
    byId("loop").setAttribute("aria-pressed", String(this.player.looped));
  }

  async changeTempo(step) {
    const wanted = this.player.setTempo(this.player.bpm + step);
    byId("tempo").textContent = this.player.bpm;
    await wanted;
  }

  changeKey(step) {
    this.transpose = Math.max(-12, Math.min(12, this.transpose + step));
    byId("semitones").textContent = this.transpose > 0 ? `+${this.transpose}` : String(this.transpose).replace("-", "−");
    if (this.abc && step) this.reload(true);
  }

  /** A note of a score was clicked: go there, and show where it is written. */
  pick(at, start) {
    this.activate(at);
    this.player.seekCharacter(start);
  }

  select(start, end) {
    byId("tab-abc").click();
    byId("editor").focus();
    byId("editor").setSelectionRange(start, end);
  }

  showState(state) {
    const playing = state === "playing";
    byId("play").replaceChildren(icon(playing ? "pause" : "play"));
    byId("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    byId("play").setAttribute("aria-busy", String(state === "preparing"));
    byId("transport").dataset.state = state;
  }

  showTime(now, whole) {
    byId("seek").value = whole ? Math.round((now / whole) * 1000) : 0;
    byId("seek").setAttribute("aria-valuetext", `${clock(now)} of ${clock(whole)}`);
    byId("time").textContent = whole ? `${clock(now)} / ${clock(whole)}` : clock(now);
  }

  async share() {
    const address = await link(this.abc);
    history.replaceState(null, "", address);
    try {
      await navigator.clipboard.writeText(address);
      this.status("Link copied. The tune is inside the link itself.");
    } catch {
      this.status("The link is in the address bar; copy it from there.");
    }
  }

  async download(kind) {
    if (!kind) return;
    byId("downloads").open = false;
    this.error(null);
    const name = title(this.abc).replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").toLowerCase() || "tune";
    const endings = { midi: "mid" };
    try {
      save(await this.file(kind), `${name}.${endings[kind] ?? kind}`);
    } catch (error) {
      this.error(error.message);
    }
  }

  async file(kind) {
    if (kind === "abc" && !this.transpose) return new Blob([this.abc], { type: "text/vnd.abc" });
    if (kind === "svg") return new Blob([this.score.svg()], { type: "image/svg+xml" });
    const asked = { abc: kind === "abc" ? this.abc : withoutDirectives(this.abc), transpose: this.transpose };
    if (kind !== "abc") asked.tempo = this.player.quarters;
    if (kind === "wav") asked.instrument = INSTRUMENTS[this.player.program];
    return api.file(kind, asked);
  }
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
