/** Server-sent events, read from an answer as they come. */

import { ApiError } from "./api.js";

/**
 * @typedef {{event: string, data: any}} ServerEvent data is parsed JSON
 */

/**
 * Ask for a stream of events, and hand over each as it comes; it ends with the stream, or when the signal aborts.
 *
 * @param {import("./api.js").Api} api
 * @param {string} path
 * @param {object} body
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<ServerEvent>}
 */
export async function* events(api, path, body, signal) {
  const response = await api.ask(path, { body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.read(value);
    }
  } catch (error) {
    if (signal.aborted || (error instanceof DOMException && error.name === "AbortError")) throw error;
    if (error instanceof TypeError) throw new ApiError(0, "unreachable", "the connection ended early");
    throw error;
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Takes text in pieces, however it is cut, and gives whole events. */
export class EventParser {
  #rest = "";

  /** @param {string} text @returns {ServerEvent[]} */
  read(text) {
    const blocks = (this.#rest + text.replaceAll("\r", "")).split("\n\n");
    this.#rest = blocks.pop() ?? "";
    return blocks.map(parsed).filter((event) => event !== null);
  }
}

/** @param {string} block @returns {ServerEvent | null} null: a comment */
function parsed(block) {
  let [event, data] = ["message", ""];
  for (const line of block.split("\n")) {
    const [, name, value] = /^(\w*): ?(.*)$/.exec(line) ?? [];
    if (name === "event") event = value;
    if (name === "data") data += value;
  }
  return data ? { event, data: JSON.parse(data) } : null;
}
