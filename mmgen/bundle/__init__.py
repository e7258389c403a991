"""A training packed for a machine that has PyTorch and no network, and what comes back from it."""
