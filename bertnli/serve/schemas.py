"""What requests and answers look like, for /openapi.json; requests are checked in `reading`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from bertnli.serve.limits import Limits


class Problem(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="what was found, what is expected, what to do")


class PairAnswer(BaseModel):
    """What a model says of one pair."""

    label: str = Field(description="the most probable class")
    probabilities: dict[str, float] = Field(description="of each class, in the model's order")
    unknown_share: float = Field(
        description="of the pair's tokens, the share that the model does not know; where it is "
        "large, the answer means little"
    )
    is_cut: bool = Field(description="whether the pair had more than max_len tokens and was cut")


class PredictAnswer(BaseModel):
    """What a model says of the pairs of a request, in their order."""

    backend: str
    checkpoint: str
    predictions: list[PairAnswer]


class ExplainAnswer(PairAnswer):
    """What a model says of a pair, and where it looked; T tokens."""

    backend: str
    checkpoint: str
    tokens: list[str] = Field(description="T tokens, as the model reads them")
    segments: list[int] = Field(description="of each token, 0 for the premise, 1 for the other")
    attention: list[list[list[list[float]]]] = Field(
        description="(blocks, heads, T, T): from the token of the row to that of the column; "
        "rows sum to 1, but for rounding to 4 digits"
    )
    saliency: list[float] = Field(
        description="of each token, what it adds to the label's probability, from the baseline's on"
    )
    baseline: float = Field(description="the label's probability where every word is masked")


class Health(BaseModel):
    """Whether a server can answer."""

    status: str = Field(description="ready, or the state of a backend that is not")
    backends: dict[str, str]


class ModelAnswer(BaseModel):
    """What a server serves."""

    checkpoint: str
    backends: list[str]
    labels: list[str] = Field(description="the classes, in the model's order")
    blocks: int
    heads: int
    max_len: int = Field(description="tokens of a pair, special ones included; longer ones are cut")
    truncation: str = Field(description="how they are cut")
    limits: dict[str, int] = Field(description="pairs of a request, characters, bytes of a body")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of answers that say why there is none."""
    reasons = {
        400: "The body is no JSON, or the Host is none of the server's names.",
        403: "A page of another site asks.",
        408: "The body came too slowly.",
        413: "The body is too long.",
        415: "The body is compressed.",
        422: "The body is JSON, and not what is expected.",
        429: "Too many pairs wait; Retry-After says when to come again.",
        500: "The model failed.",
        503: "The model is not there or too late, or there are too many requests; Retry-After says "
        "when to come again.",
    }
    return {status: {"model": Problem, "description": reasons[status]} for status in statuses}


def request_body(limits: Limits, backends: list[str], several: bool) -> dict[str, Any]:
    """Return OpenAPI's description of a request's body.

    Args:
        limits: of the server.
        backends: the names that there are.
        several: whether a list of pairs can be asked for, too.
    """
    sentence = {"type": "string", "minLength": 1, "maxLength": limits.max_chars}
    pair = {"premise": sentence, "hypothesis": sentence}
    backend = {
        "enum": [*backends, None],
        "description": f"which backend answers; {backends[0]} if none is given",
    }

    def of(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }

    one = of({**pair, "backend": backend}, list(pair))
    pairs = {
        "type": "array",
        "minItems": 1,
        "maxItems": limits.max_pairs,
        "items": of(pair, list(pair)),
    }
    many = of({"pairs": pairs, "backend": backend}, ["pairs"])
    schema = {"oneOf": [one, many]} if several else one
    example = {"premise": "A man is asleep.", "hypothesis": "A man is awake."}
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}
