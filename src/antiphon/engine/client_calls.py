"""Calls that the client runs with an item of its own, or whose text has a grammar (spec §3.3)."""

import asyncio
import time

from antiphon.engine.progress import PendingCall
from antiphon.engine.toolbox import Entry, Whole
from antiphon.protocol.client_tools import CLIENT_TOOLS, BadCall
from antiphon.protocol.grammars import mismatch
from antiphon.protocol.held_calls import HeldCall
from antiphon.protocol.machine import ResponseMachine


async def show_call(
    machine: ResponseMachine, call: PendingCall, entry: Entry, target: Whole
) -> None:
    """Show a call that is whole and right. Raises `BadCall`, with what the model is told."""
    tool = target.tool
    held = HeldCall(call.name, call.arguments, call.call_id)
    if tool["type"] != "custom":
        kind = CLIENT_TOOLS[tool["type"]]
        machine.say_call(held, kind.item_type, kind.parse(call.arguments))
        return
    # In a thread: a grammar may take its time.
    reason = await asyncio.to_thread(mismatch, tool["format"], call.arguments, time.thread_time)
    if reason is not None:
        raise BadCall(f"the input does not match the grammar of this tool. {reason}")
    name, namespace = entry.known
    place = {} if namespace is None else {"namespace": namespace}
    machine.say_call(held, "custom_tool_call", {"name": name, "input": call.arguments, **place})
