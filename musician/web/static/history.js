// Conversations, kept in this browser only.
import { icon, make } from "./dom.js";
import { split, title } from "./tunes.js";

const KEPT = "musician.history";
const AT_MOST = 50;

/** All conversations, newest first: `{id, when, messages}`. */
export function all() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT));
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

/** Keep a conversation under its id; the oldest goes when there are too many, or no room. */
export function keep(id, messages) {
  if (!messages.length) return;
  let kept = [{ id, when: Date.now(), messages }, ...all().filter((each) => each.id !== id)].slice(0, AT_MOST);
  while (kept.length) {
    try {
      localStorage.setItem(KEPT, JSON.stringify(kept));
      return;
    } catch {
      kept = kept.slice(0, -1);
    }
  }
  throw new Error("This conversation is too long for the browser's history.");
}

export const forget = (id) => localStorage.setItem(KEPT, JSON.stringify(all().filter((each) => each.id !== id)));

export const clear = () => localStorage.removeItem(KEPT);

/** List them; `open(conversation)` when one is chosen. */
export function list(place, open) {
  const kept = all();
  if (!kept.length) return place.replaceChildren(make("li", { className: "quiet" }, "Nothing yet."));
  return place.replaceChildren(...kept.map((each) => {
    const when = new Date(each.when).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const chosen = make("button", { type: "button", className: "open" },
      make("span", { className: "title" }, name(each.messages)), make("span", { className: "facts" }, when));
    chosen.addEventListener("click", () => open(each));
    const gone = make("button", { type: "button", className: "icon small", "aria-label": `Forget ${name(each.messages)}` }, icon("close"));
    gone.addEventListener("click", () => {
      forget(each.id);
      list(place, open);
    });
    return make("li", {}, chosen, gone);
  }));
}

function name(messages) {
  const answered = messages.filter((message) => message.role === "assistant");
  const tune = answered.flatMap((message) => split(message.content)).find((part) => part.kind === "tune" && /^T:/m.test(part.text));
  return tune ? title(tune.text) : (messages[0]?.content ?? "").split("\n")[0].slice(0, 60);
}
