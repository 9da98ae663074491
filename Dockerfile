# bertnli serve on a CPU:
#   docker build -t bertnli .
#   docker run --rm -p 127.0.0.1:8000:8000 bertnli
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs:/runs:ro" bertnli \
#       bertnli serve --host 0.0.0.0 --checkpoint /runs/mine

FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY bertnli ./bertnli
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# The version that the tests run with, see constraints.txt; built without CUDA, a tenth of the size.
ARG TORCH=2.13.0
COPY --from=build /wheels /wheels
# bertnli by its path, for a registry may have another package of this name; the path has the version.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch==${TORCH}" \
    && wheel="$(echo /wheels/bertnli-*.whl)" \
    && pip install --no-cache-dir "${wheel}[torch,serve]" "torch==${TORCH}" \
    && rm -r /wheels \
    && useradd --create-home --uid 10001 bertnli
USER 10001
WORKDIR /home/bertnli
EXPOSE 8000
# The model is loaded before the server says that it is healthy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["bertnli", "serve", "--host", "0.0.0.0"]
