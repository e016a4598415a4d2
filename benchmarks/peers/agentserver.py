"""Microsoft's agentserver: a host for agents that gives them ``/responses``; what an agent asks a
model is its own affair, so ours asks as the package's samples do, with the openai package."""

from typing import Final

from benchmarks.meter import Command
from benchmarks.peers.base import PINS, Peer, Site
from benchmarks.peers.installing import packages

_AGENT: Final = """
import sys

from azure.ai.agentserver.responses import ResponsesAgentServerHost, TextResponse
from openai import AsyncOpenAI

client = AsyncOpenAI(base_url=sys.argv[1], api_key="none", timeout=600)
app = ResponsesAgentServerHost(log_level="WARNING", access_log=None)


def messages(items):
    for item in items:
        parts = item.get("content") or []
        text = parts if isinstance(parts, str) else "".join(part.get("text", "") for part in parts)
        yield {"role": item.get("role", "user"), "content": text}


@app.response_handler
async def answer(request, context, cancelled):
    async def tokens():
        asked = {"role": "user", "content": await context.get_input_text()}
        history = list(messages(await context.get_history()))
        stream = await client.chat.completions.create(
            model=request["model"], messages=[*history, asked], stream=True
        )
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return TextResponse(context, request, text=tokens())


app.run(host="127.0.0.1", port=int(sys.argv[2]))
"""


def _start(site: Site) -> Command:
    agent = site.folder / "agent.py"
    agent.write_text(_AGENT, encoding="utf-8")
    return site.command(
        *("bin/python", str(agent), site.upstream, str(site.port)),
        ready="/readiness",
        settings={
            "AGENTSERVER_STATE_ROOT": str(site.folder / "state"),
            "APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL": "true",
            "OTEL_SDK_DISABLED": "true",
            "AZURE_LOG_LEVEL": "error",
        },
    )


AGENTSERVER: Final = Peer(
    name="agentserver",
    version="2.3.0",
    stores="files",
    install=packages(PINS / "agentserver.txt"),
    start=_start,
    path="/responses",
    cannot={"tools": "the agent calls tools, not the host"},
)
