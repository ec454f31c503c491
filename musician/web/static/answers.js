// One answer, from the question to its last token.
import * as api from "./api.js";

/**
 * Ask, and report through `on`: `status(line)`, `text(whole answer so far)`.
 * Resolves to the assistant's message; `told` holds seed, tokens, seconds and the reason of its end.
 * A stop keeps what was written. An error's message is one line; `error.partial` is what was written before it.
 */
export async function answer(question, signal, on) {
  const message = { role: "assistant", content: "", told: { seed: question.seed } };
  const shown = paced(() => on.text(message.content));
  const heard = {
    queued: ({ position }) => on.status(position > 0 ? `Waiting: number ${position} in the queue` : "Waiting"),
    start: ({ seed }) => {
      message.told.seed = seed;
      on.status("Writing…");
    },
    text: ({ text }) => {
      message.content += text;
      shown.soon();
    },
    done: (told) => Object.assign(message.told, told),
    error: ({ error }) => {
      throw Object.assign(new Error(error), { partial: message });
    },
  };
  try {
    await api.generate(question, signal, (name, data) => heard[name]?.(data));
  } catch (error) {
    if (error.name !== "AbortError") throw Object.assign(error, { partial: message });
    message.told.reason = "stopped";
  } finally {
    shown.never();
  }
  return message;
}

/** Calls of `action` that take at most a quarter of the time, however often `soon()` asks for one. */
function paced(action) {
  let due = 0;
  let cost = 0;
  const run = () => {
    const began = performance.now();
    action();
    cost = performance.now() - began;
    due = 0;
  };
  return { soon: () => { due ||= setTimeout(run, Math.max(40, 3 * cost)); }, never: () => clearTimeout(due) };
}

/** What to say when an answer has ended; how much and how fast stands below the answer. */
export const ending = ({ reason }) => (reason === "stopped" ? "Stopped." : "Done.");
