"""The figures of ``/metrics``, of one process or of several as those of one (R-138).

Rules
1. Each process writes its own into its file, every second and before it answers; who is asked adds
   up the files. So figures of others are a second old, and no counter ever goes back.
2. A process goes on with the counters that the one before it in its place had written.
3. Who cannot write (a full disk) answers all the same: others then see older figures of it. A
   folder that somebody has tidied up is made again.
4. Gauges are added up, too, but those in `SHARED`: all processes see the same thing, and the one
   that sees the most of it is right.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_log = structlog.get_logger(__name__)

#: The length of one queue, and whether anybody lets a backend rest.
SHARED: Final = frozenset({"antiphon_queue_length", "antiphon_backend_resting"})
#: When somebody began to count.
_BEGIN: Final = "_created"
#: Seconds between two of them.
_EVERY: Final = 1.0

#: A sample: its name, its labels in order, its value.
_Sample: TypeAlias = tuple[str, list[list[str]], float]
#: A metric: its name, type and help, and its samples.
_Family: TypeAlias = tuple[str, str, str, list[_Sample]]


class Figures:
    """Those of this process."""

    def __init__(self, registries: Sequence[CollectorRegistry]) -> None:
        self._registries = registries

    async def text(self) -> bytes:
        """As Prometheus reads them."""
        return b"".join(map(generate_latest, self._registries))

    async def tell_on(self) -> None:
        """Tell others for ever; there are none."""
        await asyncio.Event().wait()


class SharedFigures(Figures):
    """Those of all processes that have a file in `folder`; this one has the place `number`."""

    def __init__(self, registries: Sequence[CollectorRegistry], folder: Path, number: int) -> None:
        super().__init__(registries)
        self._file = folder / f"{number}.figures"
        before = _Sum(family for family in _read(self._file) if family[1] != "gauge")
        self._before = [_family(metric) for metric in before.collect()]
        self._telling = asyncio.Lock()
        self._in_trouble = False

    async def text(self) -> bytes:
        """See `Figures`."""
        own = await self._tell()
        others = await asyncio.to_thread(_read_others, self._file)
        registry = CollectorRegistry()
        registry.register(_Sum([*others, *own]))
        return generate_latest(registry)

    async def tell_on(self) -> None:
        """See `Figures`."""
        while True:
            await self._tell()
            await asyncio.sleep(_EVERY)

    async def _tell(self) -> list[_Family]:
        """What this process has to tell, which is in its file then, if that can be written."""
        async with self._telling:
            own = [_family(metric) for one in self._registries for metric in one.collect()]
            told = [*self._before, *own]
            try:
                await asyncio.to_thread(_write, self._file, orjson.dumps(told))
                self._in_trouble = False
            except OSError as error:
                if not self._in_trouble:
                    self._in_trouble = True
                    _log.warning("figures_not_written", reason=error.strerror)
            return told


class _Sum(Collector):
    """What several have, by name and labels."""

    def __init__(self, families: Iterable[_Family]) -> None:
        self._metrics: dict[str, Metric] = {}
        self._values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
        for name, kind, text, samples in families:
            self._metrics.setdefault(name, Metric(name, text, kind))
            values = self._values.setdefault(name, {})
            for sample, labels, value in samples:
                key = sample, tuple((label, text) for label, text in labels)
                values[key] = (
                    _together(name, sample, values[key], value) if key in values else value
                )

    def collect(self) -> Iterator[Metric]:
        """As they were added up."""
        for name, metric in self._metrics.items():
            metric.samples = []
            for (sample, labels), value in self._values[name].items():
                metric.add_sample(sample, dict(labels), value)
            yield metric


def _together(name: str, sample: str, one: float, other: float) -> float:
    if sample.endswith(_BEGIN):
        return min(one, other)
    return max(one, other) if name in SHARED else one + other


def _family(metric: Metric) -> _Family:
    samples: list[_Sample] = [
        (one.name, sorted([name, text] for name, text in one.labels.items()), one.value)
        for one in metric.samples
    ]
    return metric.name, metric.type, metric.documentation, samples


def _read(file: Path) -> list[_Family]:
    with contextlib.suppress(FileNotFoundError):
        found: Any = orjson.loads(file.read_bytes())
        return [(name, kind, text, samples) for name, kind, text, samples in found]
    return []


def _read_others(own: Path) -> list[_Family]:
    others = sorted(set(own.parent.glob("*.figures")) - {own})
    return [family for file in others for family in _read(file)]


def _write(file: Path, text: bytes) -> None:
    """Whoever reads it sees all of it, or all of the one before."""
    unnamed = file.with_suffix(".new")
    file.parent.mkdir(mode=0o700, exist_ok=True)
    unnamed.write_bytes(text)
    unnamed.replace(file)
