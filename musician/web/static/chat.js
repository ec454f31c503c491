// The conversation: questions, answers, tunes as cards.
import { icon, make } from "./dom.js";
import { facts, split, title } from "./tunes.js";

const REASONS = { stopped: "stopped", length: "cut at its token limit", timeout: "cut at its time limit", broken: "broken off" };

export class Chat {
  /** `on.open(abc)` when a tune's card is chosen, `on.again()` when another answer is asked for. */
  constructor(list, scroll, welcome, on) {
    Object.assign(this, { list, scroll, welcome, on });
  }

  /** Show a whole conversation. */
  show(messages) {
    this.list.replaceChildren();
    this.welcome.hidden = messages.length > 0;
    for (const message of messages) this.add(message);
    this.toEnd();
  }

  /** Add one message and return its place, for `update`. */
  add(message) {
    this.welcome.hidden = true;
    const who = message.role === "user" ? "You" : message.name || "Model";
    const body = make("div", { className: "body" });
    const place = make("li", { className: `message ${message.role}` }, make("span", { className: "who" }, who), body);
    this.list.append(place);
    this.update(place, message, false);
    this.toEnd();
    return place;
  }

  /** Show what a message says by now. */
  update(place, message, writing) {
    const follows = this.atEnd();
    const opened = [...place.querySelectorAll("details")].map((details) => details.open);
    place.querySelector(".body").replaceChildren(...split(message.content).map((part, at) =>
      part.kind === "tune" ? this.card(part.text, writing, opened[at]) : make("p", {}, part.text.trim())));
    place.classList.toggle("writing", writing);
    if (!writing && message.told) this.foot(place, message);
    if (follows) this.toEnd();
  }

  card(abc, writing, opened) {
    const open = make("button", { type: "button", className: "open" },
      make("span", { className: "note", "aria-hidden": "true" }, "♪"),
      make("span", { className: "title" }, title(abc)), make("span", { className: "facts" }, facts(abc)));
    open.addEventListener("click", () => this.on.open(abc));
    const text = make("details", { open: Boolean(opened) }, make("summary", {}, "ABC"), make("pre", { tabIndex: 0 }, abc));
    return make("div", { className: writing ? "card writing" : "card" }, open, text);
  }

  foot(place, message) {
    place.querySelector(".foot")?.remove();
    const { tokens, seconds, seed, reason } = message.told;
    const rate = tokens && seconds ? `${tokens} ${tokens === 1 ? "token" : "tokens"} in ${seconds.toFixed(1)} s` : "";
    const facts = [REASONS[reason], rate, seed === undefined ? "" : `seed ${seed}`].filter(Boolean).join(" · ");
    const again = make("button", { type: "button", className: "plain again" }, icon("again"), "Again");
    again.addEventListener("click", () => this.on.again());
    place.append(make("div", { className: "foot" }, make("span", {}, facts), again));
  }

  atEnd() {
    return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < 60;
  }

  toEnd() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }
}
