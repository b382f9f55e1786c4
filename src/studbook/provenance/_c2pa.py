"""The C2PA library: the one place that imports it, set so that it never asks anything of the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from studbook.errors import MissingExtraError

_HINT = "pip install 'studbook[provenance]'"


def load_c2pa() -> Any:
    """The module.

    Raises:
        MissingExtraError: It isn't installed.
    """
    try:
        import c2pa
    except ImportError as error:
        raise MissingExtraError("content credentials need the package c2pa-python, not installed", hint=_HINT) from error
    return c2pa


def make_context(anchors: bytes = b"") -> Any:
    """Settings of one signature or one reading: no network, no thumbnails, and these roots.

    Args:
        anchors: Root certificates in PEM; without any, every signer is unknown.
    """
    settings: Mapping[str, Any] = {
        "version": 1,
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {
            "verify_after_reading": True,
            "verify_after_sign": False,  # whoever signs here reads it again with a trust of their own
            "verify_trust": True,
            "verify_timestamp_trust": True,
            "ocsp_fetch": False,
            "remote_manifest_fetch": False,
        },
        **({"trust": {"trust_anchors": anchors.decode()}} if anchors else {}),
    }
    return load_c2pa().Context.from_json(json.dumps(settings))
