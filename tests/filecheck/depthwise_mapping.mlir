// RUN: xbarc opt %s --passes depthwise-mapping | filecheck %s
// RUN: xbarc opt %s --passes 'depthwise-mapping{layout=separate}' | filecheck %s --check-prefix SEPARATE
// RUN: xbarc opt %s --passes 'im2col,depthwise-mapping{layout=separate layers=dw}' | filecheck %s --check-prefix AFTER
// RUN: not xbarc opt %s --passes 'depthwise-mapping{layers=larg}' 2>&1 | filecheck %s --check-prefix MISSPELT
// RUN: not xbarc opt %s --passes 'depthwise-mapping{layers=conv}' 2>&1 | filecheck %s --check-prefix PLAIN

// MISSPELT: no layer 'larg': did you mean 'large'?
// PLAIN: layer 'conv' has no groups

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @dw : 9x32xi8 groups 32 for "Conv"
  xbar.weights @large : 144x8xi8 groups 2 for "Conv"
  xbar.weights @conv : 9x4xi8 for "Conv"
  func.func @main(%0: tensor<?x32x4x4xui8> {xbar.name = "x"}, %1: tensor<?x1x4x4xui8> {xbar.name = "s"}) -> (tensor<?x32x4x4xsi32>, tensor<?x8x2x2xsi32>, tensor<?x4x2x2xsi32>) {
    // CHECK:      %2 = xbar.gather %0 window [3, 3] pads [1, 1, 1, 1] fill 3 : tensor<?x32x4x4xui8> -> !xbar.stream<16 x 288 x ui8>
    // CHECK-NEXT: %3 = xbar.mvm %2, @dw by "depthwise-mapping" packed 14 : !xbar.stream<16 x 288 x ui8> -> !xbar.stream<16 x 32 x si32>
    // CHECK-NEXT: %4 = xbar.scatter %3 axis 1 : !xbar.stream<16 x 32 x si32> -> tensor<?x32x4x4xsi32>
    // SEPARATE:   xbar.mvm %2, @dw by "depthwise-mapping" packed 1 :
    // AFTER:      xbar.mvm %2, @dw by "im2col" packed 1 :
    %2 = xbar.conv %0, @dw window [3, 3] pads [1, 1, 1, 1] fill 3 : tensor<?x32x4x4xui8> -> tensor<?x32x4x4xsi32>

    // A group larger than a crossbar is cut by itself either way.
    // CHECK:      xbar.mvm {{%[0-9]+}}, @large by "depthwise-mapping" grid [128, 16] :
    // SEPARATE:   xbar.mvm {{%[0-9]+}}, @large by "depthwise-mapping" grid [128, 16] :
    // AFTER:      xbar.mvm {{%[0-9]+}}, @large by "im2col" grid [128, 16] :
    %3 = xbar.conv %0, @large window [3, 3] : tensor<?x32x4x4xui8> -> tensor<?x8x2x2xsi32>

    // CHECK:      xbar.conv %1, @conv
    // SEPARATE:   xbar.conv %1, @conv
    // AFTER:      xbar.mvm {{%[0-9]+}}, @conv by "im2col"
    %4 = xbar.conv %1, @conv window [3, 3] : tensor<?x1x4x4xui8> -> tensor<?x4x2x2xsi32>
    func.return %2, %3, %4 : tensor<?x32x4x4xsi32>, tensor<?x8x2x2xsi32>, tensor<?x4x2x2xsi32>
  }
}
