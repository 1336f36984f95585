"""Retraining under what the hardware will do (extra `train`: torch).

`operators/` and `graph`: an ONNX graph as a torch module. `crossbar`: a layer as crossbars compute
it. `network`: the whole network on a target. `tune`: the training itself; `methods/`: what happens
between epochs.
"""
