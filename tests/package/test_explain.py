"""Explanations: integrated gradients against Captum, attention against transformers' own."""

import json
from dataclasses import replace

import numpy as np
import pytest

import bertnli
from bertnli.bert.config import BERTConfig
from bertnli.bert.parameters import bert_shapes, initial_arrays
from bertnli.cli import main
from bertnli.data.dataset import build_vocab
from bertnli.errors import ConfigError, DataError
from bertnli.text.vocab import Vocab

PAIR = ("Two men play guitar in the street.", "Nobody is making music.")


@pytest.fixture(scope="module")
def bundled(backend):
    return backend.load("bert.mini", "cpu")


@pytest.fixture(scope="module")
def explained(bundled):
    return bundled.explain(*PAIR)


def test_the_shares_add_up(bundled, explained):
    (predicted,) = bundled.predict([PAIR])
    assert explained.label == explained.target == predicted.label
    assert explained.probabilities == pytest.approx(predicted.probabilities, abs=1e-5)
    assert abs(explained.residual) < 0.02
    finer = bundled.explain(*PAIR, steps=400)
    assert abs(finer.residual) < 0.003
    assert finer.baseline == pytest.approx(explained.baseline, abs=1e-6)
    assert len(explained.tokens) == 8 + 5 + 3
    ends = [i for i, token in enumerate(explained.tokens) if token in ("<cls>", "<sep>")]
    assert not explained.saliency[ends].any()
    assert np.count_nonzero(explained.saliency) == 13


@pytest.mark.needs("torch")
def test_captum_computes_the_same(explained):
    import torch
    from captum import attr

    net = bertnli.get_backend("torch").load("bert.mini", "cpu").eval()
    vocab = net.required_vocab()
    ids = torch.tensor([[vocab[token] for token in explained.tokens]])
    segments = torch.tensor([explained.segments])
    blank = ids.where((ids == vocab["<cls>"]) | (ids == vocab["<sep>"]), vocab["<mask>"])

    def probabilities(embedded):
        encoded = net.encoder.embed(embedded, segments.expand(len(embedded), -1))
        for blk in net.encoder.blks:
            encoded = blk(encoded)
        return net.output(net.hidden(encoded[:, 0])).softmax(1)

    table = net.encoder.token_embedding
    expected = attr.IntegratedGradients(probabilities).attribute(
        table(ids).detach(),
        table(blank).detach(),
        target=net.labels.index(explained.target),
        n_steps=50,
        method="gausslegendre",
    )
    shares = expected.sum(2)[0].detach().numpy()
    np.testing.assert_allclose(explained.saliency, shares, atol=2e-5)


@pytest.mark.needs("torch")
def test_attention_is_that_of_transformers(backend, tmp_path):
    import torch
    import transformers

    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=24,
        max_position_embeddings=32,
        id2label={0: "entailment", 1: "not_entailment"},
        attn_implementation="eager",
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.4)
    model.save_pretrained(tmp_path)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(35))]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    explained = backend.load(tmp_path, "cpu").explain("w1 w2 w3", "w4 w5")
    assert explained.tokens[1:4] == ("w1", "w2", "w3")
    words = ["[CLS]", "w1", "w2", "w3", "[SEP]", "w4", "w5", "[SEP]"]
    ids, segments = torch.tensor([[*map(tokens.index, words)]]), torch.tensor([explained.segments])
    with torch.no_grad():
        output = model(ids, token_type_ids=segments, output_attentions=True)
    for block, attention in enumerate(output.attentions):
        np.testing.assert_allclose(explained.attention[block], attention[0].numpy(), atol=2e-6)
    probabilities = output.logits.softmax(1)[0].tolist()
    assert list(explained.probabilities.values()) == pytest.approx(probabilities, abs=1e-5)


def test_a_chosen_class_and_a_chosen_head(bundled, explained):
    shares = [bundled.explain(*PAIR, label=label) for label in bundled.labels]
    # The probabilities of all classes sum to 1 at every point of the path.
    np.testing.assert_allclose(sum(explanation.saliency for explanation in shares), 0, atol=1e-5)
    assert [explanation.target for explanation in shares] == list(bundled.labels)
    attention = explained.attention
    blocks, heads, T, _ = attention.shape
    assert (blocks, heads) == (bundled.config.num_blks, bundled.config.num_heads)
    np.testing.assert_allclose(attention.sum(3), 1, atol=1e-9)
    np.testing.assert_array_equal(explained.attention_of(1, -1), attention[1, heads - 1])
    np.testing.assert_allclose(explained.attention_of(), attention.reshape(-1, T, T).mean(0))
    for wrong in ({"block": blocks}, {"head": -heads - 1}):
        with pytest.raises(ConfigError, match=f"{next(iter(wrong))} is .*0 to"):
            explained.attention_of(**wrong)


def test_explaining_does_not_change_training(backend):
    vocab = build_vocab(bertnli.read("sample", "dev"), 1)
    data = backend.SNLIBERTDataset(bertnli.read("sample", "dev"), 32, vocab, verbose=False)
    arrays = []
    for explains in (False, True):
        bert = backend.BERTModel(len(vocab), 8, 8, 2, 1, 0.1, 32, vocab=vocab)
        net = backend.BERTClassifier(bert)
        trainer = backend.Trainer(net, 1e-3, "cpu")
        for step in range(2):
            trainer.train_step(data.batch(np.arange(8)), 1e-3, step).read()
            if explains:
                net.explain("A man sleeps.", "A man eats.")
        arrays.append(net.arrays())
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name], err_msg=name)


def test_errors(backend, bundled):
    with pytest.raises(ConfigError, match="no class 'maybe'; its classes: entailment"):
        bundled.explain(*PAIR, label="maybe")
    with pytest.raises(ConfigError, match="at least 1"):
        bundled.explain(*PAIR, steps=0)
    vocab = Vocab.from_list(["<unk>", "<pad>", "<cls>", "<sep>", "a"])
    config = BERTConfig(len(vocab), 8, 8, 2, 1, 0.0, 16)
    bert = backend.BERTModel(**config.to_dict(), vocab=vocab)
    bert.load_arrays(initial_arrays(bert_shapes(config), 0), "start")
    with pytest.raises(DataError, match="no '<mask>'"):
        backend.BERTClassifier(bert).explain("a", "a")


def test_the_command_prints_and_draws(backend, explained, tmp_path, capsys):
    command = ["explain", *PAIR, "--backend", backend.name, "--devices", "cpu"]
    png = tmp_path / "pair.png"
    assert main([*command, "--plot", str(png), "--block", "0", "--head", "1"]) == 0
    assert capsys.readouterr().out == f"{explained}\n"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["tokens"] == list(explained.tokens)
    np.testing.assert_allclose(values["attention"], explained.attention, atol=1e-9)
    for wrong, message in (
        (["--head", "1"], "--plot FILE"),
        (["--plot", "pair.xyz"], "--plot writes .png, .pdf, .svg"),
    ):
        assert main([*command, *wrong]) == 2
        assert message in capsys.readouterr().err
    lines = str(explained).splitlines()
    assert lines[0].startswith(f"{explained.label} 0.")
    assert len(lines) == 1 + len(explained.tokens)
    assert any(line.startswith("hypothesis  nobody") for line in lines)
    page = replace(explained, tokens=("<b>",) * len(explained.tokens))._repr_html_()
    assert "<b>" not in page and page.count("&lt;b&gt;") == 13
