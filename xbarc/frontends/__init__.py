"""Importers, one a format; each gives an ONNX graph (`onnx_ir.Model`)."""
