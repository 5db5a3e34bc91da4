#!/bin/bash
# Makes a fresh Amazon Linux 2023 machine into a node: fetches the worker and the model and keeps the worker running.
# It may run any number of times; what is there already is left as it is. Everything that changes from one deployment to the
# next stands in the manifest, so that this text (the instance's user data) stays the same.
#
# cloud-init runs this text once in an instance's life. A node has to read its manifest at every boot, and to try again
# when a role, a package or the network isn't there yet. So that one run only leaves a service behind, which takes the
# user data as it is then and runs it as `node.sh boot`; `systemctl restart aistratus-node` does the same at any time.
# Source: EC2 user guide, "Run commands when you launch an EC2 instance": "only during the first boot cycle".
#
# `aistratus node launch` runs it as `launch`: the same, but whoever waits hears it. Each step ends with a line
# `step NAME kept|changed MILLISECONDS`. NODE_ROOT is where the machine's files are: empty on a machine of its own.
set -euo pipefail
readonly ROOT=${NODE_ROOT-}
if [[ ${1-} == launch ]]; then
  exec > >(tee -a "$ROOT/var/log/user-data.log") 2>&1
  trap 'exec >&- 2>&-; wait '"$!" EXIT # what was said last is still on its way
else
  exec > >(tee "$ROOT/var/log/user-data.log" | logger -t user-data -s 2>/dev/console) 2>&1
fi

# --- configuration
NODE_BUCKET=''
NODE_MANIFEST_KEY=''
NODE_REGION=''
# --- end of configuration

umask 0022 # whoever launches: the worker has to read what is installed here
readonly HOME_DIR=$ROOT/opt/aistratus STATE_DIR=$ROOT/var/lib/aistratus LOG_DIR=$ROOT/var/log/aistratus
readonly UNITS=$ROOT/etc/systemd/system
export AWS_DEFAULT_REGION="$NODE_REGION"
# The SDK asks the metadata service once and for a second; credentials of a new role may take longer.
export AWS_METADATA_SERVICE_TIMEOUT=2 AWS_METADATA_SERVICE_NUM_ATTEMPTS=15

verdict=kept began=${EPOCHREALTIME/[^0-9]/}
step() { # NAME: it has ended
  local now=${EPOCHREALTIME/[^0-9]/}
  echo "step $1 $verdict $(((now - began) / 1000))"
  verdict=kept began=$now
}

replace() { # FILE [MODE]: makes it what comes in; fails where it is that already
  { cat >"$1.new" && chmod "${2-0644}" "$1.new"; } || exit 1
  if cmp -s "$1.new" "$1"; then
    rm "$1.new"
    return 1
  fi
  mv "$1.new" "$1"
  verdict=changed
}

boot_service() { # what runs at every boot, made if it isn't there
  install -d -m 0755 "$HOME_DIR"
  replace "$HOME_DIR/boot" 0755 <<'BOOT' || :
#!/bin/bash
set -euo pipefail
home=${NODE_ROOT-}/opt/aistratus
metadata=http://169.254.169.254/latest
token=$(curl --fail --silent --retry 10 --retry-connrefused -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $metadata/api/token)
curl --fail --silent -H "X-aws-ec2-metadata-token: $token" --output "$home/node.sh.new" $metadata/user-data
mv "$home/node.sh.new" "$home/node.sh"
exec bash "$home/node.sh" boot
BOOT
  replace "$UNITS/aistratus-node.service" <<UNIT || return 0
[Unit]
Description=Aistratus node: the worker and model that the manifest names
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=$HOME_DIR/boot
Restart=on-failure
RestartSec=20

[Install]
WantedBy=multi-user.target
UNIT
  systemctl daemon-reload
  systemctl enable --quiet aistratus-node.service
}

case ${1-} in
  boot) ;;
  launch) boot_service ;;
  *)
    boot_service
    systemctl start --no-block aistratus-node.service
    exit 0
    ;;
esac

exec 9>"$HOME_DIR/lock"
if ! flock -n 9; then # a boot may be under way
  echo "another run is under way; waiting for its end"
  flock 9
fi

fetch() { # KEY FILE: a file of the bucket, whole or not at all
  aws s3 cp --only-show-errors "s3://$NODE_BUCKET/$1" "$2.part"
  mv "$2.part" "$2"
}

field() { # EXPRESSION: a field of the manifest, empty where it is null
  python3.11 -c 'import json,sys; m=json.load(open(sys.argv[1])); v=eval(sys.argv[2], {"m": m}); print("" if v is None else v)' \
    "$HOME_DIR/manifest.json" "$1"
}

room() { # BYTES: is there room for them? Says what to do where there isn't; 256 MiB stay for logs and notes
  local free=$(($(df --block-size=1 --output=avail "$HOME_DIR" | tail -n 1) - (256 << 20)))
  (($1 <= free)) || {
    echo "the model has $(($1 >> 20)) MiB, and the volume $((free >> 20)) MiB of room:" \
      "set node.volume_gib to more, run \`aistratus up\`, and stop and start the node"
    exit 1
  }
}

matches() { # SHA256 FILE
  [[ -f $2 ]] && echo "$1  $2" | sha256sum --check --status
}

metadata() { # PATH: what the instance's metadata say
  curl --fail --silent -H "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/meta-data/$1"
}

ship_log() { # LOG_GROUP INSTANCE_ID: what the worker and this script write goes to the log group, and is kept here for a while
  local agent=$ROOT/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl
  [[ -x $agent ]] || dnf install -y -q amazon-cloudwatch-agent logrotate || return
  replace "$ROOT/etc/logrotate.d/aistratus" <<ROTATE || :
$LOG_DIR/worker.log {
  size 10M
  rotate 2
  copytruncate
  missingok
}
ROTATE
  # The agent remembers its configuration and is started by the system; it is only told of a new one.
  replace "$HOME_DIR/log-agent.json" <<AGENT || return 0
{"agent": {"region": "$NODE_REGION"}, "logs": {"logs_collected": {"files": {"collect_list": [
  {"file_path": "$LOG_DIR/worker.log", "log_group_name": "$1", "log_stream_name": "$2"},
  {"file_path": "$ROOT/var/log/user-data.log", "log_group_name": "$1", "log_stream_name": "$2/bootstrap"}]}}}}
AGENT
  "$agent" -a fetch-config -m ec2 -s -c "file:$HOME_DIR/log-agent.json" >/dev/null || {
    rm -f "$HOME_DIR/log-agent.json" # so that the next run tells it again
    return 1
  }
}

gpu_libraries() { # NVIDIA's driver and what the engine's CUDA library links to (CUDA 12)
  # Source: NVIDIA's driver installation guide, Amazon Linux 2023, compute-only; ctransformers' wheel.
  local repository=https://developer.download.nvidia.com/compute/cuda/repos/amzn2023/x86_64/cuda-amzn2023.repo
  if nvidia-smi >/dev/null 2>&1 && ldconfig -p | grep libcublas.so.12 >/dev/null; then
    nvidia-modprobe -u -c=0 # CUDA's device, made at each boot: the worker, which gains no privileges, can't
    return
  fi
  verdict=changed
  dnf install -y -q dkms "kernel-devel-uname-r == $(uname -r)" "kernel-modules-extra-$(uname -r)" &&
    dnf config-manager -q --add-repo "$repository" &&
    dnf module enable -y -q nvidia-driver:open-dkms &&
    dnf install -y -q nvidia-driver-cuda kmod-nvidia-open-dkms cuda-cudart-12-9 libcublas-12-9 &&
    ldconfig && modprobe nvidia && nvidia-smi >/dev/null && nvidia-modprobe -u -c=0
}

token=$(curl --fail --silent -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' http://169.254.169.254/latest/api/token)
instance_id=$(metadata instance-id)
instance_type=$(metadata instance-type)

command -v python3.11 >/dev/null || { verdict=changed && dnf install -y -q python3.11 python3.11-pip; }
id aistratus >/dev/null 2>&1 || {
  verdict=changed && useradd --system --home-dir "$STATE_DIR" --shell /usr/sbin/nologin aistratus
}
install -d -m 0755 "$HOME_DIR" "$HOME_DIR/models" "$LOG_DIR"
install -d -m 0700 -o aistratus -g aistratus "$STATE_DIR"
step system

gpu_layers=0 gpu=none
case $instance_type in
  g[0-9]* | p[0-9]*)
    # A node without its GPU still answers, slower.
    if gpu_libraries; then gpu_layers=1000 gpu=usable; else gpu=unusable; fi
    [[ $gpu == usable ]] || echo "the GPU can't be used; the model runs on the processor"
    step gpu
    ;;
esac

fetch "$NODE_MANIFEST_KEY" "$HOME_DIR/manifest.json"
bundle_sha=$(field 'm["bundle"]["sha256"]')
release="$HOME_DIR/releases/$bundle_sha"
if [[ ! -d $release ]]; then
  verdict=changed
  fetch "$(field 'm["bundle"]["key"]')" "$HOME_DIR/worker.zip"
  matches "$bundle_sha" "$HOME_DIR/worker.zip" || { echo "worker.zip isn't what the manifest names"; exit 1; }
  rm -rf "$release.part"
  python3.11 -m zipfile -e "$HOME_DIR/worker.zip" "$release.part"
  python3.11 -m venv "$release.part/venv"
  "$release.part/venv/bin/pip" install --quiet --no-deps --require-hashes --only-binary :all: -r "$release.part/requirements.txt"
  mv "$release.part" "$release"
fi
step worker

model_sha=$(field 'm["model"]["sha256"]')
model="$HOME_DIR/models/$model_sha.gguf"
if ! matches "$model_sha" "$model"; then
  verdict=changed
  stored="models/$model_sha.gguf"
  # What isn't there has no length, and is fetched from where it is published.
  room "$(aws s3api head-object --bucket "$NODE_BUCKET" --key "$stored" --query ContentLength --output text 2>/dev/null || echo 0)"
  if ! fetch "$stored" "$model"; then
    # A whole file can't be continued (416), and a connection that breaks off is tried again only when told so.
    matches "$model_sha" "$model.download" || {
      address=$(field 'm["model"]["url"]')
      room "$(curl --fail --silent --location --head "$address" | awk 'tolower($1) == "content-length:" {n = $2} END {print n + 0}' || :)"
      curl --fail --silent --show-error --location --retry 5 --retry-all-errors --continue-at - --output "$model.download" "$address"
    }
    matches "$model_sha" "$model.download" || { rm -f "$model.download"; echo "the model isn't what the manifest names"; exit 1; }
    mv "$model.download" "$model"
    aws s3 cp --only-show-errors "$model" "s3://$NODE_BUCKET/$stored" || echo "the model couldn't be kept in the bucket"
  fi
  matches "$model_sha" "$model" || { rm -f "$model"; echo "the model isn't what the manifest names"; exit 1; }
fi

step model

{
  field '"\n".join(f"{k}={v}" for k, v in m["environment"].items())'
  echo "AWS_REGION=$NODE_REGION"
  echo "WORKER_MODEL_PATH=$model"
  echo "WORKER_MODEL_SHA256=$model_sha"
  echo "WORKER_MODEL_NAME=$(field 'm["model"]["name"]')"
  echo "WORKER_CONTEXT_TOKENS=$(field 'm["model"]["context_tokens"]')"
  echo "WORKER_INSTANCE_ID=$instance_id"
  echo "WORKER_STATE_DIR=$STATE_DIR"
  echo "WORKER_GPU_LAYERS=$gpu_layers"
  echo "WORKER_GPU_NOTE=$HOME_DIR/gpu"
} >"$HOME_DIR/worker.env.draft"
replace "$HOME_DIR/worker.env" <"$HOME_DIR/worker.env.draft" || :
rm "$HOME_DIR/worker.env.draft"

replace "$UNITS/aistratus-worker.service" <<UNIT || :
[Unit]
Description=Aistratus worker
After=network-online.target
Wants=network-online.target
# It is never given up: what it waits for (a role, a table) may come later.
StartLimitIntervalSec=0

[Service]
User=aistratus
EnvironmentFile=$HOME_DIR/worker.env
Environment=PYTHONPATH=$release AWS_METADATA_SERVICE_TIMEOUT=2 AWS_METADATA_SERVICE_NUM_ATTEMPTS=15
# CUDA's devices, which each boot forgets: a worker that starts before this script's turn finds them.
ExecStartPre=-+/bin/sh -c 'test ! -e /usr/bin/nvidia-modprobe || nvidia-modprobe -u -c=0'
ExecStart=$release/venv/bin/python -m aistratus.worker
# By 64 the worker asks for the machine to be switched off (wire.POWER_OFF): there is nothing to do. "+" is root, who may.
ExecStopPost=+/bin/sh -c 'test "\$\$EXIT_STATUS" != 64 || systemctl --no-block poweroff'
RestartPreventExitStatus=64
Restart=always
RestartSec=1
StandardOutput=append:$LOG_DIR/worker.log
StandardError=inherit
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
LockPersonality=yes
CapabilityBoundingSet=
UMask=0077
ReadWritePaths=$STATE_DIR

[Install]
WantedBy=multi-user.target
UNIT

# What runs is written down after its start: a run that is cut off before leaves that to the next.
wanted=$(cat "$HOME_DIR/worker.env" "$UNITS/aistratus-worker.service" | sha256sum)
if [[ ! -f $HOME_DIR/running || $(<"$HOME_DIR/running") != "$wanted" ]]; then
  verdict=changed
  systemctl daemon-reload
  systemctl enable --quiet aistratus-worker.service
  systemctl restart aistratus-worker.service
  echo "$wanted" >"$HOME_DIR/running"
fi
systemctl is-active --quiet aistratus-worker.service || { verdict=changed && systemctl start aistratus-worker.service; }
# The worker that runs now was started with what is known of the GPU; it tells what comes of it.
[[ $gpu == none ]] || echo "$(</proc/sys/kernel/random/boot_id) $gpu" >"$HOME_DIR/gpu"
step service

# What no longer runs makes room for what comes.
find "$HOME_DIR/releases" -mindepth 1 -maxdepth 1 ! -name "$bundle_sha" -exec rm -rf {} +
find "$HOME_DIR/models" -mindepth 1 ! -name "$model_sha.gguf" -delete

log_group=$(field 'm["environment"].get("WORKER_LOG_GROUP")')
# A node without its log still answers.
[[ -z $log_group ]] || ship_log "$log_group" "$instance_id" || echo "the worker's log can't be shipped"
step log
echo "node ready"
