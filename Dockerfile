# invdiff without an installation, on the CPU. Only building asks the network:
#   docker build --build-arg TORCH_INDEX=... -t invdiff .
#   docker run --rm --network none --user "$(id -u):$(id -g)" -v "$PWD:/photos" invdiff run blindsr_x4 photo.jpg -o out/
FROM python:3.11-slim AS build
# PyTorch's index of builds for CPUs alone, from its page on installing; the usual build brings gigabytes of CUDA.
ARG TORCH_INDEX=
WORKDIR /source
RUN python -m venv /opt/invdiff
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY invdiff invdiff
COPY plugins plugins
COPY recipes recipes
RUN /opt/invdiff/bin/pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} .

FROM python:3.11-slim
COPY --from=build /opt/invdiff /opt/invdiff
# Nothing is fetched at run time, not even by a plugin that could; HOME is writable for whatever user --user names.
ENV PATH=/opt/invdiff/bin:$PATH HF_HUB_OFFLINE=1 HOME=/tmp
RUN useradd --uid 1000 --no-create-home invdiff
USER 1000
WORKDIR /photos
ENTRYPOINT ["invdiff"]
CMD ["--help"]
