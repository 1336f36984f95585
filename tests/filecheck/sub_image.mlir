// RUN: xbarc opt %s --passes sub-image | filecheck %s
// RUN: xbarc opt %s --passes sub-image | xbarc opt - | filecheck %s
// RUN: xbarc opt %s --passes 'sub-image{pack=channels layers=dw,conv1}' | filecheck %s --check-prefix PACKED
// RUN: xbarc opt %s --passes 'sub-image{patch=fewest pack=channels layers=conv1}' | filecheck %s --check-prefix FEWEST
// RUN: xbarc opt %s --passes 'sub-image{patch=4,8 layers=conv1}' | filecheck %s --check-prefix ASKED
// RUN: not xbarc opt %s --passes 'sub-image{patch=9,9 layers=conv1}' 2>&1 | filecheck %s --check-prefix LARGE
// RUN: not xbarc opt %s --passes 'sub-image{layers=fc}' 2>&1 | filecheck %s --check-prefix DENSE
// RUN: not xbarc opt %s --passes 'sub-image{layers=up}' 2>&1 | filecheck %s --check-prefix TRANSPOSED
// RUN: not xbarc opt %s --passes 'sub-image{layers=conv2}' 2>&1 | filecheck %s --check-prefix MISSPELT

// LARGE: 9x9 outputs of 'conv1' see 11x11 inputs of a channel: 121 rows and 81 weight columns, a crossbar has 128 and 64; what fits: sub-image{patch=8,8}, im2col, kernel-first, window
// DENSE: 'fc' is no convolution but a dense layer: im2col maps it
// TRANSPOSED: 'up' is no convolution but a transposed convolution: deconv maps it
// MISSPELT: no unmapped convolution 'conv2': did you mean 'conv1'

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 7 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @conv1 : 27x16xi8 bias for "Conv"
  xbar.weights @dw : 9x32xi8 groups 32 for "Conv"
  xbar.weights @pw : 32x32xi8 for "Conv"
  xbar.weights @half : 16x16xi8 for "Conv"
  xbar.weights @fc : 512x10xi8 bias for "Gemm"
  xbar.weights @up : 64x4xi8 for "ConvTranspose"
  func.func @main(%0: tensor<?x3x32x32xui8>, %1: tensor<?x32x16x16xui8>, %2: tensor<?x16x9x9xsi8>, %3: tensor<?x512xui8>, %4: tensor<?x16x4x4xui8>) {

    // 8 x 8 outputs from 10 x 10 inputs: a channel and a filter a crossbar, 16 sub-images.
    // CHECK:       %5 = xbar.gather %0 window [10, 10] strides [8, 8] pads [1, 1, 1, 1] fill 7 : tensor<?x3x32x32xui8> -> !xbar.stream<16 x 300 x ui8>
    // CHECK-NEXT:  %6 = xbar.mvm %5, @conv1 by "sub-image" unroll [3, 3] window [10, 10] patch [8, 8] grid [100, 64] copies 16 : !xbar.stream<16 x 300 x ui8> -> !xbar.stream<16 x 1024 x si32>
    // CHECK-NEXT:  %7 = xbar.scatter %6 window [8, 8] strides [8, 8] : !xbar.stream<16 x 1024 x si32> -> tensor<?x16x32x32xsi32>
    // PACKED:      @conv1 by "sub-image" unroll [3, 3] window [10, 10] patch [8, 8] grid [100, 64] copies 16
    // FEWEST:      @conv1 by "sub-image" unroll [3, 3] window [4, 4] patch [2, 2] grid [48, 64] copies 256
    // ASKED:       xbar.gather %0 window [6, 10] strides [4, 8] pads [1, 1, 1, 1] fill 7
    // ASKED-NEXT:  @conv1 by "sub-image" unroll [3, 3] window [6, 10] patch [4, 8] grid [60, 32] copies 32
    // ASKED-NEXT:  xbar.scatter {{%[0-9]+}} window [4, 8] strides [4, 8]
    %5 = xbar.conv %0, @conv1 window [3, 3] pads [1, 1, 1, 1] fill 7 : tensor<?x3x32x32xui8> -> tensor<?x16x32x32xsi32>

    // The last sub-images hang over the edge: 5 x 5 outputs at stride 2, on 8 x 8.
    // CHECK-NEXT:  %8 = xbar.gather %1 window [11, 11] strides [10, 10] pads [1, 1, 4, 4] : tensor<?x32x16x16xui8> -> !xbar.stream<4 x 3872 x ui8>
    // CHECK-NEXT:  %9 = xbar.mvm %8, @dw by "sub-image" unroll [3, 3] window [11, 11] patch [5, 5] output_steps [2, 2] grid [121, 25] copies 4 :
    // CHECK-NEXT:  %10 = xbar.scatter %9 window [5, 5] strides [5, 5] pads [0, 0, 2, 2] : !xbar.stream<4 x 800 x si32> -> tensor<?x32x8x8xsi32>
    // PACKED:      @dw by "sub-image" unroll [3, 3] window [11, 11] patch [5, 5] output_steps [2, 2] packed 1 copies 4
    %6 = xbar.conv %1, @dw window [3, 3] strides [2, 2] pads [1, 1, 1, 1] : tensor<?x32x16x16xui8> -> tensor<?x32x8x8xsi32>

    // 1x1: two pixels of 32 channels and 32 filters a crossbar, wherever their line ends.
    // CHECK-NEXT:  %11 = xbar.gather %1 flat window [2] strides [2] : tensor<?x32x16x16xui8> -> !xbar.stream<128 x 64 x ui8>
    // CHECK-NEXT:  %12 = xbar.mvm %11, @pw by "sub-image" unroll [1] window [2] patch [2] grid [64, 64] copies 128 :
    // CHECK-NEXT:  %13 = xbar.scatter %12 flat window [2] strides [2] : !xbar.stream<128 x 64 x si32> -> tensor<?x32x16x16xsi32>
    %7 = xbar.conv %1, @pw window [1, 1] : tensor<?x32x16x16xui8> -> tensor<?x32x16x16xsi32>

    // With a stride, 2 x 2 pixels without those between.
    // CHECK-NEXT:  %14 = xbar.gather %2 window [2, 2] strides [4, 4] pads [0, 0, 2, 2] dilations [2, 2] : tensor<?x16x9x9xsi8> -> !xbar.stream<9 x 64 x si8>
    // CHECK-NEXT:  %15 = xbar.mvm %14, @half by "sub-image" unroll [1, 1] window [2, 2] patch [2, 2] grid [64, 64] copies 9 :
    // CHECK-NEXT:  %16 = xbar.scatter %15 window [2, 2] strides [2, 2] pads [0, 0, 1, 1] : !xbar.stream<9 x 64 x si32> -> tensor<?x16x5x5xsi32>
    %8 = xbar.conv %2, @half window [1, 1] strides [2, 2] : tensor<?x16x9x9xsi8> -> tensor<?x16x5x5xsi32>

    // CHECK-NEXT:  xbar.dense %3, @fc
    %9 = xbar.dense %3, @fc axis 1 to 1 : tensor<?x512xui8> -> tensor<?x10xsi32>
    // CHECK-NEXT:  xbar.conv_transpose %4, @up
    %10 = xbar.conv_transpose %4, @up window [2, 2] strides [2, 2] : tensor<?x16x4x4xui8> -> tensor<?x4x8x8xsi32>
    func.return
  }
}
