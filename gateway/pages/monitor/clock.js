/**
 * The page's own clock: as this computer's stood when the page was opened, and counted on from there.
 *
 * Every call's events are by another one, its connection's (`Call.take` puts them onto this); so it does not matter which
 * hosts' clocks are wrong, nor whether this computer's is set meanwhile.
 */

/** Seconds since the epoch. */
export const steady = () => (performance.timeOrigin + performance.now()) / 1000;
