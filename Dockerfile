# bertnli serve on a CPU:
#   docker build -t bertnli .
#   docker run --rm -p 127.0.0.1:8000:8000 bertnli
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs:/runs:ro" bertnli \
#       bertnli serve --host 0.0.0.0 --checkpoint /runs/mine

# python:3.11-slim, by the digest of its index for all platforms. For a newer one:
#   docker buildx imagetools inspect python:3.11-slim
ARG BASE=python:3.11.16-slim-trixie@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${BASE} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY bertnli ./bertnli
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . && cp constraints.txt /wheels/

FROM ${BASE}
COPY --from=build /wheels /wheels
# Versions that the tests run with; torch is built without CUDA, a tenth of the size.
# bertnli by its path, for a registry may have another package of this name; the path has the version.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu torch \
    && wheel="$(echo /wheels/bertnli-*.whl)" \
    && pip install --no-cache-dir --constraint /wheels/constraints.txt "${wheel}[torch,serve]" \
    && rm -r /wheels \
    && useradd --create-home --uid 10001 bertnli
USER 10001
WORKDIR /home/bertnli
EXPOSE 8000
# The model is loaded before the server says that it is healthy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["bertnli", "serve", "--host", "0.0.0.0"]
