// Sampling, seed and grammar: the dialog's fields, kept in this browser.
import { byId, make } from "./dom.js";

const SAMPLING = ["temperature", "top_k", "top_p", "repetition_penalty", "max_new_tokens"];
const CONSTRAINTS = ["key", "meter", "unit", "bars", "sections", "repeats", "voices"];
const KEPT = "musician.settings";

export class Settings {
  /** `setup` is the server's; `changed()` is called after every change. */
  constructor(setup, changed) {
    Object.assign(this, { setup, changed });
    byId("preset").replaceChildren(...Object.keys(setup.presets).map((name) => make("option", { value: name }, name)),
      make("option", { value: "" }, "own"));
    byId("max_new_tokens").max = setup.limits.max_new_tokens;
    byId("constraint-fields").hidden = !setup.constraint;
    this.preset(Object.keys(setup.presets)[0]);
    this.restore();
    byId("preset").addEventListener("change", () => this.preset(byId("preset").value));
    for (const name of SAMPLING) byId(name).addEventListener("input", () => { byId("preset").value = this.match(); });
    byId("settings").addEventListener("input", () => this.keep());
    this.note();
  }

  preset(name) {
    for (const [field, value] of Object.entries(this.setup.presets[name] ?? {})) {
      if (byId(field)) byId(field).value = value ?? "";
    }
    byId("preset").value = name;
  }

  /** The preset that the fields spell out, or "". */
  match() {
    const same = ([, values]) => SAMPLING.every((field) => (values[field] ?? "") === (number(byId(field).value) ?? ""));
    return Object.entries(this.setup.presets).find(same)?.[0] ?? "";
  }

  /** What to ask with: sampling, a seed (drawn unless given) and the constraint. */
  question() {
    const wrong = [...byId("settings").querySelectorAll("input")].find((field) => !field.checkValidity());
    if (wrong) throw new Error(`Settings, ${wrong.labels[0].textContent.trim()}: ${wrong.validationMessage}`);
    const sampling = {};
    for (const name of SAMPLING) sampling[name] = number(byId(name).value);
    return { sampling, seed: number(byId("seed").value) ?? drawn(), constraint: this.constraint() };
  }

  constraint() {
    if (!this.setup.constraint || !byId("constrain").checked) return null;
    const text = (name) => byId(name).value.trim() || null;
    return {
      key: text("key"), meter: text("meter"), unit: text("unit"), bars: number(byId("bars").value),
      sections: number(byId("sections").value), repeats: { true: true, false: false }[byId("repeats").value] ?? null,
      voices: number(byId("voices").value),
    };
  }

  /** Say beside the message box what the grammar will hold the answer to. */
  note() {
    const constraint = this.constraint();
    const parts = constraint && [constraint.key, constraint.meter, constraint.bars && `${constraint.bars} bars`, constraint.voices > 1 && "2 voices"];
    byId("constraint-note").hidden = !this.setup.constraint;
    byId("constraint-note").classList.toggle("on", Boolean(constraint));
    byId("constraint-note").textContent = constraint ? ["Grammar on", ...parts.filter(Boolean)].join(" · ") : "Grammar off";
  }

  keep() {
    const fields = [...byId("settings").querySelectorAll("input, select")];
    const values = fields.map((field) => [field.id, field.type === "checkbox" ? field.checked : field.value]);
    localStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(values)));
    this.note();
    this.changed();
  }

  restore() {
    const kept = stored();
    for (const [name, value] of Object.entries(kept)) {
      const field = byId("settings").querySelector(`#${CSS.escape(name)}`);
      if (!field) continue;
      if (field.type === "checkbox") field.checked = value;
      else field.value = value;
    }
    if (kept.preset in this.setup.presets) this.preset(kept.preset);
  }
}

/** What was kept, or nothing where it cannot be read. */
function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

const number = (text) => (text.trim() === "" ? null : Number(text));

/** A seed from 0 to 2**31 - 1. */
export const drawn = () => crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
