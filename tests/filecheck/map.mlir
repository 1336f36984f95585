// RUN: xbarc opt %s --target mca128 --passes map | filecheck %s --check-prefix CROSSBARS
// RUN: xbarc opt %s --target mca128 --passes 'map{by=cycles}' | filecheck %s --check-prefix CYCLES
// RUN: xbarc opt %s --target mca128 --passes 'map{by=cycles layers=conv}' | filecheck %s --check-prefix SOME
// RUN: xbarc opt %s --target mca128 --passes 'map{by=cycles schemes=im2col,"window{scheme=vw-sdk}",deconv}' | filecheck %s --check-prefix SCHEMES
// RUN: not xbarc opt %s --passes map 2>&1 | filecheck %s --check-prefix TARGET
// RUN: not xbarc opt %s --target mca128 --passes 'map{schemes=window layers=up}' 2>&1 | filecheck %s --check-prefix NONE

// CROSSBARS: @conv by "im2col" grid [128, 16] :
// CROSSBARS: @dw by "im2col" packed 14 :
// CROSSBARS: @up by "deconv-phases"
// CROSSBARS: @fc by "im2col" grid [128, 16] :

// CYCLES: @conv by "sub-image" {{.*}} copies
// CYCLES: @dw by "sub-image" {{.*}} copies
// CYCLES: @up by "kernel-first"
// CYCLES: @fc by "im2col" grid [128, 16] :

// SOME: @conv by "sub-image"
// SOME: xbar.conv %{{[0-9]+}}, @dw
// SOME: xbar.conv_transpose %{{[0-9]+}}, @up
// SOME: xbar.dense %{{[0-9]+}}, @fc

// SCHEMES: @conv by "im2col"
// SCHEMES: @dw by "vw-sdk"
// SCHEMES: @up by "deconv-scatter"
// SCHEMES: @fc by "im2col"

// TARGET: pass 'map': this pass asks for the hardware: give --target
// NONE: pass 'map': no scheme takes layer 'up'

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @conv : 72x16xi8 for "Conv"
  xbar.weights @dw : 9x16xi8 groups 16 for "Conv"
  xbar.weights @up : 64x4xi8 for "ConvTranspose"
  xbar.weights @fc : 512x10xi8 for "Gemm"
  func.func @main(%0: tensor<?x8x8x8xui8> {xbar.name = "x"}, %1: tensor<?x16x8x8xui8> {xbar.name = "s"}, %2: tensor<?x512xui8> {xbar.name = "f"}) -> (tensor<?x16x8x8xsi32>, tensor<?x16x8x8xsi32>, tensor<?x4x16x16xsi32>, tensor<?x10xsi32>) {
    %3 = xbar.conv %0, @conv window [3, 3] pads [1, 1, 1, 1] : tensor<?x8x8x8xui8> -> tensor<?x16x8x8xsi32>
    %4 = xbar.conv %1, @dw window [3, 3] pads [1, 1, 1, 1] : tensor<?x16x8x8xui8> -> tensor<?x16x8x8xsi32>
    %5 = xbar.conv_transpose %1, @up window [2, 2] strides [2, 2] : tensor<?x16x8x8xui8> -> tensor<?x4x16x16xsi32>
    %6 = xbar.dense %2, @fc axis 1 to 1 : tensor<?x512xui8> -> tensor<?x10xsi32>
    func.return %3, %4, %5, %6 : tensor<?x16x8x8xsi32>, tensor<?x16x8x8xsi32>, tensor<?x4x16x16xsi32>, tensor<?x10xsi32>
  }
}
