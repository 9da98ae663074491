"""Random models of transformers' families, for tests that compare with them."""

import torch
import transformers

from bertnli.text.tokenizer_config import SPECIAL

PIECES = [*SPECIAL.values(), *"abcdefghijklmnopqrstuvwxyz.,!?'()-", "man", "dog", "is", "##s"]
LABELS = ("NEUTRAL", "ENTAILMENT", "CONTRADICTION")
#: Names of the classes in a config.json.
NAMED = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}
SIZES = {
    "vocab_size": len(PIECES) + 3,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
#: Model type to the beginning of the names of transformers' classes.
FAMILIES = {
    "bert": "Bert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "mpnet": "MPNet",
    "deberta-v2": "DebertaV2",
}
#: Settings of a family's random models, beside the sizes.
SETTINGS = {
    "roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5},
    "xlm-roberta": {"type_vocab_size": 2},
    "electra": {"embedding_size": 20},
    "deberta-v2": {
        "relative_attention": True,
        "position_biased_input": False,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_buckets": 8,
    },
}


def config_of(family, **settings):
    """Make a configuration of transformers' of a small model."""
    cls = getattr(transformers, f"{FAMILIES[family]}Config")
    return cls(**{**SIZES, **SETTINGS.get(family, {}), **settings})


def make_model(family, folder, kind="ForSequenceClassification", save=(), **settings):
    """Write a small random model, far from its start values, with BERT's tokenizer; return it."""
    torch.manual_seed(0)
    cls = getattr(transformers, FAMILIES[family] + kind)
    model = cls(config_of(family, **settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder, **dict(save))
    own = "PAD UNK" if model.config.pad_token_id == 0 else "UNK PAD"
    names = [f"[{name}]" for name in own.split()]
    (folder / "vocab.txt").write_text("\n".join([*names, *PIECES[2:]]) + "\n", encoding="utf-8")
    inputs = ["input_ids", "attention_mask"]
    if family in ("bert", "electra"):
        inputs.append("token_type_ids")
    path = str(folder / "vocab.txt")
    transformers.BertTokenizerFast(path, model_input_names=inputs).save_pretrained(folder)
    return model


def peer_inputs(model, batch):
    """Convert a batch to the inputs of a model of transformers', padded with its own id."""
    width = batch.token_ids.shape[1]
    mask = torch.arange(width) < torch.from_numpy(batch.valid_lens)[:, None]
    ids = torch.where(mask, torch.from_numpy(batch.token_ids), model.config.pad_token_id)
    inputs = {"input_ids": ids.long(), "attention_mask": mask.long()}
    if model.config.model_type in ("bert", "electra"):
        inputs["token_type_ids"] = torch.from_numpy(batch.segments).long()
    return inputs


def peer_names(model):
    """Return a dictionary of the canonical name of each tensor to the model's parameter."""
    from bertnli.formats.families import FAMILIES as KNOWN
    from bertnli.formats.names import by_template

    names = KNOWN[model.config.model_type].names(of_classifier=True)
    table = {theirs: ours for ours, theirs in names.items()}
    return {by_template(name, table): p for name, p in model.named_parameters()}
