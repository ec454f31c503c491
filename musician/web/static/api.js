// The server's routes. A failure is an Error whose message is the server's one line.

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  throw Object.assign(new Error(told.error ?? `The server answered ${response.status}.`), { status: response.status });
}

const post = (path, body, signal) =>
  answer(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

/** What may be asked of this server: models, presets, examples, limits. */
export const setup = async () => (await answer("/api/setup")).json();

/** Per bar, what is wrong with a text's tunes. */
export const check = async (abc, signal) => (await post("/api/check", { abc }, signal)).json();

/** How near the closest training tune is. */
export const originality = async (abc, signal) => (await post("/api/originality", { abc }, signal)).json();

/** A file made from a tune: `kind` is midi, wav or musicxml, `asked` has abc, transpose and tempo in quarters a minute. */
export const file = async (kind, asked) => (await post(`/api/${kind}`, asked)).blob();

/** Begin a duel of two unnamed models; its id. */
export const duel = async (question) => (await (await post("/api/duels", question)).json()).duel;

/** Say who won; the names of both. */
export const vote = async (id, choice) => (await post(`/api/duels/${id}/vote`, { choice })).json();

/**
 * Ask for an answer and call `heard(name, data)` for each event: queued, start, text, done, error.
 * Aborting `signal` closes the connection, which frees the model.
 */
export async function generate(question, signal, heard) {
  const response = await post("/api/generate", question, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  let ended = false;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    buffer = (buffer + value).replaceAll("\r\n", "\n");
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const { name, data } of events.map(parse).filter(Boolean)) {
      ended ||= name === "done" || name === "error";
      heard(name, data);
    }
  }
  if (!ended) throw new Error("The connection broke before the answer was whole.");
}

function parse(text) {
  const lines = text.split("\n");
  const name = lines.find((line) => line.startsWith("event:"))?.slice(6).trim();
  const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
  return name && data ? { name, data: JSON.parse(data) } : null;
}
