/** Names and figures, as people read them. Pure. */

/** A word of the gateway's: "promise_to_pay" is "promise to pay". */
export function readable(name) {
  return name.replaceAll("_", " ");
}

/** An intent: what is none of the bot's is out of scope. */
export function meant(intent) {
  return intent === "oos" ? "out of scope" : readable(intent);
}

/** A stretch of time in ms: "84 ms", "0.4 ms", "1.24 s". */
export function shown(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms < 10 ? Number(ms.toFixed(1)) : Math.round(ms)} ms`;
}

/** How long something has lasted: "0:07", "12:30", "1:02:03". */
export function lasting(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60)];
  return hours > 0 ? `${hours}:${two(minutes % 60)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}
