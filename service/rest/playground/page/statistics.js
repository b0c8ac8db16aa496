/**
 * What some votes decide, as the server decides it (voting/decision.py), for the votes that have fallen so far.
 */

/**
 * @param {number[]} histogram votes per class
 * @param {number} alpha
 * @param {number | null} favourite class that wins ties, as the server's probabilities broke them in the end
 * @returns {{index: number, votes: number, lowerBound: number, abstain: boolean} | null} null: no vote yet
 */
export function decide(histogram, alpha, favourite = null) {
  const votes = histogram.reduce((sum, count) => sum + count, 0);
  if (votes === 0) return null;
  const first = Math.max(...histogram);
  const index = favourite !== null && histogram[favourite] === first ? favourite : histogram.indexOf(first);
  const second = Math.max(...histogram.filter((_, other) => other !== index));
  return {
    index,
    votes,
    lowerBound: clopperPearson(first, votes, alpha),
    abstain: Math.min(1, 2 * incompleteBeta(first, second + 1, 0.5)) > alpha,
  };
}

/**
 * Clopper and Pearson's exact one-sided lower bound: the alpha quantile of Beta(k, n − k + 1).
 *
 * @param {number} successes k @param {number} trials n @param {number} alpha
 */
export function clopperPearson(successes, trials, alpha) {
  if (successes === 0) return 0;
  let [low, high] = [0, 1];
  for (let i = 0; i < 60; i += 1) {
    const middle = (low + high) / 2;
    if (incompleteBeta(successes, trials - successes + 1, middle) < alpha) low = middle;
    else high = middle;
  }
  return low;
}

/** The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22, evaluated as Lentz does). */
export function incompleteBeta(a, b, x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(b, a, 1 - x);
  const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b)) / a;
  const tiny = 1e-300;
  let [c, d] = [1, 1 - ((a + b) * x) / (a + 1)];
  d = 1 / (Math.abs(d) < tiny ? tiny : d);
  let fraction = d;
  for (let m = 1; m <= 1000; m += 1) {
    for (const term of [
      (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)),
      (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1)),
    ]) {
      d = 1 + term * d;
      d = 1 / (Math.abs(d) < tiny ? tiny : d);
      c = 1 + term / c;
      c = Math.abs(c) < tiny ? tiny : c;
      fraction *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-14) break;
  }
  return front * fraction;
}

/** ln Γ(x) for x ≥ 1: Stirling's series, after as many steps of the recurrence as make it exact to a double. */
export function logGamma(x) {
  let [shift, at] = [0, x];
  while (at < 12) {
    shift += Math.log(at);
    at += 1;
  }
  const inverse = 1 / (at * at);
  const series = 1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse * (1 / 1680 - inverse / 1188)));
  return (at - 0.5) * Math.log(at) - at + Math.log(2 * Math.PI) / 2 + series / at - shift;
}

/** Signal-to-noise ratio in dB of a relative sigma; Infinity without noise. */
export function snrDb(sigma) {
  return sigma > 0 ? -20 * Math.log10(sigma) : Infinity;
}
