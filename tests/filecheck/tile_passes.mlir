// RUN: xbarc opt %s --target mca128 --passes 'im2col,replicate{budget=7}' | filecheck %s --check-prefix COPIES
// RUN: xbarc opt %s --target mca128 --passes 'im2col,replicate{budget=7},place{algorithm=snake}' | filecheck %s --check-prefix PLACE
// RUN: xbarc opt %s --target mca128 --passes im2col,place,schedule | filecheck %s --check-prefix TIME
// RUN: xbarc opt %s --target mca128 --passes 'im2col,replicate{target-throughput=1000},place,schedule' | xbarc opt - | filecheck %s --check-prefix TIME
// RUN: xbarc opt %s --target mca128 --passes im2col,place,schedule,replicate | filecheck %s --check-prefix DROPPED
// RUN: not xbarc opt %s --target mca128 --passes 'im2col,replicate{budget=1}' 2>&1 | filecheck %s --check-prefix BUDGET
// RUN: not xbarc opt %s --target mca128 --set chip.nodes=1 --set chip.chips=1 --set node.cores=1 --set core.crossbars=2 --passes im2col,place 2>&1 | filecheck %s --check-prefix CHIPS
// RUN: not xbarc opt %s --passes im2col,place 2>&1 | filecheck %s --check-prefix TARGET
// RUN: not xbarc opt %s --target mca128 --passes place 2>&1 | filecheck %s --check-prefix MAPPED

// COPIES: @conv1 by "im2col" grid [128, 16] copies 5 :
// COPIES: @conv2 by "im2col" grid [128, 16] :

// PLACE: xbar.mesh = #xbar.mesh<1 chips of 168 nodes of 12 cores of 8 crossbars, 14 wide, bands of 1>
// PLACE: @conv1 by "im2col" grid [128, 16] copies 5 at {{\[\[}}0, 0, 0, 5{{\]\]}} :
// PLACE: @conv2 by "im2col" grid [128, 16] at {{\[\[}}0, 0, 5, 2{{\]\]}} :

// TIME: xbar.interval_ns = {{[0-9.e+]+}} : f64
// TIME: @conv1 by "im2col" grid [128, 16] at {{\[\[}}0, 0, 0, 1{{\]\]}} time [0.0, {{[0-9.]+}}] stream [0.0, {{[0-9.]+}}] :
// TIME: xbar.digital "digital/0.onnx" ({{.*}}) time {{\[[0-9., ]+\]}} stream {{\[[0-9., ]+\]}} :

// DROPPED-NOT: {{(time|stream|at) \[}}
// DROPPED-NOT: interval_ns

// BUDGET: pass 'replicate': one copy of each layer takes 3 crossbars, the budget is 1: 2 are missing, for conv2 (2)
// CHIPS: pass 'place': 3 crossbars are needed, 1 chip of mca128 + {{.*}} holds 2: 1 are missing; 2 chips would do
// TARGET: pass 'place': this pass asks for the hardware: give --target
// MAPPED: pass 'place': layers aren't mapped yet, the first is conv1: put a mapping pass before it, such as im2col

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @conv1 : 27x16xi8 for "Conv"
  xbar.weights @conv2 : 144x16xi8 for "Conv"
  func.func @main(%0: tensor<?x3x32x32xui8> {xbar.name = "x"}) -> (tensor<?x16x8x8xf32> {xbar.name = "y"}) {
    %1 = xbar.conv %0, @conv1 window [3, 3] pads [1, 1, 1, 1] : tensor<?x3x32x32xui8> -> tensor<?x16x32x32xsi32>
    %2 = xbar.dequantize %1, @conv1 scale 0.5 axis 1 : tensor<?x16x32x32xsi32> -> tensor<?x16x32x32xf32>
    %3 = xbar.digital "digital/0.onnx" (%2) : (tensor<?x16x32x32xf32>) -> (tensor<?x16x16x16xf32>)
    %4 = xbar.quantize %3 scale 0.5 : tensor<?x16x16x16xf32> -> tensor<?x16x16x16xui8>
    %5 = xbar.conv %4, @conv2 window [3, 3] strides [2, 2] pads [1, 1, 1, 1] : tensor<?x16x16x16xui8> -> tensor<?x16x8x8xsi32>
    %6 = xbar.dequantize %5, @conv2 scale 0.5 axis 1 : tensor<?x16x8x8xsi32> -> tensor<?x16x8x8xf32>
    func.return %6 : tensor<?x16x8x8xf32>
  }
}
