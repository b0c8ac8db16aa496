# The service, its native kernel and the published models. Any Debian-based Python image from 3.11 on will do as base.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# Packages before sources: they change less often. The tools that build the kernel are pinned in the same file, and
# are taken out again once it is built; pip itself stays outside of what the service gets.
COPY requirements/serve.lock requirements/build.in requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    python -m venv /opt/pip && python -m venv --without-pip /opt/venv \
    && /opt/pip/bin/pip --python /opt/venv install --require-hashes --only-binary :all: -r requirements/serve.lock
COPY pyproject.toml README.md ./
COPY voting voting
COPY noise_op noise_op
COPY engine engine
COPY model_store/*.py model_store/
COPY service service
COPY noisevote noisevote
# noisevote/ links to every room; those that serve nothing are not here.
RUN find noisevote -xtype l -delete
# A missing kernel would serve too, many times slower, so here a failing compiler is an error.
RUN PATH=/opt/venv/bin:$PATH /opt/pip/bin/pip --python /opt/venv install --no-deps --no-build-isolation . \
    && test -f /opt/venv/lib/python3.*/site-packages/noisevote/noise_op/libnoisevote_kernel.so \
    && /opt/pip/bin/pip --python /opt/venv uninstall -y -r requirements/build.in
# What no request needs: the packages' own tests, all of SciPy but its special functions, and the library that ONNX Runtime
# ships for other languages.
RUN find /opt/venv -type d -name tests -prune -exec rm -r {} + \
    && cd /opt/venv/lib/python3.*/site-packages \
    && find scipy -mindepth 1 -maxdepth 1 -type d ! -name special ! -name '_*' -exec rm -r {} + \
    && rm onnxruntime/capi/libonnxruntime.so.* \
    && /opt/venv/bin/python -c "import noisevote.service.app"
COPY model_store/models /models
RUN chmod -R a+rX /models

FROM ${BASE_IMAGE}
COPY --from=builder /opt/venv /opt/venv
# A folder mounted here is served instead.
COPY --from=builder /models /models
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ORT_DISABLE_TELEMETRY=1 \
    NOISEVOTE_HOST=0.0.0.0 \
    NOISEVOTE_PORT=8000 \
    NOISEVOTE_MODEL_STORE=/models
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import http.client, os, sys; server = http.client.HTTPConnection('127.0.0.1', int(os.environ['NOISEVOTE_PORT']), timeout=4); server.request('GET', '/readyz'); sys.exit(server.getresponse().status != 200)"]
CMD ["noisevote", "serve"]
