"""The register of known outputs: embedded by default, a database server for teams; what is near this?"""

from studbook.registry.contents import (
    Picture,
    Prints,
    canonical_text,
    fingerprint_pictures,
    fingerprint_texts,
    picture_content,
    text_content,
)
from studbook.registry.limits import DEFAULTS, Target, calibrate_images, calibrate_texts
from studbook.registry.register import Register
from studbook.registry.values import Added, Edge, FalseMatches, Limit, Lineage, Match, Problem, Relation, Stats

__all__ = [
    "DEFAULTS",
    "Added",
    "Edge",
    "FalseMatches",
    "Limit",
    "Lineage",
    "Match",
    "Picture",
    "Prints",
    "Problem",
    "Register",
    "Relation",
    "Stats",
    "Target",
    "calibrate_images",
    "calibrate_texts",
    "canonical_text",
    "fingerprint_pictures",
    "fingerprint_texts",
    "picture_content",
    "text_content",
]
