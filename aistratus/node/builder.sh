#!/bin/bash
# Makes a fresh Amazon Linux 2023 machine into a builder of images, and ends it after a while whatever happens.
set -euo pipefail
exec > >(tee /var/log/user-data.log | logger -t user-data -s 2>/dev/console) 2>&1

# --- builder
BUILDER_REGION=''
BUILDER_LOG_GROUP=''
# --- end of builder

# It terminates when it shuts down. Whoever asked for it may have died; the guard in AWS would come later.
shutdown -h +50 "an image takes no longer to build"
dnf install -y -q docker
systemctl enable --now --quiet docker

# A builder without its log still builds.
dnf install -y -q amazon-cloudwatch-agent || exit 0
cat >/opt/log-agent.json <<AGENT
{"agent": {"region": "$BUILDER_REGION"}, "logs": {"logs_collected": {"files": {"collect_list": [
  {"file_path": "/var/log/user-data.log", "log_group_name": "$BUILDER_LOG_GROUP", "log_stream_name": "{instance_id}"},
  {"file_path": "/var/log/build.log", "log_group_name": "$BUILDER_LOG_GROUP", "log_stream_name": "{instance_id}/build"}]}}}}
AGENT
/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl -a fetch-config -m ec2 -s -c file:/opt/log-agent.json
