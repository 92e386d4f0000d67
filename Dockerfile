# syntax=docker/dockerfile:1
# Three stages: what compiles, what is thinned out, and what runs.
#
#   make image                                   # docker, podman or buildah, whichever there is
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/tailrace:0.1.0 --push .
#
# Nothing here depends on the architecture: every dependency has wheels for both, and the extensions
# choose vector instructions at run time.

# Debian 13 with its Python 3.13: interpreter and OpenSSL get Debian's security fixes, so rebuild when there are
# some.  A tag can be moved; for a build that cannot, add --build-arg BASE_DIGEST=@sha256:…
ARG BASE_IMAGE=debian:trixie-20261005-slim
ARG BASE_DIGEST=

FROM ${BASE_IMAGE}${BASE_DIGEST} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        binutils ca-certificates gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_CONSTRAINT=/src/config/image/constraints.txt
# Dependencies first: they change less often than the code.
COPY pyproject.toml ./
COPY config/image/constraints.txt config/image/requirements.py ./config/image/
RUN python3 -m venv /opt/tailrace \
    && python3 config/image/requirements.py > /tmp/requirements.txt \
    && /opt/tailrace/bin/pip install --only-binary :all: -r /tmp/requirements.txt
COPY README.md LICENSE setup.py ./
COPY agent ./agent
RUN /opt/tailrace/bin/pip install --no-deps .
COPY config/image/prune config/image/smoke ./config/image/
# The smoke test runs what is left after pruning: whatever was one file too many fails this build.
RUN bash config/image/prune /opt/tailrace && bash config/image/smoke /opt/tailrace/bin/tailrace

FROM ${BASE_IMAGE}${BASE_DIGEST} AS root
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 libsystemd-shared python3 \
    && groupadd --system --gid 65532 tailrace \
    && useradd --system --uid 65532 --gid 65532 --home-dir /var/lib/tailrace --shell /usr/sbin/nologin tailrace \
    && install --directory --owner=tailrace --group=tailrace --mode=0750 /var/lib/tailrace
# For sources of type `journal`: of systemd only journalctl, and the library that it is made of (5 MB).
RUN apt-get update \
    && cd /tmp && apt-get download systemd && dpkg-deb --extract systemd_*.deb systemd \
    && install --mode=0755 systemd/usr/bin/journalctl /usr/bin/journalctl \
    && rm -rf systemd systemd_*.deb /usr/lib/*-linux-gnu/systemd/libsystemd-core-*.so /var/lib/apt/lists/*
# What installs packages, and what nobody in here calls.  dpkg's list of what is left stays, for scanners.
RUN packages=$(dpkg-query --show --showformat='${Package}\n' \
        apt 'libapt-pkg*' sqv perl-base passwd mount util-linux tar diffutils 2>/dev/null || true) \
    && dpkg --purge --force-depends --force-remove-essential --force-remove-protected ${packages} \
    && rm -rf /var/lib/apt /var/cache/* /var/log/* /usr/lib/*-linux-gnu/gconv /usr/share/doc /usr/share/man \
        /usr/share/locale /usr/lib/python3/dist-packages /tmp/* \
    && find /usr/lib/python3.* -name __pycache__ -prune -exec rm -rf {} + \
    && rm -rf /usr/lib/python3.*/lib2to3 /usr/lib/python3.*/pydoc_data \
    && python3 -m compileall -q /usr/lib/python3.*
# Whether what is left is enough to read a journal; a host's can be compressed in any of three ways.
RUN journalctl --version >/dev/null \
    && python3 -c 'import ctypes; [ctypes.CDLL(f"lib{name}") for name in ("zstd.so.1", "lz4.so.1", "lzma.so.5")]'
COPY --from=build /opt/tailrace /opt/tailrace
COPY config/image/tailrace-probe /usr/local/bin/tailrace-probe
RUN ln -s /opt/tailrace/bin/tailrace /usr/local/bin/tailrace && chmod 0755 /usr/local/bin/tailrace-probe

# One layer: what was removed above is not in it.
FROM scratch
COPY --from=root / /
LABEL org.opencontainers.image.title="tailrace" \
      org.opencontainers.image.description="Container logs to CloudWatch Logs and to Parquet on S3" \
      org.opencontainers.image.licenses="Apache-2.0"
# Own log lines leave at once; asserts guard invariants, so never set PYTHONOPTIMIZE.
ENV PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Everything but following a node's files (replay, validate, status, a sidecar) works as this user.  A node's log
# files belong to root and others may not read them: the DaemonSet sets runAsUser 0, without any capability.
USER 65532:65532
# Cursors and staged rows.  Mount a directory of the node here, not an emptyDir.
VOLUME /var/lib/tailrace
STOPSIGNAL SIGTERM
# For docker and ECS; Kubernetes has probes of its own.  It says that the agent turns, not that a cloud is up.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=5 CMD ["tailrace-probe", "/healthz"]
ENTRYPOINT ["tailrace"]
CMD ["run", "-c", "/etc/tailrace/tailrace.yaml"]
