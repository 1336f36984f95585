"""What the simulator, the cost model and the IR all stand on.

Geometry, encoding, converters, mesh.
"""
