"""Where the bytes of files are, and what may be done with them."""

from antiphon.app.folder import Folder
from antiphon.blobs.base import Blobs
from antiphon.blobs.local import LocalBlobs
from antiphon.blobs.s3 import S3Blobs
from antiphon.config import ConfigError
from antiphon.engine.containers import ContainerOptions
from antiphon.engine.files import FileOptions
from antiphon.settings import Settings


def blobs_of(settings: Settings, folder: Folder) -> Blobs:
    """Raises `ConfigError`."""
    if not settings.blobs:
        return LocalBlobs(folder.path / "files", settings.min_free_disk)
    if folder.database_url is None:
        raise ConfigError("ANTIPHON_BLOBS: a memory store would forget what is there")
    try:
        return S3Blobs(settings.blobs, folder.path / "copies")
    except ValueError as error:
        raise ConfigError(f"ANTIPHON_BLOBS: {error}") from None


def file_options(settings: Settings) -> FileOptions:
    return FileOptions(
        settings.max_file_bytes, settings.max_upload_bytes, settings.max_project_bytes
    )


def container_options(settings: Settings) -> ContainerOptions:
    return ContainerOptions(
        settings.container_memory, settings.container_disk, settings.project_containers
    )
