# The commands of the README in a container: docker build -t second-epoch . && docker run second-epoch
FROM debian:trixie-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates chromium g++ git make python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /the-second-epoch
COPY . .
RUN make .venv/.installed
CMD ["make", "book", "PROFILE=quick"]
