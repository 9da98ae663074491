"""Class names in a config.json: what other tools write, and what contradicts itself."""

import pytest

from bertnli.formats.class_names import read_class_names

NLI = ("entailment", "neutral", "contradiction")
NAMED = {str(i): name for i, name in enumerate(NLI)}
NUMBERED = {name: i for i, name in enumerate(NLI)}
NAMELESS = {str(i): f"LABEL_{i}" for i in range(3)}
COUNTED = {f"LABEL_{i}": i for i in range(3)}
NO_NUMBER = "label2id does not give 'entailment' a number, but "


@pytest.mark.parametrize(
    ("ids", "labels"),
    [
        *((NAMED, NUMBERED), (NAMED, None), (None, NUMBERED), (NAMED, {})),
        *((list(NLI), NUMBERED), (list(NLI), list(NLI))),
        (NAMED, COUNTED),  # a placeholder on one side contradicts nothing
        (NAMELESS, NUMBERED),
        ({"0": "LABEL_0", "1": "LABEL_1"}, NUMBERED),  # of transformers' own two classes
        ({"0": 0, "1": 1, "2": 2}, NUMBERED),
        ({"0": "0", "1": "1", "2": "2"}, NUMBERED),
        ({"0": "entailment", "1": "LABEL_1", "2": None}, NUMBERED),
        (NAMED, {name: str(i) for name, i in NUMBERED.items()}),
        (NAMED, {"Entailment ": 0, "NEUTRAL": 1}),
        (NAMED, {**NUMBERED, "entails": 0}),
    ],
)
def test_a_class_has_the_name_that_either_side_gives(ids, labels):
    assert read_class_names({"id2label": ids, "label2id": labels}) == (NLI, "")


@pytest.mark.parametrize(
    ("ids", "labels", "problem"),
    [
        # Placeholders and numbers are no names, and no problem.
        *((None, None, ""), (NAMELESS, COUNTED, ""), (NAMELESS, None, ""), ([0, 1], [0, 1], "")),
        ({"0": 0, "1": 1}, {"0": 0, "1": 1}, ""),
        ({"0": "0", "1": "1"}, {"0": "0", "1": "1"}, ""),
        ({"0": 1, "1": 0}, {"1": 0, "0": 1}, ""),
        (NAMED, {**NUMBERED, "neutral": 2, "contradiction": 1}, "contradict each other"),
        (NAMED, {"yes": 0}, "contradict each other about class 0: 'entailment', 'yes'"),
        (NAMELESS, {"yes": 0, "no": 0}, "several names of class 0"),
        ({"0": "a", "1": None}, None, "class 1 a name"),
        (None, {"a": 0, "b": 2}, "class 1 a name"),
        ({"0": "a", "1": "A"}, None, "a name of its own"),
        ({"0": "a", "00": "b"}, None, "from 0"),
        ({"a": 0, "b": 1}, None, "from 0"),
        ({"1": "a", "2": "b"}, None, "from 0"),
        ("a, b", None, "from 0"),
        ({"0": ["a"]}, None, "id2label does not give each class a name"),
        (NAMED, {"entailment": True}, f"{NO_NUMBER}True"),
        (NAMED, {"entailment": "x"}, f"{NO_NUMBER}'x'"),
        (NAMED, {"0": "entailment"}, "label2id does not give '0' a number"),
        (NAMED, {"entailment": 10**9}, "label2id does not give"),
        (NAMED, "entailment", "label2id does not map"),
    ],
)
def test_what_is_no_name_or_wrong(ids, labels, problem):
    names, result = read_class_names({"id2label": ids, "label2id": labels})
    assert names is None
    assert problem in result and bool(problem) == bool(result)
