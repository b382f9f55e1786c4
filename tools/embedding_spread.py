"""How far nodes that train one small embedding of a frozen model end apart, by protocol: the table of the guide on training.

python tools/embedding_spread.py --seeds 5
"""

from __future__ import annotations

import argparse
import math
import time

from studbook.protocols import Gossip, Independent, InProcess, Local, Node, Optimiser, Plan, Protocol, Synchronised, complete, ring, train
from studbook.protocols.diagnose_growth import Mean, geometric_mean
from studbook.protocols.spec import create_objective, split_rows

NODES, STEPS, BATCH, RATE = 4, 30, 8, 0.01
OBJECTIVES = ("embedding", "soft_prompt")
PROTOCOLS: dict[str, Protocol] = {
    "independent": Independent(),
    "gossip, ring": Gossip(ring(NODES)),
    "gossip, random pairs": Gossip(complete(NODES)),
    "local, every 10 (just averaged)": Local(10),
    "synchronised": Synchronised(),
}


def spread_after(objective: str, protocol: Protocol, seed: int) -> float:
    """The spread at the end of a run; the frozen model is the same for all seeds, rows, batches and start are the seed's."""
    model = create_objective(objective, {})
    rows = split_rows(model.n_rows, NODES, "shuffled", seed=seed)
    nodes = [Node(i, model, part, BATCH, Optimiser("adam", RATE), seed) for i, part in enumerate(rows)]
    return train(InProcess(nodes), protocol, Plan(STEPS, seed, spread_every=STEPS)).rows[-1].spread


def in_words(found: Mean) -> str:
    """``0.12 (0.11–0.13)``."""
    return f"{found.value:.2g} ({found.low:.2g}–{found.high:.2g})"


def main() -> None:
    """Print the table in Markdown, and what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each pair, 2 or more")
    seeds = range(parser.parse_args().seeds)
    if len(seeds) < 2:
        parser.error(f"--seeds is {len(seeds)}, expected 2 or more: an interval needs two")
    began = time.process_time()
    spreads = {(o, p): [spread_after(o, PROTOCOLS[p], seed) for seed in seeds] for o in OBJECTIVES for p in PROTOCOLS}
    print(f"| spread after {STEPS} steps | {' | '.join(f'{o} | times smaller' for o in OBJECTIVES)} |")
    print(f"|---|{'---|---|' * len(OBJECTIVES)}")
    for protocol in PROTOCOLS:
        cells = []
        for objective in OBJECTIVES:
            alone, found = spreads[objective, "independent"], spreads[objective, protocol]
            apart = all(each > 0.0 for each in found)
            shrunk = [math.exp(math.log(one) - math.log(other)) for one, other in zip(alone, found, strict=True)] if apart else []
            cells += [in_words(geometric_mean(found, 0.95)) if apart else "0"]
            cells += [in_words(geometric_mean(shrunk, 0.95)) if apart and protocol != "independent" else ""]
        print(f"| {protocol} | {' | '.join(cells)} |")
    print(f"\n{len(seeds)} seeds, geometric means with Student's 95 % intervals; {time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
