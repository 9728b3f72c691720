"""Options of the models that judge documents: who gives the labels that the classifiers learn from, and by what words.

The requirements are the recipe's, as in Llama 3 (section 3.1.1), which published neither its own nor its thresholds.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from herdsman.options import Options

REQUIREMENTS = """\
- It says something: a reader learns a fact, an explanation, a method, an argument or a story, complete in itself.
- It is well written: whole sentences, in an order that makes sense, without noise from templates, lists of keywords or
  text made by machines to be found.
- It is trustworthy in tone: it explains or reports rather than sells, insults or lures.
- It is worth learning from: what it says is of use beyond the day and the place it was written for.
- Program code, formulas and tables count for a document when text explains them, or when they explain themselves."""


class QualityOptions(Options):
    """Labels for the classifiers of quality, reference-likeness, category and topic, and what is made of the scores."""

    judge: Literal["rubric", "endpoint", "model"] = Field(
        "rubric",
        description="Who labels documents for the classifiers to learn from: `rubric` measures (no model), `endpoint` "
        "asks a server with the OpenAI chat protocol, `model` asks a model in a folder on this machine.",
    )
    requirements: str = Field(
        REQUIREMENTS, min_length=1, description="What a good document is, in words for the judge; change them freely."
    )
    tasks: tuple[Literal["quality", "category", "reference"], ...] = Field(
        ("quality", "category", "reference"),
        min_length=1,
        description="What the judge is asked about each document, a request each; for the rest the rules give labels.",
    )
    base_url: str | None = Field(
        None, description="Address of the endpoint up to and with `/v1`, for `judge = endpoint`."
    )
    model: str | None = Field(
        None,
        description="Name of the model at the endpoint; for `judge = model` the folder of a Hugging Face model.",
    )
    api_key_variable: str | None = Field(
        None, description="Name of the environment variable that holds the endpoint's key; no key is sent if left out."
    )
    concurrency: int = Field(8, ge=1, le=1024, description="Requests to the endpoint at the same time.")
    timeout_seconds: float = Field(120, gt=0, description="How long one request to the endpoint may take.")
    retries: int = Field(
        6, ge=0, description="Tries after the first of a request that timed out, broke off, or met a busy server."
    )
    max_documents: int = Field(5_000, ge=1, description="Documents that the judge labels, drawn at random.")
    max_answer_tokens: int = Field(256, ge=1, description="Length of an answer; models that think aloud need more.")
    judged_characters: int = Field(
        4_000, ge=100, description="Of a document, from its beginning, that the judge reads."
    )
    sample_seed: int = Field(0, ge=0, description="Which documents are drawn for the judge.")
    reference_urls: str | None = Field(
        None,
        description="File with a domain or a beginning of addresses a line, of pages that an encyclopedia cites: they "
        "teach reference-likeness when the judge is not asked.",
    )
    best_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="Share of the documents, by quality, that make the tier `best`; the others are `rest`.",
    )

    @model_validator(mode="after")
    def _judge_is_complete(self) -> QualityOptions:
        if self.judge == "endpoint" and not (self.base_url and self.model):
            raise ValueError("judge = endpoint needs base_url and model")
        if self.judge == "model" and not self.model:
            raise ValueError("judge = model needs model, the folder of a model")
        return self
