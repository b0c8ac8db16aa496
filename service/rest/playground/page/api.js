/** The public API of the server that the page came from; addresses are relative, so any prefix of a proxy is kept. */

/** The server's refusal, or none where it could not be reached (status 0). */
export class ApiError extends Error {
  /** @param {number} status @param {string} code @param {string} message @param {number} retryAfter seconds */
  constructor(status, code, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export class Api {
  /** Kept in memory only. @type {string | null} */
  key = null;

  /**
   * Ask; what is not a success is thrown.
   *
   * @param {string} path below the page's own address
   * @param {{body?: object, signal?: AbortSignal}} [options] with a body it is a POST
   * @returns {Promise<Response>}
   */
  async ask(path, { body, signal } = {}) {
    const headers = new Headers();
    if (this.key) headers.set("authorization", `Bearer ${this.key}`);
    if (body) headers.set("content-type", "application/json");
    let response;
    try {
      response = await fetch(new URL(path, document.baseURI), {
        method: body ? "POST" : "GET",
        headers,
        body: body && JSON.stringify(body),
        signal,
        credentials: "omit",
      });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(0, "unreachable", "the server cannot be reached");
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** The same, read as JSON. @param {string} path @param {{body?: object, signal?: AbortSignal}} [options] */
  async json(path, options) {
    const response = await this.ask(path, options);
    try {
      return await response.json();
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ApiError(0, "unreachable", "the connection ended early");
    }
  }
}

/** Path of what is asked of a model. @param {string} model @param {string | null} version null: the newest @param {string} what */
export function pathOf(model, version, what) {
  const of = version === null ? "" : `/versions/${encodeURIComponent(version)}`;
  return `v1/models/${encodeURIComponent(model)}${of}/${what}`;
}

/** @param {Response} response */
async function refusal(response) {
  const told = await response.json().catch(() => null);
  const problem = told?.error ?? { code: "http_error", message: `${response.status} ${response.statusText}` };
  const wait = Number(response.headers.get("retry-after"));
  return new ApiError(response.status, problem.code, problem.message, Number.isFinite(wait) && wait > 0 ? wait : 1);
}
