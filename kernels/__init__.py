"""Per-pixel isotropic convolution and SFT modulation: PyTorch operations, CUDA kernels, plugins."""
