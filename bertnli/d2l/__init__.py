"""The book's helper package, as far as the chapter "Fine-Tuning BERT" uses it.

``from bertnli.d2l import torch as d2l``, or ``mxnet``, in place of ``from d2l import ...``: the
chapter's cells then run as they are printed, also on a machine without a GPU.
"""
