"""What antiphon.toml says of models that run on this machine (`backends.py` and `tools.py` have
the rest).

Rules
1. `path` is a file, or the name of one in the folder of models (``antiphon models list``).
2. Where these keys belong to another kind of backend they are an error (`app/local.py`).
"""

from typing import Self

from pydantic import BaseModel, Field, model_validator


class _File(BaseModel):
    """A GGUF file."""

    path: str | None = Field(None, min_length=1)
    #: Processor threads; None: as many as there are cores.
    threads: int | None = Field(None, ge=1, le=1_024)
    #: Seconds without a request after which its memory is given back; None: it stays.
    idle_unload: int | float | None = Field(None, gt=0)


class LocalModel(_File):
    """Of ``[[backends]]`` with ``kind = "local"``."""

    #: The file that lets it see images, likewise.
    mmproj: str | None = Field(None, min_length=1)
    #: Turns at once, each with a context window of its own.
    parallel: int = Field(4, ge=1, le=256)
    #: Load it when the server starts, and not when it is first asked.
    preload: bool = False


class LocalEmbeddings(_File):
    """Of ``[embeddings]``: where they are made."""

    #: A server that speaks ``/embeddings``, with the version: ``http://127.0.0.1:8001/v1``.
    base_url: str | None = None
    #: None: the name of the file.
    model: str | None = Field(None, min_length=1, max_length=256)
    #: Tokens of a text at most.
    context_window: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.path is None and (self.base_url is None or self.model is None):
            raise ValueError("needs a base_url and a model, or a path")
        return self
