"""Errors about wrong arguments say the same on both backends."""

import re
from importlib import import_module

import pytest

import bertnli
from bertnli.errors import BackendError, ConfigError, DataError
from bertnli.formats.convert import convert


@pytest.fixture(scope="module")
def net(backend):
    return backend.load("bert.mini", devices="cpu")


@pytest.fixture(scope="module")
def bert(backend):
    return backend.BERTModel(12, 8, 6, 2, 1, 0.0, 16)


@pytest.mark.parametrize("labels", [[0, 1, 2], {"a": 0, "b": 1}, "entailment,neutral", 3, {"a"}])
def test_labels_that_are_no_list_of_names(backend, bert, labels, tmp_path):
    message = "a list of strings is expected, a name for each class in the order of the logits"
    for make in (
        lambda: backend.BERTClassifier(bert, labels=labels),
        lambda: bertnli.load("bert.mini", backend.name, labels=labels),
        lambda: convert("bert.mini", tmp_path / "new", "bertnli", labels=labels),
    ):
        with pytest.raises(ConfigError, match=re.escape(f"labels is {labels!r}; {message}")):
            make()


@pytest.mark.parametrize("labels", [["a", "A"], ["a", " "], ["a"]])
def test_names_of_classes_that_could_not_be_loaded_again(backend, bert, labels):
    with pytest.raises(ConfigError, match=r"\(--labels\) "):
        backend.BERTClassifier(bert, labels=labels)


def test_a_gpu_that_does_not_exist(backend, net, monkeypatch):
    framework = import_module(backend.name)
    if backend.name == "torch":
        gpu = framework.device("cuda:0")
        monkeypatch.setattr(framework.cuda, "device_count", lambda: 0)
    else:
        gpu = framework.gpu(0)
        monkeypatch.setattr(framework.context, "num_gpus", lambda: 0)
    message = f"is not here: {backend.name} sees 0 GPUs; use 'cpu'"
    for devices in (gpu, [gpu], "gpu:0"):
        with pytest.raises(BackendError, match=message):
            backend.as_devices(devices)
        with pytest.raises(BackendError, match=message):
            backend.Trainer(net, devices=devices)
        with pytest.raises(BackendError, match=message):
            bertnli.load("bert.mini", backend.name, devices=devices)


@pytest.mark.parametrize("devices", [0, [0], [None], 2.5, object])
def test_values_that_are_no_devices(backend, devices):
    kinds = f"neither a device's name nor a device of {backend.name}"
    with pytest.raises(BackendError, match=f"{kinds}; write 'cpu', 'gpu' or 'gpu:0'"):
        bertnli.load("bert.mini", backend.name, devices=devices)


@pytest.mark.parametrize("max_len", ["128", 2.5, [16], True])
def test_values_that_are_no_lengths(net, max_len):
    for call in (
        lambda: net.predict([("A dog.", "A cat.")], max_len=max_len),
        lambda: net.explain("A dog.", "A cat.", max_len=max_len),
        lambda: net.encode(bertnli.read("sample", "dev"), max_len),
    ):
        with pytest.raises(ConfigError, match=re.escape(f"max_len is {max_len!r}; a whole number")):
            call()


def test_models_and_devices_of_the_other_backend(both):
    for nli, other in (both, both[::-1]):
        bert = other.BERTModel(12, 8, 6, 2, 1, 0.0, 16)
        message = f"of {nli.name}, and this is one of {other.name}; make both with get_backend"
        for net in (nli.BERTClassifier, nli.BERTForPretraining):
            with pytest.raises(ConfigError, match=rf"{net.__name__}\(\) takes a BERT {message}"):
                net(bert)
        with pytest.raises(ConfigError, match=rf"Trainer\(\) takes a net {message}"):
            nli.Trainer(other.BERTClassifier(bert))
        with pytest.raises(BackendError, match=f"nor a device of {nli.name}"):
            nli.as_devices([other.cpu()])


def test_values_that_are_no_bert(backend, net):
    pair = backend.load_pretrained_model("bert.mini", devices="cpu")
    with pytest.raises(ConfigError, match="a net, not a BERTModel; make one with load"):
        backend.Trainer(pair[0])
    for make in (backend.BERTClassifier, backend.BERTForPretraining):
        with pytest.raises(ConfigError, match=r"unpack it: bert, vocab = load_pretrained_model"):
            make(pair)
        for bert in ("bert.mini", None, net):
            with pytest.raises(ConfigError, match=r"and not .*; make one with bert, vocab = load"):
                make(bert)


@pytest.mark.parametrize("path", [None, ["bert.mini"], 3])
def test_values_that_are_no_paths(backend, net, path):
    message = re.escape(f"a path is expected, a string or a Path, and not {path!r}")
    for call in (
        lambda: bertnli.load(path, backend.name),
        lambda: backend.load_pretrained_model(path),
        lambda: net.save(path),
        lambda: convert(path, "new", "torch"),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_a_file_in_place_of_a_run_s_folder(backend, net, tmp_path):
    (tmp_path / "file").write_text("")
    data = net.encode(bertnli.read("sample", "dev"))
    trainer = backend.Trainer(net, devices="cpu")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        for options in ({"output": path}, {"tensorboard": path}):
            with pytest.raises(ConfigError, match=f"{tmp_path / 'file'} is a file; give a folder"):
                trainer.fit(data, progress=False, **options)


def test_pairs_that_are_not_encoded(backend, net):
    trainer = backend.Trainer(net, devices="cpu")
    message = r"set is expected, such as a SNLIBERTDataset.*SNLIBERTDataset\(bertnli\.read\(source"
    for data in ([], [("a", "b", "neutral")], [{"premise": "a"}], bertnli.read("sample", "dev")):
        with pytest.raises(DataError, match=f"(?s)a training {message}"):
            trainer.fit(data)
        with pytest.raises(DataError, match=f"(?s)an evaluation {message}"):
            trainer.evaluate(data)


def test_a_mistyped_attribute(backend):
    with pytest.raises(AttributeError, match=r"'laod'\. Did you mean 'load'\?"):
        bertnli.laod  # noqa: B018
    with pytest.raises(AttributeError, match=r"'SNLIBertDataset'\. Did you mean 'SNLIBERTDataset'"):
        backend.SNLIBertDataset  # noqa: B018
    assert not hasattr(bertnli, "__wrapped__") and not hasattr(backend, "zzz")
