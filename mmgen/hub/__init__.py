"""Publishing checkpoints and Spaces on the Hugging Face Hub."""
