"""Schemas of the requests and answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag

Sentence = Annotated[str, Field(min_length=1)]
Backend = Annotated[str | None, Field(description="torch or mxnet; the server's first if null")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Pair(_Request):
    """A pair of sentences."""

    premise: Sentence = Field(examples=["A man is asleep."])
    hypothesis: Sentence = Field(examples=["A man is awake."])


class PairRequest(Pair):
    """A request for one pair."""

    backend: Backend = None


class PairsRequest(_Request):
    """A request for several pairs."""

    pairs: list[Pair] = Field(min_length=1)
    backend: Backend = None


def _kind(body: Any) -> str:
    return "several" if isinstance(body, dict) and "pairs" in body else "single"


PredictRequest = Annotated[
    Annotated[PairRequest, Tag("single")] | Annotated[PairsRequest, Tag("several")],
    Discriminator(_kind),
]


class Prediction(BaseModel):
    """The prediction for one pair."""

    label: str = Field(description="the most probable class")
    probabilities: dict[str, FiniteFloat] = Field(description="by class, in the model's order")
    unknown_share: float = Field(description="share of tokens that are not in the vocabulary")
    is_cut: bool = Field(description="whether the pair had more than max_len tokens and was cut")


class PredictAnswer(BaseModel):
    """The predictions for the pairs of a request, in their order."""

    backend: str
    checkpoint: str
    predictions: list[Prediction]


class ExplainAnswer(Prediction):
    """A prediction with each token's contribution to it (T,), and the attention weights."""

    backend: str
    checkpoint: str
    tokens: list[str] = Field(description="(T,)")
    segments: list[int] = Field(description="(T,): 0 for the premise, 1 for the hypothesis")
    attention: list[list[list[list[float]]]] = Field(
        description="(blocks, heads, T, T): from the row's token to the column's; rows sum to 1, "
        "up to rounding to 4 digits"
    )
    saliency: list[float] = Field(
        description="(T,): what each token adds to the label's probability, from the baseline on"
    )
    baseline: float = Field(description="the label's probability with every word masked")


class Health(BaseModel):
    """The states of the server's backends."""

    status: str = Field(description="ready, or the state of a backend that is not")
    backends: dict[str, str]


class ModelAnswer(BaseModel):
    """A description of the served model."""

    checkpoint: str
    backends: list[str]
    labels: list[str] = Field(description="the classes, in the model's order")
    blocks: int
    heads: int
    max_len: int = Field(description="tokens of a pair, special ones included; longer ones are cut")
    truncation: str = Field(description="how they are cut")
    limits: dict[str, int] = Field(description="pairs of a request, characters, bytes of a body")


class Problem(BaseModel):
    """The error of a request that failed."""

    error: str
