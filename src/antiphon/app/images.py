"""Who makes images: `[image_generation]` of the configuration."""

from collections.abc import Mapping
from importlib.util import find_spec

from antiphon.config import ConfigError, ImageGenerationConfig, key_of
from antiphon.images.base import ImageBackend
from antiphon.images.finishing import Finishing
from antiphon.images.simulator import DrawingSimulator
from antiphon.tools.image_generation.opened import Studio
from antiphon.tools.image_generation.pictures import Pictures
from antiphon.tools.image_generation.rules import ImageRules
from antiphon.tools.image_generation.tool import ImageGeneration


def image_generation_of(
    config: ImageGenerationConfig | None,
    pictures: Pictures,
    environment: Mapping[str, str],
    *,
    elsewhere: bool,
) -> ImageGeneration:
    """The tool. `elsewhere`: images may be at other hosts than their server. Raises
    `ConfigError`."""
    if config is None:
        return ImageGeneration(None)
    rules = ImageRules(
        config.model,
        frozenset(config.models),
        frozenset(config.unsupported),
        frozenset(config.extra),
    )
    backend = Finishing(
        _backend(config, environment, elsewhere=elsewhere),
        config.at_once,
        packs="output_compression" in config.unsupported,
    )
    # A call may wait for its turn as long as an image may take.
    return ImageGeneration(Studio(backend, pictures, rules, 2 * config.timeout))


def _backend(
    config: ImageGenerationConfig, environment: Mapping[str, str], *, elsewhere: bool
) -> ImageBackend:
    if config.kind == "simulator":
        if find_spec("PIL") is None:  # not imported, for it may never be needed
            raise ConfigError(
                "image_generation: the package 'pillow' is missing: pip install 'antiphon[images]'"
            )
        return DrawingSimulator()
    from antiphon.images.openai import ImageServer, OpenAIImages  # noqa: PLC0415

    key = key_of("image_generation", config.api_key_env, environment)
    server = ImageServer(
        base_url=config.base_url or "",
        model=config.model,
        api_key=key,
        headers=config.headers,
        timeout=config.timeout,
        max_retries=config.max_retries,
        unsent=frozenset(config.unsupported),
        elsewhere=elsewhere,
    )
    try:
        return OpenAIImages(server)
    except ValueError as error:
        raise ConfigError(f"image_generation: {error}") from None
