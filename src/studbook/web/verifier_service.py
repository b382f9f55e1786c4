"""A verifier over HTTP: the routes, and their OpenAPI schema."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.security import HTTPBearer

from studbook import __version__
from studbook.verification.models import Family
from studbook.web.answers import add_handlers, responses
from studbook.web.guard import Guard, Tokens, gate_of
from studbook.web.limits import Limits
from studbook.web.schema import Health, Hex32, JobForm, ModelForm, Models, ProblemForm, Reveal, RevealedForm, Submission, Ticket
from studbook.web.verifier_node import VerifierNode

JobId = Annotated[Hex32, Path(description="As the ticket says.")]

_WHY = {
    400: "Not a request of HTTP with JSON.",
    401: "No token, or an unknown one.",
    403: "Without tokens, only loopback addresses are served.",
    404: "The caller has no such job (any more).",
    408: "The body came too slowly.",
    409: "The round was begun otherwise, or there is no sealed ballot.",
    413: "The body is too long.",
    422: "Not the documented form, or not a claim with its evidence.",
    429: "The queue is full; Retry-After says when to ask again.",
    503: "Too many requests are open, or the node is stopping.",
}
_GUARDED = (401, 403, 408, 413, 503)
_responses = partial(responses, _WHY)


def create_app(node: VerifierNode, limits: Limits, tokens: Tokens | None = None) -> FastAPI:
    """The service of a node.

    Args:
        node: What examines; started and closed by whoever runs the service.
        limits: Of requests.
        tokens: Of callers; ``None`` only where nothing but loopback is bound.
    """
    app = FastAPI(
        title="studbook verifier", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False,
        description="Examines claims with registered models, and votes. Nothing in a claim is executed.",
    )  # fmt: skip
    _add_open_routes(app, node)
    _add_job_routes(app, node, secured=tokens is not None)
    add_handlers(app)
    app.add_middleware(cast("Any", Guard), limits=limits.requests, gate=gate_of(tokens))
    return app


def _add_open_routes(app: FastAPI, node: VerifierNode) -> None:
    @app.get("/health", responses=_responses(503), summary="Who the node is, and how busy")
    async def health() -> Health:
        return Health(
            version=__version__, key=str(node.public), state="stopping" if node.stopping else "serving", n_queued=node.n_queued,
            n_running=node.n_running, queue=node.limits.queue, accepts_offline_evidence=node.limits.accept_offline_evidence,
        )  # fmt: skip


def _add_job_routes(app: FastAPI, node: VerifierNode, *, secured: bool) -> None:
    # The guard checks tokens, before a body is read; this says so in the schema. Only opening a claim takes time, and gets a thread.
    secure: Any = {"dependencies": [Depends(HTTPBearer(auto_error=False))]} if secured else {}

    @app.get("/models", responses=_responses(*_GUARDED), summary="What claims may be about", **secure)
    async def models() -> Models:
        return Models(models=[_model_form(node, digest, family) for digest, family in node.models])

    @app.post(
        "/claims",
        status_code=202,
        summary="Queue a claim; the same claim and round again gives the same job",
        responses={200: {"model": Ticket, "description": "It was queued before."}, **_responses(400, 409, 422, 429, *_GUARDED)},
        **secure,
    )
    def submit(body: Submission, request: Request, response: Response) -> Ticket:
        seen = node.submit(request.state.caller, _bytes(body.claim), _bytes(body.evidence), (body.round, body.electorate))
        response.status_code = 202 if seen.created else 200
        return Ticket(job=seen.job, position=seen.position)

    @app.get("/jobs/{job}", responses=_responses(404, 422, *_GUARDED), summary="How far a claim is", **secure)
    async def look(job: JobId, request: Request) -> JobForm:
        seen = node.look(request.state.caller, job)
        error = None if seen.problem is None else ProblemForm.model_validate(seen.problem.plain())
        return JobForm(job=seen.job, state=seen.state, position=seen.position, voter=str(node.public), seal=seen.seal, error=error)

    @app.post(
        "/jobs/{job}/reveal",
        responses=_responses(400, 404, 409, 422, *_GUARDED),
        summary="The sealed ballot, in return for the seals of all voters",
        **secure,
    )
    async def reveal(job: JobId, body: Reveal, request: Request) -> RevealedForm:
        shown = node.reveal(request.state.caller, job, body.seals)
        return RevealedForm(ballot=shown.ballot.decode(), salt=shown.salt)


def _model_form(node: VerifierNode, digest: str, family: Family) -> ModelForm:
    ids = [each.id for each in node.setup.calibrations if each.model == digest]
    return ModelForm(digest=digest, family=family, calibrations=ids)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # what isn't Unicode is refused where records are read
