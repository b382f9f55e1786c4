"""The inside of the neural families: networks, training, checkpoints, decoding. Everything but ``options`` needs the extra ``neural``.

Learners and metrics hold the options and import these modules when they are used, so that a study without networks never loads PyTorch.
"""
