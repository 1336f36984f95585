"""cluster: fewer tiles, the same results, and what the report and the IR say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model
from reference import make_target
from reference_program import run as plain_run

import xbarc
from xbarc.ir import parse_module, print_module
from xbarc.ir.analysis.coverage import coverage_of
from xbarc.ir.dialect import GatherOp, MvmOp, weights_of
from xbarc.passes.cluster import Cluster
from xbarc.support.errors import UsageError, XbarcError

SMALL = {"rows": 8, "cols": 8, "cell_bits": 8, "encoding": "offset"}  # 8 x 8 weights a crossbar
MLP = """g (float[N,96] x) => (float[N,10] y)
<float[96,80] w1, float[80] b1, float[80,64] w2, float[64,10] w3> {
  m1 = MatMul(x, w1) a1 = Add(m1, b1) r1 = Relu(a1) m2 = MatMul(r1, w2) r2 = Relu(m2)
  y = MatMul(r2, w3) }"""
CNN = """g (float[N,4,9,9] x) => (float[N,6,9,9] y)
<float[24,4,3,3] w1, float[24] b1, float[16,24,3,3] w2, float[6,16,1,1] w3> {
  c1 = Conv<pads=[1,1,1,1]>(x, w1, b1) r1 = Relu(c1) c2 = Conv<pads=[1,1,1,1]>(r1, w2)
  r2 = Relu(c2) y = Conv(r2, w3) }"""


def sparse(rng, shape, share):
    """Weights of which `share` aren't zero."""
    return np.where(rng.random(shape) < share, rng.normal(size=shape), 0).astype(np.float32)


def mlp(share=0.1, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {"w1": (96, 80), "w2": (80, 64), "w3": (64, 10)}
    return text_model(MLP, **{name: sparse(rng, s, share) for name, s in arrays.items()})


def cnn(seed=0):
    """Convolutions in which channels belong to one of four kinds, and read only their own kind."""
    rng = np.random.default_rng(seed)
    w1, w2 = (
        sparse(rng, (n, k, 3, 3), 1)
        * (rng.integers(0, 4, n)[:, None] == rng.integers(0, 4, k))[..., None, None]
        for n, k in ((24, 4), (16, 24))
    )
    return text_model(CNN, w1=w1, w2=w2)


def inputs(model, count=6, seed=1):
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    return {"x": np.random.default_rng(seed).random((count, *shape)).astype(np.float32)}


def counted(program):
    """The pass's figures of each layer."""
    return list(program.report["clusters"].values())


def tiles(program):
    """How many tiles each layer has."""
    return [len(op.tiles()) for op in layers(program)]


def layers(program):
    return [op for op in program.module.walk() if isinstance(op, MvmOp)]


TARGETS = {
    "offset, lossless": {"array": SMALL, "adc": {"mode": "lossless"}},
    "offset, lossy": {"array": SMALL, "adc": {"mode": "saturate", "bits": 12}},
    "differential": {"array": {"rows": 8, "cols": 16, "cell_bits": 7}, "adc": {"bits": 12}},
    "slices": {"array": {"rows": 16, "cols": 32, "cell_bits": 2}},
    "polarities apart": {
        "array": {"rows": 9, "cols": 16, "cell_bits": 2, "polarity_in": "arrays"},
        "adc": {"bits": 12, "subtract": "analog"},
    },
}


@pytest.mark.parametrize("model", [mlp(), cnn()], ids=["mlp", "cnn"])
@pytest.mark.parametrize("keys", TARGETS.values(), ids=TARGETS)
def test_results_are_the_same_to_the_bit(model, keys):
    target, feeds = make_target(**keys), inputs(model)
    before = xbarc.compile(model, target=target, calibration=feeds)
    after = xbarc.compile(model, target=target, calibration=feeds, passes="cluster")
    assert after.report["totals"]["crossbars"] < before.report["totals"]["crossbars"]
    wanted = before.run(feeds)["y"]
    np.testing.assert_array_equal(after.run(feeds)["y"], wanted)
    np.testing.assert_array_equal(plain_run(after, feeds, {})["y"], wanted)


def test_real_devices_without_a_fault_are_exact_too():
    model, target = mlp(), make_target(array=SMALL, adc={"mode": "lossless"})
    feeds = inputs(model)
    program = xbarc.compile(model, target=target, calibration=feeds, passes="cluster")
    # Noise far below a level: the analog engine on every array, the cells that are off among them.
    moved = program.run(feeds, noise="programming{sigma=1e-9}")["y"]
    np.testing.assert_allclose(moved, program.run(feeds)["y"], rtol=1e-4, atol=1e-5)


@given(st.integers(0, 1000), st.sampled_from([0.02, 0.1, 0.4]), st.sampled_from([3, 8, 13]))
@settings(max_examples=6, deadline=None)
def test_any_mask_gives_the_same_results(seed, share, rows):
    model = mlp(share, seed)
    feeds = inputs(model, 3)
    target = make_target(array={**SMALL, "rows": rows}, adc={"bits": 14})
    plain = xbarc.compile(model, target=target, calibration=feeds)
    program = xbarc.compile(model, target=target, calibration=feeds, passes="cluster")
    np.testing.assert_array_equal(program.run(feeds)["y"], plain.run(feeds)["y"])
    for op, grid in zip(layers(program), layers(plain), strict=True):
        assert len(op.tiles()) <= len(grid.tiles())


def test_a_weight_on_two_tiles_stands_on_the_first():
    model = mlp(0.3)
    target = make_target(array=SMALL, adc={"mode": "lossless"})
    program = xbarc.compile(model, target=target, calibration=inputs(model), passes="cluster")
    seen = 0
    for op in layers(program):
        placed, q = (
            coverage_of(op, program.weights),
            program.weights[weights_of(op).symbol],
        )
        there = np.zeros(q.shape, np.int64)
        for tile in placed.tiles.tolist():
            rows, columns = placed.rows[tile[0] : tile[1]], placed.columns[tile[2] : tile[3]]
            there[np.ix_(rows, columns)] += placed.dense(q, tile)
        np.testing.assert_array_equal(there, q)
        seen += 0 if placed.off is None else len(placed.off)
    assert seen > 0


# --- what the report and the IR say ---------------------------------------------------------------


def test_report_and_text(tmp_path):
    model, target = mlp(), make_target(array=SMALL, adc={"mode": "lossless"})
    program = xbarc.compile(model, target=target, calibration=inputs(model), passes="cluster")
    found = program.report["clusters"]
    for row, op in zip(found.values(), layers(program), strict=True):
        assert row["tiles"] == len(op.tiles()) <= row["tiles_unclustered"]
        assert row["tiles_unclustered"] <= row["tiles_occupied"] <= row["tiles_dense"]
        assert row["clusters"] <= row["tiles"]
        assert row["clustered_weights"] <= row["nonzero_weights"]
        assert row["density"] == row["nonzero_weights"] / (64 * row["tiles"])
    first, *others = found.values()
    assert first["clusters"] > 0 and first["clustered_weights"] > first["clusters"] * 0.3 * 64
    assert "pieces" not in first
    assert all(row["pieces"] < row["pieces_unfolded"] for row in others)
    assert "sparse tiles [[" in print_module(program.module)
    again = parse_module(print_module(program.module))
    assert print_module(again) == print_module(program.module)
    program.save(tmp_path / "p.xbar")
    feeds = inputs(model)
    np.testing.assert_array_equal(
        xbarc.load(tmp_path / "p.xbar").run(feeds)["y"], program.run(feeds)["y"]
    )


def test_after_drop_zeros_and_prune():
    model, target = mlp(1), make_target(array=SMALL, adc={"mode": "lossless"})
    pruned = "prune{granularity=weight sparsity=0.9 refit=false}"
    dropped = xbarc.compile(model, target=target, passes=pruned)
    both = xbarc.compile(model, target=target, passes=f"{pruned},cluster")
    assert [r["tiles_unclustered"] for r in counted(both)] == tiles(dropped)
    assert all(now <= was for now, was in zip(tiles(both), tiles(dropped), strict=True))
    assert sum(tiles(both)) < 0.8 * sum(tiles(dropped))
    # No array of what drop-zeros had written is left behind.
    named = {s.symbol.data for op in layers(both) for s in (op.rows, op.columns) if s is not None}
    assert {n for n in both.weights if n.endswith((".rows", ".columns"))} == named


def test_clusters_of_convolutions_hold_whole_channels():
    model = cnn()
    target = make_target(array={**SMALL, "rows": 72}, adc={"mode": "lossless"})
    program = xbarc.compile(model, target=target, calibration=inputs(model), passes="cluster")
    second = layers(program)[1]
    assert isinstance(second.input.owner, GatherOp)
    row = counted(program)[1]
    placed = coverage_of(second, program.weights)
    assert row["clusters"] > 0
    for r0, r1, _, _ in placed.tiles[: row["clusters"]].tolist():
        channels, counts = np.unique(placed.rows[r0:r1] // 9, return_counts=True)
        assert len(channels) <= 8 and (counts == 9).all()


def test_a_dense_network_stays_as_it_is():
    model, target = mlp(1), make_target(array=SMALL)
    plain = xbarc.compile(model, target=target)
    program = xbarc.compile(model, target=target, passes="cluster")
    assert print_module(program.module) == print_module(plain.module)
    assert [(r["clusters"], r["tiles"]) for r in counted(program)] == [(0, n) for n in tiles(plain)]


def test_tile_limits_clusters():
    rng = np.random.default_rng(0)
    blocks = np.kron(np.eye(12), np.ones((5, 5))) * (rng.random((60, 60)) < 0.9)
    w = np.maximum(blocks, rng.random((60, 60)) < 0.01)[rng.permutation(60)]
    model = text_model(
        "g (float[N,60] x) => (float[N,60] y) <float[60,60] w> { y = MatMul(x, w) }", w=w
    )
    for option, largest in (("", 8), ("{tile=5}", 5)):
        program = xbarc.compile(model, target=make_target(array=SMALL), passes=f"cluster{option}")
        ((row,), (op,)) = counted(program), layers(program)
        assert row["clusters"] > 4
        assert np.diff(op.tiles()[: row["clusters"], :2]).max() == largest


def test_layers_are_chosen():
    model, target = mlp(), make_target(array=SMALL)
    names = [weights_of(op).symbol for op in layers(xbarc.compile(model, target=target))]
    program = xbarc.compile(model, target=target, passes=f"cluster{{layers={names[1]}}}")
    assert [op.sparse is not None for op in layers(program)] == [False, True, False]
    assert list(program.report["clusters"]) == [names[1]]


@pytest.mark.parametrize(
    ("passes", "error", "message"),
    [
        ("cluster{tile=0}", UsageError, "tile is a number of rows and columns, at least 1"),
        ("cluster{density=1.5}", UsageError, "density is a share above 0 and at most 1"),
        ("cluster{floor=0}", UsageError, "floor is a share above 0"),
        ("cluster{layers=nope}", UsageError, "no mapped layer 'nope'"),
        (
            "place,cluster",
            UsageError,
            "put it before replicate, place and schedule",
        ),
    ],
)
def test_refusals(passes, error, message):
    with pytest.raises(error, match=message):
        xbarc.compile(mlp(), target=make_target(array=SMALL), passes=passes)


def test_densities_go_down_to_the_floor():
    assert Cluster().densities == [0.7, 0.6, 0.5, 0.4, 0.3]
    assert Cluster(density=0.55, floor=0.4).densities == [0.55, 0.45]
    assert Cluster(density=0.2).densities == [0.2]


def test_new_weights_stand_on_the_same_clusters():
    model, target = mlp(), make_target(array=SMALL, adc={"mode": "lossless"})
    program = xbarc.compile(model, target=target, calibration=inputs(model), passes="cluster")
    scaled = mlp()
    for tensor in scaled.graph.initializer:
        array = np.frombuffer(tensor.raw_data, np.float32)
        tensor.raw_data = (array * np.float32(0.5)).tobytes()
    updated = program.update_weights(scaled)
    assert [len(op.tiles()) for op in layers(updated)] == [
        len(op.tiles()) for op in layers(program)
    ]
    with pytest.raises(XbarcError, match="stands on no tile"):
        program.update_weights(mlp(1))
