// The message box: what is about to be asked, with or without the tune on the stage.
import { byId } from "./dom.js";
import { title } from "./tunes.js";

export class Composer {
  /** `send(text)` gets the whole message; `stop()` ends the answer; `tune()` is the ABC on the stage. */
  constructor({ send, stop, tune }) {
    Object.assign(this, { box: byId("prompt"), tune, stop, attached: false, busy: false, limit: Infinity });
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.message();
      if (this.busy || !text) return;
      if (text.length > this.limit) {
        this.error(`The message has ${text.length} characters; at most ${this.limit} are taken.`);
        return;
      }
      this.box.value = "";
      this.attach(false);
      this.grow();
      send(text);
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("composer").requestSubmit();
    });
    this.box.addEventListener("input", () => this.grow());
    byId("detach").addEventListener("click", () => this.attach(false));
    byId("stop").addEventListener("click", () => this.stop());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.busy && !document.querySelector("dialog[open]")) this.stop();
    });
  }

  message() {
    const said = this.box.value.trim();
    return this.attached ? [said, this.tune().trim()].filter(Boolean).join("\n") : said;
  }

  /** Put words into the box, and the tune on the stage beside them. */
  fill(text, attached = false) {
    this.box.value = text;
    this.attach(attached);
    this.grow();
    this.box.focus();
    this.box.setSelectionRange(text.length, text.length);
  }

  attach(attached) {
    this.attached = attached && Boolean(this.tune());
    byId("attached").hidden = !this.attached;
    if (this.attached) byId("attached-title").textContent = title(this.tune());
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${Math.min(this.box.scrollHeight, 220)}px`;
  }

  /** Show Stop in place of Send while an answer is written. */
  setBusy(busy) {
    this.busy = busy;
    const focused = [byId("send"), byId("stop")].includes(document.activeElement);
    byId("send").hidden = busy;
    byId("stop").hidden = !busy;
    document.body.toggleAttribute("data-busy", busy);
    if (focused) byId(busy ? "stop" : "send").focus();
  }

  status(line) {
    byId("status").textContent = line;
  }

  /** One clear line, or none. */
  error(line) {
    byId("error").textContent = line ?? "";
    byId("error").hidden = !line;
  }
}
