"""The gRPC server: beside the HTTP server, on its event loop and before the same models."""

import logging
import time
from typing import Any, Final

import grpc

from noisevote.service.errors import ServiceError
from noisevote.service.grpc.calls import Handler, InferenceCalls
from noisevote.service.grpc.messages import read
from noisevote.service.prediction.visit import Visit
from noisevote.service.rest import access_log
from noisevote.service.rest.access import Access
from noisevote.service.rest.error_responses import printable
from noisevote.service.rest.openings import Opening
from noisevote.service.runtime import Runtime

logger = logging.getLogger(__name__)

SERVICE: Final = "inference.GRPCInferenceService"
# What gRPC says of an error, by its HTTP status.
CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Of the grace time, what is left for answers to reach their clients.
FLUSH_SECONDS: Final = 0.5
# Parsed with its inputs, so that this can be done elsewhere where they are many.
AS_BYTES: Final = "ModelInfer"


class PortTakenError(Exception):
    """The server cannot listen where it is to."""


class GrpcServer:
    """Answers on `host:port` from `start` to `stop`; who may ask is as for HTTP, with keys in the metadata."""

    def __init__(self, runtime: Runtime, access: Access, host: str, port: int) -> None:
        self._runtime = runtime
        self._access = access
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._logged = access.logged(runtime.settings)
        self._server: Any = None

    async def start(self) -> None:
        """Listen, and answer.

        Raises:
            PortTakenError: the address cannot be listened on.
        """
        settings = self._runtime.settings
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", settings.max_body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", settings.max_header_bytes),
                ("grpc.so_reuseport", 0),  # or a second server would share the port without a word
            ],
            maximum_concurrent_rpcs=settings.max_connections,
        )
        calls = InferenceCalls(self._runtime).by_name()
        handlers = {name: self._handler(name, *call) for name, call in calls.items()}
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        try:
            self._server.add_insecure_port(self._address)
        except RuntimeError:  # which says no more than that
            raise PortTakenError(f"cannot listen on {self._address} for gRPC") from None
        await self._server.start()

    async def stop(self) -> None:
        """Accept no more calls, and end those that are open within a moment: the runtime has drained before."""
        if self._server is not None:
            await self._server.stop(FLUSH_SECONDS)

    def _handler(self, name: str, opens: Opening, kind: Any, handle: Handler) -> Any:
        async def answered(content: bytes, context: Any) -> Any:
            began, visit, status = time.perf_counter(), Visit(), 499
            visit.began = began
            try:
                metadata = {key.encode(): _bytes(value) for key, value in context.invocation_metadata()}
                self._admit(visit, opens, metadata)
                answer = await handle(content if name == AS_BYTES else read(kind, content), visit)
                status = 200
                return answer
            except ServiceError as error:
                status = error.status
                await _refuse(context, error)
            except Exception as error:
                status = 500
                logger.exception("%s failed", name)
                problem = f"unexpected {type(error).__name__}; the server's log says more"
                await context.abort(grpc.StatusCode.INTERNAL, problem)
            finally:
                visit.end(ended := time.perf_counter())
                self._log(name, opens, context, visit, status, ended - began)

        return grpc.unary_unary_rpc_method_handler(
            answered, request_deserializer=None, response_serializer=lambda message: message.SerializeToString()
        )

    def _admit(self, visit: Visit, opens: Opening, metadata: dict[bytes, bytes]) -> None:
        self._access.refuse_strangers(opens, "POST", metadata)
        try:
            visit.caller = self._access.caller(opens, metadata)
            self._runtime.quotas.count_request(visit.caller)
        except ServiceError as error:
            self._runtime.metrics.refuse(error.code, visit.caller)
            raise

    def _log(self, name: str, opens: Opening, context: Any, visit: Visit, status: int, seconds: float) -> None:
        if opens == "admin" or (self._logged and opens != "health"):
            scope = {"client": (context.peer(),), "method": "GRPC", "path": f"/{SERVICE}/{name}"}
            line = access_log.AccessLine(scope, visit, status, seconds, (b"-", None))
            access_log.write(line, admin=opens == "admin")


async def _refuse(context: Any, error: ServiceError) -> None:
    trailing = tuple((name.lower(), value) for name, value in error.headers.items() if name == "Retry-After")
    code = CODES.get(error.status, grpc.StatusCode.INTERNAL)
    await context.abort(code, printable(str(error)), trailing)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
