"""The calls of the gRPC service, each from its message to its answer."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from noisevote.service.errors import ForbiddenError, UnknownModelError, UnknownVersionError
from noisevote.service.grpc import inference_pb2 as pb
from noisevote.service.grpc.messages import answer_of, described, parse, read
from noisevote.service.open_inference.description import (
    model_config,
    model_metadata,
    model_statistics,
    server_metadata,
)
from noisevote.service.open_inference.outputs import SHOWN
from noisevote.service.prediction.handle import Reading
from noisevote.service.prediction.visit import Visit
from noisevote.service.rest.openings import Opening
from noisevote.service.runtime import Runtime
from noisevote.service.validation import shown

# Longer messages count among the bytes that wait to be read.
SHORT_MESSAGE: Final = 64 * 1024
UPLOADS: Final = ("config", "file:")

Handler = Callable[[Any, Visit], Awaitable[Any]]


class InferenceCalls:
    """What each call does with the models of a runtime. Messages of `ModelInfer` come as bytes, all others parsed."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def by_name(self) -> Mapping[str, tuple[Opening, Any, Handler]]:
        """Every call: what opens it, the kind of its message, and who answers it."""
        return {
            "ServerLive": ("health", pb.ServerLiveRequest, self.server_live),
            "ServerReady": ("health", pb.ServerReadyRequest, self.server_ready),
            "ServerMetadata": ("predict", pb.ServerMetadataRequest, self.server_metadata),
            "ModelReady": ("predict", pb.ModelReadyRequest, self.model_ready),
            "ModelMetadata": ("predict", pb.ModelMetadataRequest, self.model_metadata),
            "ModelConfig": ("predict", pb.ModelConfigRequest, self.model_config),
            "ModelStatistics": ("predict", pb.ModelStatisticsRequest, self.model_statistics),
            "ModelInfer": ("predict", pb.ModelInferRequest, self.infer),
            "RepositoryIndex": ("admin", pb.RepositoryIndexRequest, self.index),
            "RepositoryModelLoad": ("admin", pb.RepositoryModelLoadRequest, self.load),
            "RepositoryModelUnload": ("admin", pb.RepositoryModelUnloadRequest, self.unload),
        }

    async def server_live(self, _: Any, __: Visit) -> Any:
        """The event loop turns."""
        return pb.ServerLiveResponse(live=True)

    async def server_ready(self, _: Any, __: Visit) -> Any:
        """Whether requests can be answered."""
        return pb.ServerReadyResponse(ready=self._runtime.unready is None)

    async def server_metadata(self, _: Any, __: Visit) -> Any:
        """The server's name and version."""
        return described(pb.ServerMetadataResponse, server_metadata(version("noisevote")))

    async def model_ready(self, request: Any, _: Visit) -> Any:
        """Whether a model, or a version of it, answers requests; one that does not exist is not ready."""
        if self._runtime.unready is not None:
            return pb.ModelReadyResponse(ready=False)
        try:
            self._runtime.registry.version(request.name, request.version or None)
        except (UnknownModelError, UnknownVersionError):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def model_metadata(self, request: Any, _: Visit) -> Any:
        """A model by its tensors."""
        registry = self._runtime.registry
        served = registry.version(request.name, request.version or None)
        return described(pb.ModelMetadataResponse, model_metadata(served, registry.versions(request.name)))

    async def model_config(self, request: Any, _: Visit) -> Any:
        """A model in the form of Triton's configuration."""
        served = self._runtime.registry.version(request.name, request.version or None)
        workers = self._runtime.dispatcher.load().workers
        config = model_config(served, self._runtime.settings.max_inputs, workers)
        return described(pb.ModelConfigResponse, {"config": config})

    async def model_statistics(self, request: Any, _: Visit) -> Any:
        """What became of requests: for all models, those of a name, or one version."""
        registry, sums = self._runtime.registry, self._runtime.metrics.statistics
        names = [request.name] if request.name else list(registry.models)
        manifests = [
            registry.version(name, each).manifest
            for name in names
            for each in ([request.version] if request.version else registry.versions(name))
        ]
        told = [model_statistics(each, sums.of(each.name, each.version)) for each in manifests]
        return described(pb.ModelStatisticsResponse, {"model_stats": told})

    async def infer(self, content: bytes, visit: Visit) -> Any:
        """Run each input through a model and let the runs vote."""
        if len(content) <= SHORT_MESSAGE:
            return await self._infer(content, visit)
        with self._runtime.unread.waiting(len(content)):
            return await self._infer(content, visit)

    async def _infer(self, content: bytes, visit: Visit) -> Any:
        named = read(pb.ModelInferRequest, content)
        reading = Reading(partial(_received, content), parse, lambda _: 0)
        accepted = self._runtime.predictor.accept_runs(
            named.model_name, named.model_version or None, reading, visit, SHOWN
        )
        async with accepted as runs:
            return answer_of([(run.prepared, await run.answer()) for run in runs])

    async def index(self, request: Any, _: Visit) -> Any:
        """Every version that is in the store or served."""
        entries = await self._runtime.repository.index()
        models = [
            {"name": each.name, "version": each.version, "state": each.state.upper(), "reason": each.reason}
            for each in entries
            if each.serving or not request.ready
        ]
        return described(pb.RepositoryIndexResponse, {"models": models})

    async def load(self, request: Any, _: Visit) -> Any:
        """Serve a model as it now is in the store.

        Raises:
            ForbiddenError: it would upload one.
        """
        for key in request.parameters:
            problem = "models are published to the store, never uploaded" if key.startswith(UPLOADS) else "unknown key"
            raise ForbiddenError(f"parameters.{shown(key)[1:-1]}: {problem}")
        await self._runtime.repository.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: Any, _: Visit) -> Any:
        """Serve a model no longer."""
        await self._runtime.repository.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()


async def _received(content: bytes) -> bytes:
    """A message has come whole before its call begins."""
    return content
