"""What antiphon.toml says of providers that are asked by way of any-llm (`backends.py` has the
rest). Where these keys belong to another kind of backend they are an error (`app/any_llm.py`)."""

from typing import Any

from pydantic import BaseModel, Field


class AnyLLMProvider(BaseModel):
    """Of ``[[backends]]`` with ``kind = "any_llm"``."""

    #: As any-llm calls it: ``bedrock``, ``cohere``, ``mistral``, ``vertexai`` …
    provider: str | None = Field(None, min_length=1)
    #: More arguments for any-llm's class of the provider: ``{region_name = "eu-central-1"}``.
    options: dict[str, Any] = Field(default_factory=dict, repr=False)
