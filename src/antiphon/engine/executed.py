"""What a run of code showed, as an item has it and a model is told of it."""

import asyncio
from typing import Final

from antiphon.protocol.code_interpreter import Executed, Json
from antiphon.protocol.images import image_of
from antiphon.protocol.inline import inlined
from antiphon.sandbox.base import Ending, Picture, Ran, Shown, Text

_CUT: Final = "Some of the output was left out: there was too much of it."
_ENDINGS: Final[dict[Ending, str]] = {
    "timeout": "The code was stopped: it took longer than {seconds:g} seconds.",
    "died": "The Python session ended while the code ran (it crashed, or was ended): variables "
    "and imports are lost; the files in /mnt/data are still there.",
    "memory": "The Python session was ended: it used more memory than the container has. Variables "
    "and imports are lost; the files in /mnt/data are still there.",
}


async def executed(ran: Ran, seconds: float) -> Executed:
    """Without files. How the code ended badly is in the outputs as well."""
    outputs = [output for shown in ran.shown if (output := await _output(shown)) is not None]
    notes = [_CUT] if ran.cut else []
    if ran.ending not in _ENDINGS:
        return Executed(outputs, (), notes)
    reason = _ENDINGS[ran.ending].format(seconds=seconds)
    return Executed([*outputs, {"type": "logs", "logs": reason}], (), notes, has_failed=True)


async def _output(shown: Shown) -> Json | None:
    match shown:
        case Text(text):
            return {"type": "logs", "logs": text.removesuffix("\n")}
        case Picture(body):
            image = image_of(body)
            if image is None:
                return None
            url = await asyncio.to_thread(inlined, image.media_type, body)
            return {"type": "image", "url": url}
