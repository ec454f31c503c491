// What is known about the tune on the stage: its bars, and how near the closest training tune is.
import * as api from "./api.js";
import { after, byId, make } from "./dom.js";

export class Panels {
  /** `marked(bars)` gets the bars that are wrong; `go(character)` is called when one is chosen. */
  constructor({ marked, go, originality }) {
    Object.assign(this, { marked, go, asking: null, withOriginality: originality });
    this.tabs = [...document.querySelectorAll("[role=tab]")];
    byId("tab-origin").hidden = !originality;
    for (const tab of this.tabs) tab.addEventListener("click", () => this.open(tab));
    byId("tab-abc").parentElement.addEventListener("keydown", (event) => this.step(event));
    this.later = after(400, (abc) => this.ask(abc));
  }

  open(chosen) {
    for (const tab of this.tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  }

  step(event) {
    const shown = this.tabs.filter((tab) => !tab.hidden);
    const steps = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!steps) return;
    const next = shown.at((shown.indexOf(document.activeElement) + steps) % shown.length);
    this.open(next);
    next.focus();
  }

  /** Forget what was said; another tune is coming. */
  clear() {
    this.asking?.abort();
    byId("check-badge").hidden = true;
    byId("panel-check").replaceChildren(make("p", { className: "quiet" }, "Checked when the tune is whole."));
    byId("panel-origin").replaceChildren();
  }

  /** Ask the server about a tune; an earlier question is dropped. */
  async ask(abc) {
    this.asking?.abort();
    const { signal } = (this.asking = new AbortController());
    const told = (place, question, show) => question.then(show).catch((error) => {
      if (error.name !== "AbortError" && !signal.aborted) place.replaceChildren(make("p", { className: "quiet" }, error.message));
    });
    const asked = [told(byId("panel-check"), api.check(abc, signal), (answer) => this.showCheck(answer))];
    if (this.withOriginality) {
      asked.push(told(byId("panel-origin"), api.originality(abc, signal), (answer) => showOrigin(answer.nearest)));
    }
    await Promise.all(asked);
  }

  showCheck({ tunes }) {
    const bars = tunes.flatMap((tune) => tune.bars);
    const wrong = bars.filter((bar) => !bar.ok);
    const problems = tunes.flatMap((tune) => tune.problems);
    const count = wrong.length + problems.length;
    byId("check-badge").hidden = false;
    byId("check-badge").textContent = count || "✓";
    byId("check-badge").classList.toggle("good", !count);
    const strip = make("div", { className: "bars" }, ...bars.map((bar) => this.bar(bar)));
    const said = wrong.length ? `${wrong.length} of ${bars.length} bars ${wrong.length === 1 ? "does" : "do"} not add up.` : `All ${bars.length} bars add up.`;
    const list = make("ul", { className: "problems" }, ...wrong.map((bar) => this.problem(bar)),
      ...problems.map((problem) => make("li", {}, problem)));
    byId("panel-check").replaceChildren(make("p", {}, said), strip, list);
    this.marked(wrong);
  }

  bar(bar) {
    const label = `Bar ${bar.number}: ${bar.ok ? "adds up" : bar.message}`;
    const shown = make("button", { type: "button", className: bar.ok ? "bar" : "bar wrong", title: label, "aria-label": label }, String(bar.number));
    shown.addEventListener("click", () => this.go(bar));
    return shown;
  }

  problem(bar) {
    const voice = bar.voice && bar.voice !== "1" ? `, voice ${bar.voice}` : "";
    return make("li", {}, make("strong", {}, `Bar ${bar.number}${voice}`), ` ${bar.message}`);
  }
}

function showOrigin(nearest) {
  const place = byId("panel-origin");
  if (!nearest) return place.replaceChildren(make("p", {}, "No known tune shares a run of notes with it."));
  const source = nearest.source ? `, ${nearest.source}` : "";
  const figure = (name, value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
  const figures = [figure("Longest shared run", `${nearest.run} notes`), figure("Share of this tune", `${Math.round(nearest.share * 100)} %`)];
  if (nearest.windows) figures.push(figure("Windows of eight bars found whole", `${nearest.copied} of ${nearest.windows}`));
  return place.replaceChildren(
    make("p", {}, "The nearest known tune, in any key, is ", make("strong", {}, nearest.title || "an untitled tune"), `${source}.`),
    make("dl", { className: "figures" }, ...figures));
}
