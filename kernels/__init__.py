"""Per-pixel isotropic convolution and SFT modulation in CUDA: not written yet, see CHANGELOG.md."""
