# The worker as an image, for a machine that runs containers. `aistratus node build` builds it from what `up` ships to the
# node: the same code, and the same wheels with the same hashes. The model isn't in it: WORKER_MODEL_PATH says where it is.
FROM public.ecr.aws/docker/library/python:3.11-slim

WORKDIR /opt/aistratus
COPY requirements.txt .
RUN pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: --requirement requirements.txt
COPY aistratus aistratus

RUN useradd --system --home-dir /var/lib/aistratus --create-home aistratus
USER aistratus
ENV PYTHONPATH=/opt/aistratus PYTHONUNBUFFERED=1 WORKER_STATE_DIR=/var/lib/aistratus
ENTRYPOINT ["python", "-m", "aistratus.worker"]
