"""Word pieces: transformers cuts the same text into the same pieces."""

import json

import pytest
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from refusals import refused

import bertnli
from bertnli.data.corpus import Corpus
from bertnli.errors import DataError
from bertnli.text.subwords import SubwordVocab, load_vocab
from bertnli.text.tokenizer_config import SPECIAL

PIECES = [
    *SPECIAL.values(),
    *"abcdefghijklmnopqrstuvwxyz.,!?'()-",
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
    *("man", "dog", "is", "run", "##ning", "sleep", "outside", "the", "in"),
    *("é", "中", "文"),
]
#: The two tokenizers know different versions of Unicode: characters that are old.
LETTERS = st.characters(max_codepoint=0x24F) | st.sampled_from("中文漢“”‘’—…€αЖא\u200b\u3000😀")


def test_lines_of_vocab_txt_end_with_newlines_alone(tmp_path):
    pieces = [*SPECIAL.values(), "q\u2028r", "\x85", "hello"]
    (tmp_path / "vocab.txt").write_text("\r\n".join(pieces) + "\r\n\n", encoding="utf-8")
    vocab = load_vocab(tmp_path)
    assert vocab.idx_to_token == pieces


@pytest.mark.parametrize(
    "text", ["5", "{", '{"added_tokens_decoder": {"5": {"a": 1}}}', '{"never_split": 1}']
)
def test_damaged_settings_are_errors(tmp_path, text):
    (tmp_path / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(text)
    refused(DataError, "tokenizer_config", load_vocab, tmp_path)


#: What a tokenizer_config.json may say, wrong and right.
SETTINGS = {
    "do_lower_case": [True, False],
    "strip_accents": [True, False, None],
    "tokenize_chinese_chars": [True, False],
    "do_basic_tokenize": [True, False],
    "never_split": [None, ["[CLS]"], ["man"]],
    "cls_token": ["[CLS]", "a"],
    "sep_token": ["[SEP]", "."],
    "unk_token": ["[UNK]", "a"],
    "pad_token": ["[PAD]", "[UNK]"],
    "tokenizer_class": ["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", None],
    "additional_special_tokens": [[], ["man"], ["<new>"]],
    "split_special_tokens": [True, False],
    "clean_text": [True, False],
}


@settings(deadline=None, max_examples=60)
@given(st.data(), st.booleans(), st.booleans(), st.text(LETTERS, max_size=60))
@example(None, False, False, "A Man is runNING: É, 中文!")
def test_any_text_is_cut_as_transformers_cuts_it_or_the_settings_are_refused(
    tmp_path_factory, data, defined, lowercase, text
):
    folder = tmp_path_factory.mktemp("settings")
    if defined:
        SubwordVocab.from_pieces(PIECES, lowercase).save(folder / "tokenizer.json")
    else:
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    chosen = {"do_lower_case": lowercase}
    if data is not None:
        names = data.draw(st.sets(st.sampled_from(sorted(SETTINGS)), max_size=4))
        chosen = {name: data.draw(st.sampled_from(SETTINGS[name])) for name in sorted(names)}
    (folder / "tokenizer_config.json").write_text(json.dumps(chosen))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    try:
        vocab = load_vocab(folder)
    except DataError:
        return
    peer = transformers.AutoTokenizer.from_pretrained(folder)
    for premise in (text, "The man [SEP] dog."):
        a, b = vocab.ids_of([premise, "A dog"], tokenized=False)
        ends = vocab.required("<cls>"), vocab.required("<sep>")
        pair = [ends[0], *a, ends[1], *b, ends[1]]
        assert peer(premise, "A dog")["input_ids"] == pair


def test_sentences_of_a_treebank_become_text():
    vocab = SubwordVocab.from_pieces(PIECES)
    parsed = ["A man -LRB- a dog -RRB- .", "The man 's dog is n't `` in '' ."]
    texts = ["A man (a dog).", "The man's dog isn't \" in \" ."]
    assert [*vocab.ids_of(parsed, tokenized=True)] == [*vocab.ids_of(texts, tokenized=False)]


def test_special_tokens_have_the_book_s_names():
    vocab = SubwordVocab.from_pieces(PIECES)
    assert [vocab.required(name) for name in SPECIAL] == list(range(5))
    corpus = Corpus(["A man"], ["dog"], [0], tokenized=False)
    dataset = bertnli.get_backend("torch").SNLIBERTDataset(corpus, 16, vocab, verbose=False)
    assert vocab.to_tokens(dataset.token_ids) == ["[CLS]", "a", "man", "[SEP]", "dog", "[SEP]"]
    with pytest.raises(DataError, match=r"\[MASK\]"):
        SubwordVocab.from_pieces(["[UNK]", "[PAD]", "[CLS]", "[SEP]"])
