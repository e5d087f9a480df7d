# The commands of the README in a container: docker build -t second-epoch . && docker run second-epoch
FROM python:3.13-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends chromium g++ git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /the-second-epoch
COPY . .
RUN make .venv/.installed
CMD ["make", "book", "PROFILE=quick"]
