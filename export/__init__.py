"""From a checkpoint to an ONNX file and a TensorRT engine."""
