# The image of a release: a static program of `.ci/dist`, for each processor. Its context is one folder per processor, amd64 and
# arm64, with the unpacked archive, and an empty one, data. `Dockerfile` builds the same from source.
FROM gcr.io/distroless/static-debian12:nonroot
ARG TARGETARCH
COPY ${TARGETARCH}/customer-import /usr/local/bin/customer-import
COPY ${TARGETARCH}/LICENSE-APACHE ${TARGETARCH}/LICENSE-MIT /usr/share/doc/customer-import/
LABEL org.opencontainers.image.title="customer-import" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# The ledger is made in the working directory where nothing else is said.
COPY --chown=65532:65532 data /data
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/customer-import"]
