# The demo in a container, its runs and report in ./demo:
#   docker build --tag hardgnn .
#   mkdir -p demo && docker run --rm --user "$(id -u)" --volume "$PWD/demo:/work/demo" hardgnn
# Any other command: docker run --rm hardgnn hardgnn --help
FROM python:3.13-slim

# torch computes with OpenMP, and ours builds its C with gcc: slim images lack both; whatever version there is will do
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev libgomp1 \
    && rm -rf /var/lib/apt/lists/*

# The address of PyTorch's wheels without CUDA, given by --build-arg, saves several gigabytes.
ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m pip install --no-cache-dir -c constraints.txt torch \
    && python -m pip install --no-cache-dir -c constraints.txt '.[report,serve,ann]'

# Whoever runs it, there is a place to write.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /work
RUN chmod 1777 /work
USER 1000
EXPOSE 8000
CMD ["hardgnn", "demo", "--to", "demo"]
