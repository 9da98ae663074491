"""The MXNet tab, cell by cell, as a script.

Its arguments are a server's address, how the dataset's pool starts its processes, and the number
of epochs of each run. The loaders fork: gluon's cannot start processes otherwise.
"""

import json
import multiprocessing
import os
import sys

import numpy

from bertnli.d2l import mxnet as d2l  # isort: skip  (it makes the next import work)

from mxnet import gluon, np, npx, random
from mxnet.gluon import nn

npx.set_np()


def load_pretrained_model(
    pretrained_model, num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len, devices
):
    folder = d2l.download_extract(pretrained_model)
    vocab = d2l.Vocab()
    with open(os.path.join(folder, "vocab.json")) as file:
        vocab.idx_to_token = json.load(file)
    vocab.token_to_idx = {token: i for i, token in enumerate(vocab.idx_to_token)}
    bert = d2l.BERTModel(
        len(vocab), num_hiddens, ffn_num_hiddens, num_heads, num_blks, dropout, max_len
    )
    bert.load_parameters(os.path.join(folder, "pretrained.params"), ctx=devices)
    return bert, vocab


class SNLIBERTDataset(gluon.data.Dataset):
    def __init__(self, dataset, max_len, vocab=None):
        sides = [d2l.tokenize([text.lower() for text in side]) for side in dataset[:2]]
        self.labels, self.vocab, self.max_len = np.array(dataset[2]), vocab, max_len
        pool = multiprocessing.Pool(4)
        rows = pool.map(self._encode, [list(pair) for pair in zip(*sides, strict=True)])
        ids, segments, lens = zip(*rows, strict=True)
        self.inputs = (
            np.array(ids, dtype="int32"),
            np.array(segments, dtype="int32"),
            np.array(lens),
        )
        print("read " + str(len(self)) + " examples")

    def _encode(self, pair):
        premise, hypothesis = pair
        while len(premise) + len(hypothesis) > self.max_len - 3:
            (premise if len(premise) > len(hypothesis) else hypothesis).pop()
        tokens, segments = d2l.get_tokens_and_segments(premise, hypothesis)
        rest = self.max_len - len(tokens)
        ids = self.vocab[tokens] + [self.vocab["<pad>"]] * rest
        return ids, segments + [0] * rest, len(tokens)

    def __getitem__(self, idx):
        return tuple(column[idx] for column in self.inputs), self.labels[idx]

    def __len__(self):
        return len(self.labels)


class BERTClassifier(nn.Block):
    def __init__(self, bert):
        super().__init__()
        self.encoder = bert.encoder
        self.hidden = bert.hidden
        self.output = nn.Dense(3)

    def forward(self, inputs):
        tokens_X, segments_X, valid_lens_x = inputs
        encoded_X = self.encoder(tokens_X, segments_X, valid_lens_x)
        return self.output(self.hidden(encoded_X[:, 0, :]))


def main(url, start_method, *epochs):
    multiprocessing.set_start_method(start_method)
    random.seed(0)
    numpy.random.seed(0)
    d2l.DATA_HUB["bert.small"] = (url + "bert.tiny.zip", None)
    d2l.DATA_HUB["SNLI"] = (url + "snli_1.0.zip", None)
    devices = d2l.try_all_gpus()
    bert, vocab = load_pretrained_model(
        "bert.small",
        num_hiddens=32,
        ffn_num_hiddens=64,
        num_heads=4,
        num_blks=2,
        dropout=0.1,
        max_len=512,
        devices=devices,
    )
    batch_size, max_len, num_workers = 8, 48, d2l.get_dataloader_workers()
    data_dir = d2l.download_extract("SNLI")
    train_set = SNLIBERTDataset(d2l.read_snli(data_dir, True), max_len, vocab)
    test_set = SNLIBERTDataset(d2l.read_snli(data_dir, False), max_len, vocab)
    multiprocessing.set_start_method("fork", force=True)
    train_iter = gluon.data.DataLoader(train_set, batch_size, shuffle=True, num_workers=num_workers)
    test_iter = gluon.data.DataLoader(test_set, batch_size, num_workers=num_workers)
    net = BERTClassifier(bert)
    net.output.initialize(ctx=devices)
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-3})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    for num_epochs in map(int, epochs):
        d2l.train_ch13(
            net,
            train_iter,
            test_iter,
            loss,
            trainer,
            num_epochs,
            devices,
            d2l.split_batch_multi_inputs,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
