"""The parameters of a request, written from spec §1, App. A and App. D by hand (see
`test_request_fields`): nothing here is derived from the code under test.
"""

from typing import Any, NamedTuple

Json = dict[str, Any]


class Row(NamedTuple):
    """A field: its path, its kind, and what holds for it."""

    path: str
    kind: str
    #: Allowed values of an enum.
    values: tuple[str, ...] = ()
    #: Missing and null are errors.
    required: bool = False
    #: Smallest and largest number, or length.
    low: float | None = None
    high: float | None = None


def a_tool(**fields: Any) -> Json:
    return {"tools": [fields]}


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SIZES = ("low", "medium", "high")
RANKERS = ("auto", "default-2024-11-15", "none")
CALLERS = ("direct", "programmatic")
STATUS = ("in_progress", "completed", "incomplete")

#: A valid body, and the fields that are in it.
PARAMETERS: list[tuple[Json, list[Row]]] = [
    (
        {},
        [
            Row("model", "string", high=512),
            Row("instructions", "string", high=10_485_760),
            Row("previous_response_id", "string"),
            Row("user", "string"),
            Row("prompt_cache_key", "string", high=64),
            Row("safety_identifier", "string", high=128),
            Row("stream", "boolean"),
            Row("background", "boolean"),
            Row("store", "boolean"),
            Row("parallel_tool_calls", "boolean"),
            Row("max_output_tokens", "integer", low=16),
            Row("max_tool_calls", "integer", low=1),
            Row("top_logprobs", "integer", low=0, high=20),
            Row("temperature", "decimal", low=0, high=2),
            Row("top_p", "decimal", low=0, high=1),
            Row("truncation", "enum", ("auto", "disabled")),
            Row("prompt_cache_retention", "enum", ("in_memory", "24h")),
            Row(
                "service_tier",
                "enum",
                ("auto", "default", "fast", "flex", "priority", "scale", "ultrafast"),
            ),
            Row("metadata", "object"),
            Row("reasoning", "object"),
            Row("text", "object"),
            Row("prompt_cache_options", "object"),
            Row("background_options", "object"),
            Row("moderation", "object"),
            Row("image", "object"),
            Row("access_programs", "object"),
            Row("client_metadata", "object"),
            Row("prompt", "object"),
            Row("stream_options", "object"),
            Row("tools", "array"),
            Row("include", "array"),
            Row("context_management", "array"),
        ],
    ),
    (
        {"reasoning": {}},
        [
            Row("reasoning.effort", "enum", EFFORTS),
            Row("reasoning.summary", "enum", ("concise", "detailed", "auto")),
            Row("reasoning.generate_summary", "enum", ("concise", "detailed", "auto")),
            Row("reasoning.context", "enum", ("auto", "current_turn", "all_turns")),
            Row("reasoning.mode", "enum", ("standard", "pro")),
        ],
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}},
        [
            Row("text.verbosity", "enum", SIZES),
            Row("text.format", "object"),
            Row("text.format.type", "type", ("json_object", "json_schema", "text"), required=True),
            Row("text.format.name", "string", required=True, low=1, high=64),
            Row("text.format.schema", "object", required=True),
            Row("text.format.description", "string"),
            Row("text.format.strict", "boolean"),
        ],
    ),
    (
        {"stream": True, "stream_options": {}},
        [Row("stream_options.include_obfuscation", "boolean")],
    ),
    (
        {"background": True, "background_options": {}},
        [
            Row("background_options.completion_window", "enum", ("soonest", "2h", "8h")),
            Row("background_options.continuation_id", "string"),
        ],
    ),
    (
        {"prompt_cache_options": {}},
        [
            Row("prompt_cache_options.mode", "enum", ("implicit", "explicit")),
            Row("prompt_cache_options.ttl", "enum", ("30m", "12h")),
            Row("prompt_cache_options.prewarm", "boolean"),
            Row("prompt_cache_options.comparison_response_id", "string"),
        ],
    ),
    (
        {"context_management": [{"type": "compaction"}]},
        [
            Row("context_management[0]", "object", required=True),
            Row("context_management[0].type", "enum", ("compaction",), required=True),
            Row("context_management[0].compact_threshold", "integer", low=1000),
        ],
    ),
    (
        {"moderation": {"model": "m", "policy": {"input": {"mode": "score"}}}},
        [
            Row("moderation.model", "string", required=True),
            Row("moderation.policy", "object"),
            Row("moderation.policy.input", "object"),
            Row("moderation.policy.output", "object"),
            Row("moderation.policy.input.mode", "enum", ("score", "block"), required=True),
        ],
    ),
    ({"image": {}}, [Row("image.context_compression", "enum", ("auto", "enabled", "disabled"))]),
    (
        {"access_programs": {}},
        [Row("access_programs.cyber", "enum", ("standard", "daybreak_blue", "daybreak_red"))],
    ),
    (
        {"prompt": {"id": "pmpt_1", "variables": {"v": {"type": "input_text", "text": "x"}}}},
        [
            Row("prompt.id", "string", required=True),
            Row("prompt.version", "string"),
            Row("prompt.variables", "object"),
            Row("prompt.variables.v.text", "string", required=True),
            Row("prompt.variables.v.type", "type", ("input_text",), required=True),
        ],
    ),
    ({"conversation": {"id": "conv_1"}}, [Row("conversation.id", "string", required=True)]),
    (
        {"include": ["reasoning.encrypted_content"]},
        [
            Row(
                "include[0]",
                "enum",
                (
                    "file_search_call.results",
                    "web_search_call.results",
                    "web_search_call.action.sources",
                    "message.input_image.image_url",
                    "computer_call_output.output.image_url",
                    "code_interpreter_call.outputs",
                    "reasoning.encrypted_content",
                    "message.output_text.logprobs",
                ),
                required=True,
            )
        ],
    ),
    # -- tools -----------------------------------------------------------------------------------
    (
        a_tool(type="function", name="f", parameters={}),
        [
            Row("tools[0]", "object", required=True),
            Row("tools[0].type", "type", ("function",), required=True),
            Row("tools[0].name", "string", required=True, low=1, high=128),
            Row("tools[0].description", "string"),
            Row("tools[0].parameters", "object"),
            Row("tools[0].strict", "boolean"),
            Row("tools[0].async", "boolean"),
            Row("tools[0].defer_loading", "boolean"),
            Row("tools[0].output_schema", "object"),
            Row("tools[0].allowed_callers", "array"),
        ],
    ),
    (
        a_tool(type="function", name="f", allowed_callers=["direct"]),
        [Row("tools[0].allowed_callers[0]", "enum", CALLERS, required=True)],
    ),
    (
        a_tool(
            type="custom",
            name="f",
            format={"type": "grammar", "syntax": "lark", "definition": "start: /x/"},
        ),
        [
            Row("tools[0].name", "string", required=True, low=1, high=128),
            Row("tools[0].description", "string"),
            Row("tools[0].async", "boolean"),
            Row("tools[0].defer_loading", "boolean"),
            Row("tools[0].format", "object"),
            Row("tools[0].format.type", "type", ("text", "grammar"), required=True),
            Row("tools[0].format.syntax", "enum", ("lark", "regex"), required=True),
            Row("tools[0].format.definition", "string", required=True, low=1, high=65_536),
        ],
    ),
    (
        a_tool(
            type="namespace", name="n", description="d", tools=[{"type": "function", "name": "f"}]
        ),
        [
            Row("tools[0].name", "string", required=True, low=1, high=128),
            Row("tools[0].description", "string", required=True),
            Row("tools[0].tools", "array", required=True),
            Row("tools[0].tools[0]", "object", required=True),
            Row("tools[0].tools[0].type", "type", ("function", "custom"), required=True),
            Row("tools[0].tools[0].name", "string", required=True, low=1, high=128),
        ],
    ),
    (
        a_tool(
            type="file_search",
            vector_store_ids=["vs_1"],
            ranking_options={"hybrid_search": {"embedding_weight": 1, "text_weight": 0.5}},
            filters={"type": "and", "filters": [{"type": "eq", "key": "k", "value": "v"}]},
        ),
        [
            Row("tools[0].vector_store_ids", "array", required=True),
            Row("tools[0].vector_store_ids[0]", "string", required=True),
            Row("tools[0].max_num_results", "integer", low=1, high=50),
            Row("tools[0].ranking_options", "object"),
            Row("tools[0].ranking_options.ranker", "enum", RANKERS),
            Row("tools[0].ranking_options.score_threshold", "decimal", low=0, high=1),
            Row("tools[0].ranking_options.hybrid_search", "object"),
            Row("tools[0].ranking_options.hybrid_search.text_weight", "decimal", required=True),
            Row(
                "tools[0].ranking_options.hybrid_search.embedding_weight", "decimal", required=True
            ),
            Row("tools[0].filters", "object"),
            Row(
                "tools[0].filters.type",
                "type",
                ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"),
                required=True,
            ),
            Row("tools[0].filters.filters", "array", required=True),
            Row("tools[0].filters.filters[0].key", "string", required=True),
        ],
    ),
    (
        a_tool(type="web_search", filters={}, user_location={}),
        [
            Row("tools[0].filters", "object"),
            Row("tools[0].filters.allowed_domains", "array"),
            Row("tools[0].filters.blocked_domains", "array"),
            Row("tools[0].search_context_size", "enum", SIZES),
            Row("tools[0].user_location", "object"),
            Row("tools[0].user_location.type", "enum", ("approximate",)),
            Row("tools[0].user_location.city", "string"),
            Row("tools[0].user_location.country", "string"),
            Row("tools[0].user_location.region", "string"),
            Row("tools[0].user_location.timezone", "string"),
            Row("tools[0].external_web_access", "boolean"),
            Row("tools[0].return_token_budget", "enum", ("default", "unlimited")),
            Row("tools[0].search_content_types", "array"),
        ],
    ),
    (
        a_tool(type="web_search_preview", search_content_types=["text"]),
        [
            Row("tools[0].search_context_size", "enum", SIZES),
            Row("tools[0].user_location", "object"),
            Row("tools[0].search_content_types[0]", "enum", ("text", "image"), required=True),
        ],
    ),
    (
        a_tool(type="mcp", server_label="l", server_url="https://x", allowed_tools={}, headers={}),
        [
            Row("tools[0].server_label", "string", required=True),
            Row("tools[0].authorization", "string"),
            Row("tools[0].headers", "object"),
            Row("tools[0].headers.a", "string", required=True),
            Row("tools[0].allowed_tools.tool_names", "array"),
            Row("tools[0].allowed_tools.read_only", "boolean"),
            Row("tools[0].server_description", "string"),
            Row("tools[0].defer_loading", "boolean"),
        ],
    ),
    (
        a_tool(
            type="mcp",
            server_label="l",
            connector_id="connector_gmail",
            allowed_tools=["a"],
            require_approval={"always": {}},
        ),
        [
            Row("tools[0].allowed_tools[0]", "string", required=True),
            Row("tools[0].require_approval.always", "object"),
            Row("tools[0].require_approval.never", "object"),
            Row("tools[0].require_approval.always.tool_names", "array"),
            Row("tools[0].require_approval.always.read_only", "boolean"),
        ],
    ),
    (
        a_tool(
            type="code_interpreter",
            container={
                "type": "auto",
                "network_policy": {"type": "allowlist", "allowed_domains": ["a.b"]},
            },
        ),
        [
            Row("tools[0].container.type", "enum", ("auto",), required=True),
            Row("tools[0].container.file_ids", "array"),
            Row("tools[0].container.memory_limit", "enum", ("1g", "4g", "16g", "64g")),
            Row("tools[0].container.network_policy", "object"),
            Row(
                "tools[0].container.network_policy.type",
                "type",
                ("disabled", "allowlist"),
                required=True,
            ),
            Row("tools[0].container.network_policy.allowed_domains", "array", required=True),
        ],
    ),
    (
        a_tool(type="image_generation", svg={"reasoning": {}}, input_image_mask={}),
        [
            Row("tools[0].action", "enum", ("generate", "edit", "auto")),
            Row("tools[0].background", "enum", ("transparent", "opaque", "auto")),
            Row("tools[0].complexity", "enum", SIZES),
            Row("tools[0].frame_count", "integer"),
            Row("tools[0].frame_duration_ms", "integer"),
            Row("tools[0].input_fidelity", "enum", ("high", "low")),
            Row("tools[0].input_image_mask", "object"),
            Row("tools[0].input_image_mask.file_id", "string"),
            Row("tools[0].model", "string"),
            Row("tools[0].moderation", "enum", ("auto", "low")),
            Row("tools[0].output_compression", "integer", low=0, high=100),
            Row("tools[0].output_format", "enum", ("png", "webp", "jpeg", "gif", "svg")),
            Row("tools[0].partial_images", "integer", low=0, high=3),
            Row("tools[0].quality", "enum", ("low", "medium", "high", "xhigh", "max", "auto")),
            Row("tools[0].size", "string"),
            Row("tools[0].svg", "object"),
            Row("tools[0].svg.model", "string"),
            Row("tools[0].svg.reasoning.effort", "enum", EFFORTS),
        ],
    ),
    (
        a_tool(
            type="computer_use_preview", display_height=1, display_width=1, environment="browser"
        ),
        [
            Row("tools[0].display_height", "integer", required=True),
            Row("tools[0].display_width", "integer", required=True),
            Row(
                "tools[0].environment",
                "enum",
                ("windows", "mac", "linux", "ubuntu", "browser"),
                required=True,
            ),
        ],
    ),
    (
        a_tool(
            type="shell",
            environment={
                "type": "container_auto",
                "skills": [
                    {
                        "type": "inline",
                        "name": "s",
                        "description": "d",
                        "source": {"type": "base64", "media_type": "application/zip", "data": "A"},
                    }
                ],
            },
        ),
        [
            Row("tools[0].environment", "object"),
            Row(
                "tools[0].environment.type",
                "type",
                ("container_auto", "local", "container_reference"),
                required=True,
            ),
            Row("tools[0].environment.skills[0].name", "string", required=True),
            Row("tools[0].environment.skills[0].description", "string", required=True),
            Row("tools[0].environment.skills[0].source", "object", required=True),
            Row("tools[0].environment.skills[0].source.data", "string", required=True),
            Row(
                "tools[0].environment.skills[0].source.media_type",
                "enum",
                ("application/zip",),
                required=True,
            ),
        ],
    ),
    (
        a_tool(type="tool_search"),
        [
            Row("tools[0].execution", "enum", ("server", "client")),
            Row("tools[0].description", "string"),
            Row("tools[0].parameters", "object"),
        ],
    ),
    # -- tool_choice -----------------------------------------------------------------------------
    (
        {
            "tools": [{"type": "function", "name": "f"}],
            "tool_choice": {"type": "function", "name": "f"},
        },
        [
            Row("tool_choice.type", "type", ("function",), required=True),
            Row("tool_choice.name", "string", required=True, low=1, high=128),
        ],
    ),
    (
        {
            "tools": [{"type": "function", "name": "f"}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "f"}],
            },
        },
        [
            Row("tool_choice.mode", "enum", ("auto", "required"), required=True),
            Row("tool_choice.tools", "array", required=True),
            Row("tool_choice.tools[0]", "object", required=True),
            Row("tool_choice.tools[0].type", "string", required=True),
        ],
    ),
]

#: Objects that are closed (spec §1): an unknown key is named with its whole path.
CLOSED: list[tuple[Json, str]] = [
    ({}, "bogus"),
    ({}, "frequency"),
    ({"reasoning": {}}, "reasoning.max_tokens"),
    ({"text": {}}, "text.bogus"),
    ({"text": {"format": {"type": "text"}}}, "text.format.bogus"),
    ({"text": {"format": {"type": "json_object"}}}, "text.format.schema"),
    ({"stream": True, "stream_options": {}}, "stream_options.include_usage"),
    ({"background_options": {}}, "background_options.bogus"),
    ({"prompt_cache_options": {}}, "prompt_cache_options.bogus"),
    ({"context_management": [{"type": "compaction"}]}, "context_management[0].bogus"),
    ({"moderation": {"model": "m"}}, "moderation.bogus"),
    ({"image": {}}, "image.bogus"),
    ({"access_programs": {}}, "access_programs.bogus"),
    ({"prompt": {"id": "p"}}, "prompt.bogus"),
    ({"conversation": {"id": "c"}}, "conversation.bogus"),
    (a_tool(type="function", name="f"), "tools[0].function"),
    (a_tool(type="custom", name="f"), "tools[0].bogus"),
    (a_tool(type="custom", name="f", format={"type": "text"}), "tools[0].format.bogus"),
    (a_tool(type="web_search"), "tools[0].bogus"),
    (a_tool(type="web_search", filters={}), "tools[0].filters.bogus"),
    (a_tool(type="web_search_preview"), "tools[0].filters"),
    (a_tool(type="file_search", vector_store_ids=["v"]), "tools[0].bogus"),
    (a_tool(type="mcp", server_label="l", server_url="http://x"), "tools[0].bogus"),
    (a_tool(type="code_interpreter", container={"type": "auto"}), "tools[0].container.bogus"),
    (a_tool(type="image_generation"), "tools[0].n"),
    (a_tool(type="computer"), "tools[0].bogus"),
    (a_tool(type="local_shell"), "tools[0].bogus"),
    (a_tool(type="shell", environment={"type": "local"}), "tools[0].environment.bogus"),
    (a_tool(type="apply_patch"), "tools[0].bogus"),
    (a_tool(type="tool_search"), "tools[0].bogus"),
    (a_tool(type="programmatic_tool_calling"), "tools[0].bogus"),
    ({"tools": [{"type": "shell"}], "tool_choice": {"type": "shell"}}, "tool_choice.bogus"),
]
