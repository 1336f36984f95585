// The text of a module reads back to itself; xbarc opt without passes verifies and prints.
// RUN: xbarc opt %s | filecheck %s
// RUN: xbarc opt %s | xbarc opt - | filecheck %s

// CHECK:      builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 64 cells of 4 bits, offset, slices in arrays, polarity in columns>} {
// CHECK-NEXT:   xbar.weights @"res1/conv.2" : 4x6xi8 groups 2 bias for "Conv"
// CHECK-NEXT:   xbar.weights @fc : 64x5xi8
// CHECK-NEXT:   xbar.weights @up : 16x3xi8
// CHECK-NEXT:   xbar.weights @pixels : 4x3xi8
// CHECK-NEXT:   func.func @main(%0: tensor<?x4x8x8xf32> {xbar.name = "x"}, %1: tensor<?x64xf32> {xbar.name = "f"}) -> (tensor<?x5xf32> {xbar.name = "y"}, tensor<?x6x4x4xf32> {xbar.name = "maps"}) {
// CHECK-NEXT:     %2 = xbar.quantize %0 scale 1.0e-05 zero_point 128 : tensor<?x4x8x8xf32> -> tensor<?x4x8x8xui8>
// CHECK-NEXT:     %3 = xbar.conv %2, @"res1/conv.2" window [1, 2] strides [2, 2] pads [0, 1, 0, 0] dilations [1, 2] fill 128 : tensor<?x4x8x8xui8> -> tensor<?x6x4x4xsi32>
// CHECK-NEXT:     %4 = xbar.dequantize %3, @"res1/conv.2" scale 1.0e-05 zero_point 128 axis 1 : tensor<?x6x4x4xsi32> -> tensor<?x6x4x4xf32>
// CHECK-NEXT:     %5 = xbar.quantize %1 scale 0.1 : tensor<?x64xf32> -> tensor<?x64xsi8>
// CHECK-NEXT:     %6 = xbar.gather %5 axis 1 : tensor<?x64xsi8> -> !xbar.stream<1 x 64 x si8>
// CHECK-NEXT:     %7 = xbar.mvm %6, @fc by "mine" rows @fc.rows 60 columns @"fc.a b" 9 sparse tiles {{\[}}[0, 40, 0, 5], [40, 60, 4, 9]] adc [-0.5, 1.0e-07] {mine.core = 3 : i64} : !xbar.stream<1 x 64 x si8> -> !xbar.stream<1 x 5 x si32>
// CHECK-NEXT:     %8 = xbar.scatter %7 axis 1 : !xbar.stream<1 x 5 x si32> -> tensor<?x5xsi32>
// CHECK-NEXT:     %9 = xbar.dequantize %8, @fc scale 0.1 axis 1 : tensor<?x5xsi32> -> tensor<?x5xf32>
// CHECK-NEXT:     %10, %11 = xbar.digital "digital/0.onnx" (%9) : (tensor<?x5xf32>) -> (tensor<?x5xf32>, !xbar.digital_value)
// CHECK-NEXT:     %12 = xbar.conv_transpose %2, @up window [2, 2] strides [2, 2] pads [0, 0, -1, 0] dilations [1, 3] items 2 : tensor<?x4x8x8xui8> -> tensor<?x3x17x18xsi32>
// CHECK-NEXT:     %13 = xbar.gather %2 spread [2, 3] window [2, 2] pads [1, 3, 2, 3] dilations [1, 3] : tensor<?x4x8x8xui8> -> !xbar.stream<425 x 16 x ui8>
// CHECK-NEXT:     %14 = xbar.gather %2 flat window [2] strides [2] : tensor<?x4x8x8xui8> -> !xbar.stream<32 x 8 x ui8>
// CHECK-NEXT:     %15 = xbar.mvm %14, @pixels by "mine" unroll [1] window [2] patch [2] gated grid [128, 16] : !xbar.stream<32 x 8 x ui8> -> !xbar.stream<32 x 6 x si32>
// CHECK-NEXT:     %16 = xbar.scatter %15 flat window [2] strides [2] : !xbar.stream<32 x 6 x si32> -> tensor<?x3x8x8xsi32>
// CHECK-NEXT:     %17 = xbar.gather %2 axis 1 : tensor<?x4x8x8xui8> -> !xbar.stream<64 x 4 x ui8>
// CHECK-NEXT:     %18 = xbar.mvm %17, @up by "mine" unroll [2, 2] window [1, 1] patch [2, 2] output_steps [2, 2] kernel_steps [-2, -2] sparse offsets [1, 4] without [1, 3] grid [128, 16] : !xbar.stream<64 x 4 x ui8> -> !xbar.stream<64 x 12 x si32>
// CHECK-NEXT:     %19 = xbar.mvm %13, @up by "mine" unroll [2, 2] window [2, 2] patch [1, 1] kernel_steps [-1, -1] shifts [1, 1] gated offsets [4, 1] grid [128, 16] : !xbar.stream<425 x 16 x ui8> -> !xbar.stream<425 x 3 x si32>
// CHECK-NEXT:     %20 = xbar.dequantize %12, @up scale 1.0e-05 zero_point 128 window [2, 2] strides [2, 2] pads [0, 0, -1, 0] dilations [1, 3] axis 1 : tensor<?x3x17x18xsi32> -> tensor<?x3x17x18xf32>
// CHECK-NEXT:     %21 = xbar.quantize %5 scale 1.0 zero_point 128 : tensor<?x64xsi8> -> tensor<?x64xui8>
// CHECK-NEXT:     func.return %10, %4 : tensor<?x5xf32>, tensor<?x6x4x4xf32>

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 64 cells of 4 bits, offset, slices in arrays, polarity in columns>} {
  xbar.weights @"res1/conv.2" : 4x6xi8 groups 2 bias for "Conv"
  xbar.weights @fc : 64x5xi8
  xbar.weights @up : 16x3xi8
  xbar.weights @pixels : 4x3xi8
  func.func @main(%0: tensor<?x4x8x8xf32> {xbar.name = "x"}, %1: tensor<?x64xf32> {xbar.name = "f"}) -> (tensor<?x5xf32> {xbar.name = "y"}, tensor<?x6x4x4xf32> {xbar.name = "maps"}) {
    %2 = xbar.quantize %0 scale 1.0e-5 zero_point 128 : tensor<?x4x8x8xf32> -> tensor<?x4x8x8xui8>
    %3 = xbar.conv %2, @"res1/conv.2" window [1, 2] strides [2, 2] pads [0, 1, 0, 0] dilations [1, 2] fill 128 : tensor<?x4x8x8xui8> -> tensor<?x6x4x4xsi32>
    %4 = xbar.dequantize %3, @"res1/conv.2" scale 0.00001 zero_point 128 axis 1 : tensor<?x6x4x4xsi32> -> tensor<?x6x4x4xf32>
    %5 = xbar.quantize %1 scale 0.1 : tensor<?x64xf32> -> tensor<?x64xsi8>
    %6 = xbar.gather %5 axis 1 : tensor<?x64xsi8> -> !xbar.stream<1 x 64 x si8>
    %7 = xbar.mvm %6, @fc by "mine" rows @fc.rows 60 columns @"fc.a b" 9 sparse tiles [[0, 40, 0, 5], [40, 60, 4, 9]] adc [-0.5, 1.0e-07] {mine.core = 3 : i64} : !xbar.stream<1 x 64 x si8> -> !xbar.stream<1 x 5 x si32>
    %8 = xbar.scatter %7 axis 1 : !xbar.stream<1 x 5 x si32> -> tensor<?x5xsi32>
    %9 = xbar.dequantize %8, @fc scale 0.1 axis 1 : tensor<?x5xsi32> -> tensor<?x5xf32>
    %10, %11 = xbar.digital "digital/0.onnx" (%9) : (tensor<?x5xf32>) -> (tensor<?x5xf32>, !xbar.digital_value)
    %12 = xbar.conv_transpose %2, @up window [2, 2] strides [2, 2] pads [0, 0, -1, 0] dilations [1, 3] items 2 : tensor<?x4x8x8xui8> -> tensor<?x3x17x18xsi32>
    %13 = xbar.gather %2 spread [2, 3] window [2, 2] pads [1, 3, 2, 3] dilations [1, 3] : tensor<?x4x8x8xui8> -> !xbar.stream<425 x 16 x ui8>
    %14 = xbar.gather %2 flat window [2] strides [2] pads [0, 0] : tensor<?x4x8x8xui8> -> !xbar.stream<32 x 8 x ui8>
    %15 = xbar.mvm %14, @pixels by "mine" unroll [1] window [2] patch [2] gated grid [128, 16] : !xbar.stream<32 x 8 x ui8> -> !xbar.stream<32 x 6 x si32>
    %16 = xbar.scatter %15 flat window [2] strides [2] : !xbar.stream<32 x 6 x si32> -> tensor<?x3x8x8xsi32>
    %17 = xbar.gather %2 axis 1 : tensor<?x4x8x8xui8> -> !xbar.stream<64 x 4 x ui8>
    %18 = xbar.mvm %17, @up by "mine" unroll [2, 2] window [1, 1] patch [2, 2] output_steps [2, 2] kernel_steps [-2, -2] sparse offsets [1, 4] without [1, 3] grid [128, 16] : !xbar.stream<64 x 4 x ui8> -> !xbar.stream<64 x 12 x si32>
    %19 = xbar.mvm %13, @up by "mine" unroll [2, 2] window [2, 2] patch [1, 1] kernel_steps [-1, -1] shifts [1, 1] gated offsets [4, 1] grid [128, 16] : !xbar.stream<425 x 16 x ui8> -> !xbar.stream<425 x 3 x si32>
    %20 = xbar.dequantize %12, @up scale 1.0e-5 zero_point 128 window [2, 2] strides [2, 2] pads [0, 0, -1, 0] dilations [1, 3] axis 1 : tensor<?x3x17x18xsi32> -> tensor<?x3x17x18xf32>
    %21 = xbar.quantize %5 scale 1.0 zero_point 128 : tensor<?x64xsi8> -> tensor<?x64xui8>
    func.return %10, %4 : tensor<?x5xf32>, tensor<?x6x4x4xf32>
  }
}
