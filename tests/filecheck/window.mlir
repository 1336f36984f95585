// RUN: xbarc opt %s --passes window | filecheck %s
// RUN: xbarc opt %s --passes 'window{scheme=sdk}' | filecheck %s --check-prefix SDK
// RUN: xbarc opt %s --passes 'window{scheme=im2col layers=conv1}' | filecheck %s --check-prefix IM2COL
// RUN: not xbarc opt %s --passes 'window{scheme=sdk2}' 2>&1 | filecheck %s --check-prefix MISSPELT

// MISSPELT: option 'scheme' expects im2col | sdk | vw-sdk, got sdk2

builtin.module attributes {xbar.crossbar = #xbar.crossbar<512 x 512 cells of 8 bits, offset, slices in columns, polarity in columns>} {
  xbar.weights @conv1 : 147x64xi8 for "Conv"
  xbar.weights @dw : 9x64xi8 groups 64 for "Conv"
  xbar.weights @last : 4608x512xi8 for "Conv"
  func.func @main(%0: tensor<?x3x112x112xui8>, %1: tensor<?x64x14x14xui8>, %2: tensor<?x512x7x7xui8>) {

    // 10 x 8 inputs (width x height), 4 x 2 outputs: all channels, all filters.
    // CHECK:       %3 = xbar.gather %0 window [8, 10] strides [2, 4] pads [0, 0, 0, 2] : tensor<?x3x112x112xui8> -> !xbar.stream<1431 x 240 x ui8>
    // CHECK-NEXT:  %4 = xbar.mvm %3, @conv1 by "vw-sdk" unroll [7, 7] window [8, 10] patch [2, 4] grid [240, 512] : !xbar.stream<1431 x 240 x ui8> -> !xbar.stream<1431 x 512 x si32>
    // CHECK-NEXT:  %5 = xbar.scatter %4 window [2, 4] strides [2, 4] pads [0, 0, 0, 2] : !xbar.stream<1431 x 512 x si32> -> tensor<?x64x106x106xsi32>
    // SDK:         xbar.gather %0 window [8, 8] strides [2, 2] : tensor<?x3x112x112xui8> -> !xbar.stream<2809 x 192 x ui8>
    // SDK-NEXT:    @conv1 by "sdk" unroll [7, 7] window [8, 8] patch [2, 2] grid [512, 512] :
    // IM2COL:      xbar.gather %0 window [7, 7] :
    // IM2COL-NEXT: @conv1 by "im2col" grid [512, 512] :
    // IM2COL-NEXT: xbar.scatter {{%[0-9]+}} axis 1 :
    // IM2COL:      xbar.conv %1, @dw
    %3 = xbar.conv %0, @conv1 window [7, 7] : tensor<?x3x112x112xui8> -> tensor<?x64x106x106xsi32>

    // Depthwise: whole channels on the diagonal.
    // CHECK:       @dw by "vw-sdk" unroll [3, 3] window [8, 8] patch [6, 6] packed 8 :
    // SDK:         @dw by "sdk" unroll [3, 3] window [4, 4] patch [2, 2] packed 32 :
    %4 = xbar.conv %1, @dw window [3, 3] : tensor<?x64x14x14xui8> -> tensor<?x64x12x12xsi32>

    // No window is better than the kernel itself.
    // CHECK:       @last by "im2col" grid [512, 512] :
    // SDK:         @last by "im2col" grid [512, 512] :
    %5 = xbar.conv %2, @last window [3, 3] : tensor<?x512x7x7xui8> -> tensor<?x512x5x5xsi32>
    func.return
  }
}
