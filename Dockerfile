# docker build -t xbarc . ; docker run --rm -v "$PWD:/work" xbarc compile model.onnx --target mca128
FROM python:3.11-slim

COPY . /src
RUN pip install --no-cache-dir "/src[cluster,plot]" && rm -rf /src

# Results belong to whoever calls: docker run --user "$(id -u):$(id -g)".
ENV XBARC_CACHE=/tmp/xbarc NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /work
ENTRYPOINT ["xbarc"]
