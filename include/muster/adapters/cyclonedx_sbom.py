"""A bill of materials of a captured environment, for people and scanners who ask what was in it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Any

Json = Any
_NAMESPACE = uuid.UUID("6f1a3c52-6f2e-5a0e-9c1d-1d2a5b1f6b7e")


def bill_of_materials(packages: Iterable[tuple[str, str, str, str]], lock_sha256: str, version: str) -> bytes:
    """
    CycloneDX 1.6 as JSON (https://cyclonedx.org/docs/1.6/json/), the same bytes for the same environment.

    :param packages: name, version, wheel file name and hex SHA-256 of each distribution
    :param lock_sha256: hex SHA-256 of the lock; the serial number derives from it
    :param version: of this program
    """
    components = [_component(*package) for package in sorted(packages)]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, lock_sha256 + ''.join(c['bom-ref'] for c in components))}",
        "version": 1,
        "metadata": {"tools": {"components": [{"type": "application", "name": "muster", "version": version}]}},
        "components": components,
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _component(name: str, version: str, wheel: str, sha256: str) -> dict[str, Json]:
    purl = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return {
        "type": "library",
        "bom-ref": f"{purl}?file_name={wheel.replace('+', '%2B')}",
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": sha256}],
        "properties": [{"name": "muster:wheel", "value": wheel}],
    }
