# One image per service, and two that are none: setup (what runs before the services) and sandbox (the outside world).
#   docker build --build-arg SERVICE=auth --tag partner-hub-auth .
# An image holds one service's packages and code, and shared/. What follows its name is a module with its arguments:
#   docker run partner-hub-auth services.auth api
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ARG SERVICE
ARG CODE=services/${SERVICE}
# Where packages come from is the building machine's business: give its pip.conf as a secret of that name, or PIP_… here.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_CACHE_DIR=/var/cache/pip
COPY requirements/${SERVICE}.txt /requirements.txt
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python -m venv --without-pip /venv \
 && pip --python /venv/bin/python install --require-hashes --no-deps --only-binary=:all: --requirement /requirements.txt
WORKDIR /app
COPY shared shared
COPY ${CODE} ${CODE}
# Compiled here, since the running container can't write.
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM ${PYTHON}
ARG SERVICE
LABEL org.opencontainers.image.title="partner-hub-${SERVICE}" org.opencontainers.image.licenses="Apache-2.0"
# A name for the user: audit records and logs of commands say who ran them. /data is the one folder that it may keep.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin partner-hub \
 && install --directory --mode=0750 --owner=partner-hub --group=partner-hub /data
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:${PATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=15s --start-period=120s --retries=3 CMD ["python", "-m", "shared.probe"]
ENTRYPOINT ["python", "-m"]
