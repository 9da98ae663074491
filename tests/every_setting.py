"""The settings in which families of BERTs differ from the book's, all at once."""

ARCHITECTURE = {
    "activation": "gelu",
    "embedding_norm": True,
    "embedding_size": 6,
    "pair_segments": False,
    "first_position": 2,
    "relative_buckets": 32,
    "pooler_activation": "gelu",
}
#: Those of DeBERTa, which exclude some of the others.
DEBERTA = {
    "activation": "gelu",
    "embedding_norm": True,
    "num_segments": 0,
    "position_buckets": 6,
}
DROPOUTS = {
    "attention_dropout": 0.3,
    "attention_output_dropout": 0.1,
    "pooler_dropout": 0.2,
    "classifier_dropout": 0.4,
}
