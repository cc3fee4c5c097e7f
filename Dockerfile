# One image for the service, the worker and the migrations: docker run chat-stats serve | worker | migrate

FROM python:3.13-slim AS build

# pip runs as root here, into an environment that nothing else uses, and at the image's version; debconf has nothing to
# ask: they need not warn of that.
ENV PIP_ROOT_USER_ACTION=ignore \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    DEBCONF_NOWARNINGS=yes

# An environment without pip, which is not needed at run time: the pip of this stage installs into it.
RUN python -m venv --without-pip /opt/chat-stats
RUN apt-get update && apt-get install -y --no-install-recommends binutils
WORKDIR /build

# The dependencies are their own layer, so that a change of the code does not install them again. EXTRAS names
# optional ones: parquet, otel. Some wheels contain debugging symbols that are larger than their code.
ARG EXTRAS=""
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        extras = [project['optional-dependencies'][name] for name in '$EXTRAS'.split()]; \
        print(*sum(extras, project['dependencies']), sep='\n')" > requirements.txt \
    && pip --python /opt/chat-stats/bin/python install --no-cache-dir -r requirements.txt -c constraints.txt \
    && find /opt/chat-stats \( -name '*.so' -o -name '*.so.[0-9]*' \) -exec strip --strip-debug {} +

COPY README.md LICENSE ./
COPY chat_stats chat_stats
COPY service service
COPY worker worker
COPY sql sql
RUN pip --python /opt/chat-stats/bin/python install --no-cache-dir --no-deps .


FROM python:3.13-slim

# A numeric user, so that Kubernetes' runAsNonRoot can check that it is not root.
RUN useradd --system --uid 10001 --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin chat-stats
COPY --from=build /opt/chat-stats /opt/chat-stats
# The base image has no bytecode of the standard library. This run writes the bytecode of what chat-stats imports,
# which more than halves its start, at each health check too.
RUN /opt/chat-stats/bin/chat-stats --version

# At run time only downloads that wait for slow clients are written, to /tmp: the root file system may be read-only.
ENV PATH=/opt/chat-stats/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
ENTRYPOINT ["chat-stats"]
CMD ["serve", "--host", "0.0.0.0"]
