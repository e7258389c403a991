"""The GAN: what one sample is, the whole objective, and the training."""
