"""Service Quotas: moto has those of VPCs only. A new account's values, but for GPUs: there is no bill here to fear."""

from __future__ import annotations

from typing import Any, Final

from moto.servicequotas.models import ServiceQuotasBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap

EC2: Final = {
    "L-DB2E81BA": ("Running On-Demand G and VT instances", 64.0),
    "L-1216C47A": ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 64.0),
    "L-0263D0A3": ("EC2-VPC Elastic IPs", 5.0),
}
"""Code → name and value. Source: EC2 user guide, "Amazon EC2 service quotas"."""


def patch(cloud: Cloud) -> None:
    @wrap(ServiceQuotasBackend, "get_service_quota")
    def get_service_quota(original: Any, self: Any, service_code: str, quota_code: str) -> dict[str, Any]:
        if service_code != "ec2" or quota_code not in EC2:
            found: dict[str, Any] = original(self, service_code, quota_code)
            return found
        name, value = EC2[quota_code]
        return {
            "Adjustable": True,
            "GlobalQuota": False,
            "QuotaArn": f"arn:aws:servicequotas:{self.region_name}:{self.account_id}:ec2/{quota_code}",
            "QuotaCode": quota_code,
            "QuotaName": name,
            "ServiceCode": "ec2",
            "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
            "Unit": "None",
            "Value": value,
        }
