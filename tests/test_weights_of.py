"""Operations find their weights by name, whatever was rewritten in between, and at once."""

import pytest
from xdsl.dialects.builtin import StringAttr, SymbolRefAttr
from xdsl.ir import core
from xdsl.utils.exceptions import VerifyException

from xbarc.ir import parse_module, print_module
from xbarc.ir.dialect import MvmOp, WeightsOp, weights_of
from xbarc.support.errors import XbarcError


def chain(layers, weights_last=False):
    """A module of `layers` products in a row, each with 2 x 2 weights `w0`, `w1` ..."""
    stored = [f"xbar.weights @w{i} : 2x2xi8" for i in range(layers)]
    body = []
    for i in range(layers):
        body += [
            f"%g{i} = xbar.gather %{'x' if i == 0 else f's{i - 1}'} axis 1 : "
            "tensor<?x2xsi32> -> !xbar.stream<1 x 2 x si32>",
            f'%m{i} = xbar.mvm %g{i}, @w{i} by "im2col" grid [2, 2] : '
            "!xbar.stream<1 x 2 x si32> -> !xbar.stream<1 x 2 x si32>",
            f"%s{i} = xbar.scatter %m{i} axis 1 : !xbar.stream<1 x 2 x si32> -> tensor<?x2xsi32>",
        ]
    main = ["func.func @main(%x: tensor<?x2xsi32>) {", *body, "func.return", "}"]
    lines = [*main, *stored] if weights_last else [*stored, *main]
    return parse_module("\n".join(["builtin.module {", *lines, "}"]))


def products(module):
    return [op for op in module.walk() if isinstance(op, MvmOp)]


def stored(module):
    return [op for op in module.walk() if isinstance(op, WeightsOp)]


@pytest.mark.parametrize("weights_last", [False, True])
def test_each_finds_its_own(weights_last):
    module = chain(5, weights_last)
    assert [weights_of(op) for op in products(module)] == stored(module)


def test_a_clone_has_weights_of_its_own():
    module = chain(3)
    clone = module.clone()
    assert [weights_of(op) for op in products(clone)] == stored(clone)
    assert [weights_of(op) for op in products(module)] == stored(module)


@pytest.mark.parametrize("index", [0, 1])
def test_weights_that_took_the_place_of_others(index):
    module = chain(3)
    product, old = products(module)[index], stored(module)[index]
    assert weights_of(product) is old
    new = WeightsOp(old.symbol, 2, 2, 4)
    old.parent.insert_op_before(new, old)
    old.detach()
    assert weights_of(product) is new
    assert [weights_of(op) for op in products(module)] == stored(module)


def test_weights_that_are_gone():
    module = chain(3)
    product = products(module)[1]
    weights_of(product).detach()
    with pytest.raises(VerifyException, match="@w1 doesn't name an xbar.weights of this module"):
        weights_of(product)
    assert weights_of(products(module)[2]) is stored(module)[1]


def test_weights_that_moved_to_another_module():
    here, there = chain(2), chain(1)
    moved = stored(here)[1]
    assert weights_of(products(here)[1]) is moved
    moved.detach()
    there.body.block.insert_op_before(moved, there.body.block.first_op)
    with pytest.raises(VerifyException, match="@w1 doesn't name"):
        weights_of(products(here)[1])


def test_weights_that_are_called_otherwise_now():
    module = chain(3)
    product, (first, second, third) = products(module)[1], stored(module)
    assert weights_of(product) is second
    # Two change names: what stood under the name before is no answer.
    second.sym_name, third.sym_name = StringAttr("w2"), StringAttr("w1")
    assert weights_of(product) is third
    first.sym_name = StringAttr("other")
    with pytest.raises(VerifyException, match="@w0 doesn't name"):
        weights_of(products(module)[0])


def test_an_operation_that_names_others_now():
    module = chain(3)
    product = products(module)[0]
    assert weights_of(product) is stored(module)[0]
    product.weights = SymbolRefAttr("w2")
    assert weights_of(product) is stored(module)[2]


def test_a_name_within_another_names_nothing():
    module = chain(2)
    product = products(module)[0]
    product.weights = SymbolRefAttr("w0", ["w1"])
    with pytest.raises(VerifyException, match="doesn't name"):
        weights_of(product)


def test_weights_without_a_name_are_refused_behind_what_looks_for_others():
    text = print_module(chain(1, weights_last=True))
    nameless = '"xbar.weights"() <{rows = 2 : i64, sym_name = 5 : i64}> : () -> ()'
    with pytest.raises(XbarcError, match="xbar.weights: 5 : i64 should be a string"):
        parse_module(text.replace("xbar.weights @w0", nameless + "\n  xbar.weights @w0"))


def test_no_module_no_weights():
    product = products(chain(1))[0]
    product.detach()
    with pytest.raises(VerifyException, match="doesn't name"):
        weights_of(product)


def steps_of(monkeypatch, layers):
    """Operations that verifying a module of so many layers passes by."""
    module, counted = chain(layers), 0
    following = core._BlockOpsIterator.__next__

    def step(self):
        nonlocal counted
        counted += 1
        return following(self)

    with monkeypatch.context() as patch:
        patch.setattr(core._BlockOpsIterator, "__next__", step)
        module.verify()
    return counted


def test_steps_grow_as_layers_do(monkeypatch):
    few, many = steps_of(monkeypatch, 20), steps_of(monkeypatch, 200)
    assert few < many < 12 * few
