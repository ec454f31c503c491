// A blind duel: two unnamed models answer the same question, and the user says which is better.
import * as api from "./api.js";
import { answer } from "./answers.js";
import { byId, make } from "./dom.js";
import { split } from "./tunes.js";

const CHOICES = [["a", "A"], ["b", "B"], ["tie", "Equal"], ["neither", "Neither"]];

/** The first tune of a text, or null. */
export const firstTune = (text) => split(text).find((part) => part.kind === "tune")?.text ?? null;

/**
 * Let both models answer on the stage's two sheets, then ask for a verdict.
 * Resolves to `{chosen, names}` after the vote: the message to go on with, or null for neither.
 * Resolves to null where it was stopped.
 */
export async function duel(question, stage, signal, on) {
  stage.begin(2);
  const id = await api.duel(question);
  const answers = await Promise.all(["a", "b"].map((side, at) => contend(id, side, at, question, stage, signal, on)));
  if (signal.aborted) return null;
  on.status("Both have answered.");
  const voted = await verdict(id, signal, on);
  if (!voted) return null;
  const { choice, names } = voted;
  answers.forEach((message, at) => Object.assign(message, { name: names["ab"[at]] }));
  byId("sheet-a").querySelector(".side").textContent = `A · ${names.a}`;
  byId("sheet-b").querySelector(".side").textContent = `B · ${names.b}`;
  return { chosen: { a: answers[0], b: answers[1], tie: answers[0], neither: null }[choice], names };
}

async function contend(id, side, at, question, stage, signal, on) {
  let seen = false;
  byId(`sheet-${side}`).querySelector(".side").textContent = side.toUpperCase();
  const message = await answer({ ...question, duel: id, side }, signal, {
    status: on.status,
    text: (text) => {
      const tune = firstTune(text);
      if (tune) stage.follow(tune, at);
      if (tune && !seen) on.tune();
      seen ||= Boolean(tune);
      on.text(side, text);
    },
  });
  const tune = firstTune(message.content);
  if (tune) stage.show(tune, at);
  on.answered(side, message);
  return message;
}

/** Ask for the vote; null where the user stops instead. */
function verdict(id, signal, on) {
  const place = byId("verdict");
  return new Promise((resolve) => {
    const buttons = CHOICES.map(([choice, label]) => {
      const button = make("button", { type: "button", "data-choice": choice }, label);
      button.addEventListener("click", async () => {
        try {
          const names = await api.vote(id, choice);
          place.hidden = true;
          resolve({ choice, names });
        } catch (error) {
          on.error(error.message);
        }
      });
      return button;
    });
    place.replaceChildren(make("span", {}, "Which is better?"), ...buttons);
    place.hidden = false;
    signal.addEventListener("abort", () => {
      place.hidden = true;
      resolve(null);
    });
  });
}
