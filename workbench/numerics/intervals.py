"""95 % intervals that cover: exact for shares, and withheld, with the reason, where too few items could give one that does.

Items are the unit: an interval speaks about other items of the same kind. Coverage is held by tests: by enumeration at least .95 for
shares and .93 for paired shares, whatever the truth and n; simulated at least .93 for means of even, bounded and skewed items (to the
skew of an exponential; items whose logarithm spreads by 1 are covered in .90 at n = 8, .94 at n = 50), for AUC and for percentiles.
Ref: docs/methods/shared.md §9.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import beta, binomtest, t

from workbench.shapes import Bool, Float, Int

LEVEL = 0.95
MIN_ITEMS = 8
"""Fewest items (by their weights) of a mean that gets an interval: with fewer, skewed items are covered less often than .93."""
FEWEST_TEXTS, FEWEST_TOKENS = 16, 100
"""Fewest texts, and tokens in them, behind an interval of a 95th percentile: of fewer tokens the largest is too often below it."""


@dataclass(frozen=True)
class Interval:
    """An estimate over `n` items with its interval; the bounds are NaN where `withheld` says why."""

    estimate: float
    low: float
    high: float
    n: int
    method: str
    withheld: str = ""

    def __str__(self) -> str:
        return f"{self.words}  n={self.n}"

    @property
    def words(self) -> str:
        """As `told`, in three digits."""
        return self.told(".3g")

    def told(self, form: str) -> str:
        """The estimate, and its bounds unless they are withheld, each in a format such as `.2f`."""
        return f"{self.estimate:{form}}" + ("" if self.withheld else f" [{self.low:{form}}, {self.high:{form}}]")

    @property
    def bounds(self) -> tuple[float, float] | tuple[None, None]:
        """Low and high, None where they are withheld."""
        return (None, None) if self.withheld else (self.low, self.high)

    @property
    def sign(self) -> int:
        """1 or −1 where all of the interval lies on that side of 0; else, and without bounds, 0."""
        return (self.low > 0) - (self.high < 0)

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of 0; False where it has no bounds."""
        return bool(self.sign)

    def exp(self) -> Interval:
        """The interval of the exponential."""
        return replace(self, estimate=_exp(self.estimate), low=_exp(self.low), high=_exp(self.high))

    def minus(self, constant: float) -> Interval:
        """The interval of the estimate less a constant."""
        return replace(self, estimate=self.estimate - constant, low=self.low - constant, high=self.high - constant)


def share_interval(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Clopper and Pearson's interval of a share: the shares that an exact binomial test does not reject."""
    found = binomtest(successes, n).proportion_ci(level)
    return Interval(successes / n, float(found.low), float(found.high), n, "Clopper-Pearson")


def paired_share_interval(before: Bool[np.ndarray, " item"], after: Bool[np.ndarray, " item"], level: float = LEVEL) -> Interval:
    """Bonett and Price's interval of the difference of two shares over the same items, after minus before, with Student's t.

    With p = (gained + 1)/(n + 2), q = (lost + 1)/(n + 2): p − q ± t √((p + q − (p − q)²)/(n + 2)).
    Ref: Bonett and Price 2012, Adjusted Wald confidence interval for a difference of binomial proportions based on paired data.
    Differs: t with n − 1 degrees of freedom for the normal, which lifts the least coverage from .87 to .93. One item has no interval.
    """
    n, gained, lost = len(after), int((after & ~before).sum()), int((before & ~after).sum())
    estimate = (gained - lost) / n
    if n < 2:
        return _withheld(estimate, n, "one item")
    p, q = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(t.ppf(0.5 + level / 2, n - 1)) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Interval(estimate, max(-1.0, p - q - half), min(1.0, p - q + half), n, "Bonett-Price")


def mean_interval(
    values: Float[np.ndarray, " item"], weights: Float[np.ndarray, " item"] | None = None, *, level: float = LEVEL
) -> Interval:
    """Student's interval of Σ wᵢxᵢ / Σ wᵢ, widened on the side of a skew; paired differences are the mean of `a − b` item by item.

    Residuals zᵢ = n wᵢ (xᵢ − mean) / Σ w, each divided by (1 − wᵢ/Σw) n/(n − 1) as the jackknife does, have spread s and skewness γ. The
    interval is the union of mean ± s y and of mean − s g⁻¹(± y), y = t/√n, g⁻¹(y) = 3/γ ((1 + γ (y − γ/6n))^⅓ − 1). The degrees of
    freedom are those of (Σw)²/Σw² items; below `MIN_ITEMS` of them, and where items are all equal or no numbers, the bounds are withheld.
    Ref: Hall 1992, On the removal of skewness by transformation. Differs: the union, since either alone covers less.
    """
    n = len(values)
    share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    estimate, effective = float(share @ values), 1 / float(share @ share)
    if effective < MIN_ITEMS:
        return _withheld(estimate, n, f"{effective:.3g} items by weight, fewer than {MIN_ITEMS}")
    if not np.isfinite(values).all():
        return _withheld(estimate, n, "some items are no finite numbers")
    if np.ptp(values) == 0:
        return _withheld(estimate, n, "all items are equal")
    z = (n - 1) * share * (values - estimate) / (1 - share)
    spread = math.sqrt(float(z @ z) / (n - 1))
    skewness = float((z**3).mean() / (z @ z / n) ** 1.5)
    y = float(t.ppf(0.5 + level / 2, effective - 1)) / math.sqrt(n)
    low, high = max(y, _unskewed(y, skewness, n)), max(y, -_unskewed(-y, skewness, n))
    return Interval(estimate, estimate - spread * low, estimate + spread * high, n, "t")


def quantile_interval(
    values: Float[np.ndarray, " token"], texts: Int[np.ndarray, " token"], q: float = 0.95, *, level: float = LEVEL
) -> Interval:
    """Interval of a quantile over tokens that come in texts: between order statistics, as for as many tokens as the texts' variance says.

    z_c = Σ_{tokens of text c} (1[x ≤ quantile] − q)/n, V = C/(C − 1) Σ z_c²; q(1 − q)/V tokens, at most n, less by t² where few texts hold
    most of V (its degrees of freedom are (Σz²)²/Σz⁴ − 1). Their Clopper-Pearson bounds of q are the ranks. `n` counts texts.
    Ref: Korn and Graubard 1998; Woodruff 1952. Differs: the degrees of freedom, without which tokens of few alike texts are covered in .89.
    """
    estimate, n, _, which = float(np.quantile(values, q)), len(values), *np.unique(texts, return_inverse=True)
    n_texts = int(which.max()) + 1
    if n_texts < FEWEST_TEXTS or n < FEWEST_TOKENS:
        return _withheld(estimate, n_texts, f"{n_texts} texts of {n} tokens in all, fewer than {FEWEST_TEXTS} or {FEWEST_TOKENS}")
    if not np.isfinite(values).all():
        return _withheld(estimate, n_texts, "some tokens' values are no finite numbers")
    if np.ptp(values) == 0:
        return _withheld(estimate, n_texts, "all tokens are equal")
    z = np.bincount(which, (values <= estimate) - q) / n
    square, tail = float(z @ z), 0.5 + level / 2
    spread = float(t.ppf(tail, max(2.0, square**2 / float((z**4).sum()) - 1)))
    effective = min(n, q * (1 - q) * (n_texts - 1) / (n_texts * square)) * (float(t.ppf(tail, n - 1)) / spread) ** 2
    below, above = effective * q, effective * (1 - q)
    low, high = float(beta.ppf(1 - tail, below, above + 1)), float(beta.ppf(tail, below + 1, above))
    return Interval(estimate, float(np.quantile(values, low)), float(np.quantile(values, high)), n_texts, "Korn-Graubard")


def shortfall_interval(
    values: Float[np.ndarray, " token"], texts: Int[np.ndarray, " token"], q: float = 0.95, *, level: float = LEVEL
) -> Interval:
    """Interval of the mean of the tokens beyond a quantile (the expected shortfall): as of the mean, by texts, of x_q + (x − x_q)⁺/(1 − q).

    A quantile does not see what lies beyond it: of an edit that moves one token in a hundred, and that one far, the 95th percentile is 0.
    Withheld where a quantile's is, and as `mean_interval`. `n` counts texts.
    Ref: Rockafellar and Uryasev 2000 (that mean is the shortfall); Chen 2008 (to first order the quantile adds no variance).
    """
    at, n, _, which = float(np.quantile(values, q)), len(values), *np.unique(texts, return_inverse=True)
    terms, n_texts = at + np.maximum(values - at, 0.0) / (1 - q), int(which.max()) + 1
    if n_texts < FEWEST_TEXTS or n < FEWEST_TOKENS:
        told = f"{n_texts} texts of {n} tokens in all, fewer than {FEWEST_TEXTS} or {FEWEST_TOKENS}"
        return _withheld(float(terms.mean()), n_texts, told)
    weights = np.bincount(which, np.ones(n))
    return mean_interval(np.bincount(which, terms) / weights, weights, level=level)


def standardised_interval(
    high: Float[np.ndarray, " m"], low: Float[np.ndarray, " n"], *, paired: bool = False, level: float = LEVEL
) -> Interval:
    """Interval of (mean of high − mean of low) / σ, σ² being the mean of both variances: as of the mean of its influence function.

    An item x of high counts d + a((x − mean)/σ − d ((x − mean)² m/(m − 1) − variance)/(4 σ²)), one of low with the sign of its first term
    turned; a is 1 where the items of a pair are added, 2 where either side is half of the mean. Without the second term, the error of σ, a
    difference of three σ was covered in .60 of 1,500 draws of ten pairs. Withheld where nothing varies, and as `mean_interval`.
    """
    m, n, square = len(high), len(low), float(high.var(ddof=1) + low.var(ddof=1)) / 2 if min(len(high), len(low)) > 1 else 0.0
    if not square > 0:
        return _withheld(math.nan, m if paired else m + n, "nothing varies within the sides")
    d = float(high.mean() - low.mean()) / math.sqrt(square)

    def parts(x: Float[np.ndarray, " item"], sign: int) -> Float[np.ndarray, " item"]:
        off = x - x.mean()
        return sign * off / math.sqrt(square) - d * (off**2 * len(x) / (len(x) - 1) - x.var(ddof=1)) / (4 * square)

    mine, theirs = parts(high, 1), parts(low, -1)
    if paired:
        return mean_interval(d + mine + theirs, level=level)
    sizes = np.repeat([m, n], [m, n])
    return mean_interval(d + 2 * np.concatenate([mine, theirs]), sizes**-1.0, level=level)


def placements(high: Float[np.ndarray, "*stack m"], low: Float[np.ndarray, "*stack n"]) -> Float[np.ndarray, "*stack m n"]:
    """How far each pair is rightly ordered: 1, a tie ½. Means over either side place the other's items; the mean of all is the AUC.

    Ref: DeLong, DeLong and Clarke-Pearson 1988.
    """
    ahead, behind = high[..., :, None], low[..., None, :]
    return (ahead > behind) + 0.5 * (ahead == behind)


def auc_interval(high: Float[np.ndarray, " m"], low: Float[np.ndarray, " n"], *, paired: bool = False, level: float = LEVEL) -> Interval:
    """Wilson's interval of an AUC, with as many items as DeLong's variance says, and Student's t for the normal.

    A(1 − A)/V items, V the variance of the placements (row by row summed where values are `paired`), kept between the smaller side and
    twice it: V is 0 where the sides are told apart without fail, and near there too small.
    Ref: Wilson 1927; DeLong, DeLong and Clarke-Pearson 1988.
    """
    right = placements(high, low)
    a, mine, theirs = float(right.mean()), right.mean(1), right.mean(0)
    least = min(right.shape)
    if least < 2:
        return _withheld(a, least, "one item")
    if not (np.isfinite(high).all() and np.isfinite(low).all()):
        return _withheld(math.nan, least, "some items are no finite numbers")
    variance = float((mine + theirs).var(ddof=1) / least if paired else mine.var(ddof=1) / len(mine) + theirs.var(ddof=1) / len(theirs))
    n = min(max(least, a * (1 - a) / variance if variance > 0 else least), 2 * least)
    z = float(t.ppf(0.5 + level / 2, least - 1))
    centre, half = a + z * z / (2 * n), z * math.sqrt(a * (1 - a) / n + z * z / (4 * n * n))
    bounds = ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    return Interval(a, max(0.0, bounds[0]), min(1.0, bounds[1]), least if paired else sum(right.shape), "Wilson, DeLong")


def _unskewed(y: float, skewness: float, n: int) -> float:
    """Hall's g⁻¹(y), which is y without skewness."""
    gamma = math.copysign(max(abs(skewness), 1e-7), skewness)  # nearer to 0 the root's difference from 1 has lost its digits
    return 3 / gamma * (float(np.cbrt(1 + gamma * (y - gamma / (6 * n)))) - 1)


def _exp(x: float) -> float:
    """eˣ; infinity where no number holds it, as of a model that is broken."""
    return math.inf if x > 700 else math.exp(x)


def _withheld(estimate: float, n: int, why: str) -> Interval:
    return Interval(estimate, math.nan, math.nan, n, "withheld", why)
