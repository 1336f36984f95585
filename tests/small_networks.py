"""Four small networks whose activations are spread as those of trained ones, and images for them.

Weights are random but shaped: heavy tails, smooth kernels, channels whose sizes span octaves, some
of them nearly dead. Each layer is then normalised on data, as batch normalisation would have. The
images are dead leaves (Lee, Mumford, Huang, IJCV 2001): opaque discs that hide one another, which
have the statistics of photographs.
"""

import numpy as np
import onnx
import onnx.helper as oh
import onnx.numpy_helper
import onnxruntime as ort

CALIBRATION_IMAGES, TEST_IMAGES = 32, 8


def images(count, size=48, channels=3, seed=0):
    """Dead leaves [count, channels, size, size], float32 from 0 to 1."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:size, :size]
    made = np.empty((count, channels, size, size), np.float32)
    for image in made:
        image[:] = rng.uniform(0, 1, (channels, 1, 1))
        for _ in range(60):
            radius = min(2 / rng.uniform(0.02, 1), size)
            y, x = rng.uniform(0, size, 2)
            inside = (rows - y) ** 2 + (cols - x) ** 2 < radius**2
            image[:, inside] = rng.uniform(0, 1, (channels, 1))
        image += rng.normal(0, 0.02, image.shape)
    return made.clip(0, 1)


class Network:
    """A graph that grows layer by layer, each normalised on what it sees of `data`."""

    def __init__(self, data, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.outputs = [], [], []
        self.known = {"x": data}
        self.shape = data.shape[1:]

    def add(self, op, *inputs, **attributes):
        """One operator; the name of its result."""
        domain = attributes.pop("domain", "")
        name = f"{op.lower()}_{len(self.nodes)}"
        node = oh.make_node(op, list(inputs), [name], name=name, domain=domain, **attributes)
        used = {w.name for w in self.weights} & set(inputs)
        given = {i: self.known[i] for i in inputs if i and i not in used}
        graph = oh.make_graph(
            [node],
            "one",
            [oh.make_tensor_value_info(i, 1, a.shape) for i, a in given.items()],
            [oh.make_empty_tensor_value_info(name)],
            [w for w in self.weights if w.name in used],
        )
        session = ort.InferenceSession(_model(graph).SerializeToString(), _quiet())
        self.known[name] = session.run(None, given)[0]
        self.nodes.append(node)
        return name

    def weight(self, array, name):
        self.weights.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def conv(self, x, filters, kernel=1, stride=1, groups=1, spread=0.3):
        """Convolution with a bias, its channels normalised, then scaled and shifted."""
        channels = self.known[x].shape[1]
        shape = (filters, channels // groups, kernel, kernel)
        w = self.rng.standard_t(4, shape) / np.sqrt(np.prod(shape[1:]))
        if kernel > 1:  # smooth kernels: neighbours agree
            w = w + w.mean(axis=(2, 3), keepdims=True) * self.rng.normal(0, 1, (filters, 1, 1, 1))
        tag = f"conv_{len(self.nodes)}"
        names = [
            self.weight(w.astype(np.float32), f"{tag}.w"),
            self.weight(np.zeros(filters, np.float32), f"{tag}.b"),
        ]
        pad = [kernel // 2 * (kernel % 2)] * 4  # patches have even kernels, and none
        out = self.add(
            "Conv",
            x,
            *names,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=pad,
            group=groups,
        )
        self._normalise(out, names, w, (0, 2, 3), spread, axis=0)
        return out

    def dense(self, x, width, spread=0.3):
        """A product by a matrix along the last axis, and a bias behind it."""
        w = self.rng.standard_t(5, (self.known[x].shape[-1], width))
        tag = f"dense_{len(self.nodes)}"
        names = [
            self.weight(w.astype(np.float32), f"{tag}.w"),
            self.weight(np.zeros(width, np.float32), f"{tag}.b"),
        ]
        product = self.add("MatMul", x, names[0])
        out = self.add("Add", product, names[1])
        self._normalise(out, names, w, tuple(range(self.known[out].ndim - 1)), spread, axis=1)
        return out

    def _normalise(self, out, names, w, over, spread, axis):
        y = self.known[out].astype(np.float64)
        mean, deviation = y.mean(axis=over), y.std(axis=over) + 1e-3
        count = len(mean)
        gamma = np.exp(self.rng.normal(0, spread, count)) * np.where(
            self.rng.random(count) < 0.04, 0.1, 1
        )
        beta = self.rng.normal(0, 0.6, count) * gamma
        factor = gamma / deviation
        shape = [1] * w.ndim
        shape[axis] = count
        self._set(names[0], w * factor.reshape(shape))
        self._set(names[1], beta - mean * factor)
        along = [1] * y.ndim
        along[1 if w.ndim == 4 else -1] = count
        scaled = (y - mean.reshape(along)) * factor.reshape(along) + beta.reshape(along)
        self.known[out] = scaled.astype(np.float32)

    def _set(self, name, array):
        for tensor in self.weights:
            if tensor.name == name:
                tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float32), name))

    def silu(self, x):
        return self.add("Mul", x, self.add("Sigmoid", x))

    def output(self, x, name):
        self.nodes[-1].output[0] = name
        assert self.nodes[-1].name == x
        self.outputs.append((name, self.known[x].shape[1:]))

    def model(self):
        graph = oh.make_graph(
            self.nodes,
            "network",
            [oh.make_tensor_value_info("x", 1, ["n", *self.shape])],
            [oh.make_tensor_value_info(n, 1, ["n", *s]) for n, s in self.outputs],
            self.weights,
        )
        return _model(graph)


def _model(graph):
    return oh.make_model(graph, ir_version=9, opset_imports=[oh.make_opsetid("", 20)])


def _quiet():
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return options


def silu_detector():
    """Depthwise blocks and two heads with SiLU, as small YOLOX and PicoDet have."""
    net = Network(images(16), 1)

    def block(x, width, stride=1):
        y = net.silu(net.conv(x, net.known[x].shape[1], 5, stride, net.known[x].shape[1], 0.5))
        y = net.silu(net.conv(y, width))
        return net.add("Add", x, y) if net.known[x].shape == net.known[y].shape else y

    x = net.silu(net.conv("x", 16, 3, 2))
    x = block(block(x, 24, 2), 24)
    fine = block(x, 24)
    coarse = block(block(block(fine, 48, 2), 48), 48)
    up = net.add(
        "Resize",
        net.silu(net.conv(coarse, 24)),
        "",
        net.weight(np.array([1, 1, 2, 2], np.float32), "scales"),
        mode="nearest",
    )
    joined = block(net.add("Concat", up, fine, axis=1), 32)
    for level, feature in (("fine", joined), ("coarse", coarse)):
        shared = net.silu(net.conv(feature, 32))
        classes = block(shared, 32)
        boxes = block(shared, 32)
        net.output(net.add("Sigmoid", net.conv(classes, 8)), f"{level}_classes")
        net.output(net.conv(boxes, 4), f"{level}_boxes")
        net.output(net.add("Sigmoid", net.conv(boxes, 1)), f"{level}_object")
    return net.model()


def hard_swish_blocks():
    """Inverted residuals with hard-swish and squeeze-and-excitation, as MobileNetV3 has."""
    net = Network(images(16), 2)

    def gate(x, width):
        s = net.add("GlobalAveragePool", x)
        s = net.add("Relu", net.conv(s, max(8, width // 4)))
        s = net.add("HardSigmoid", net.conv(s, width), alpha=1 / 6, beta=0.5)
        return net.add("Mul", x, s)

    def block(x, width, expand, stride, squeeze):
        y = net.add("HardSwish", net.conv(x, expand))
        y = net.add("HardSwish", net.conv(y, expand, 3, stride, expand, 0.5))
        y = net.conv(gate(y, expand) if squeeze else y, width)
        return net.add("Add", x, y) if net.known[x].shape == net.known[y].shape else y

    x = net.add("HardSwish", net.conv("x", 16, 3, 2))
    for width, expand, stride, squeeze in [
        (16, 32, 2, True),
        (24, 64, 1, False),
        (24, 72, 1, True),
        (32, 96, 2, True),
        (32, 96, 1, True),
    ]:
        x = block(x, width, expand, stride, squeeze)
    x = net.add("HardSwish", net.conv(x, 96))
    net.output(net.conv(x, 12), "map")
    pooled = net.add("Flatten", net.add("GlobalAveragePool", x))
    net.output(net.dense(net.add("HardSwish", net.dense(pooled, 64)), 10), "logits")
    return net.model()


def transformer():
    """Patches, attention, LayerNorm and GELU; some channels far larger than the others."""
    net = Network(images(16), 3)
    width, heads = 48, 4
    patches = net.conv("x", width, 6, 6)
    tokens = net.known[patches].shape[2] * net.known[patches].shape[3]
    shape = net.weight(np.array([0, width, tokens], np.int64), "tokens")
    x = net.add("Transpose", net.add("Reshape", patches, shape), perm=[0, 2, 1])
    x = net.add(
        "Add", x, net.weight(net.rng.normal(0, 0.5, (1, tokens, width)).astype(np.float32), "place")
    )

    def norm(x):
        gamma = np.exp(net.rng.normal(0, 0.4, width)) * np.where(net.rng.random(width) < 0.05, 6, 1)
        tag = f"norm_{len(net.nodes)}"
        g = net.weight(gamma.astype(np.float32), f"{tag}.g")
        b = net.weight(net.rng.normal(0, 0.3, width).astype(np.float32), f"{tag}.b")
        return net.add("LayerNormalization", x, g, b, axis=-1)

    split = net.weight(np.array([0, 0, heads, width // heads], np.int64), "split")
    merge = net.weight(np.array([0, 0, width], np.int64), "merge")
    root = net.weight(np.array(np.sqrt(width // heads), np.float32), "root")

    def attend(x):
        q, k, v = (
            net.add("Transpose", net.add("Reshape", net.dense(x, width), split), perm=perm)
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scores = net.add("Softmax", net.add("Div", net.add("MatMul", q, k), root), axis=-1)
        y = net.add("Transpose", net.add("MatMul", scores, v), perm=[0, 2, 1, 3])
        return net.dense(net.add("Reshape", y, merge), width)

    for _ in range(3):
        x = net.add("Add", x, attend(norm(x)))
        x = net.add("Add", x, net.dense(net.add("Gelu", net.dense(norm(x), 4 * width)), width))
    x = norm(x)
    net.output(net.dense(x, 6), "tokens_out")
    mean = net.add("ReduceMean", x, net.weight(np.array([1], np.int64), "axis"), keepdims=0)
    net.output(net.dense(mean, 10), "logits")
    return net.model()


def depthwise():
    """Depthwise and pointwise convolutions with ReLU and ReLU6, as MobileNetV1 and V2 have."""
    net = Network(images(16), 4)
    six = net.weight(np.array(6, np.float32), "six")
    zero = net.weight(np.array(0, np.float32), "zero")
    x = net.add("Relu", net.conv("x", 16, 3, 2))
    for width, stride, clipped in [
        (24, 1, False),
        (32, 2, True),
        (32, 1, False),
        (64, 2, True),
        (64, 1, False),
        (64, 1, True),
    ]:
        for filters, kernel, groups, spread in [
            (net.known[x].shape[1], 3, net.known[x].shape[1], 0.5),
            (width, 1, 1, 0.3),
        ]:
            y = net.conv(x, filters, kernel, stride if groups > 1 else 1, groups, spread)
            x = net.add("Clip", y, zero, six) if clipped else net.add("Relu", y)
    net.output(net.conv(x, 5), "map")
    net.output(net.dense(net.add("Flatten", net.add("GlobalAveragePool", x)), 10), "logits")
    return net.model()


NETWORKS = {
    "silu detector": silu_detector,
    "hard-swish blocks": hard_swish_blocks,
    "transformer": transformer,
    "depthwise": depthwise,
}
