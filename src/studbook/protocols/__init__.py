"""How several nodes train one model together, how each commits to what it did, and how single steps are replayed."""

from studbook.protocols.cluster import Cluster, InProcess, Lost
from studbook.protocols.federated import Federated
from studbook.protocols.gossip import Gossip
from studbook.protocols.graphs import Graph, complete, create_graph, metropolis_weights, pair_weights, ring, star
from studbook.protocols.host import Host
from studbook.protocols.independent import Independent
from studbook.protocols.local import Local
from studbook.protocols.messages import Message
from studbook.protocols.node import Node, NodeState, Optimiser
from studbook.protocols.objective import Gradient, Objective, Sliced
from studbook.protocols.protocols import Protocol, Served
from studbook.protocols.quadratic import Quadratic
from studbook.protocols.run import Plan, train
from studbook.protocols.select import Choice, Selection
from studbook.protocols.spec import TrainingSpec, create_objective
from studbook.protocols.synchronised import Synchronised
from studbook.protocols.team import Event, Patience, Team, spread_of
from studbook.protocols.training_run import Evaluation, StepRow, TrainingRun
from studbook.protocols.values import Parameters

__all__ = [
    "Choice",
    "Cluster",
    "Evaluation",
    "Event",
    "Federated",
    "Gossip",
    "Gradient",
    "Graph",
    "Host",
    "InProcess",
    "Independent",
    "Local",
    "Lost",
    "Message",
    "Node",
    "NodeState",
    "Objective",
    "Optimiser",
    "Parameters",
    "Patience",
    "Plan",
    "Protocol",
    "Quadratic",
    "Selection",
    "Served",
    "Sliced",
    "StepRow",
    "Synchronised",
    "Team",
    "TrainingRun",
    "TrainingSpec",
    "complete",
    "create_graph",
    "create_objective",
    "metropolis_weights",
    "pair_weights",
    "ring",
    "spread_of",
    "star",
    "train",
]
