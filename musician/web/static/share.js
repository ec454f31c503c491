// A link that carries a tune in its fragment, which browsers send to no server.

const NAME = "#tune=";

/** The address of this page with the tune in it. */
export async function link(abc) {
  const packed = await through(new TextEncoder().encode(abc), new CompressionStream("deflate-raw"));
  const text = btoa(String.fromCharCode(...packed)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return `${location.origin}${location.pathname}${NAME}${text}`;
}

/** The tune in this page's address, or null. One that unpacks to more than `most` characters is refused. */
export async function shared(most) {
  if (!location.hash.startsWith(NAME)) return null;
  try {
    const text = location.hash.slice(NAME.length).replaceAll("-", "+").replaceAll("_", "/");
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true }).decode(await through(packed, new DecompressionStream("deflate-raw"), most * 4));
  } catch {
    throw new Error("The link holds no tune that can be read.");
  }
}

async function through(bytes, stream, most = Infinity) {
  const reader = new Blob([bytes]).stream().pipeThrough(stream).getReader();
  const pieces = [];
  let size = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return new Uint8Array(await new Blob(pieces).arrayBuffer());
    pieces.push(value);
    size += value.length;
    if (size > most) throw new Error("too long");
  }
}
