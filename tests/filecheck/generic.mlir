// RUN: xbarc opt %s --generic | filecheck %s
// RUN: xbarc opt %s --generic | xbarc opt - | filecheck %s --check-prefix AGAIN

// CHECK: "xbar.weights"() <{{{.*}}sym_name = "fc"
// CHECK: "func.func"()
// CHECK: %{{.*}} = "xbar.quantize"(%{{.*}}) <{{{.*}}scale = 2.500000e-01
// AGAIN: %{{.*}} = xbar.quantize %{{.*}} scale 0.25 :

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 64 cells of 4 bits, offset, slices in arrays, polarity in columns>} {
  xbar.weights @fc : 64x5xi8 for "MatMul"
  func.func @main(%0: tensor<?x64xf32> {xbar.name = "x"}) -> (tensor<?x64xsi8> {xbar.name = "y"}) {
    %1 = xbar.quantize %0 scale 0.25 : tensor<?x64xf32> -> tensor<?x64xsi8>
    func.return %1 : tensor<?x64xsi8>
  }
}
