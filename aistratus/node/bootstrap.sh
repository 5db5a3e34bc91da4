#!/bin/bash
# Makes a fresh Amazon Linux 2023 machine into a node: fetches the worker and the model and keeps the worker running.
# It may run any number of times; what is there already is left as it is. Everything that changes from one deployment to the
# next stands in the manifest, so that this text (the instance's user data) stays the same.
#
# cloud-init runs this text once in an instance's life. A node has to read its manifest at every boot, and to try again
# when a role, a package or the network isn't there yet. So that one run only leaves a service behind, which takes the
# user data as it is then and runs it as `node.sh boot`; `systemctl restart aistratus-node` does the same at any time.
# Source: EC2 user guide, "Run commands when you launch an EC2 instance": "only during the first boot cycle".
set -euo pipefail
exec > >(tee /var/log/user-data.log | logger -t user-data -s 2>/dev/console) 2>&1

# --- configuration
NODE_BUCKET=''
NODE_MANIFEST_KEY=''
NODE_REGION=''
# --- end of configuration

readonly HOME_DIR=/opt/aistratus STATE_DIR=/var/lib/aistratus LOG_DIR=/var/log/aistratus
export AWS_DEFAULT_REGION="$NODE_REGION"
# The SDK asks the metadata service once and for a second; credentials of a new role may take longer.
export AWS_METADATA_SERVICE_TIMEOUT=2 AWS_METADATA_SERVICE_NUM_ATTEMPTS=15

if [[ ${1-} != boot ]]; then
  install -d -m 0755 "$HOME_DIR"
  cat >"$HOME_DIR/boot" <<'BOOT'
#!/bin/bash
set -euo pipefail
metadata=http://169.254.169.254/latest
token=$(curl --fail --silent --retry 10 --retry-connrefused -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $metadata/api/token)
curl --fail --silent -H "X-aws-ec2-metadata-token: $token" --output /opt/aistratus/node.sh.new $metadata/user-data
mv /opt/aistratus/node.sh.new /opt/aistratus/node.sh
exec bash /opt/aistratus/node.sh boot
BOOT
  chmod 0755 "$HOME_DIR/boot"
  cat >/etc/systemd/system/aistratus-node.service <<'UNIT'
[Unit]
Description=Aistratus node: the worker and model that the manifest names
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/opt/aistratus/boot
Restart=on-failure
RestartSec=20

[Install]
WantedBy=multi-user.target
UNIT
  systemctl daemon-reload
  systemctl enable --quiet aistratus-node.service
  systemctl start --no-block aistratus-node.service
  exit 0
fi

fetch() { # KEY FILE: a file of the bucket, whole or not at all
  aws s3 cp --only-show-errors "s3://$NODE_BUCKET/$1" "$2.part"
  mv "$2.part" "$2"
}

field() { # EXPRESSION: a field of the manifest, empty where it is null
  python3.11 -c 'import json,sys; m=json.load(open(sys.argv[1])); v=eval(sys.argv[2], {"m": m}); print("" if v is None else v)' \
    "$HOME_DIR/manifest.json" "$1"
}

matches() { # SHA256 FILE
  [[ -f $2 ]] && echo "$1  $2" | sha256sum --check --status
}

ship_log() { # LOG_GROUP INSTANCE_ID: what the worker writes goes to its log group, and is kept here for a while
  local agent=/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl
  [[ -x $agent ]] || dnf install -y -q amazon-cloudwatch-agent logrotate || return
  cat >"$HOME_DIR/log-agent.json" <<AGENT
{"agent": {"region": "$NODE_REGION"}, "logs": {"logs_collected": {"files": {"collect_list": [
  {"file_path": "$LOG_DIR/worker.log", "log_group_name": "$1", "log_stream_name": "$2"}]}}}}
AGENT
  cat >/etc/logrotate.d/aistratus <<ROTATE
$LOG_DIR/worker.log {
  size 10M
  rotate 2
  copytruncate
  missingok
}
ROTATE
  "$agent" -a fetch-config -m ec2 -s -c "file:$HOME_DIR/log-agent.json" >/dev/null
}

command -v python3.11 >/dev/null || dnf install -y -q python3.11 python3.11-pip
id aistratus >/dev/null 2>&1 || useradd --system --home-dir "$STATE_DIR" --shell /usr/sbin/nologin aistratus
install -d -m 0755 "$HOME_DIR" "$HOME_DIR/models" "$LOG_DIR"
install -d -m 0700 -o aistratus -g aistratus "$STATE_DIR"

fetch "$NODE_MANIFEST_KEY" "$HOME_DIR/manifest.json"
bundle_sha=$(field 'm["bundle"]["sha256"]')
release="$HOME_DIR/releases/$bundle_sha"
if [[ ! -d $release ]]; then
  fetch "$(field 'm["bundle"]["key"]')" "$HOME_DIR/worker.zip"
  matches "$bundle_sha" "$HOME_DIR/worker.zip" || { echo "worker.zip isn't what the manifest names"; exit 1; }
  rm -rf "$release.part"
  python3.11 -m zipfile -e "$HOME_DIR/worker.zip" "$release.part"
  python3.11 -m venv "$release.part/venv"
  "$release.part/venv/bin/pip" install --quiet --no-deps --require-hashes --only-binary :all: -r "$release.part/requirements.txt"
  mv "$release.part" "$release"
fi

model_sha=$(field 'm["model"]["sha256"]')
model="$HOME_DIR/models/$model_sha.gguf"
if ! matches "$model_sha" "$model"; then
  stored="models/$model_sha.gguf"
  if ! fetch "$stored" "$model"; then
    # A whole file can't be continued (416), and a connection that breaks off is tried again only when told so.
    matches "$model_sha" "$model.download" ||
      curl --fail --silent --show-error --location --retry 5 --retry-all-errors --continue-at - --output "$model.download" \
        "$(field 'm["model"]["url"]')"
    matches "$model_sha" "$model.download" || { rm -f "$model.download"; echo "the model isn't what the manifest names"; exit 1; }
    mv "$model.download" "$model"
    aws s3 cp --only-show-errors "$model" "s3://$NODE_BUCKET/$stored" || echo "the model couldn't be kept in the bucket"
  fi
  matches "$model_sha" "$model" || { rm -f "$model"; echo "the model isn't what the manifest names"; exit 1; }
fi

token=$(curl --fail --silent -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
instance_id=$(curl --fail --silent -H "X-aws-ec2-metadata-token: $token" http://169.254.169.254/latest/meta-data/instance-id)
{
  field '"\n".join(f"{k}={v}" for k, v in m["environment"].items())'
  echo "AWS_REGION=$NODE_REGION"
  echo "WORKER_MODEL_PATH=$model"
  echo "WORKER_MODEL_SHA256=$model_sha"
  echo "WORKER_MODEL_NAME=$(field 'm["model"]["name"]')"
  echo "WORKER_CONTEXT_TOKENS=$(field 'm["model"]["context_tokens"]')"
  echo "WORKER_INSTANCE_ID=$instance_id"
  echo "WORKER_STATE_DIR=$STATE_DIR"
} >"$HOME_DIR/worker.env.new"

cat >"$HOME_DIR/aistratus-worker.service.new" <<UNIT
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
ExecStart=$release/venv/bin/python -m aistratus.worker
Restart=always
RestartSec=1
StandardOutput=append:$LOG_DIR/worker.log
StandardError=inherit
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ReadWritePaths=$STATE_DIR

[Install]
WantedBy=multi-user.target
UNIT

unit=/etc/systemd/system/aistratus-worker.service
if ! cmp -s "$HOME_DIR/worker.env.new" "$HOME_DIR/worker.env" || ! cmp -s "$HOME_DIR/aistratus-worker.service.new" "$unit"; then
  install -m 0644 "$HOME_DIR/worker.env.new" "$HOME_DIR/worker.env"
  install -m 0644 "$HOME_DIR/aistratus-worker.service.new" "$unit"
  systemctl daemon-reload
  systemctl enable --quiet aistratus-worker.service
  systemctl restart aistratus-worker.service
fi
systemctl is-active --quiet aistratus-worker.service || systemctl start aistratus-worker.service

# What no longer runs makes room for what comes.
find "$HOME_DIR/releases" -mindepth 1 -maxdepth 1 ! -name "$bundle_sha" -exec rm -rf {} +
find "$HOME_DIR/models" -mindepth 1 ! -name "$model_sha.gguf" -delete

log_group=$(field 'm["environment"].get("WORKER_LOG_GROUP")')
# A node without its log still answers.
[[ -z $log_group ]] || ship_log "$log_group" "$instance_id" || echo "the worker's log can't be shipped"
echo "node ready"
