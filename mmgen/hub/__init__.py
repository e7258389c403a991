"""Publishing checkpoints on the Hugging Face Hub, and loading them from there or from a folder."""
