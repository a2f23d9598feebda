"""Per-pixel isotropic convolution and SFT modulation: reference, CUDA, TensorRT plugins."""
