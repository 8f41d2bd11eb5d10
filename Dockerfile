# One image for every part of Tocsin, built from this checkout: `docker build -t tocsin .`
FROM python:3.13.5-slim-bookworm AS build
# libatomic1: for Node, which builds the page.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libatomic1 make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/tocsin
COPY . .
RUN make setup && rm -rf cloud/console/node_modules

FROM python:3.13.5-slim-bookworm
# The same place: a virtual environment holds absolute paths.
COPY --from=build /opt/tocsin /opt/tocsin
ENV PATH=/opt/tocsin/.venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 10001 --no-create-home tocsin && install -d -o tocsin -g tocsin /data /backups
USER tocsin
VOLUME /data
WORKDIR /data
ENTRYPOINT ["tocsin"]
