"""Questions asked of an ONNX graph, rewrites that every importer ends with, and running one."""
