"""One round of votes over HTTP: all nodes examine, then all seal, then all reveal; a fault of a node is a note, and nobody's vote."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from studbook.errors import BallotError, ConfigError, SignatureError, VerifierError
from studbook.provenance import PublicKey, Signed, open_signed
from studbook.records import Claim
from studbook.verification._node_client import Node, NodeClient, NodeFault, check_url, plain_text, problem_text
from studbook.verification.quorum import Quorum, Revealed, unseal
from studbook.verification.token_files import read_node_tokens

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
Progress = Callable[[str], None]

REVEAL_S = 30.0
"""For revealing, once all have sealed or the time is over; no longer than the examination may take."""
_SEAL = re.compile(r"[0-9a-f]{64}")
_JOB = re.compile(r"[0-9a-f]{32}")
_NO_TOKENS: Mapping[str, str] = MappingProxyType({})
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.02, 1.0


def _quiet(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class CoordinatorResult:
    """What a round of votes gave.

    Attributes:
        ballots: Signed, each checked: of an expected voter, on this claim, in this round, and as it was sealed.
        faults: By voter, why there is no ballot; with ``ballots`` all voters.
    """

    ballots: tuple[bytes, ...]
    faults: Mapping[PublicKey, str]

    @property
    def notes(self) -> tuple[str, ...]:
        """The faults as a receipt holds them, one line a voter."""
        return tuple(f"{voter}: {fault}" for voter, fault in self.faults.items())


@dataclass(frozen=True, slots=True)
class _Sealed:
    job: str
    seal: str


def verify_claim(
    claim_bytes: bytes,
    evidence_bytes: bytes,
    nodes: Sequence[Node],
    quorum: Quorum,
    round_: str,
    *,
    timeout_s: float = 300.0,
    retries: int = 3,
    progress: Progress = _quiet,
) -> CoordinatorResult:
    """Have nodes vote on a claim.

    1. The claim, its evidence and the round go to all nodes at once. 2. Each gives a seal of its ballot; nothing is revealed before all
    have sealed, or the time is over. 3. Those that sealed get all seals and reveal. 4. Each ballot must fit its seal, its voter, the
    claim and the round.

    Args:
        claim_bytes: The signed claim.
        evidence_bytes: The signed answer to the challenge whose nonce is the round.
        nodes: Each of an expected voter.
        quorum: The voters.
        round_: From ``new_round``.
        timeout_s: Until all have sealed.
        retries: How often a node that can't be reached is asked again; one that is busy is asked until the time is over.
        progress: Is told what becomes of each node.

    Returns:
        Ballots, and for all others notes; ``make_receipt`` judges them. Whatever a node does, it is no exception.

    Raises:
        RecordError: Not a claim.
        SignatureError: The claim was changed.
        ConfigError: A node that isn't an expected voter, or two of one voter; a time or number of retries out of range.
        MissingExtraError: httpx isn't installed.
    """
    claim = open_signed(claim_bytes, Claim, "the claim")
    _check(nodes, quorum, timeout_s, retries)
    body = {
        "claim": claim_bytes.decode(),
        "evidence": evidence_bytes.decode("utf-8", "replace"),
        "round": round_,
        "electorate": quorum.electorate,
    }
    notes = {voter: "no node was named for this voter" for voter in quorum.voters if voter not in {node.key for node in nodes}}
    with _http_client([node.url for node in nodes]) as http:
        deadline = time.monotonic() + timeout_s
        clients = [NodeClient(node, http, deadline, retries) for node in nodes]
        sealed = _side_by_side(clients, lambda client: _seal(client, body), "sealed", notes, progress)  # 1, 2
        seals = {voter: each.seal for voter, each in sealed.items()}
        deadline = time.monotonic() + min(REVEAL_S, timeout_s)
        again = [NodeClient(node, http, deadline, retries) for node in nodes if node.key in sealed]
        work = _Reveal(claim, quorum, round_, sealed, seals)
        ballots = _side_by_side(again, work, "revealed", notes, progress)  # 3, 4
    return CoordinatorResult(tuple(ballots[voter] for voter in quorum.voters if voter in ballots), notes)


def nodes_of(verifiers: str, token_file: Path | None = None, *, trust_on_first_use: bool = False) -> list[Node]:
    """The nodes of a command line.

    Args:
        verifiers: ``URL#KEY,URL#KEY,…``; see ``parse_nodes``.
        token_file: Where the nodes want tokens: on each line a node's key or URL, and the token.
        trust_on_first_use: See ``parse_nodes``.

    Raises:
        KeyFileError: The token file isn't one, or can be read by others.
        ConfigError: See ``parse_nodes``; or a token that is for none of the nodes.
    """
    tokens = {} if token_file is None else read_node_tokens(token_file)
    nodes = parse_nodes([each for each in verifiers.split(",") if each.strip()], tokens=tokens, trust_on_first_use=trust_on_first_use)
    unused = tokens.keys() - {str(node.key) for node in nodes} - {node.url for node in nodes}
    if unused:
        raise ConfigError(
            f"the tokens are for {plain_text(min(unused))}, too, which isn't asked", hint="write the node's key as it was given"
        )
    return nodes


def parse_nodes(
    texts: Sequence[str], *, tokens: Mapping[str, str] = _NO_TOKENS, trust_on_first_use: bool = False, timeout_s: float = 10.0
) -> list[Node]:
    """Nodes as a user names them: ``URL#ed25519:…``, or a URL alone where its key is to be believed without having been told.

    Args:
        texts: One a node.
        tokens: That they know us by, by key or URL: each node has its own, so that none can ask the others in our name.
        trust_on_first_use: Whoever answers at a URL without a key is taken for the voter.
        timeout_s: For that answer.

    Raises:
        ConfigError: A URL without a key, or not a URL.
        SignatureError: Not a key.
        VerifierError: A node didn't say its key.

    Examples:
        >>> from studbook.provenance import SigningKey
        >>> from studbook.verification.coordinator import parse_nodes
        >>> key = SigningKey.generate().public
        >>> parse_nodes([f"http://127.0.0.1:8471#{key}"])[0].url
        'http://127.0.0.1:8471'
    """
    found = []
    for text in texts:
        url, hash_, key = text.strip().partition("#")
        if hash_:
            voter = PublicKey(key)
        elif trust_on_first_use:
            check_url(url, None)
            voter = fetch_key(url, timeout_s=timeout_s)
        else:
            raise ConfigError(f"the node {url} is named without its key", hint="URL#ed25519:…: the node's operator knows its key")
        found.append(Node(url, voter, tokens.get(str(voter), tokens.get(url))))
    return found


def fetch_key(url: str, *, timeout_s: float = 10.0) -> PublicKey:
    """The public key that whoever answers at a URL gives as its own. *Assumes* that nobody on the way, or in its place, answers.

    Raises:
        VerifierError: There is none.
        MissingExtraError: httpx isn't installed.
    """
    from studbook.provenance import SigningKey

    nobody = Node(url, SigningKey.generate().public)
    with _http_client([url]) as http:
        try:
            health = NodeClient(nobody, http, time.monotonic() + timeout_s, retries=0).ask("GET", "/health").require(200)
            return PublicKey(health.get("key"))  # type: ignore[arg-type]
        except (NodeFault, SignatureError) as error:
            raise VerifierError(f"the node {url} doesn't say its key: {error}", hint="start it, or name it as URL#ed25519:…") from error


def _check(nodes: Sequence[Node], quorum: Quorum, timeout_s: float, retries: int) -> None:
    keys = [node.key for node in nodes]
    strangers = [str(key) for key in keys if key not in quorum.voters]
    if strangers or len(set(keys)) < len(keys) or not keys:
        what = f"{strangers[0]} isn't an expected voter" if strangers else "two nodes are of one voter" if keys else "there are no nodes"
        raise ConfigError(what, hint="one node for each voter of the quorum")
    if not (0.0 < timeout_s <= 1e6 and 0 <= retries <= 1000):
        raise ConfigError(f"timeout {timeout_s} s and {retries} retries, expected above 0 and 0 to 1,000")


def _http_client(urls: Sequence[str]) -> httpx.Client:
    try:
        import httpx
    except ImportError as error:
        from studbook.errors import MissingExtraError

        raise MissingExtraError("asking verifiers over HTTP needs httpx, not installed", hint="pip install 'studbook[serve]'") from error
    # Straight to the nodes: no proxy or password of the surroundings, and no redirect. Authorities' certificates take a while to read,
    # and aren't where nothing is encrypted.
    encrypted = any(url.startswith("https:") for url in urls)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=1024)
    return httpx.Client(verify=encrypted, trust_env=False, follow_redirects=False, limits=limits)


def _side_by_side(
    clients: Sequence[NodeClient], work: Callable[[NodeClient], T], done: str, notes: dict[PublicKey, str], progress: Progress
) -> dict[PublicKey, T]:
    """Each node's result by voter; where there is none by the deadline, a note."""
    answers: queue.SimpleQueue[tuple[Node, T | NodeFault]] = queue.SimpleQueue()

    def run(client: NodeClient) -> None:
        try:
            answers.put((client.node, work(client)))
        except NodeFault as fault:
            answers.put((client.node, fault))
        except Exception as error:  # noqa: BLE001 - whatever a node brings about is a note
            answers.put((client.node, NodeFault("lying", plain_text(f"its answer can't be used: {type(error).__name__}: {error}"))))

    for client in clients:
        threading.Thread(target=run, args=(client,), daemon=True).start()
    missing = {client.node.key: client for client in clients}
    found: dict[PublicKey, T] = {}
    while missing:
        # A moment more than the deadline: a thread that meets it says best what was wrong.
        left = max(client.deadline for client in missing.values()) + 0.5 - time.monotonic()
        try:
            node, result = answers.get(timeout=max(0.0, left))
        except queue.Empty:
            break
        del missing[node.key]
        if isinstance(result, NodeFault):
            notes[node.key] = f"{node.url} is {result}" if result.kind != "refused" else f"{node.url} {result}"
            progress(notes[node.key])
        else:
            found[node.key] = result
            progress(f"{node.url} {done}")
    for key, client in missing.items():
        notes[key] = f"{client.node.url} is slow: no answer in time"
        progress(notes[key])
    return found


def _seal(client: NodeClient, body: Mapping[str, Any]) -> _Sealed:
    """Send the claim, and wait for the seal; a node that forgot the job (it was started again) is sent the claim again."""
    job, forgotten, look = _submit(client, body), 0, _FIRST_LOOK_S
    while True:
        answer = client.ask("GET", f"/jobs/{job}")
        if answer.status == 404 and forgotten < client.retries:
            job, forgotten = _submit(client, body), forgotten + 1
            continue
        seen = answer.require(200)
        if seen.get("voter") != str(client.node.key):
            raise NodeFault("lying", f"it answers as {plain_text(str(seen.get('voter')))}, expected {client.node.key}")
        state, seal = seen.get("state"), seen.get("seal")
        if state == "failed":
            raise NodeFault("refused", f"no ballot, {problem_text(seen.get('error'))}")
        if state == "sealed":
            if not isinstance(seal, str) or not _SEAL.fullmatch(seal):
                raise NodeFault("lying", "its seal is no SHA-256")
            return _Sealed(job, seal)
        if state not in {"queued", "running"}:
            raise NodeFault("lying", f"its job is in the state {plain_text(repr(state))}")
        client.pause(look, NodeFault("slow", f"the claim is still {state}"))
        look = min(_LONGEST_LOOK_S, 1.5 * look)


def _submit(client: NodeClient, body: Mapping[str, Any]) -> str:
    job = client.ask("POST", "/claims", body).require(200, 202).get("job")
    if not isinstance(job, str) or not _JOB.fullmatch(job):
        raise NodeFault("lying", "its ticket has no job")
    return job


@dataclass(frozen=True, slots=True)
class _Reveal:
    """Asks a node for its ballot, and checks it."""

    claim: Signed[Claim]
    quorum: Quorum
    round: str
    sealed: Mapping[PublicKey, _Sealed]
    seals: Mapping[PublicKey, str]

    def __call__(self, client: NodeClient) -> bytes:
        voter = client.node.key
        body = {"seals": {str(key): seal for key, seal in self.seals.items()}}
        shown = client.ask("POST", f"/jobs/{self.sealed[voter].job}/reveal", body).require(200)
        ballot, salt = shown.get("ballot"), shown.get("salt")
        if not isinstance(ballot, str) or not isinstance(salt, str):
            raise NodeFault("lying", "it reveals no ballot and salt")
        revealed = Revealed(ballot.encode("utf-8", "replace"), salt)
        try:
            # By itself: a seal is bound to its voter, so that who copied somebody's can't open it, and takes nobody's vote.
            (data,) = unseal({voter: self.seals[voter]}, {voter: revealed})
            signed = self.quorum.open_ballot(self.claim, data, round_=self.round)
        except BallotError as error:
            raise NodeFault("lying", plain_text(error.message)) from error
        if signed.key != voter:
            raise NodeFault("lying", f"it reveals the ballot of {signed.key}")
        return data


__all__ = ["REVEAL_S", "CoordinatorResult", "Node", "fetch_key", "nodes_of", "parse_nodes", "verify_claim"]
