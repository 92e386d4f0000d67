# syntax=docker/dockerfile:1
# Two stages: a compiler is not part of what runs on a node.
#
#   docker build -t tailrace .
#   docker run --rm tailrace --help

ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Dependencies first: they change less often than the code.
COPY pyproject.toml README.md LICENSE setup.py ./
COPY agent ./agent
RUN python -m venv /opt/tailrace \
    && /opt/tailrace/bin/pip install --no-cache-dir . \
    && rm -rf /opt/tailrace/bin/pip* /opt/tailrace/lib/python*/site-packages/pip* \
    && find /opt/tailrace -name __pycache__ -prune -exec rm -rf {} + \
    && /opt/tailrace/bin/python -m compileall -q /opt/tailrace/lib

FROM python:${PYTHON_VERSION}-slim-bookworm
COPY --from=build /opt/tailrace /opt/tailrace
RUN useradd --system --uid 65532 --home-dir /var/lib/tailrace --create-home tailrace \
    && ln -s /opt/tailrace/bin/tailrace /usr/local/bin/tailrace
# Log files below /var/log/pods belong to root and others may not read them.  On a node therefore run with
# `runAsUser: 0`, `allowPrivilegeEscalation: false` and `capabilities: {drop: [ALL]}`: an owner needs no
# capability to read.  Everything else (replay, validate, status) runs as this user.
# Mount /var/log read-only, and a directory of the node (not an emptyDir) on /var/lib/tailrace: it holds the
# cursors and the staged rows.
USER 65532:65532
VOLUME /var/lib/tailrace
# Own log lines leave at once; asserts guard invariants, so never set PYTHONOPTIMIZE.
ENV PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
ENTRYPOINT ["tailrace"]
CMD ["run", "-c", "/etc/tailrace/tailrace.yaml"]
