"""Loading checkpoints, from a folder or from the Hugging Face Hub: what they hold, and whether it fits together."""
