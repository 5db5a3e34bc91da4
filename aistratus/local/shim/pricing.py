"""AWS's price list, which moto doesn't have: machines, volumes, NAT gateways, addresses, dashboards, by GetProducts.

The figures are those of the package's own list, in the form of AWS's. Other services have no products here: whoever
asks for them hears nothing, as on AWS where a filter meets nothing.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from types import ModuleType, SimpleNamespace
from typing import Any, Final, cast

from moto import backend_index
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.responses import ActionResult, BaseResponse

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import MotoChanged

SERVICE: Final = "pricing"
_BASE: Final = r"https?://(?:api\.)?pricing\.(.+)\.amazonaws\.com"
PAGE: Final = 100

_MACHINE: Final = {
    "operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used",
}  # fmt: skip
_THINGS: Final[Mapping[tuple[str, str], tuple[str, dict[str, str], str, str]]] = {
    ("ebs", "gp3"): ("AmazonEC2", {"volumeApiName": "gp3"}, "EBS:VolumeUsage.gp3", "GB-Mo"),
    ("vpc", "nat"): ("AmazonEC2", {"productFamily": "NAT Gateway"}, "NatGateway-Hours", "Hrs"),
    ("vpc", "nat-data"): ("AmazonEC2", {"productFamily": "NAT Gateway"}, "NatGateway-Bytes", "GB"),
    ("vpc", "public-ipv4"): ("AmazonVPC", {"group": "VPCPublicIPv4Address"}, "PublicIPv4:InUseAddress", "Hrs"),
}
"""Service code, attributes, usage type and unit, as the price list has them, by service and item of the package's."""
_DASHBOARD: Final = {"productFamily": "Dashboard", "location": "Any"}
"""Of the account: the price list has no region for it."""


@cache
def products() -> tuple[dict[str, Any], ...]:
    """All products."""
    text = resources.files("aistratus.costs").joinpath("prices.csv").read_text(encoding="utf-8")
    return tuple(_products(csv.DictReader(text.splitlines())))


def _products(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row["service"] == "ec2" and row["unit"] == "hour":
            fields = {"instanceType": row["item"], **_MACHINE}
            yield _product("AmazonEC2", fields, f"BoxUsage:{row['item']}", "Hrs", row)
        elif (row["service"], row["item"]) in _THINGS:
            yield _product(*_THINGS[row["service"], row["item"]], row)
        elif (row["service"], row["item"], row["region"]) == ("cloudwatch", "dashboard", "us-east-1"):
            everywhere = {**row, "region": ""}
            yield _product("AmazonCloudWatch", _DASHBOARD, "DashboardsUsageHour-Basic", "Dashboards", everywhere)


def _product(code: str, fields: dict[str, str], usage: str, unit: str, row: Mapping[str, str]) -> dict[str, Any]:
    place = "" if row["region"] in ("us-east-1", "") else f"{row['region'].replace('-', '').upper()}-"
    attributes = {**fields, "servicecode": code, "regionCode": row["region"], "usagetype": f"{place}{usage}"}
    tier = {"unit": unit, "beginRange": "0", "endRange": "Inf", "pricePerUnit": {"USD": row["usd"]}}
    return {
        "serviceCode": code,
        "product": {"attributes": attributes},
        "terms": {"OnDemand": {"term": {"priceDimensions": {"tier": tier}}}},
    }


class PricingBackend(BaseBackend):
    """One region's; they all answer alike."""

    @property
    def _url_module(self) -> Any:
        """moto looks for a module `urls` beside the class."""
        return SimpleNamespace(url_bases=[_BASE], url_paths={"{0}/$": PricingResponse.dispatch})


class PricingResponse(BaseResponse):
    """The one operation."""

    def __init__(self) -> None:
        super().__init__(service_name=SERVICE)

    def get_products(self) -> ActionResult:
        wanted = {one["Field"]: one["Value"] for one in self._get_param("Filters", [])}
        code = self._get_param("ServiceCode")
        found = [
            product
            for product in products()
            if product["serviceCode"] == code
            and all(product["product"]["attributes"].get(name) == value for name, value in wanted.items())
        ]
        start = int(self._get_param("NextToken") or 0)
        end = start + min(PAGE, int(self._get_param("MaxResults") or PAGE))
        more = {"NextToken": str(end)} if end < len(found) else {}
        listed = [json.dumps(one) for one in found[start:end]]
        return ActionResult({"FormatVersion": "aws_v1", "PriceList": listed, **more})


pricing_backends: BackendDict[PricingBackend] = BackendDict(PricingBackend, "ec2")
"""By account and region; the SDK knows only a few regions for it."""


def patch(cloud: Cloud) -> None:
    """Gives moto the service: the module that it looks for, and the addresses at which it answers."""
    if any(name == SERVICE for name, _ in backend_index.backend_url_patterns):
        raise MotoChanged(f"moto has {SERVICE} by now")
    module = cast(Any, ModuleType(f"moto.{SERVICE}"))
    module.pricing_backends = pricing_backends
    sys.modules[module.__name__] = module
    backend_index.backend_url_patterns.append((SERVICE, re.compile(_BASE)))
