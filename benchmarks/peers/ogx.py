"""OGX (formerly Llama Stack): responses over chat completions, stored in SQLite, MCP tools.

Its ``starter`` distribution brings several gigabytes of machine learning; this is the same server
with only the providers that a response needs. Its access log cannot be switched off; JSON is the
cheaper form of it.
"""

import shutil
from typing import Final

from benchmarks.meter import Command
from benchmarks.peers.base import PINS, Peer, Site
from benchmarks.peers.installing import packages

#: The name that tiktoken's cache gives the file of cl100k_base: OGX wants it at its start, and
#: would fetch it.
_CL100K: Final = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"

_CONFIG: Final = """
version: 2
distro_name: bench
apis: [inference, responses, tool_runtime, files, vector_io]
providers:
  inference:
  - provider_id: bench
    provider_type: remote::openai
    config: {{api_key: none, base_url: "{upstream}"}}
  files:
  - provider_id: builtin-files
    provider_type: inline::localfs
    config:
      storage_dir: {folder}/files
      metadata_store: {{table_name: files_metadata, backend: sql_default}}
  vector_io:
  - provider_id: sqlite-vec
    provider_type: inline::sqlite-vec
    config:
      db_path: {folder}/vectors.db
      persistence: {{namespace: "vector_io::sqlite_vec", backend: kv_default}}
  responses:
  - provider_id: builtin
    provider_type: inline::builtin
    config:
      persistence:
        responses:
          table_name: responses
          backend: sql_default
          max_write_queue_size: 10000
          num_writers: 4
  tool_runtime:
  - provider_id: model-context-protocol
    provider_type: remote::model-context-protocol
storage:
  backends:
    kv_default: {{type: kv_sqlite, db_path: {folder}/kv.db}}
    sql_default: {{type: sql_sqlite, db_path: {folder}/sql.db}}
  stores:
    metadata: {{namespace: registry, backend: kv_default}}
    inference:
      table_name: inference_store
      backend: sql_default
      max_write_queue_size: 10000
      num_writers: 4
    conversations: {{table_name: openai_conversations, backend: sql_default}}
    prompts: {{table_name: prompts, backend: sql_default}}
    connectors: {{table_name: connectors, backend: sql_default}}
registered_resources: {{models: []}}
server: {{host: 127.0.0.1, port: {port}}}
"""


def _start(site: Site) -> Command:
    tokens = site.folder / "tiktoken"
    tokens.mkdir()
    (data,) = site.installed.glob("lib/python*/site-packages/tiktoken_ext/data/cl100k_base.*")
    shutil.copy(data, tokens / _CL100K)
    config = site.folder / "config.yaml"
    text = _CONFIG.format(upstream=site.upstream, folder=site.folder, port=site.port)
    config.write_text(text, encoding="utf-8")
    return site.command(
        *("bin/ogx", "run", str(config), "--port", str(site.port), "--insecure"),
        ready="/v1/health",
        settings={
            "TIKTOKEN_CACHE_DIR": str(tokens),
            "OGX_LOGGING": "all=error",
            "OGX_LOG_FORMAT": "json",
        },
    )


OGX: Final = Peer(
    name="OGX",
    version="1.5.0",
    stores="SQLite, after the answer",
    install=packages(PINS / "ogx.txt"),
    start=_start,
    model="bench/{}",
    cannot={"background": "refuses background streams"},
)
