# syntax=docker/dockerfile:1
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY proxy ./proxy
RUN python -m venv /opt/askonce \
 && /opt/askonce/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt . \
 && /opt/askonce/bin/askonce model fetch --dir /opt/askonce/model

FROM python:3.13-slim
LABEL org.opencontainers.image.title="askonce" \
      org.opencontainers.image.description="An OpenAI-compatible transparent proxy that never pays twice for the same answer" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /var/lib/askonce --create-home askonce
COPY --from=build /opt/askonce /opt/askonce
ENV PATH=/opt/askonce/bin:$PATH PYTHONUNBUFFERED=1 ASKONCE_SERVER__HOST=0.0.0.0 \
    ASKONCE_SEMANTIC__EMBEDDER__MODEL_DIR=/opt/askonce/model
USER 10001
WORKDIR /var/lib/askonce
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/_askonce/healthz', timeout=2).read()"]
ENTRYPOINT ["askonce"]
CMD ["serve"]
