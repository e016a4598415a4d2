"""What every answer has, and what becomes of an exception (spec §6; R-16, R-24, R-26, R-131)."""

import json

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from antiphon.api.body import ClientDisconnected
from antiphon.api.errors import EXCEPTION_HANDLERS, error_response
from antiphon.api.headers import Edge
from antiphon.api.operations import Operation, Operations
from antiphon.app import Antiphon
from antiphon.errors import APIError, ModelNotFound, Overloaded, RateLimitError
from antiphon.settings import Settings

Headers = list[tuple[bytes, bytes]]


class Log:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    def fields(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.lines if name == event]


class Heard:
    """What a client hears of one request."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    def error(self) -> dict[str, str | None]:
        error: dict[str, str | None] = json.loads(self.body())["error"]
        return error


async def ask(
    app: ASGIApp, method: str = "GET", path: str = "/v1/x", headers: Headers | None = None
) -> Heard:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    heard = Heard()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"key=sk-query",
        "headers": headers or [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, heard.send)
    return heard


def answering(status: int = 200, *headers: tuple[bytes, bytes]) -> ASGIApp:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        scope["state"]["project"] = "team"
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    return app


def raising(exc: Exception, after: int = 0) -> ASGIApp:
    """An app that fails after `after` messages."""

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if after:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        if after > 1:
            await send({"type": "http.response.body", "body": b"all"})
        raise exc

    return app


async def test_every_answer_has_openais_fields() -> None:
    log = Log()
    heard = await ask(Edge(answering(200, (b"x-own", b"1")), logger=log))
    headers = heard.headers
    assert headers["x-own"] == "1"
    assert headers["openai-version"] == "2020-10-01"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["openai-processing-ms"].isdigit()
    assert headers["x-request-id"].startswith("req_")
    assert [message.get("body") for message in heard.messages[1:]] == [b"a", b"b"]
    (line,) = log.fields("request")
    assert line["request_id"] == headers["x-request-id"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/x", 200)
    assert line["project"] == "team"
    assert "sk-query" not in str(line)


async def test_the_access_log_can_be_off() -> None:
    log = Log()
    await ask(Edge(answering(), access_log=False, logger=log))
    assert log.lines == []


async def test_request_ids_differ() -> None:
    edge = Edge(answering(), access_log=False)
    ids = {(await ask(edge)).headers["x-request-id"] for _ in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (ModelNotFound("m"), 400, {}),
        (RateLimitError(retry_after=2.3), 429, {"retry-after": "2", "retry-after-ms": "2300"}),
        (Overloaded(should_retry=False), 503, {"x-should-retry": "false"}),
        (APIError(), 500, {}),
    ],
)
async def test_an_api_error_becomes_its_answer(
    error: APIError, status: int, headers: dict[str, str]
) -> None:
    heard = await ask(Edge(raising(error), access_log=False))
    assert heard.status == status
    assert heard.error() == error.body()["error"]
    assert headers.items() <= heard.headers.items()
    assert "x-request-id" in heard.headers


async def test_an_unforeseen_exception_is_a_500_without_its_text() -> None:
    """R-119, R-129, R-131."""
    log = Log()
    failure = ValueError("select secret")
    heard = await ask(Edge(raising(failure), logger=log))
    assert heard.status == 500
    assert heard.error()["type"] == "server_error"
    assert heard.headers["x-request-id"] in (heard.error()["message"] or "")
    assert "secret" not in str(heard.messages)
    (line,) = log.fields("unhandled exception")
    assert line["exc_info"] is failure
    assert log.fields("request")[0]["status"] == 500


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("exc", [ValueError(), ModelNotFound("m")])
async def test_nothing_is_added_to_an_answer_that_began(after: int, exc: Exception) -> None:
    """R-131: the server then closes the connection, or the answer was complete."""
    heard = await ask(Edge(raising(exc, after), logger=Log()))
    assert len(heard.messages) == after


async def test_a_client_that_left_is_not_answered() -> None:
    """R-22."""
    log = Log()
    heard = await ask(Edge(raising(ClientDisconnected()), logger=log))
    assert heard.messages == []
    assert log.fields("unhandled exception") == []
    assert log.fields("request")[0]["status"] == 499


async def test_lines_hold_no_control_characters_and_no_keys() -> None:
    """R-24, R-130."""
    log = Log()
    await ask(
        Edge(answering(), logger=log), path="/a\r\n\x1b[31m\u202e/sk-antiphon-abcdefgh" + "x" * 999
    )
    path = str(log.fields("request")[0]["path"])
    assert path.startswith(r"/a\r\n\x1b[31m\u202e/sk-****")
    assert len(path) < 300


@pytest.mark.parametrize(
    ("value", "status"), [(b"x" * 512, 200), (b"x" * 513, 400), ("é".encode(), 400), (b"", 200)]
)
async def test_x_client_request_id(value: bytes, status: int) -> None:
    heard = await ask(
        Edge(answering(), access_log=False), headers=[(b"x-client-request-id", value)]
    )
    assert heard.status == status
    if status == 400:
        assert heard.error()["type"] == "invalid_request_error"


ORIGIN = (b"origin", b"https://app.example")


@pytest.mark.parametrize("origins", [[], ["https://other.example"], ["https://app.example.org"]])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
async def test_cors_is_off_for_unknown_origins(origins: list[str], method: str) -> None:
    """R-26."""
    headers = [ORIGIN, (b"access-control-request-method", b"POST")]
    heard = await ask(
        Edge(answering(), cors_origins=origins, access_log=False), method, headers=headers
    )
    assert not [name for name in heard.headers if name.startswith("access-control")]
    assert heard.status == 200


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [(["https://app.example"], "https://app.example"), (["*"], "*")],
)
async def test_cors_for_the_origins_of_the_settings(origins: list[str], allowed: str) -> None:
    """R-26: never with credentials; errors can be read as well."""
    for app in (answering(), raising(ModelNotFound("m")), raising(ValueError())):
        edge = Edge(app, cors_origins=origins, access_log=False, logger=Log())
        headers = (await ask(edge, headers=[ORIGIN])).headers
        assert headers["access-control-allow-origin"] == allowed
        assert "x-request-id" in headers["access-control-expose-headers"]
        assert headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (b"authorization,x-stainless-lang", "authorization,x-stainless-lang"),
        (b"", "authorization, content-type"),
        (b"x\r\ny: z", "authorization, content-type"),
    ],
)
async def test_preflight(asked: bytes, allowed: str) -> None:
    edge = Edge(raising(ValueError()), cors_origins=["https://app.example"], access_log=False)
    headers = [
        ORIGIN,
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", asked),
    ]
    heard = await ask(edge, "OPTIONS", headers=headers)
    assert heard.status == 204
    assert heard.headers["access-control-allow-origin"] == "https://app.example"
    assert heard.headers["access-control-allow-headers"] == allowed
    assert "POST" in heard.headers["access-control-allow-methods"]


async def test_other_scopes_pass() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        return {}

    await Edge(app)({"type": "lifespan"}, receive, Heard().send)
    assert seen == ["lifespan"]


def test_header_values_of_errors_are_clean() -> None:
    """R-24."""

    class OddError(APIError):
        """Says odd things."""

        def headers(self) -> dict[str, str]:
            return {"x-odd": "a\r\nset-cookie: b\x1b é"}

    fields = dict(error_response(OddError()).headers)
    assert fields[b"x-odd"] == b"a\\r\\nset-cookie: b\\x1b ?"


async def number(_request: Request, n: str) -> Response:
    """Fails in two ways."""
    if n == "0":
        raise ModelNotFound("zero")
    return JSONResponse(1 // (int(n) - 1))


def routes() -> Starlette:
    """An application with our exception handlers."""
    route = Operation("Numbers", None, "GET", "/v1/number/{n}", number, None).route()
    return Starlette(routes=[route], exception_handlers=EXCEPTION_HANDLERS)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/x", 404, "Invalid URL (POST /v1/x)"),
        (
            "POST",
            "/v1/number/1",
            405,
            (
                "Not allowed to POST on /v1/number/1. (HINT: Perhaps you meant to make your HTTP "
                "request using a different http method?)"
            ),
        ),
        (
            "HEAD",
            "/v1/number/1",
            405,
            (
                "Not allowed to HEAD on /v1/number/1. (HINT: Perhaps you meant to make your HTTP "
                "request using a different http method?)"
            ),
        ),
        ("GET", "/v1/number/0", 400, "The requested model 'zero' does not exist."),
    ],
)
async def test_the_router_speaks_openais_language(
    method: str, path: str, status: int, message: str
) -> None:
    """R-16: no ``detail``, no 422."""
    heard = await ask(Edge(routes(), access_log=False), method, path)
    assert heard.status == status
    assert heard.error()["message"] == message
    assert heard.error()["type"] == "invalid_request_error"
    assert heard.headers["content-type"] == "application/json"
    if status == 405:
        assert heard.headers["allow"] == "GET"
        assert heard.error()["code"] == "method_not_supported"


async def test_failures_of_endpoints_are_answered_once_and_logged_once() -> None:
    """R-131: Starlette answers with our handler and raises again; `Edge` writes the log."""
    log = Log()
    heard = await ask(Edge(routes(), logger=log), "GET", "/v1/number/1")
    assert heard.status == 500
    assert heard.headers["x-request-id"] in (heard.error()["message"] or "")
    assert len(log.fields("unhandled exception")) == 1


async def test_the_application_below_another_one() -> None:
    """A path above may have parameters of its own, and is where the description says it is."""
    ours = Antiphon(Settings(database_url="memory://", api_keys="", discover=False)).asgi
    app = Starlette(routes=[Mount("/of/{tenant}", ours), Mount("/n/{tenant}", routes())])
    answer = await ask(app, "GET", "/n/acme/v1/number/2")
    described = await ask(app, "GET", "/of/acme/openapi.json")
    assert answer.body() == b"1"
    assert json.loads(described.body())["servers"] == [{"url": "/of/acme"}]
    assert "servers" not in json.loads((await ask(ours, "GET", "/openapi.json")).body())


async def test_a_405_names_all_methods_of_the_path() -> None:
    """RFC 9110 §15.5.6."""
    operations = Operations("Numbers", "/v1/number")
    for method in ("GET", "POST"):
        operations.add(method, "/{n}", number)
    operations.add("PUT", "", number)
    routes = [operation.route() for operation in operations]
    app = Edge(Starlette(routes=routes, exception_handlers=EXCEPTION_HANDLERS), access_log=False)
    assert (await ask(app, "DELETE", "/v1/number/1")).headers["allow"] == "GET, POST"
    assert (await ask(app, "GET", "/v1/number")).headers["allow"] == "PUT"
