"""Explain an answer by attention and integrated gradients (Sundararajan et al., 2017)."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertnli._util.hints import hinted
from bertnli.bert.parameters import TOKEN_TABLE
from bertnli.bert.referee import attention_weights
from bertnli.data.corpus import Corpus
from bertnli.errors import ConfigError
from bertnli.plots import plot_explanation

MASK = "<mask>"
#: Number of points of the integral that are computed in one batch.
POINTS_AT_ONCE = 32


@dataclass(frozen=True)
class Explanation:
    """An explanation of a classifier's answer to a pair; ``str`` shows the shares as bars.

    Args:
        premise, hypothesis: the texts of the pair.
        tokens: the T tokens, with ``<cls>``, ``<sep>``, and ``<unk>`` for unknown words.
        segments: (T,) 0 up to the first ``<sep>``, then 1.
        label: the most probable class.
        probabilities: dictionary of each class to its probability, in the classifier's order.
        target: the class whose probability is explained.
        baseline: the probability of ``target`` if every word is ``<mask>``.
        saliency: (T,) float64, each token's share in the difference between the probability of
            ``target`` and the baseline; 0 for ``<cls>`` and ``<sep>``.
        attention: (blocks, heads, T, T) float64, the attention weights; each row sums to 1.
        unknown_share, is_cut: see `Prediction`.

    Examples:
        >>> why = bertnli.load("bert.mini").explain("A man is asleep.", "A man is awake.")
        >>> why.label, len(why.tokens), why.saliency.shape
        ('contradiction', 13, (13,))
    """

    premise: str
    hypothesis: str
    tokens: tuple[str, ...]
    segments: tuple[int, ...]
    label: str
    probabilities: dict[str, float]
    target: str
    baseline: float
    saliency: NDArray[np.float64]
    attention: NDArray[np.float64]
    unknown_share: float = 0.0
    is_cut: bool = False

    @property
    def residual(self) -> float:
        """The error of the integral: the probability minus the baseline and minus all shares."""
        return self.probabilities[self.target] - self.baseline - float(self.saliency.sum())

    def attention_of(self, block: int | None = None, head: int | None = None) -> NDArray:
        """Return the (T, T) attention weights of a head.

        Args:
            block, head: the index, from the end if negative; None for the mean over all.

        Raises:
            ConfigError: an index is too large.
        """
        blocks, heads = self.attention.shape[:2]
        for name, index, count in (("block", block, blocks), ("head", head, heads)):
            if index is not None and not -count <= index < count:
                raise ConfigError(f"{name} is {index}; the model has {name}s 0 to {count - 1}")
        chosen = self.attention.mean(0) if block is None else self.attention[block]
        return np.asarray(chosen.mean(0) if head is None else chosen[head])

    def plot(self, block: int | None = None, head: int | None = None) -> Any:
        """Draw a heat map of `attention_of` a head, and the shares; return a matplotlib figure."""
        return plot_explanation(self, self.attention_of(block, head))

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dictionary for JSON."""
        return asdict(self) | {
            "tokens": list(self.tokens),
            "segments": list(self.segments),
            "saliency": self.saliency.tolist(),
            "attention": self.attention.tolist(),
            "unknown_share": round(self.unknown_share, 4),
        }

    def __str__(self) -> str:
        others = ", ".join(
            f"{name} {p:.3f}" for name, p in self.probabilities.items() if name != self.target
        )
        lines = [f"{self._answer()} ({others})"]
        width = max(map(len, self.tokens))
        largest = max(float(np.abs(self.saliency).max()), 1e-12)
        for token, segment, share in zip(self.tokens, self.segments, self.saliency, strict=True):
            bar = ("+" if share > 0 else "-") * round(24 * abs(share) / largest)
            where = "hypothesis" if segment else "premise"
            lines.append(f"{where:<11} {token:<{width}} {share:+.3f} {bar}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return HTML for a notebook: both sentences, each word coloured by its share."""
        largest = max(float(np.abs(self.saliency).max()), 1e-12)
        words: dict[int, list[str]] = {0: [], 1: []}
        for token, segment, share in zip(self.tokens, self.segments, self.saliency, strict=True):
            colour = "37, 99, 235" if share > 0 else "217, 72, 15"
            style = (
                f"background: rgba({colour}, {0.6 * abs(share) / largest:.2f}); padding: 1px 3px"
            )
            if share:  # leaves out <cls> and <sep>
                word = f'<span style="{style}" title="{share:+.3f}">{html.escape(token)}</span>'
                words[segment].append(word)
        answer = html.escape(self._answer())
        return f"<p>{' '.join(words[0])}<br>{' '.join(words[1])}<br><small>{answer}</small></p>"

    def _answer(self) -> str:
        probability = self.probabilities[self.target]
        return f"{self.target} {probability:.3f}, with all words masked {self.baseline:.3f}"


@hinted()
def explain(
    net: Any,
    premise: str,
    hypothesis: str,
    *,
    label: str | None = None,
    steps: int = 50,
    max_len: int | None = None,
    truncation: str | None = None,
) -> Explanation:
    """Explain a classifier's answer to a pair.

    The saliency of a token is ``(e - e') . integral over a in [0, 1] of dp(e' + a (e - e')) / de``,
    where p is the probability of a class, e the token's embedding and e' that of ``<mask>``. The
    integral is computed by Gauss-Legendre quadrature.

    Args:
        net: a `bertnli.nets.classifier.Classifier`, on any backend.
        premise, hypothesis: the texts of the pair.
        label: the class to explain; None for the most probable.
        steps: the number of points of the quadrature.
        max_len, truncation: how the pair is cut to length; see `Classifier.predict`.

    Raises:
        ConfigError: the class or the number of points is invalid, or the model has no vocabulary.
        DataError: the vocabulary has no ``<mask>``, or a text is empty.
    """
    if steps < 1:
        raise ConfigError(f"steps is {steps}; the integral needs at least 1 point")
    if label is not None and label not in net.labels:
        raise ConfigError(f"the model has no class {label!r}; its classes: {', '.join(net.labels)}")
    vocab = net.required_vocab()
    mask, *special = (vocab.required(token) for token in (MASK, "<cls>", "<sep>"))
    corpus = Corpus.from_pairs([(premise, hypothesis)])
    dataset = net.encode(corpus, max_len, truncation)
    batch = dataset.batch(np.array([0]))
    ids = batch.token_ids[0]
    arrays = net.arrays()
    layers = list(net.activations(batch).values())[: net.config.num_blks]
    attention = [
        attention_weights(arrays, net.config, i, X, batch.valid_lens) for i, X in enumerate(layers)
    ]
    table = arrays[TOKEN_TABLE]
    embedded = table[ids]  # (T, H)
    masked = np.where(np.isin(ids, special)[:, None], embedded, table[mask])
    both = np.stack([masked, embedded])
    (baseline, probabilities), _ = net.probability_gradients(_repeated(batch, 2), both, 0)
    class_id = int(probabilities.argmax()) if label is None else net.labels.index(label)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    points, weights = (nodes + 1) / 2, weights / 2  # from [-1, 1] to [0, 1]
    mean = np.zeros(embedded.shape)
    for start in range(0, steps, POINTS_AT_ONCE):
        fractions = points[start : start + POINTS_AT_ONCE, None, None]
        path = (masked + fractions * (embedded - masked)).astype(np.float32)
        _, slopes = net.probability_gradients(_repeated(batch, len(path)), path, class_id)
        mean += np.einsum("s,sth->th", weights[start : start + POINTS_AT_ONCE], slopes)
    return Explanation(
        premise,
        hypothesis,
        tuple(vocab.to_tokens(ids)),
        tuple(map(int, batch.segments[0])),
        net.labels[int(probabilities.argmax())],
        dict(zip(net.labels, map(float, probabilities), strict=True)),
        net.labels[class_id],
        float(baseline[class_id]),
        ((embedded - masked) * mean).sum(axis=1),
        np.concatenate(attention),
        float(dataset.unknown_shares[0]),
        bool(dataset.is_cut[0]),
    )


def _repeated(batch: Any, count: int) -> Any:
    """Repeat the only pair of a batch ``count`` times."""
    names = ("token_ids", "segments", "valid_lens", "labels")
    return replace(batch, **{name: np.repeat(getattr(batch, name), count, 0) for name in names})
