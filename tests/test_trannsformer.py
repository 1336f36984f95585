"""`xbarc tune --method trannsformer`: the schedule, its variants, and what comes out."""

import numpy as np
import pytest
import torch
from models import text_model

import xbarc
from xbarc.ir.analysis.cluster_layout import clustered, dense_tiles, occupied_tiles
from xbarc.support.errors import UsageError
from xbarc.train.method import method_of
from xbarc.train.methods.trannsformer import Trannsformer, _State

MLP = """g (float[N,16] x) => (float[N,4] y) <float[16,48] w1, float[48,48] w2, float[48,4] w3> {
  m1 = MatMul(x, w1) r1 = Relu(m1) m2 = MatMul(r1, w2) r2 = Relu(m2) y = MatMul(r2, w3) }"""
FAST = {"plain": True, "epochs": 10, "rate": 0.01, "batch": 32, "threads": 1}


def task(count=320, seed=1):
    """Samples of four classes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((4, 16))
    labels = rng.integers(0, 4, count)
    x = centres[labels] + 0.5 * rng.standard_normal((count, 16))
    return x.astype(np.float32), labels


@pytest.fixture(scope="module")
def trained():
    x, y = task()
    return xbarc.tune(text_model(MLP), x, y, "mca64", **FAST).model


def retrained(model, method, **options):
    x, y = task()
    return xbarc.tune(model, x, y, "mca64", method=method, **{**FAST, **options})


def matrices(model):
    return [model.graph.initializers[f"w{i}"].const_value.numpy() for i in (1, 2, 3)]


def accuracy(model):
    x, y = task(400, seed=2)
    program = xbarc.compile(model, "mca64", calibration=task()[0])
    return (program.run(x)["y"].argmax(1) == y).mean()


def test_tiles_go_and_accuracy_stays(trained):
    tuned = retrained(trained, "trannsformer{tile=4 count=4 sparsity=0.8 begin=0.6}")
    figures = tuned.figures
    masks = [w != 0 for w in matrices(tuned.model)]
    assert figures["tiles_dense"] == sum(dense_tiles(m.shape, (4, 4)) for m in masks) == 204
    assert figures["tiles_pruned"] == sum(occupied_tiles(m, (4, 4)) for m in masks)
    assert figures["tiles"] < 0.65 * figures["tiles_pruned"]
    assert figures["tiles"] < 0.55 * figures["tiles_dense"]
    assert figures["tiles"] <= figures["tiles_unclustered"]
    assert 0.15 < figures["nonzero_share"] < 0.45
    assert accuracy(tuned.model) > accuracy(trained) - 0.02


def test_the_published_schedule(trained):
    # The threshold grows by 0.0005 x 40 / 10 in each epoch whose loss is smaller than the last's.
    tuned = retrained(trained, "trannsformer{tile=4 growth=0.02}")
    history = tuned.history[1:]
    clusters = [record.figures["clusters"] for record in history]
    assert clusters[0] == 0 and clusters[-1] > 0
    shares = [record.figures["nonzero_share"] for record in history]
    assert shares[-1] < shares[0] < 1
    # Without clusters there is nothing to survive a threshold: fewer weights are left.
    alone = retrained(trained, "trannsformer{tile=4 growth=0.02 density=1 floor=1}")
    assert alone.history[-1].figures["clusters"] == 0
    assert alone.history[-1].figures["nonzero_share"] < shares[-1]


def test_the_result_is_of_the_end(trained):
    tuned = retrained(trained, "trannsformer{tile=4 sparsity=0.8}")
    assert tuned.best.epoch >= 9


def test_killed_and_resumed_gives_the_same(trained, tmp_path):
    method = "trannsformer{tile=4 sparsity=0.8 begin=0.4}"
    whole = retrained(trained, method)

    class StopError(Exception):
        pass

    def stop(epoch, *_):
        if epoch == 7:
            raise StopError

    path = tmp_path / "c.safetensors"
    with pytest.raises(StopError):
        retrained(trained, method, checkpoint=path, watch=stop)
    resumed = retrained(trained, method, checkpoint=path)
    for one, other in zip(matrices(whole.model), matrices(resumed.model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert resumed.figures == whole.figures


def test_what_is_left_compiles_to_few_tiles(trained):
    tuned = retrained(trained, "trannsformer{sparsity=0.9 begin=0.6}")
    array = ["array.encoding=offset", "array.cell_bits=8", "array.rows=4", "array.cols=4"]
    program = xbarc.compile(tuned.model, "mca64", overrides=array, passes="cluster")
    tiles = sum(row["tiles"] for row in program.report["clusters"].values())
    masks = [w != 0 for w in matrices(tuned.model)]
    counted = sum(len(clustered(m, (4, 4), [0.7, 0.6, 0.5, 0.4, 0.3]).layout.tiles) for m in masks)
    # A weight so small that its code is 0 needs no tile.
    assert 0.9 * counted <= tiles <= counted


# --- a layer in an epoch --------------------------------------------------------------------------


class Layer:
    """A layer of a given matrix."""

    def __init__(self, matrix):
        self.weight = torch.tensor(matrix, dtype=torch.float32)

    def matrix(self):
        return self.weight


def state(matrix):
    return _State(Layer(matrix), np.zeros(np.shape(matrix), np.int32))


def test_small_weights_go_and_those_in_clusters_survive():
    w = np.array([[1.0, 0.9, 0.1, 0.0], [0.05, 1.0, 0.0, 0.8]])
    layer = state(w)
    layer.prune(0.5, True)
    assert layer.kept.tolist() == [[True, True, False, False], [False, True, False, True]]
    layer.cluster((2, 2), 0.7)
    assert layer.clusters == 1 and (layer.labels[:, :2] == 1).all()
    layer.prune(0.5, True)
    assert layer.kept.tolist() == [[True, True, False, False], [True, True, False, True]]
    layer.prune(0.5, False)
    assert not layer.kept[1, 0]


def test_the_network_given_is_never_the_result(trained):
    tuned = retrained(trained, "trannsformer{sparsity=0.9}", epochs=1)
    assert tuned.best.epoch == 1
    assert tuned.figures["nonzero_share"] < 0.2


def test_a_cluster_is_weak_by_the_weights_that_are_kept():
    layer = state(np.ones((4, 8)))
    layer.labels[:, :4], layer.labels[:, 4:] = 1, 2
    layer.kept[:, :4] = False
    layer.kept[0, 0] = True
    assert layer.delete(0.5) == 1
    assert layer.kept[:, 4:].all() and not layer.kept[:, :4].any()


def test_grouped_convolutions_alone_are_refused():
    text = """g (float[N,4,5,5] x) => (float[N,4,3,3] y) <float[4,1,3,3] w> {
       y = Conv<group=4>(x, w) }"""
    x = np.zeros((8, 4, 5, 5), np.float32)
    with pytest.raises(UsageError, match="grouped convolutions"):
        xbarc.tune(text_model(text), x, None, "mca64", method="trannsformer", **FAST)


def test_weak_clusters_are_deleted():
    w = np.zeros((4, 8))
    w[:2, :4], w[2:, 4:] = 1, [[1, 0, 0, 0], [0, 0, 0, 0]]
    layer = state(w)
    layer.labels[:2, :4], layer.labels[2:, 4:] = 1, 2
    layer.prune(0.5, True)
    # Scores are density times nonzeros: 8 and 1 / 8.
    assert layer.delete(0.01) == 0
    assert layer.delete(0.05) == 1
    assert layer.clusters == 1 and not layer.kept[2:, 4:].any() and layer.kept[:2, :4].all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trannsformer{tile=0}", "tile is a number of rows and columns"),
        ("trannsformer{sparsity=2}", "sparsity is a share from 0 to 1"),
        ("trannsformer{growth=-1}", "growth is a size from 0 up"),
        ("trannsformer{nope=1}", "no option 'nope'"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(UsageError, match=message):
        method_of(text)


def test_unknown_layer(trained):
    with pytest.raises(UsageError, match="no layer 'nope'"):
        retrained(trained, "trannsformer{layers=nope}")


def test_defaults_are_the_papers():
    method = Trannsformer()
    assert (method.density, method.floor, method.begin, method.delete) == (0.7, 0.3, 0.2, 0.8)
    assert method.growth == 0.0005 and method.survive and method.sparsity is None
