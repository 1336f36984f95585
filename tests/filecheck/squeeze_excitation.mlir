// The two products of a block on one crossbar; a place and a schedule go, results stay.
// RUN: xbarc opt %s --passes im2col,share-crossbars | filecheck %s
// RUN: xbarc opt %s --passes im2col,share-crossbars | xbarc opt - --target mca128 --set array.cell_bits=7 --passes place,schedule | filecheck %s --check-prefix PLACED
// RUN: xbarc opt %s --passes 'im2col,share-crossbars{layers=big2}' | filecheck %s --check-prefix LAYERS
// RUN: xbarc opt %s --target mca128 --set array.cell_bits=7 --passes im2col,place,schedule,share-crossbars | filecheck %s --check-prefix DROPPED
// RUN: not xbarc opt %s --passes 'im2col,share-crossbars{layers=se3}' 2>&1 | filecheck %s --check-prefix NAME
// RUN: not xbarc opt %s --passes share-crossbars 2>&1 | filecheck %s --check-prefix MAPPED

// CHECK: xbar.squeeze_excitation @se1, @se2 pool "pool" activation "Relu" gate "HardSigmoid" scale "mul"
// CHECK: @se1 by "im2col" grid [128, 64] :
// CHECK: @se2 by "im2col" grid [128, 64] beside @se1 :
// 120 x 30 and 30 x 120 weights don't fit together.
// CHECK: @big1 by "im2col" grid [128, 64] :
// CHECK: @big2 by "im2col" grid [128, 64] :

// PLACED: @se1 by "im2col" grid [128, 64] at {{(\[\[.*\]\])}} time
// PLACED: @se2 by "im2col" grid [128, 64] beside @se1 at {{(\[\[.*\]\])}} time

// LAYERS-NOT: beside

// DROPPED: beside @se1 :
// DROPPED-NOT: {{(time|stream|at) \[}}

// NAME: no squeeze-and-excitation layer 'se3': did you mean
// MAPPED: layers aren't mapped yet

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 7 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @se1 : 48x12xi8 for "Conv"
  xbar.weights @se2 : 12x48xi8 for "Conv"
  xbar.weights @big1 : 120x30xi8 for "Conv"
  xbar.weights @big2 : 30x120xi8 for "Conv"
  xbar.squeeze_excitation @se1, @se2 pool "pool" activation "Relu" gate "HardSigmoid" scale "mul"
  xbar.squeeze_excitation @big1, @big2 gate "Sigmoid"
  func.func @main(%0: tensor<?x48xui8>, %1: tensor<?x12xui8>, %2: tensor<?x120xui8>, %3: tensor<?x30xui8>) -> (tensor<?x12xsi32>, tensor<?x48xsi32>, tensor<?x30xsi32>, tensor<?x120xsi32>) {
    %4 = xbar.dense %0, @se1 axis 1 to 1 : tensor<?x48xui8> -> tensor<?x12xsi32>
    %5 = xbar.dense %1, @se2 axis 1 to 1 : tensor<?x12xui8> -> tensor<?x48xsi32>
    %6 = xbar.dense %2, @big1 axis 1 to 1 : tensor<?x120xui8> -> tensor<?x30xsi32>
    %7 = xbar.dense %3, @big2 axis 1 to 1 : tensor<?x30xui8> -> tensor<?x120xsi32>
    func.return %4, %5, %6, %7 : tensor<?x12xsi32>, tensor<?x48xsi32>, tensor<?x30xsi32>, tensor<?x120xsi32>
  }
}
