"""Starts gRPC beside HTTP where a port is set for it; imports nothing of it otherwise."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Final

from noisevote.service.rest.access import Access
from noisevote.service.runtime import Runtime
from noisevote.service.settings import Settings, SettingsError

logger = logging.getLogger(__name__)
LIBRARIES: Final = ("grpc", "google.protobuf")


def refuse_without_grpc(settings: Settings) -> None:
    """Nothing, where gRPC is not wanted or its libraries are installed.

    Raises:
        SettingsError: it is, and they are not.
    """
    if settings.grpc_port is not None and not all(map(_installed, LIBRARIES)):
        raise SettingsError("grpc_port: gRPC is not installed; pip install 'noisevote[grpc]'")


def _installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


@asynccontextmanager
async def grpc_beside(runtime: Runtime, access: Access) -> AsyncIterator[None]:
    """Answer by gRPC while the context lasts, if a port is set for it."""
    settings = runtime.settings
    if settings.grpc_port is None:
        yield
        return
    from noisevote.service.grpc.server import GrpcServer, PortTakenError  # noqa: PLC0415  # an extra, and slow to import

    server = GrpcServer(runtime, access, settings.host, settings.grpc_port)
    try:
        await server.start()
    except PortTakenError as error:
        runtime.give_up(str(error))
    try:
        yield
    finally:
        await server.stop()
