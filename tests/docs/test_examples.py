"""The examples in the docstrings of public names run, and print what they show."""

import doctest
import inspect

import pytest

import bertnli

#: Public functions and classes; an exception needs no example.
PUBLIC = {
    name: value
    for name in bertnli.__all__
    if (callable(value := getattr(bertnli, name)) and getattr(value, "__doc__", None))
    and not (inspect.isclass(value) and issubclass(value, Exception))
}


@pytest.mark.needs("torch")
@pytest.mark.parametrize("name", PUBLIC)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(bertnli.DATA_HUB, "my.sets", {})  # which an example registers
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    finder, runner = doctest.DocTestFinder(recurse=True), doctest.DocTestRunner(optionflags=flags)
    tests = finder.find(PUBLIC[name], name, globs={"bertnli": bertnli})
    examples = [test for test in tests if test.examples]
    assert examples, f"bertnli.{name} has no example"
    printed = []
    for test in examples:
        runner.run(test, out=printed.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(printed)
