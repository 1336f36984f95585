// RUN: xbarc opt %s --passes im2col | filecheck %s
// RUN: xbarc opt %s --passes 'im2col{layers=fc,"body/dw.1"}' | filecheck %s --check-prefix SOME
// RUN: not xbarc opt %s --passes 'im2col{layers=fcc}' 2>&1 | filecheck %s --check-prefix MISSPELT

// MISSPELT: no unmapped layer 'fcc': did you mean 'fc'?

builtin.module attributes {xbar.crossbar = #xbar.crossbar<128 x 128 cells of 2 bits, differential, slices in columns, polarity in columns>} {
  xbar.weights @conv1 : 144x40xi8 bias for "Conv"
  xbar.weights @grouped : 144x8xi8 groups 2 for "Conv"
  xbar.weights @"body/dw.1" : 9x32xi8 groups 32 for "Conv"
  xbar.weights @fc : 512x10xi8 bias for "Gemm"
  xbar.weights @columns : 4x3xi8 for "MatMul"
  func.func @main(%0: tensor<?x16x8x8xui8> {xbar.name = "x"}, %1: tensor<?x32x4x4xsi8> {xbar.name = "s"}, %2: tensor<?x512xsi8> {xbar.name = "f"}, %3: tensor<2x4x5xsi8> {xbar.name = "m"}) -> (tensor<?x40x4x4xsi32>, tensor<?x8x2x2xsi32>, tensor<?x32x4x4xsi32>, tensor<?x10xsi32>, tensor<2x3x5xsi32>) {

    // A row of 128 cells holds 16 weights of 8 cells; 144 rows are cut in 128 and 16.
    // CHECK:      %4 = xbar.gather %0 window [3, 3] strides [2, 2] pads [1, 1, 1, 1] fill 7 : tensor<?x16x8x8xui8> -> !xbar.stream<16 x 144 x ui8>
    // CHECK-NEXT: %5 = xbar.mvm %4, @conv1 by "im2col" grid [128, 16] : !xbar.stream<16 x 144 x ui8> -> !xbar.stream<16 x 40 x si32>
    // CHECK-NEXT: %6 = xbar.scatter %5 axis 1 : !xbar.stream<16 x 40 x si32> -> tensor<?x40x4x4xsi32>
    // SOME:       xbar.conv %0, @conv1
    %4 = xbar.conv %0, @conv1 window [3, 3] strides [2, 2] pads [1, 1, 1, 1] fill 7 : tensor<?x16x8x8xui8> -> tensor<?x40x4x4xsi32>

    // Two groups, each larger than a crossbar: each in a grid of its own.
    // CHECK-NEXT: %7 = xbar.gather %1 window [3, 3] : tensor<?x32x4x4xsi8> -> !xbar.stream<4 x 288 x si8>
    // CHECK-NEXT: %8 = xbar.mvm %7, @grouped by "im2col" grid [128, 16] : !xbar.stream<4 x 288 x si8> -> !xbar.stream<4 x 8 x si32>
    // CHECK-NEXT: %9 = xbar.scatter %8 axis 1 : !xbar.stream<4 x 8 x si32> -> tensor<?x8x2x2xsi32>
    // SOME:       xbar.conv %1, @grouped
    %5 = xbar.conv %1, @grouped window [3, 3] : tensor<?x32x4x4xsi8> -> tensor<?x8x2x2xsi32>

    // Depthwise: 14 blocks of 9 rows and a weight's 8 columns on the diagonal of a crossbar.
    // CHECK-NEXT: %10 = xbar.gather %1 window [3, 3] pads [1, 1, 1, 1] : tensor<?x32x4x4xsi8> -> !xbar.stream<16 x 288 x si8>
    // CHECK-NEXT: %11 = xbar.mvm %10, @"body/dw.1" by "im2col" packed 14 : !xbar.stream<16 x 288 x si8> -> !xbar.stream<16 x 32 x si32>
    // CHECK-NEXT: %12 = xbar.scatter %11 axis 1 : !xbar.stream<16 x 32 x si32> -> tensor<?x32x4x4xsi32>
    // SOME:       xbar.mvm {{%[0-9]+}}, @"body/dw.1" by "im2col" packed 14
    %6 = xbar.conv %1, @"body/dw.1" window [3, 3] pads [1, 1, 1, 1] : tensor<?x32x4x4xsi8> -> tensor<?x32x4x4xsi32>

    // CHECK-NEXT: %13 = xbar.gather %2 axis 1 : tensor<?x512xsi8> -> !xbar.stream<1 x 512 x si8>
    // CHECK-NEXT: %14 = xbar.mvm %13, @fc by "im2col" grid [128, 16] : !xbar.stream<1 x 512 x si8> -> !xbar.stream<1 x 10 x si32>
    // CHECK-NEXT: %15 = xbar.scatter %14 axis 1 : !xbar.stream<1 x 10 x si32> -> tensor<?x10xsi32>
    // SOME:       xbar.mvm {{%[0-9]+}}, @fc by "im2col"
    %7 = xbar.dense %2, @fc axis 1 to 1 : tensor<?x512xsi8> -> tensor<?x10xsi32>

    // CHECK-NEXT: %16 = xbar.gather %3 axis 1 : tensor<2x4x5xsi8> -> !xbar.stream<10 x 4 x si8>
    // CHECK-NEXT: %17 = xbar.mvm %16, @columns by "im2col" grid [128, 16] : !xbar.stream<10 x 4 x si8> -> !xbar.stream<10 x 3 x si32>
    // CHECK-NEXT: %18 = xbar.scatter %17 axis 1 : !xbar.stream<10 x 3 x si32> -> tensor<2x3x5xsi32>
    // SOME:       xbar.dense %3, @columns
    %8 = xbar.dense %3, @columns axis 1 to 1 : tensor<2x4x5xsi8> -> tensor<2x3x5xsi32>
    // CHECK-NEXT: func.return %6, %9, %12, %15, %18
    func.return %4, %5, %6, %7, %8 : tensor<?x40x4x4xsi32>, tensor<?x8x2x2xsi32>, tensor<?x32x4x4xsi32>, tensor<?x10xsi32>, tensor<2x3x5xsi32>
  }
}
