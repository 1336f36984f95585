"""ONNX graph to tile IR, layers not mapped yet."""
