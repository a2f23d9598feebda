"""Running an exported model on frames: no torch, no onnx, no exporter."""
