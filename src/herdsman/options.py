"""The base of every options model: what is not known is refused, what is read is not changed.

Each folder keeps its options in its own light `options.py` beside the code they configure; `recipe.py` composes them.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """A section of the recipe. Unknown keys are errors; every field has a description that becomes documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
