// The web app: puts its parts together.
import * as api from "./api.js";
import { answer, ending } from "./answers.js";
import { Chat } from "./chat.js";
import { Composer } from "./composer.js";
import { byId, make } from "./dom.js";
import { duel, firstTune } from "./duel.js";
import * as history from "./history.js";
import { drawn, Settings } from "./settings.js";
import { shared } from "./share.js";
import { Stage } from "./stage.js";
import { theme } from "./theme.js";

/** What the tune on the stage can be sent back with; the words are those of the training tasks. */
const ASKS = [
  ["Continue", "Complete this tune: continue from where the music stops."],
  ["Harmonise", "Harmonise the following tune: put chords above its bars."],
  ["Vary", "Write a variation of this section that stays close to it."],
  ["Describe", "Describe this tune in a few sentences: key, meter, length, compass."],
];

class App {
  constructor(setup) {
    Object.assign(this, { setup, id: crypto.randomUUID(), messages: [], running: null });
    this.composer = new Composer({ send: (text) => this.send(text), stop: () => this.running?.abort(), tune: () => this.stage.abc });
    this.composer.limit = setup.limits.max_prompt_chars;
    this.stage = new Stage(setup, { error: (line) => this.composer.error(line), status: (line) => this.composer.status(line) });
    this.chat = new Chat(byId("messages"), byId("talk-scroll"), byId("welcome"), {
      open: (abc) => this.open(abc),
      again: () => this.again(),
    });
    this.settings = new Settings(setup, () => {});
    this.furnish();
    this.listen();
  }

  furnish() {
    const { models, examples } = this.setup;
    byId("model").replaceChildren(...models.map(({ id, name }) => make("option", { value: id }, name)));
    byId("duel-field").hidden = !this.setup.duel;
    const families = [...new Set(examples.map((example) => example.family))];
    const grouped = families.map((name) => [name, examples.filter((example) => example.family === name)]);
    byId("examples").replaceChildren(...grouped.map((each) => this.family(each)));
    byId("asks").replaceChildren(...ASKS.map(([label, words]) => {
      const button = make("button", { type: "button", className: "plain" }, label);
      button.addEventListener("click", () => {
        this.view("talk");
        this.composer.fill(words, true);
      });
      return button;
    }));
  }

  /** The examples of one family of tasks, in a row. */
  family([name, examples]) {
    const buttons = examples.map(({ title, prompt }) => {
      const button = make("button", { type: "button", className: "plain" }, title);
      button.addEventListener("click", () => !this.running && this.send(prompt));
      return button;
    });
    return make("li", {}, make("h3", {}, name), make("div", {}, ...buttons));
  }

  listen() {
    byId("new").addEventListener("click", () => this.begin());
    byId("open-settings").addEventListener("click", () => byId("settings").showModal());
    byId("constraint-note").addEventListener("click", () => byId("settings").showModal());
    byId("open-history").addEventListener("click", () => {
      history.list(byId("history-list"), (conversation) => this.resume(conversation));
      byId("history").showModal();
    });
    byId("clear-history").addEventListener("click", () => {
      history.clear();
      history.list(byId("history-list"), () => {});
    });
    for (const button of document.querySelectorAll(".views button")) button.addEventListener("click", () => this.view(button.dataset.view));
    addEventListener("hashchange", () => this.openLink());
  }

  /** On a narrow window only one half of the page is seen. */
  view(name) {
    document.body.dataset.view = name;
    for (const button of document.querySelectorAll(".views button")) button.setAttribute("aria-pressed", String(button.dataset.view === name));
  }

  open(abc) {
    this.stage.begin();
    this.stage.show(abc);
    this.view("stage");
  }

  async openLink() {
    try {
      const abc = await shared(this.setup.limits.max_abc_chars);
      if (abc) this.open(abc);
    } catch (error) {
      this.composer.error(error.message);
    }
  }

  /** Begin a new conversation; the last one is in the history. */
  begin() {
    this.running?.abort();
    Object.assign(this, { id: crypto.randomUUID(), messages: [], running: null });
    this.chat.show([]);
    this.stage.begin();
    this.composer.error(null);
    this.composer.status("");
    this.composer.attach(false);
    this.composer.setBusy(false);
    this.view("talk");
  }

  resume({ id, messages }) {
    this.begin();
    Object.assign(this, { id, messages });
    this.chat.show(messages);
    byId("history").close();
    const tune = messages.map((message) => firstTune(message.content)).findLast(Boolean);
    if (tune) this.stage.show(tune);
  }

  send(text) {
    const message = { role: "user", content: text };
    this.messages.push(message);
    this.chat.add(message);
    return this.ask();
  }

  /** Drop the last answer and ask again with another seed. */
  again() {
    if (this.running) return;
    while (this.messages.at(-1)?.role === "assistant") this.messages.pop();
    if (!this.messages.length) return;
    this.chat.show(this.messages);
    this.ask(drawn());
  }

  async ask(seed) {
    const question = this.messages.at(-1).content;
    this.composer.error(null);
    this.running = new AbortController();
    const { signal } = this.running;
    this.composer.setBusy(true);
    try {
      const asked = this.settings.question();
      const messages = this.messages.map(({ role, content }) => ({ role, content }));
      const whole = { ...asked, seed: seed ?? asked.seed, messages };
      await (this.setup.duel && byId("duel").checked ? this.duel(whole, signal) : this.single(whole, signal));
    } catch (error) {
      if (this.running?.signal === signal) this.composer.error(error.message);
    }
    if (this.running?.signal === signal) this.end(question);
  }

  /** After an answer, or none: a question without one goes back into the message box. */
  end(question) {
    this.running = null;
    this.composer.setBusy(false);
    if (this.messages.at(-1)?.role === "user") {
      this.messages.pop();
      this.chat.show(this.messages);
      this.composer.fill(question);
      this.view("talk");
    }
    try {
      history.keep(this.id, this.messages);
    } catch (error) {
      this.composer.error(error.message);
    }
  }

  async single(question, signal) {
    const model = byId("model");
    const name = model.selectedOptions[0].textContent;
    const place = this.chat.add({ role: "assistant", name, content: "" });
    this.chat.update(place, { role: "assistant", content: "" }, true);
    const live = () => this.running?.signal === signal;
    this.raised = false;
    const on = {
      status: (line) => live() && this.composer.status(line),
      text: (text) => {
        if (!live()) return;
        this.chat.update(place, { role: "assistant", content: text }, true);
        const tune = firstTune(text);
        if (tune) this.raise(() => this.stage.follow(tune));
      },
    };
    try {
      this.finish(place, { ...(await answer({ ...question, model: model.value }, signal, on)), name }, live());
    } catch (error) {
      const partial = error.partial?.content ? error.partial : null;
      if (partial) this.finish(place, { ...partial, name, told: { ...partial.told, reason: "broken" } }, live());
      else place.remove();
      this.composer.status("");
      throw error;
    }
  }

  /** Show the answer's tune; the first time, the stage is cleared for it and, where there is room for one only, seen. */
  raise(show) {
    if (!this.raised) {
      this.stage.begin();
      this.view("stage");
    }
    this.raised = true;
    show();
  }

  finish(place, message, live) {
    if (!live) return;
    if (!message.content) place.remove();
    else {
      this.messages.push(message);
      this.chat.update(place, message, false);
    }
    const tune = firstTune(message.content);
    if (tune) this.raise(() => this.stage.show(tune));
    this.composer.status(message.content || message.told.reason === "stopped" ? ending(message.told) : "The model answered nothing.");
  }

  async duel(question, signal) {
    const places = {};
    for (const side of ["a", "b"]) places[side] = this.chat.add({ role: "assistant", name: side.toUpperCase(), content: "" });
    const on = {
      tune: () => this.view("stage"),
      status: (line) => this.composer.status(line),
      error: (line) => this.composer.error(line),
      text: (side, text) => this.chat.update(places[side], { role: "assistant", content: text }, true),
      answered: (side, { content }) => this.chat.update(places[side], { role: "assistant", content }, false),
    };
    const ended = await duel(question, this.stage, signal, on);
    for (const side of ["a", "b"]) places[side].remove();
    if (!ended) return this.composer.status("Stopped; the duel does not count.");
    const { chosen, names } = ended;
    const told = `Your vote is counted. A was ${names.a}, B was ${names.b}.`;
    if (chosen) {
      this.messages.push(chosen);
      this.chat.add(chosen);
    }
    return this.composer.status(told);
  }
}

theme(byId("theme"));
try {
  const app = new App(await api.setup());
  await app.openLink();
  document.body.dataset.ready = "true";
} catch (error) {
  byId("error").textContent = error.message;
  byId("error").hidden = false;
}
