"""The captioner: GPT-2 learns to read what the fusion makes of images and words."""
