// One transposed convolution, three ways; `layers` names what it is about.
// RUN: xbarc opt %s --passes deconv | filecheck %s --check-prefix SCATTER
// RUN: xbarc opt %s --passes 'deconv{scheme=phases}' | filecheck %s --check-prefix PHASES
// RUN: xbarc opt %s --passes 'deconv{scheme=zero-insert}' | filecheck %s --check-prefix ZEROS
// RUN: xbarc opt %s --passes 'deconv{scheme=phases layers=up}' | xbarc opt - --passes deconv | filecheck %s --check-prefix EACH
// RUN: not xbarc opt %s --passes 'deconv{layers=uq}' 2>&1 | filecheck %s --check-prefix NAME

// SCATTER:      xbar.gather %0 axis 1 : tensor<?x64x16x16xui8> -> !xbar.stream<256 x 64 x ui8>
// SCATTER-NEXT: xbar.mvm %2, @up by "deconv-scatter" unroll [2, 2] window [1, 1] patch [2, 2] kernel_steps [-1, -1] offsets [1, 4] grid [128, 16] : !xbar.stream<256 x 64 x ui8> -> !xbar.stream<256 x 128 x si32>
// SCATTER-NEXT: xbar.scatter %3 window [2, 2] strides [2, 2] : !xbar.stream<256 x 128 x si32> -> tensor<?x32x32x32xsi32>
// SCATTER:      xbar.gather {{.*}} axis 1 : tensor<?x6x5xui8> -> !xbar.stream<5 x 6 x ui8>
// SCATTER-NEXT: xbar.mvm {{.*}}, @groups by "deconv-scatter" unroll [3] window [1] patch [3] kernel_steps [-1] offsets [1, 3] packed 2 :
// SCATTER-NEXT: xbar.scatter {{.*}} window [3] strides [2] pads [1, -1] dilations [2] : !xbar.stream<5 x 12 x si32> -> tensor<?x4x13xsi32>

// PHASES:      xbar.gather %0 window [1, 1] :
// PHASES-NEXT: xbar.mvm %2, @up by "deconv-phases" unroll [2, 2] window [1, 1] patch [2, 2] input_steps [2, 2] kernel_steps [-1, -1] grid [128, 16] :
// PHASES-NEXT: xbar.scatter %3 window [2, 2] strides [2, 2] :
// PHASES:      xbar.gather {{.*}} window [3] pads [1, 3] : tensor<?x6x5xui8> -> !xbar.stream<7 x 18 x ui8>
// PHASES-NEXT: xbar.mvm {{.*}}, @groups by "deconv-phases" unroll [3] window [3] patch [2] input_steps [2] kernel_steps [-2] shifts [3] packed 2 :
// PHASES-NEXT: xbar.scatter {{.*}} window [2] strides [2] pads [0, 1] :

// ZEROS:      xbar.gather %0 spread [2, 2] window [2, 2] pads [1, 1, 1, 1] : tensor<?x64x16x16xui8> -> !xbar.stream<1024 x 256 x ui8>
// ZEROS-NEXT: xbar.mvm %2, @up by "deconv-zero-insert" unroll [2, 2] window [2, 2] patch [1, 1] kernel_steps [-1, -1] shifts [1, 1] grid [128, 16] :
// ZEROS-NEXT: xbar.scatter %3 axis 1 :

// EACH: @up by "deconv-phases"
// EACH: @groups by "deconv-scatter"

// NAME: no unmapped transposed convolution 'uq': known: groups, up

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @up : 256x32xi8 for "ConvTranspose"
  xbar.weights @groups : 9x4xi8 groups 2 for "ConvTranspose"
  func.func @main(%0: tensor<?x64x16x16xui8>, %1: tensor<?x6x5xui8>) {
    %2 = xbar.conv_transpose %0, @up window [2, 2] strides [2, 2] : tensor<?x64x16x16xui8> -> tensor<?x32x32x32xsi32>
    %3 = xbar.conv_transpose %1, @groups window [3] strides [2] pads [1, -1] dilations [2] : tensor<?x6x5xui8> -> tensor<?x4x13xsi32>
    func.return
  }
}
