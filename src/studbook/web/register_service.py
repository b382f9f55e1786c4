"""A register over HTTP: C2PA's soft binding resolution API, and ours for entries and manifests."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.security import HTTPBearer

from studbook import __version__
from studbook.errors import (
    ConfigError,
    DataError,
    DigestError,
    ProvenanceError,
    RecordError,
    RegisterError,
    RegisterUnavailableError,
    StudbookError,
)
from studbook.records import Digest
from studbook.registry import Register
from studbook.registry.values import Match
from studbook.web.answers import add_handlers, answer, responses
from studbook.web.guard import Guard
from studbook.web.limits import Problem, RefusedError
from studbook.web.manifest_stores import active_manifest
from studbook.web.rates import Rates
from studbook.web.register_access import ALGORITHMS, Access
from studbook.web.register_forms import (
    MOST_RESULTS,
    AddedForm,
    Algorithm,
    Algorithms,
    BindingQuery,
    Entries,
    EntryForm,
    KeptForm,
    Matches,
    MatchForm,
    NewEntries,
    NewManifest,
    RegisterHealth,
)
from studbook.web.register_matching import (
    IMAGES,
    TEXT,
    Asset,
    Kept,
    algorithms,
    digest_of,
    keep_manifest,
    manifests_of,
    match_asset,
    match_digests,
)
from studbook.web.register_node import RegisterNode
from studbook.web.schema import Sha

_LOG = logging.getLogger(__name__)
_LONGEST_VALUE = 8192
"""Characters of a value in an address; what is longer goes into a body."""
_WHY = {
    400: "Not what is asked for: the message says what.",
    401: "No token, or an unknown one.",
    403: "The token may not, or the service doesn't write, or without tokens another host than loopback was asked for.",
    404: "It isn't known here.",
    408: "The body came too slowly.",
    409: "It contradicts what is known.",
    413: "The body is too long.",
    414: "The value is too long for an address; send it by POST.",
    415: "Assets of this kind aren't looked for.",
    422: "The manifest can't be relied on, or belongs to something else.",
    429: "Too many requests; Retry-After says when to ask again.",
    503: "The register can't be reached, or is busy; Retry-After says when to ask again.",
}
_GUARDED = (400, 401, 403, 408, 413, 429, 503)
_responses = partial(responses, _WHY)
_STATUS: tuple[tuple[type[StudbookError], int], ...] = (
    (DataError, 400), (DigestError, 400), (ConfigError, 400), (RecordError, 400), (ProvenanceError, 422),
)  # fmt: skip
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {"requestBody": {"required": True, "content": dict.fromkeys((*sorted(IMAGES), TEXT), _BINARY)}}
_STORE = {"application/c2pa": _BINARY}

MaxResults = Annotated[int, Query(alias="maxResults", ge=1, description=f"Most manifests; more than {MOST_RESULTS} are never given.")]
Alg = Annotated[str, Query(description="A soft binding's algorithm: see /services/supportedAlgorithms.")]
Value = Annotated[str, Query(description="The fingerprint in base64; a long one is sent by POST.")]
Content = Annotated[Sha, Path(description="SHA-256 of the output's bytes.")]
ManifestId = Annotated[Sha, Path(alias="manifestId", description="As a match has it.")]
WholeOrActive = Annotated[bool, Query(alias="returnActiveManifest", description="Only the active manifest, without those before it.")]


@dataclass(frozen=True, slots=True)
class ContentQuery:
    """How an asset is looked for, beside its bytes."""

    alg: Annotated[str | None, Query(description="One algorithm alone; without it, all that fit.")] = None
    max_results: MaxResults = 10
    hint_alg: Annotated[str | None, Query(alias="hintAlg", description="Algorithm of a soft binding that is looked for as well.")] = None
    hint_value: Annotated[str | None, Query(alias="hintValue", description="Its value in base64.")] = None

    def hint(self) -> tuple[Digest, ...]:
        """The further soft binding; one of an algorithm that isn't known helps nobody.

        Raises:
            DigestError: No value, or not one of its algorithm.
        """
        if self.hint_alg is None or self.hint_alg not in algorithms():
            return ()
        return (digest_of(self.hint_alg, self.hint_value or ""),)


def create_app(node: RegisterNode, access: Access, rates: Rates | None = None) -> FastAPI:
    """The service of a register.

    Args:
        node: The register; started and closed by whoever runs the service.
        access: Who may read and write.
        rates: How often a caller may ask.
    """
    app = FastAPI(
        title="studbook register", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False,
        description="Finds the manifests of assets that have lost theirs, by C2PA's soft binding resolution API.",
    )  # fmt: skip
    token: dict[str, Any] = {"dependencies": [Depends(HTTPBearer(auto_error=False))]}
    reads: dict[str, Any] = {} if access.anonymous else token
    _add_open_routes(app, node, access)
    _add_binding_routes(app, node, reads)
    _add_content_routes(app, node, reads)
    _add_entry_routes(app, node, reads)
    _add_writing_routes(app, node, token)
    add_handlers(app, invalid_status=400)
    app.add_exception_handler(StudbookError, cast("Any", _refuse))
    app.add_middleware(cast("Any", Guard), limits=node.limits.requests, gate=access, rates=rates)
    return app


def _add_open_routes(app: FastAPI, node: RegisterNode, access: Access) -> None:
    @app.get("/health", responses=_responses(503), summary="What the service grants")
    async def health() -> RegisterHealth:
        return RegisterHealth(
            version=__version__, state="stopping" if node.stopping else "serving", reads="open" if access.anonymous else "token",
            writes=access.writers is not None, manifests=access.writers is not None and node.trust is not None,
        )  # fmt: skip

    @app.get(ALGORITHMS, responses=_responses(403, 429, 503), summary="The soft bindings that can be looked for")
    async def supported() -> Algorithms:
        return Algorithms(watermarks=[], fingerprints=[Algorithm(alg=alg) for alg in algorithms()])


def _add_binding_routes(app: FastAPI, node: RegisterNode, secure: dict[str, Any]) -> None:
    async def find(alg: str, value: str, most: int) -> Matches:
        digest = digest_of(alg, value)
        return _matches(await node.read(lambda register: match_digests(register, [digest])), most)

    @app.get("/matches/byBinding", responses=_responses(414, *_GUARDED), summary="Manifests by a soft binding", **secure)
    async def by_binding(alg: Alg, value: Value, max_results: MaxResults = 10) -> Matches:
        if len(value) > _LONGEST_VALUE:
            raise RefusedError(414, Problem("too-long", f"the value has {len(value):,} characters", "send it by POST"))
        return await find(alg, value, max_results)

    @app.post("/matches/byBinding", responses=_responses(*_GUARDED), summary="Manifests by a large soft binding", **secure)
    async def by_large_binding(query: BindingQuery, max_results: MaxResults = 10) -> Matches:
        return await find(query.alg, query.value, max_results)


def _add_content_routes(app: FastAPI, node: RegisterNode, secure: dict[str, Any]) -> None:
    @app.post("/matches/byContent", responses=_responses(415, *_GUARDED), openapi_extra=_BODY, summary="Manifests by an asset", **secure)
    async def by_content(request: Request, query: Annotated[ContentQuery, Depends()]) -> Matches:
        asset = Asset(await request.body(), _media_type(request.headers.get("content-type", "")), node.limits.pixels)
        hint = query.hint()

        def find(register: Register) -> list[Match]:
            return match_asset(register, asset, query.alg) + match_digests(register, hint)

        return _matches(await node.read(find), query.max_results)

    @app.api_route("/matches/byReference", methods=["GET", "POST"], include_in_schema=False)
    async def by_reference() -> Response:
        problem = "this service fetches nothing: whoever names an address could make it reach where they can't"
        return answer(501, Problem("not-offered", problem, "send the asset itself to /matches/byContent"))


def _add_entry_routes(app: FastAPI, node: RegisterNode, secure: dict[str, Any]) -> None:
    @app.get(
        "/manifests/{manifestId}",
        response_class=Response,
        responses={200: {"content": _STORE, "description": "The manifest store."}, **_responses(404, *_GUARDED)},
        summary="A manifest store, or its active manifest",
        **secure,
    )
    async def manifest(manifest_id: ManifestId, return_active_manifest: WholeOrActive = False) -> Response:
        store = await node.read(lambda register: _known(register.manifest, manifest_id))
        data = active_manifest(store) if return_active_manifest else store
        return Response(data, media_type="application/c2pa", headers={"X-Content-Type-Options": "nosniff"})

    @app.get("/entries/{content}", responses=_responses(404, *_GUARDED), summary="What is known of an output", **secure)
    async def entries(content: Content) -> Entries:
        found = await node.read(lambda register: register.get(content))
        if not found:
            raise RefusedError(404, Problem("not-found", f"the register doesn't know {content}", "ask what is near it: /matches/byContent"))
        return Entries(entries=[EntryForm.of(entry) for entry in found])


def _add_writing_routes(app: FastAPI, node: RegisterNode, secure: dict[str, Any]) -> None:
    @app.post("/entries", responses=_responses(409, *_GUARDED), summary="Enter outputs; repeating it changes nothing", **secure)
    async def add(body: NewEntries) -> AddedForm:
        added = await node.write(lambda register: register.add([each.record(_now()) for each in body.entries]))
        return AddedForm(new=added.new, known=added.known)

    @app.post("/manifests", responses=_responses(409, 415, 422, *_GUARDED), summary="Enter a signed asset, and keep its manifest", **secure)
    async def keep(body: NewManifest) -> KeptForm:
        trust = node.trust
        if trust is None:
            raise RefusedError(403, Problem("no-trust", "this service keeps no manifests", "its operator can start it with --trust"))
        media_type = _media_type(body.mediaType)

        def take(register: Register) -> Kept:
            asset = Asset(_base64(body.asset, "asset"), media_type, node.limits.pixels)
            store = None if body.manifest is None else _base64(body.manifest, "manifest")
            return keep_manifest(register, asset, store, trust, _now())

        kept = await node.write(take)
        return KeptForm(manifestId=kept.manifest, content=kept.content, new=kept.added.new, known=kept.added.known)


def _matches(found: list[Match], most: int) -> Matches:
    best = manifests_of(found, min(most, MOST_RESULTS))
    return Matches(matches=[MatchForm(manifestId=each.manifest, similarityScore=each.score) for each in best])


def _media_type(header: str) -> str:
    kind, _, parameters = header.lower().partition(";")
    charset = parameters.partition("charset=")[2].strip(' "')
    if kind.strip() not in IMAGES | {TEXT} or charset not in {"", "utf-8", "us-ascii"}:
        known = ", ".join((*sorted(IMAGES), f"{TEXT} in UTF-8"))
        raise RefusedError(415, Problem("media-type", f"the asset is {header[:80]!r}, expected one of {known}", "convert it first"))
    return kind.strip()


def _base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, Problem("invalid", f"{name} isn't base64: {error}", "the standard alphabet, with padding")) from error


def _known(look: Callable[[str], bytes], name: str) -> bytes:
    try:
        return look(name)
    except RegisterError as error:
        if error.__cause__ is not None:
            raise
        raise RefusedError(404, Problem("not-found", f"the register has no manifest {name}", "is it another register's?")) from error


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _refuse(_request: Request, error: StudbookError) -> Response:
    """An error of the package's for a caller; what its database or disk says is for the operator alone."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None and type(error) is RegisterError and error.__cause__ is None:
        status = 409
    if status is not None:
        return answer(status, Problem(error.code, error.message, error.hint))
    _LOG.warning("%s: %s", error.code, error)
    gone = "can't be reached" if isinstance(error, RegisterUnavailableError) else "can't be used"
    return answer(503, Problem(error.code, f"the register {gone}", "ask again later; its operator's log says why"), {"Retry-After": "5"})
