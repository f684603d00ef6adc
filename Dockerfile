# customer-import and nothing else: no shell, no package manager, no root.
#   docker build --tag customer-import:0.1.0 .
#   docker run --rm --volume "$PWD:/data" --env JUSPAY_API_KEY --user "$(id -u)" customer-import:0.1.0 import users.csv --merchant-id acme
# Built on the Debian whose C library the second image has.
FROM rust:1.94-bookworm AS build
WORKDIR /src
COPY . .
# What was compiled before is kept between builds of the image, outside of it.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked \
    && objcopy --strip-debug target/dist/customer-import /customer-import \
    && mkdir /data

# The C library, root certificates, time zones, and a user called nonroot (65532).
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /customer-import /usr/local/bin/customer-import
# The ledger is made in the working directory where nothing else is said.
COPY --from=build --chown=65532:65532 /data /data
LABEL org.opencontainers.image.title="customer-import" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/customer-import"]
