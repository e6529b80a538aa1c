# One image for `migrate`, `api` and `worker`: the command is the container's argument.
# Renovate keeps the base up to date. Whether there is a newer patch of Python 3.13 could not be looked up.
FROM python:3.13.16-slim-trixie AS base

FROM base AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
# Every file of the lock is fetched and its hash checked, what only tests and the local stack need included: the lock
# does not say which those are. The installation below then sees these files alone and takes what the package needs.
COPY requirements.lock ./
RUN pip download --require-hashes --only-binary :all: --requirement requirements.lock --dest /wheels
COPY . .
# `loyalty-webhooks version` tells it: docker build --build-arg COMMIT="$(git rev-parse HEAD)" .
ARG COMMIT=""
RUN printf '%s\n' "$COMMIT" >telemetry/commit
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-index --find-links /wheels hatchling \
    && /opt/build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
    && python -m venv /opt/loyalty-webhooks \
    && /opt/loyalty-webhooks/bin/pip install --no-index --find-links /wheels --find-links /dist "loyalty-webhooks[tracing]"

FROM base

COPY --from=build /opt/loyalty-webhooks /opt/loyalty-webhooks
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin loyalty
# API and worker answer /healthz on the same port, so that one check fits both. Nothing is written, not even bytecode.
ENV PATH=/opt/loyalty-webhooks/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    API_HOST=0.0.0.0 \
    API_PORT=8080 \
    WORKER_HEALTH_HOST=0.0.0.0 \
    WORKER_HEALTH_PORT=8080
USER 10001
WORKDIR /
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["loyalty-webhooks"]
CMD ["--help"]
