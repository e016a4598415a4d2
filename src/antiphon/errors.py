"""One exception tree: every error that a client can see, in OpenAI's own words (spec §6).

    APIError                     500  server_error
    ├── InvalidRequestError      400  invalid_request_error
    │   ├── UnknownParameter          unknown_parameter
    │   ├── UnsupportedParameter      unsupported_parameter
    │   ├── PreviousResponseNotFound  previous_response_not_found
    │   ├── ConversationLocked        conversation_locked
    │   ├── ModelNotFound             model_not_found
    │   ├── InvalidEncryptedContent   invalid_encrypted_content
    │   └── ContextLengthExceeded     context_length_exceeded
    ├── AuthenticationError      401  invalid_request_error   invalid_api_key
    │   └── MissingAPIKey                                     null
    ├── NotFoundError            404  invalid_request_error
    │   ├── ContainerExpired          container_expired
    │   ├── ContainerNotFound
    │   ├── ConversationNotFound
    │   ├── NoSuchFile
    │   ├── PromptNotFound
    │   └── UploadNotFound
    ├── MethodNotAllowed         405  invalid_request_error   method_not_supported
    ├── RequestTimeout           408  invalid_request_error   request_timeout
    ├── PayloadTooLarge          413  invalid_request_error   request_too_large
    ├── UnsupportedMediaType     415  invalid_request_error   unsupported_media_type
    ├── RangeNotSatisfiable      416  invalid_request_error   range_not_satisfiable
    ├── IdempotencyKeyReused     422  invalid_request_error   idempotency_key_reused
    ├── ExternalConnectorError   424  external_connector_error  http_error
    ├── RateLimitError           429  requests                rate_limit_exceeded
    ├── UpstreamError            502  server_error            server_error
    ├── Overloaded               503  service_unavailable_error  server_is_overloaded
    ├── UpstreamTimeout          504  server_error            server_error
    └── ToolFailed               inside a response only: a hosted call that did not work

Rules
1. The first line of a class docstring is its default message.
2. `param` is the exact path of the offending value: ``input[0].content[1].text``.
3. Messages are written here or by the validator; the text of an upstream, of a library or of a
   traceback never goes into one (reliability R-42, R-129).
"""

from typing import Any, ClassVar


class APIError(Exception):
    """The server had an error while processing your request. Sorry about that!"""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None
    #: ``response.error.code`` when the failure happens inside a run (spec §5).
    response_code: ClassVar[str] = "server_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        """`retry_after` in seconds; `should_retry` becomes ``x-should-retry`` (spec §4.3)."""
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        self.param = param
        self.code = code or self.default_code
        self.retry_after = retry_after
        self.should_retry = should_retry
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """The JSON body: ``{"error": {message, type, param, code}}``, all keys always present."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> dict[str, str]:
        """Response headers that belong to the error, lower case."""
        headers: dict[str, str] = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(max(0, round(self.retry_after)))
            headers["retry-after-ms"] = str(max(0, round(self.retry_after * 1000)))
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        return headers

    def response_error(self) -> dict[str, Any]:
        """The `error` of a failed Response: ``{"code", "message"}``."""
        return {"code": self.response_code, "message": self.message}


class InvalidRequestError(APIError):
    """The request is invalid."""

    status = 400
    type = "invalid_request_error"
    response_code = "invalid_prompt"


class UnknownParameter(InvalidRequestError):
    """Unknown parameter."""

    default_code = "unknown_parameter"


class UnsupportedParameter(InvalidRequestError):
    """Unsupported parameter."""

    default_code = "unsupported_parameter"


class PreviousResponseNotFound(InvalidRequestError):
    """Previous response not found."""

    default_code = "previous_response_not_found"

    def __init__(self, response_id: str) -> None:
        super().__init__(
            f"Previous response with id '{response_id}' not found.", param="previous_response_id"
        )


class ConversationLocked(InvalidRequestError):
    """Another process is currently operating on this conversation. Please retry in a few seconds."""  # noqa: E501

    default_code = "conversation_locked"

    def __init__(self) -> None:
        super().__init__(param="conversation")


class ModelNotFound(InvalidRequestError):
    """The requested model does not exist."""

    default_code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"The requested model '{model}' does not exist.", param="model")


class InvalidEncryptedContent(InvalidRequestError):
    """The encrypted content could not be verified."""

    default_code = "invalid_encrypted_content"

    def __init__(self, item: str, param: str = "input") -> None:
        """`item`: its id (spec §3.4)."""
        super().__init__(
            f"The encrypted content for item {item} could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed.",
            param=param,
        )


class ContextLengthExceeded(InvalidRequestError):
    """Your input exceeds the context window of this model. Please adjust your input and try again."""  # noqa: E501

    default_code = "context_length_exceeded"
    response_code = "context_length_exceeded"

    def __init__(self) -> None:
        super().__init__(param="input")


class AuthenticationError(APIError):
    """Incorrect API key provided."""

    status = 401
    type = "invalid_request_error"
    default_code: ClassVar[str | None] = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "www-authenticate": "Bearer", "connection": "close"}


class MissingAPIKey(AuthenticationError):
    """You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the API from your browser and are prompted for a username and password. You can obtain an API key from https://platform.openai.com/account/api-keys."""  # noqa: E501

    default_code = None


class NotFoundError(APIError):
    """Not found."""

    status = 404
    type = "invalid_request_error"
    response_code = "invalid_prompt"


class ContainerExpired(NotFoundError):
    """Container is expired."""

    default_code = "container_expired"


class ContainerNotFound(NotFoundError):
    """Container not found."""

    def __init__(self, container_id: str, *, param: str | None = None) -> None:
        super().__init__(f"Container with id '{container_id}' not found.", param=param)


class ConversationNotFound(NotFoundError):
    """Conversation not found."""

    def __init__(self, conversation_id: str, *, param: str | None = None) -> None:
        super().__init__(f"Conversation with id '{conversation_id}' not found.", param=param)


class PromptNotFound(NotFoundError):
    """Prompt not found."""

    def __init__(
        self, prompt_id: str, version: str | None = None, *, param: str | None = None
    ) -> None:
        what = "Prompt" if version is None else f"Version '{version}' of prompt"
        super().__init__(f"{what} with id '{prompt_id}' not found.", param=param)


class NoSuchFile(NotFoundError):
    """No such File object."""

    def __init__(self, file_id: str, *, param: str | None = "id") -> None:
        super().__init__(f"No such File object: {file_id}", param=param)


class UploadNotFound(NotFoundError):
    """Upload not found."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"Upload with id '{upload_id}' not found.", param="upload_id")


class MethodNotAllowed(APIError):
    """Method not allowed."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_supported"


class RequestTimeout(APIError):
    """The request body did not arrive in time."""

    status = 408
    type = "invalid_request_error"
    default_code = "request_timeout"

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "connection": "close"}


class PayloadTooLarge(APIError):
    """The request body is too large."""

    status = 413
    type = "invalid_request_error"
    default_code = "request_too_large"

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "connection": "close"}


class UnsupportedMediaType(APIError):
    """Unsupported media type."""

    status = 415
    type = "invalid_request_error"
    default_code = "unsupported_media_type"

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "connection": "close"}


class RangeNotSatisfiable(APIError):
    """The requested range is beyond the end of the content."""

    status = 416
    type = "invalid_request_error"
    default_code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        """`size`: bytes that there are."""
        self._size = size
        super().__init__()

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "content-range": f"bytes */{self._size}"}


class IdempotencyKeyReused(APIError):
    """This Idempotency-Key was used with another request body. Use a new key for a new request."""

    status = 422
    type = "invalid_request_error"
    default_code = "idempotency_key_reused"


class ExternalConnectorError(APIError):
    """Error retrieving tool list from MCP server."""

    status = 424
    type = "external_connector_error"
    default_code = "http_error"


class ToolFailed(APIError):
    """The tool failed."""


class RateLimitError(APIError):
    """Rate limit reached. Please try again later."""

    status = 429
    type = "requests"
    default_code = "rate_limit_exceeded"
    response_code = "rate_limit_exceeded"


class UpstreamError(APIError):
    """The model backend failed. The operator of this server can find the cause in its log."""

    status = 502
    default_code = "server_error"


class Overloaded(APIError):
    """The engine is currently overloaded, please try again later."""

    status = 503
    type = "service_unavailable_error"
    default_code = "server_is_overloaded"


class UpstreamTimeout(APIError):
    """The model backend did not answer in time."""

    status = 504
    default_code = "server_error"
