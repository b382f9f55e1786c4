"""From an output to its digest: images, text, token streams, activations, trajectories."""
