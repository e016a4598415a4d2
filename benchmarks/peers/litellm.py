"""LiteLLM: a proxy for many providers, whose ``/v1/responses`` translates to chat completions."""

from typing import Final

from benchmarks.meter import Command
from benchmarks.peers.base import PINS, Peer, Site
from benchmarks.peers.installing import packages

_CONFIG: Final = """
model_list:
  - model_name: "*"
    litellm_params:
      model: "openai/*"
      api_base: {upstream}
      api_key: none
      use_chat_completions_api: true
general_settings:
  master_key: sk-bench-key
litellm_settings:
  telemetry: false
"""


def _start(site: Site) -> Command:
    config = site.folder / "config.yaml"
    config.write_text(_CONFIG.format(upstream=site.upstream), encoding="utf-8")
    listen = ("--host", "127.0.0.1", "--port", str(site.port), "--num_workers", "1")
    return site.command(
        *("bin/litellm", "--config", str(config), *listen, "--telemetry", "False"),
        ready="/health/liveliness",
        settings={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
    )


LITELLM: Final = Peer(
    name="LiteLLM",
    version="1.108.7",
    stores="nothing",
    install=packages(PINS / "litellm.txt"),
    start=_start,
    key="sk-bench-key",
    cannot={
        "chains": "keeps responses in PostgreSQL only",
        "background": "ignored without Redis",
        "tools": "with MCP it wants an upstream that speaks Responses",
    },
)
