"""What a batch is: samples side by side on whatever axis, or samples that can't be parted."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from models import reference, text_model
from threadpoolctl import threadpool_info

import xbarc
from xbarc import XbarcError

X = np.random.default_rng(0).standard_normal((37, 5, 3)).astype(np.float32)
WIDE = ["weights.bits=16", "inputs.bits=16"]


def run(text, batch=None, **values):
    model = text_model(text, **values)
    program = xbarc.compile(model, "mca128", calibration=X, overrides=WIDE)
    return program.run(X, batch=batch), reference(model, {"x": X})


@pytest.mark.parametrize("batch", [1, 8, None])
def test_outputs_are_joined_along_their_own_batch_axis(batch):
    found, want = run(
        "g (float[N,5,3] x) => (float[5,N,2] y) <float[3,2] w> "
        "{ t = Transpose <perm: ints = [1, 0, 2]> (x)  y = MatMul(t, w) }",
        batch,
    )
    assert found["y"].shape == (5, 37, 2)
    np.testing.assert_allclose(found["y"], want["y"], atol=1e-3)


def test_an_output_that_no_sample_changes_comes_out_once():
    found, want = run(
        "g (float[N,5,3] x) => (float[N,5,2] y, float[3,2] c) <float[3,2] w> "
        "{ y = MatMul(x, w)  c = Identity(w) }",
        batch=8,
    )
    np.testing.assert_array_equal(found["c"], want["c"])
    assert found["y"].shape == (37, 5, 2)


@pytest.mark.parametrize(
    "body",
    [
        "m = ReduceMean <keepdims = 0> (x, axis)  y = MatMul(m, w)",
        "s = Softmax <axis = 0> (x)  y = MatMul(s, w)",
    ],
)
def test_samples_that_influence_each_other_run_in_one_batch(body):
    text = (
        f"g (float[N,5,3] x) => (float[A,B,C] y) <float[3,2] w, int64[1] axis> {{ {body} }}"
    ).replace("float[A,B,C]", "float[A,B]" if "ReduceMean" in body else "float[N,5,2]")
    found, want = run(text, axis=np.array([0]))
    np.testing.assert_allclose(found["y"], want["y"], atol=1e-3)
    with pytest.raises(XbarcError, match="influence each other"):
        run(text, batch=8, axis=np.array([0]))


def test_a_fixed_batch_counts_samples_on_axis_0():
    model = text_model("g (float[1,5,3] x) => (float[1,5,2] y) <float[3,2] w> { y = MatMul(x, w) }")
    program = xbarc.compile(model, "mca128", calibration=X, overrides=WIDE)
    twice = np.concatenate([X[:1], X[:1], X[1:2]])
    assert program.run(twice)["y"].shape == (3, 5, 2)


def test_the_same_sample_alone_or_with_others_gives_the_same_bits():
    model = text_model("g (float[N,5,3] x) => (float[N,5,2] y) <float[3,2] w> { y = MatMul(x, w) }")
    program = xbarc.compile(model, "mca128", calibration=X)
    whole = program.run(X, batch=37)["y"]
    assert np.array_equal(np.concatenate([program.run(x[None])["y"] for x in X]), whole)


def test_runs_in_several_threads_leave_blas_as_it_was():
    model = text_model("g (float[N,5,3] x) => (float[N,5,2] y) <float[3,2] w> { y = MatMul(x, w) }")
    program = xbarc.compile(model, "mca128", calibration=X)
    before = [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: program.run(X, batch=5)["y"], range(8)))
    assert all(np.array_equal(r, results[0]) for r in results)
    assert before == [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
