"""Finding local model servers at start, over real sockets."""

import socket

from antiphon.backends.discovery import discover
from tests.backends.upstream import ChatUpstream, Reply


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_server_that_lists_models_is_found() -> None:
    listed = Reply.json({"object": "list", "data": [{"id": "llama3"}, {"id": "qwen3"}]})
    with ChatUpstream(models=listed) as upstream:
        found = discover(8000, {"ollama": upstream.port})
    assert [(server.profile, server.models) for server in found] == [
        ("ollama", ("llama3", "qwen3"))
    ]
    assert found[0].base_url == upstream.base_url


def test_what_does_not_answer_like_a_model_list_is_not_there() -> None:
    for reply in (Reply.json([1]), Reply.json({"data": [1]}), Reply.json({}, 500), Reply()):
        with ChatUpstream(models=reply) as upstream:
            assert discover(8000, {"vllm": upstream.port}) == []
    assert discover(8000, {"vllm": free_port()}) == []


def test_our_own_port_is_never_asked() -> None:
    with ChatUpstream() as upstream:
        assert discover(upstream.port, {"vllm": upstream.port}) == []
        assert upstream.connections == 0
