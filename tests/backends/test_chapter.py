"""The chapter's calls, with each framework's own DataLoader, optimizer and loop."""

import shutil

import numpy as np
import pytest
import torch

import bertnli

MAX_LEN, BATCH_SIZE, LR, EPOCHS = 48, 6, 1e-3, 20


def framework():
    from bertnli.backends.mxnet._framework import mx

    return mx


@pytest.fixture(autouse=True)
def _seeds(pytestconfig):
    """Seed the frameworks' own loaders and dropout."""
    torch.manual_seed(0)
    np.random.seed(0)
    if "mxnet" in pytestconfig.getoption("--backends"):
        framework().random.seed(0)


def load(nli, golden):
    """Load the pretrained model as the chapter does."""
    sizes = {"num_hiddens": 32, "ffn_num_hiddens": 64, "num_heads": 4, "num_blks": 2}
    options = {"dropout": 0.1, "max_len": 512, "devices": nli.try_all_gpus()}
    return nli.load_pretrained_model(golden.zip, **sizes, **options)


def datasets(nli, vocab, fixtures):
    return tuple(
        nli.SNLIBERTDataset(bertnli.read(fixtures / "snli_1.0", is_train), MAX_LEN, vocab)
        for is_train in (True, False)
    )


def assert_falls(losses):
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.8 * losses[0], losses


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_pytorch_tab(goldens, fixtures, num_workers, capsys):
    nli = bertnli.get_backend("torch")
    devices = nli.try_all_gpus()
    bert, vocab = load(nli, goldens["torch"])
    train_set, test_set = datasets(nli, vocab, fixtures)
    sizes = [f"read {len(dataset)} examples\n" for dataset in (train_set, test_set)]
    assert capsys.readouterr().out == "".join(sizes)
    assert isinstance(train_set, torch.utils.data.Dataset)
    DataLoader = torch.utils.data.DataLoader
    train_iter = DataLoader(train_set, BATCH_SIZE, shuffle=True, num_workers=num_workers)
    test_iter = DataLoader(test_set, BATCH_SIZE, num_workers=num_workers)

    net = nli.BERTClassifier(bert).to(devices[0])
    assert net(next(iter(test_iter))[0]).shape == (BATCH_SIZE, 3)
    trainer = torch.optim.Adam(net.parameters(), lr=LR)
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    means = []
    for _ in range(1 if num_workers else EPOCHS):
        total = 0.0
        net.train()
        for X, y in train_iter:
            assert [x.dtype for x in X] == [torch.int64] * 3
            X, y = [x.to(devices[0]) for x in X], y.to(devices[0])
            trainer.zero_grad()
            losses = loss(net(X), y)
            losses.sum().backward()
            trainer.step()
            total += float(losses.sum())
        means.append(total / len(train_set))
    if not num_workers:
        assert_falls(means)
    net.eval()
    with torch.no_grad():
        correct = sum(int((net(X).argmax(axis=1) == y).sum()) for X, y in test_iter)
    assert 0 <= correct <= len(test_set)


@pytest.mark.needs("mxnet")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_mxnet_tab(goldens, fixtures, num_workers, capsys, request):
    mx, nli = framework(), bertnli.get_backend("mxnet")
    mx.npx.set_np()  # the chapter's first line
    request.addfinalizer(mx.npx.reset_np)
    devices = nli.try_all_gpus()
    bert, vocab = load(nli, goldens["mxnet"])
    train_set, test_set = datasets(nli, vocab, fixtures)
    assert capsys.readouterr().out.startswith(f"read {len(train_set)} examples\n")
    assert isinstance(train_set, mx.gluon.data.Dataset)
    DataLoader = mx.gluon.data.DataLoader
    train_iter = DataLoader(train_set, BATCH_SIZE, shuffle=True, num_workers=num_workers)
    test_iter = DataLoader(test_set, BATCH_SIZE, num_workers=num_workers)

    net = nli.BERTClassifier(bert)
    if mx.__version__ < "2":
        net.collect_params().reset_ctx(devices)
    else:
        net.reset_device(devices)
    loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": LR})
    split = mx.gluon.utils.split_and_load
    means = []
    for _ in range(1 if num_workers else EPOCHS):
        total = 0.0
        for X, y in train_iter:
            assert [str(np.dtype(x.dtype)) for x in X] == ["int32", "int32", "float32"]
            parts = list(zip(*(split(x, devices, even_split=False) for x in X), strict=True))
            labels = split(y, devices, even_split=False)
            with mx.autograd.record():
                outputs = [net(part) for part in parts]
                losses = [loss(out, label) for out, label in zip(outputs, labels, strict=True)]
            for part in losses:
                part.backward()
            trainer.step(len(y), ignore_stale_grad=True)
            total += sum(float(part.sum()) for part in losses)
        means.append(total / len(train_set))
    if not num_workers:
        assert_falls(means)
    correct = 0
    for X, y in test_iter:
        predicted = net([x.as_in_ctx(devices[0]) for x in X]).argmax(axis=1)
        correct += int((predicted.asnumpy() == y.asnumpy()).sum())
    assert 0 <= correct <= len(test_set)


def test_reading_at_once_gives_the_same_dataset(backend, golden, fixtures, tmp_path):
    shutil.copytree(fixtures / "snli_1.0", tmp_path / "snli_1.0")
    _, vocab = load(backend, golden)
    expected, _ = datasets(backend, vocab, fixtures)
    for _ in range(2):  # the second is memory-mapped
        dataset = backend.SNLIBERTDataset.read(tmp_path / "snli_1.0", True, MAX_LEN, vocab)
        assert type(dataset) is backend.SNLIBERTDataset
        for index in range(len(expected)):
            (inputs, label), (same, same_label) = dataset[index], expected[index]
            for a, b in zip((*inputs, label), (*same, same_label), strict=True):
                np.testing.assert_array_equal(a, b, strict=True)


def loader(nli, dataset, shuffle=False):
    if nli.name == "torch":
        return torch.utils.data.DataLoader(dataset, BATCH_SIZE, shuffle=shuffle)
    return framework().gluon.data.DataLoader(dataset, BATCH_SIZE, shuffle=shuffle, num_workers=0)


def test_our_trainer_on_the_framework_s_loader(backend, golden, fixtures):
    """A loader in the dataset's order gives the same batches and scores as the dataset."""
    bert, vocab = load(backend, golden)
    train_set, dev_set = datasets(backend, vocab, fixtures)
    trainer = backend.Trainer(backend.BERTClassifier(bert), lr=LR)
    loaders = loader(backend, train_set, shuffle=True), loader(backend, dev_set)
    history = trainer.fit(*loaders, EPOCHS, progress=False)
    assert_falls([epoch.train_loss for epoch in history.epochs])
    assert history.epochs[0].steps == -(-len(train_set) // BATCH_SIZE)
    for number, item in enumerate(loader(backend, dev_set)):
        rows = np.arange(number * BATCH_SIZE, len(dev_set))[:BATCH_SIZE]
        batches = trainer.engine.loader_batch(item), dev_set.batch(rows)
        for given, expected in zip(*((*b.inputs(), b.labels) for b in batches), strict=True):
            np.testing.assert_array_equal(given, expected, strict=True)
    by_loader, by_dataset = trainer.evaluate(loaders[1]), trainer.evaluate(dev_set)
    assert by_loader.accuracy == by_dataset.accuracy
    assert by_loader.loss == pytest.approx(by_dataset.loss, abs=1e-5)


def test_the_test_split_is_the_golden_batch(backend, golden, fixtures):
    _, vocab = load(backend, golden)
    _, test_set = datasets(backend, vocab, fixtures)
    names = ("token_ids", "segments", "valid_lens", "labels")
    for index in range(len(test_set)):
        inputs, label = test_set[index]
        for name, value in zip(names, (*inputs, label), strict=True):
            assert np.array_equal(value, golden.values[name][index]), name
    logits = golden.net(backend).logits(test_set.batch(np.arange(len(test_set))))
    assert np.abs(logits - golden.values["logits"]).max() <= 1e-5
