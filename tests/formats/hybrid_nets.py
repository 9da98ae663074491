"""Hybrid nets that gluon can export, with names that only count their layers."""

import math

#: Sizes: words, channels, those of the feed-forward networks, tokens.
V, H, F, T = 20, 16, 24, 7


def hybrid_net(mx, is_book, pre_norm=False, scaled=True, is_mean=False, scale=None):
    """Make a hybrid classifier, the book's or one with the older operators and GELU by erf.

    Args:
        mx: the module mxnet.
        is_book: which of both.
        pre_norm: whether layers' inputs are normalised, and not sums.
        scaled: whether scores are divided by the square root of a head's width.
        is_mean: whether the mean of all tokens is classified, and not the first.
        scale: what embeddings are multiplied by.
    """
    nn = mx.gluon.nn

    class Attention(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.W_q, self.W_k, self.W_v, self.W_o = (nn.Dense(H, flatten=False) for _ in range(4))
            self.dropout = nn.Dropout(0.1)

        def hybrid_forward(self, f, X, lens):
            queries, keys, values = (self.split(f, W(X)) for W in (self.W_q, self.W_k, self.W_v))
            if is_book:
                scores = f.np.matmul(queries, f.np.transpose(keys, (0, 1, 3, 2)))
                scores = scores / math.sqrt(H // 4) if scaled else scores
                lens = f.np.broadcast_to(f.np.reshape(lens, (-1, 1, 1)), (2, 4, T))
                weights = f.npx.softmax(scores, lens.astype("int32"), use_length=True)
                heads = f.np.transpose(f.np.matmul(self.dropout(weights), values), (0, 2, 1, 3))
                return self.W_o(f.npx.reshape(heads, (-2, -2, -1)))
            scores = f.batch_dot(f.contrib.div_sqrt_dim(queries), keys, transpose_b=True)
            lens = f.broadcast_axis(f.reshape(lens, (-1, 1, 1)), axis=(1, 2), size=(4, T))
            lens = f.cast(f.reshape(lens, (-3, 0)), "int32")
            weights = self.dropout(f.softmax(scores, lens, use_length=True))
            heads = f.reshape(f.batch_dot(weights, values), (-1, 4, 0, 0), reverse=True)
            return self.W_o(f.reshape(f.transpose(heads, (0, 2, 1, 3)), (0, 0, -1)))

        def split(self, f, X):
            if is_book:
                return f.np.transpose(f.npx.reshape(X, (-2, -2, 4, -1)), (0, 2, 1, 3))
            heads = f.transpose(f.reshape(X, (0, 0, 4, -1)), (0, 2, 1, 3))
            return f.reshape(heads, (-1, 0, 0), reverse=True)

    class Layer(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.attention, self.ln1 = Attention(), nn.LayerNorm(epsilon=1e-5 if is_book else 1e-6)
            self.dense1 = nn.Dense(F, flatten=False, activation="relu" if is_book else None)
            self.dense2 = nn.Dense(H, flatten=False)
            self.ln2 = nn.LayerNorm(epsilon=1e-5 if is_book else 1e-6)

        def hybrid_forward(self, f, X, lens):
            if pre_norm:
                Y = X + self.attention(self.ln1(X), lens)
                return Y + self.dense2(self.dense1(self.ln2(Y)))
            Y = self.ln1(X + self.attention(X, lens))
            Z = self.dense1(Y)
            Z = Z if is_book else Z * 0.5 * (1.0 + f.erf(Z / math.sqrt(2.0)))
            return self.ln2(self.dense2(Z) + Y)

    class Net(nn.HybridBlock):
        def __init__(self):
            super().__init__()
            self.tokens, self.segments = nn.Embedding(V, H), nn.Embedding(2, H)
            self.pos_embedding = self.params.get("pos_embedding", shape=(1, 9, H))
            self.layer1, self.layer2 = Layer(), Layer()
            if pre_norm or not is_book:
                self.ln = nn.LayerNorm(epsilon=1e-5 if is_book else 1e-6)
            self.hidden, self.output = nn.Dense(H, activation="tanh"), nn.Dense(3)

        def hybrid_forward(self, f, tokens, segments, lens, pos_embedding):
            X = self.tokens(tokens) + self.segments(segments)
            if is_book:
                X = X + f.npx.slice(pos_embedding, begin=(None, 0), end=(None, T))
            else:
                X = f.broadcast_add(X, f.slice_axis(pos_embedding, axis=1, begin=0, end=T))
            X = X if scale is None else X * scale
            X = X if is_book else self.ln(X)
            X = self.layer2(self.layer1(X, lens), lens)
            X = self.ln(X) if pre_norm else X
            if is_mean:
                return self.output(self.hidden(f.np.mean(X, axis=1)))
            first = X[:, 0, :] if is_book else f.slice_axis(X, axis=1, begin=0, end=1)
            return self.output(self.hidden(first))

    return Net()
