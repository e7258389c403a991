"""The captioner: GPT-2 learns to read what the fusion makes of pictures and words."""
