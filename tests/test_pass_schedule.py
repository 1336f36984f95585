"""schedule: rows as early as what they need is there, images that don't meet in a stage."""

import numpy as np
import pytest
from chains import conv_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from models import text_model
from reference import make_target

import xbarc
from xbarc.cost.time import Work, in_turn, row_pipeline, serve
from xbarc.ir import parse_module, print_module
from xbarc.ir.analysis.stages import INPUT, Flow, Stage, stages_of
from xbarc.ir.dialect import STREAM, TIME, DigitalOp, MvmOp, interval_of, span_of
from xbarc.passes.im2col import Im2col
from xbarc.passes.schedule import Schedule
from xbarc.pipeline import XbarContext, run_module_passes
from xbarc.support.errors import XbarcError
from xbarc.support.rows import all_rows, same_rows, window_rows

OP = DigitalOp("digital/0.onnx", [], [])


@st.composite
def pipelines(draw):
    """Stages that read from earlier ones, row by row or all at once."""
    works = []
    for index in range(draw(st.integers(1, 5))):
        rows, flows, transfers = draw(st.integers(1, 6)), [], []
        for _ in range(draw(st.integers(0, 2))):
            producer = draw(st.integers(INPUT, index - 1))
            of = works[producer].stage.rows if producer != INPUT else draw(st.integers(1, 6))
            needs = draw(st.lists(st.integers(0, of), min_size=rows, max_size=rows))
            flows.append(Flow(producer, of, np.maximum.accumulate(np.array(needs)), 1))
            transfers.append(float(draw(st.integers(0, 12))))
        stage = Stage(OP, f"s{index}", rows, tuple(flows))
        works.append(Work(stage, None, float(draw(st.integers(0, 60))), tuple(transfers)))
    return works


def simulated(works):
    """Start and finish by playing each row through, one after the other."""
    ready, spans = [], []
    for work in works:
        rows, free, mine = work.stage.rows, 0.0, []
        arrived = []
        for flow, transfer in zip(work.stage.flows, work.transfers_ns, strict=True):
            wire, there = 0.0, [0.0] * flow.rows
            for row in range(flow.rows):
                if flow.stage != INPUT:
                    wire = max(wire, ready[flow.stage][row]) + transfer / flow.rows
                    there[row] = wire
            arrived.append(there)
        first = None
        for row in range(rows):
            begin = free
            for flow, there in zip(work.stage.flows, arrived, strict=True):
                begin = max([begin, *there[: flow.needs[row]]])
            first = begin if first is None else first
            free = begin + work.busy_ns / rows
            mine.append(free)
        ready.append(mine)
        spans.append((first, free))
    return spans


@given(pipelines())
def test_one_image_is_what_playing_it_through_gives(works):
    found = [(s.start, s.finish) for s in row_pipeline(works)]
    np.testing.assert_allclose(found, simulated(works), atol=1e-9)


@given(pipelines(), st.integers(0, 40))
def test_no_stage_works_on_two_images_of_a_stream(works, slack):
    interval = max(w.busy_ns for w in works) + slack
    once, stream = row_pipeline(works), row_pipeline(works, interval)
    for work, first, streamed in zip(works, once, stream, strict=True):
        assert streamed.finish - streamed.start <= interval + 1e-9
        assert streamed.finish - streamed.start >= work.busy_ns - 1e-9
        assert streamed.start >= first.start - 1e-9
        assert streamed.finish >= first.finish - 1e-9


@given(pipelines())
def test_overlapping_rows_is_never_slower_than_layer_after_layer(works):
    last = max(s.finish for s in row_pipeline(works))
    assert last <= max(s.finish for s in in_turn(works)) + 1e-9


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8), st.floats(0, 9))
def test_serving_takes_at_least_the_work(available, each):
    found = serve(np.array(available), each)
    assert (found >= np.array(available) + each - 1e-9).all()
    assert (np.diff(found) >= each - 1e-9).all()


CHAIN = [("a", 18, 3, 4, 8), ("b", 16, 3, 8, 8)]


def scheduled(module, digital=None, **options):
    context = XbarContext(make_target(), digital=digital)
    run_module_passes([Im2col(), Schedule(**options)], context, module)
    return module


def spans(module, name=TIME):
    return [span_of(s.op, name) for s in stages_of(module)]


def test_a_digital_operation_whose_graph_is_not_there_waits_for_everything():
    (_, first), (start, finish), (second, _) = spans(scheduled(conv_chain(CHAIN)))
    assert first <= start <= finish <= second


def compiled(body, passes, declared=""):
    x = np.random.default_rng(0).normal(size=(2, 4, 16, 16)).astype(np.float32)
    model = text_model(
        f"g (float[N,4,16,16] x) => (float[N,8,16,16] y) <float[8,4,3,3] w, float[8,8,3,3] v"
        f"{declared}> {{ a = Conv<pads=[1,1,1,1]>(x, w) {body} y = Conv<pads=[1,1,1,1]>(b, v) }}"
    )
    two_pass = ["inputs.signed=two-pass"]
    return xbarc.compile(model, "mca128", calibration=x, passes=passes, overrides=two_pass)


def layer_spans(program):
    mvms = [o for o in program.module.walk() if isinstance(o, MvmOp)]
    return [span_of(o, TIME) for o in mvms]


def test_a_layer_starts_when_two_rows_of_its_input_are_there():
    program = compiled("b = Relu(a)", "schedule")
    first, second = layer_spans(program)
    row = (first[1] - first[0]) / 16
    assert first[0] == 0
    assert 2 * row <= second[0] < 3 * row
    # Its last two rows wait for the last one, and take half as long: unsigned inputs.
    assert second[1] == pytest.approx(first[1] + row, rel=0.02)


def test_a_gate_needs_the_whole_image():
    program = compiled("g = GlobalAveragePool(a) b = Mul(a, g)", "schedule")
    first, second = layer_spans(program)
    assert second[0] >= first[1]


def test_layer_after_layer():
    program = compiled("b = Relu(a)", "schedule{by=layers}")
    first, second = layer_spans(program)
    assert second[0] >= first[1]
    assert program.cost()["totals"]["latency_us"] == pytest.approx(
        compiled("b = Relu(a)", "").cost()["totals"]["latency_us"]
    )


def test_scheduling_shortens_one_image_and_leaves_the_stream():
    plain, rows = (compiled("b = Relu(a)", p).cost()["totals"] for p in ("", "schedule"))
    assert rows["latency_us"] < plain["latency_us"]
    assert rows["throughput_ips"] == plain["throughput_ips"]
    assert (plain["schedule"], rows["schedule"]) == ("layers", "rows")


def test_the_schedule_stands_in_the_text():
    module = scheduled(conv_chain(CHAIN))
    text = print_module(module)
    again = parse_module(text)
    assert print_module(again) == text
    assert spans(again) == spans(module)
    assert spans(again, STREAM) == spans(module, STREAM)
    assert interval_of(again) == interval_of(module) > 0


@pytest.mark.parametrize("span", ["[2.0, 1.0]", "[-1.0, 1.0]"])
def test_the_verifier_refuses(span):
    text = print_module(scheduled(conv_chain(CHAIN[:1])))
    start = text.index(" time [")
    end = text.index("]", start) + 1
    with pytest.raises(XbarcError, match="0 <= start <= finish"):
        parse_module(f"{text[:start]} time {span}{text[end:]}")


@settings(max_examples=50)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2))
def test_rows_under_a_window(size, kernel, stride, pad):
    rows = (size + 2 * pad - kernel) // stride + 1
    if rows < 1:
        return
    expected = [
        max(
            [i + 1 for i in range(size) if y * stride - pad <= i < y * stride - pad + kernel] or [0]
        )
        for y in range(rows)
    ]
    found = window_rows(rows, size, kernel, stride, pad, 1)
    assert (found >= expected).all()
    assert (np.array(expected) == found)[found < size].all()


def test_what_stages_read():
    needs = {"digital/1.onnx": [{0: same_rows(16)}]}
    module = conv_chain(CHAIN)
    run_module_passes([Im2col()], XbarContext(make_target()), module)
    a, between, b = stages_of(module, needs)
    assert (a.name, between.name, b.name) == ("a", "digital/1.onnx", "b")
    assert (a.rows, between.rows, b.rows) == (16, 16, 14)
    assert a.flows[0].stage == INPUT
    assert between.flows[0].needs.tolist() == list(range(1, 17))
    assert b.flows[0].needs.tolist() == list(range(3, 17))
    assert b.flows[0].elements == 8 * 16 * 16
    assert stages_of(module)[1].flows[0].needs.tolist() == all_rows(16, 16).tolist()


def test_a_digital_operation_has_the_rows_of_its_longest_result():
    """A map for one layer, and the pooled map for the next: a row of the map is a step."""
    text = """g (float[N,2,8,8] x) => (float[N,3,8,8] y, float[N,3,4,4] z)
    <float[2,2,3,3] a, float[3,2,1,1] b, float[3,2,1,1] c> {
      p = Conv<pads=[1,1,1,1]>(x, a) q = Relu(p) y = Conv(q, b)
      m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(q) z = Conv(m, c) }"""
    module = xbarc.compile(text_model(text), "mca128").module
    (both,) = (
        s for s in stages_of(module) if isinstance(s.op, DigitalOp) and len(s.op.outputs) == 2
    )
    assert both.rows == 8
