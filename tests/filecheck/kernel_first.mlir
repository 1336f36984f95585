// RUN: xbarc opt %s --passes kernel-first | filecheck %s
// RUN: xbarc opt %s --passes kernel-first | xbarc opt - --passes 'im2col,drop-zeros' | filecheck %s
// RUN: xbarc opt %s --passes 'kernel-first{layers=dw}' | filecheck %s --check-prefix ONE
// RUN: xbarc opt %s --target mca128 --passes 'kernel-first,replicate{budget=60},place{algorithm=snake},schedule' | xbarc opt - | filecheck %s --check-prefix TILES
// RUN: not xbarc opt %s --passes 'kernel-first{layers=cnv}' 2>&1 | filecheck %s --check-prefix MISSPELT
// RUN: not xbarc opt %s --passes 'im2col,kernel-first{layers=conv}' 2>&1 | filecheck %s --check-prefix MAPPED

// MISSPELT: no unmapped layer 'cnv': did you mean 'conv'?
// MAPPED: no unmapped layer 'conv'

// TILES: xbar.mvm {{%[0-9]+}}, @conv by "kernel-first" gated offsets [9, 1] grid [128, 16] at {{\[\[}}0, 0, 0, 9{{\]\]}} time [0.0, {{[0-9.]+}}] stream [0.0, {{[0-9.]+}}] :

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @conv : 144x16xi8 for "Conv"
  xbar.weights @point : 16x8xi8 for "Conv"
  xbar.weights @dw : 9x32xi8 groups 32 for "Conv"
  xbar.weights @up : 128x16xi8 for "ConvTranspose"
  xbar.weights @fc : 200x10xi8 for "MatMul"
  func.func @main(%0: tensor<?x16x8x8xui8> {xbar.name = "x"}, %1: tensor<?x32x8x8xui8> {xbar.name = "d"}, %2: tensor<?x200xui8> {xbar.name = "f"}) -> (tensor<?x16x4x4xsi32>, tensor<?x8x8x8xsi32>, tensor<?x32x6x6xsi32>, tensor<?x16x16x16xsi32>, tensor<?x10xsi32>) {
    // The input, shifted: no other buffer than the window's.
    // CHECK:      %3 = xbar.gather %0 window [3, 3] strides [2, 2] pads [1, 1, 1, 1] fill 3 : tensor<?x16x8x8xui8> -> !xbar.stream<16 x 144 x ui8>
    // CHECK-NEXT: %4 = xbar.mvm %3, @conv by "kernel-first" gated offsets [9, 1] grid [128, 16] : !xbar.stream<16 x 144 x ui8> -> !xbar.stream<16 x 16 x si32>
    // CHECK-NEXT: %5 = xbar.scatter %4 axis 1 : !xbar.stream<16 x 16 x si32> -> tensor<?x16x4x4xsi32>
    // ONE:        xbar.conv %0, @conv
    %3 = xbar.conv %0, @conv window [3, 3] strides [2, 2] pads [1, 1, 1, 1] fill 3 : tensor<?x16x8x8xui8> -> tensor<?x16x4x4xsi32>

    // CHECK:      xbar.mvm {{%[0-9]+}}, @point by "kernel-first" gated grid [128, 16] :
    %4 = xbar.conv %0, @point window [1, 1] : tensor<?x16x8x8xui8> -> tensor<?x8x8x8xsi32>

    // Sixteen channels of an offset on a crossbar, by its columns.
    // CHECK:      xbar.mvm {{%[0-9]+}}, @dw by "kernel-first" gated offsets [9, 1] packed 16 :
    // ONE:        xbar.mvm {{%[0-9]+}}, @dw by "kernel-first" gated offsets [9, 1] packed 16 :
    %5 = xbar.conv %1, @dw window [3, 3] : tensor<?x32x8x8xui8> -> tensor<?x32x6x6xsi32>

    // A vector an input pixel, added where the kernel lies.
    // CHECK:      %[[S:[0-9]+]] = xbar.gather %0 axis 1 : tensor<?x16x8x8xui8> -> !xbar.stream<64 x 16 x ui8>
    // CHECK-NEXT: %[[M:[0-9]+]] = xbar.mvm %[[S]], @up by "kernel-first" unroll [2, 4] window [1, 1] patch [2, 4] kernel_steps [-1, -1] gated offsets [1, 8] grid [128, 16] :
    // CHECK-NEXT: xbar.scatter %[[M]] window [2, 4] strides [2, 2] pads [0, 1, 0, 1] : !xbar.stream<64 x 128 x si32> -> tensor<?x16x16x16xsi32>
    // ONE:        xbar.conv_transpose
    %6 = xbar.conv_transpose %0, @up window [2, 4] strides [2, 2] pads [0, 1, 0, 1] : tensor<?x16x8x8xui8> -> tensor<?x16x16x16xsi32>

    // CHECK:      xbar.mvm {{%[0-9]+}}, @fc by "kernel-first" gated grid [128, 16] :
    %7 = xbar.dense %2, @fc axis 1 to 1 : tensor<?x200xui8> -> tensor<?x10xsi32>
    func.return %3, %4, %5, %6, %7 : tensor<?x16x4x4xsi32>, tensor<?x8x8x8xsi32>, tensor<?x32x6x6xsi32>, tensor<?x16x16x16xsi32>, tensor<?x10xsi32>
  }
}
