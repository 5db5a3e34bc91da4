"""Makes moto read files once and lazily, which halves the time of a start.

moto creates a new loader of botocore's models for each service, each of which scans the folders of all services. And
importing its EC2 parses the instance type offerings of all zones of all regions. This file is not in the shim, because
the shim imports all of moto.
"""

from __future__ import annotations

import functools
import os
from typing import Any

OFFERINGS = "ec2/resources/instance_type_offerings"
"""Where moto keeps them; below it a folder for each kind of location, and a file for each region."""


class Offerings(dict[str, list[dict[str, Any]]]):
    """Region → which instance types are offered where, parsed when somebody asks for that region."""

    def __init__(self, location_type: str) -> None:
        super().__init__()
        self._location_type = location_type

    def __missing__(self, region: str) -> list[dict[str, Any]]:
        from moto.utilities.utils import load_resource

        try:
            offered = load_resource(f"{OFFERINGS}/{self._location_type}/{region}.json")
        except FileNotFoundError:
            raise KeyError(region) from None
        self[region] = [{**each, "LocationType": self._location_type} for each in offered]
        return self[region]

    def get(self, region: str, default: Any = None) -> Any:
        """As of any dictionary."""
        try:
            return self[region]
        except KeyError:
            return default


def read_lazily() -> None:
    """Patches moto; called before anything imports its EC2."""
    _one_loader_of_models()
    _offerings_when_asked_for()


def _one_loader_of_models() -> None:
    from moto.core import utils

    once = functools.cache(utils.create_loader)  # type: ignore[attr-defined]
    setattr(utils, "create_loader", once)  # noqa: B010 - moto does not export the name


def _offerings_when_asked_for() -> None:
    from moto.utilities import utils

    original = utils.load_resource

    def none_of_the_offerings(resource: str) -> Any:
        return [] if resource.replace(os.sep, "/").startswith(OFFERINGS) else original(resource)

    utils.load_resource = none_of_the_offerings
    try:
        from moto.ec2.models import instance_types
    finally:
        utils.load_resource = original
    found = instance_types.INSTANCE_TYPE_OFFERINGS
    if not found or any(offered for regions in found.values() for offered in regions.values()):
        raise RuntimeError("moto.ec2.models.instance_types reads its offerings in another way by now")
    found.update({location_type: Offerings(location_type) for location_type in found})
