/** What the control port knows: where calls go, who may call, which bots there are, whether all is ready. */

const PATIENCE_MS = 5000;

export class Gateway {
  constructor() {
    this.mediaUrl = "";
    this.needsToken = false;
    this.authorized = false;
    this.bots = []; // [{name, language}], the one of calls that name none first
  }

  /** Read the setup, as seen with this token. @throws where the gateway does not answer */
  async load(token) {
    const setup = await getJson("softphone/setup.json", token);
    this.mediaUrl = setup.media_url;
    this.needsToken = setup.needs_token;
    this.authorized = setup.authorized;
    this.bots = setup.bots;
  }

  /** @returns {Promise<{ready: boolean, calls: number}|null>} null where there is no answer */
  async readiness() {
    try {
      return await getJson("readyz");
    } catch {
      return null;
    }
  }

  /** Browsers do not tell a page why a socket was refused, so it is found out. @returns {Promise<string>} see FAULTS */
  async whyNoCall(token) {
    try {
      await this.load(token);
    } catch {
      return "away";
    }
    if (!this.authorized) return "token";
    const readiness = await this.readiness();
    if (!readiness?.ready) return "notReady";
    return this.mediaUrl.startsWith("wss:") ? "certificate" : "busy";
  }
}

async function getJson(path, token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  return answer.json();
}
