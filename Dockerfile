# `make pin-base` writes the digest of this tag behind it.
FROM python:3.13-slim-trixie

# Debian removes a package's old versions from its mirrors at each point release: a pin would break
# the build, and the base image sets the release. None of Debian's own crontabs is needed
# here. PAM's defaults for cron need more rights than a container has (the login uid, limits).
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends cron tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
 && : >/etc/crontab \
 && printf '%s required pam_permit.so\n' auth account session >/etc/pam.d/cron

# What installs packages goes again: nobody installs any here, and it is the part that advisories name.
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
        --require-hashes -r requirements.txt \
 && find / -xdev '(' -path '*/bin/pip*' -o -path '*/python3*/pip' -o -path '*/python3*/pip-*-info' \
        -o -path '*/python3*/ensurepip' ')' -prune -exec rm -r '{}' +

# The modes are set here: a checkout has whatever the builder's umask left, or none on Windows. Nothing gains
# rights by being started (setuid, setgid). A named volume takes over the data folder's owner.
COPY collector.py entrypoint.sh ./
COPY pexip_history pexip_history
RUN chmod -R u=rwX,go=rX . \
 && chmod 755 collector.py entrypoint.sh \
 && python3 -m compileall -q pexip_history \
 && ln -s /app/collector.py /usr/local/bin/collector.py \
 && install -d -o 1000 -g 1000 data \
 && find / -xdev -type f -perm /6000 -exec chmod ug-s '{}' +

ARG VERSION=1.2.0
LABEL org.opencontainers.image.title="pexip-history-collector" \
      org.opencontainers.image.description="Collects the call history of Pexip Infinity as CSV files, on a schedule" \
      org.opencontainers.image.version="$VERSION"

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
HEALTHCHECK --interval=60s --timeout=10s --start-period=10s CMD ["collector.py", "health"]
ENTRYPOINT ["/app/entrypoint.sh"]
