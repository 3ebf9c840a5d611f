# A server of one's own: docs/space.md says how to build and start it.
#
#   docker build -t zsas .                                    # a CPU; for a GPU add --build-arg TORCH_INDEX=default
#   docker run --read-only --tmpfs /tmp -v zsas:/data -p 127.0.0.1:7860:7860 zsas
FROM python:3.11-slim

# cpu: PyTorch without CUDA. default: with it, some gigabytes larger.
ARG TORCH_INDEX=cpu

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

# Nobody by name: no password, no shell. What it may write lies in /data and /tmp.
RUN useradd --uid 1000 --no-create-home --home-dir /data --shell /usr/sbin/nologin zsas \
    && install -d -o zsas -g zsas /data

WORKDIR /src

# First what changes seldom, so that a change of the code does not install everything anew.
COPY requirements.txt requirements.lock ./
COPY scripts/install.py scripts/
RUN TORCH_INDEX=${TORCH_INDEX} python scripts/install.py -c requirements.lock -r requirements.txt

COPY pyproject.toml setup.py MANIFEST.in README.md CHANGELOG.md LICENSE ./
COPY zsas zsas
COPY examples examples
COPY docs docs
RUN pip install --no-deps . && python -m compileall -q /usr/local/lib/python3.11/site-packages/zsas

WORKDIR /data
USER 1000

# Models and examples of the Hub are kept in /data; the rest of the file system is only read.
ENV HF_HOME=/data/huggingface \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/tmp/gradio \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

VOLUME /data
EXPOSE 7860

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'], timeout=4)"]

CMD ["zsas", "serve"]
