# One image for every role: `tailbox serve --role=coord,derp` by default, any other command by argument.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py constraints.txt README.md LICENSE ./
COPY web web
COPY tailbox tailbox
RUN pip wheel --no-cache-dir --wheel-dir /wheels --constraint constraints.txt .

FROM python:3.12-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels tailbox \
    && useradd --uid 10001 --create-home --home-dir /var/lib/tailbox tailbox
USER tailbox
WORKDIR /var/lib/tailbox
COPY --chown=root:root server.py /opt/tailbox/server.py

# State of every role. Names and meaning of TS_* are those of the official container image.
ENV TAILBOX_STATE_DIR=/var/lib/tailbox/state \
    PYTHONUNBUFFERED=1
VOLUME /var/lib/tailbox/state
EXPOSE 8080/tcp 8443/tcp 3478/udp 1055/tcp 41641/udp

HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --start-interval=1s CMD ["tailbox", "healthcheck"]
ENTRYPOINT ["tailbox"]
CMD ["serve", "--role=coord,derp", "--listen=0.0.0.0:8080", "--tls-listen=0.0.0.0:8443"]
